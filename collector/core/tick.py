"""The rows of one tick, gathered until they are written: columns as Arrow wants them, one set a partition."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from collector.core.info import Info
from redis_agent.instants import Instant
from redis_agent.model import SiteId, Vantage
from redis_agent.samples import METRICS

Columns = dict[str, list[object]]
_KEYS = ("at", "monotonic_us", "instance", "datacenter", "vantage", "run_id", "role", "ping_seconds")


class Tick:
    """Gathers rows by partition. `drain` gives them and begins anew."""

    def __init__(self, vantage: Vantage, partition_of_site: Mapping[SiteId, int]) -> None:
        self._vantage = vantage
        self._partition_of = partition_of_site
        self._rows: dict[int, Columns] = {}

    def add(self, site: SiteId, at: datetime, seen: Instant, round_trip: timedelta, info: Info) -> None:
        """One site's row: when it was seen by the wall clock, and by the monotonic one."""
        columns = self._rows.get(self._partition_of[site])
        if columns is None:
            columns = self._rows[self._partition_of[site]] = {name: [] for name in (*_KEYS, *(m.name for m in METRICS))}
        keys = (
            at,
            seen // timedelta(microseconds=1),
            site.instance,
            site.datacenter,
            self._vantage,
            info.run_id,
            info.role.value,
            round_trip.total_seconds(),
        )
        for name, value in zip(_KEYS, keys, strict=True):
            columns[name].append(value)
        for metric in METRICS:
            columns[metric.name].append(info.metrics[metric.name])

    def drain(self) -> dict[int, Columns]:
        """The gathered rows by partition."""
        rows, self._rows = self._rows, {}
        return rows
