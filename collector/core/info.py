"""INFO text -> what we keep of it. The text is `field:value` lines under `# Section` headings, UTF-8, CRLF."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from redis_agent.model import Replication, Role
from redis_agent.samples import METRICS

_NUMERIC = tuple((metric.name, metric.info, metric.factor) for metric in METRICS if metric.info)
_ROLES = {"master": Role.PRIMARY, "slave": Role.REPLICA}


@dataclass(frozen=True, slots=True)
class Info:
    """What one INFO said: identity, role, replication as a replica sees it, and the metrics (None: not given)."""

    run_id: str | None
    role: Role
    replication: Replication | None
    metrics: Mapping[str, float | None]

    def replication_after(self, passed: timedelta) -> Replication | None:
        """What it said of replication, that long afterwards: the last contact lies further back then."""
        if self.replication is None or self.replication.last_io_seconds < 0:
            return self.replication
        later = self.replication.last_io_seconds + passed // timedelta(seconds=1)
        return replace(self.replication, last_io_seconds=later)


def parse(text: bytes) -> Info:
    """Read an INFO reply. Fields that are missing or not finite numbers are None; unknown fields are ignored."""
    fields = _fields(text)
    metrics = {name: _number(fields.get(info), factor) for name, info, factor in _NUMERIC}
    metrics["keys"] = _keys(fields) if b"# Keyspace" in text else None
    role = _ROLES.get(fields.get("role", ""), Role.UNKNOWN)
    return Info(fields.get("run_id"), role, _replication(fields) if role is Role.REPLICA else None, metrics)


def _fields(text: bytes) -> dict[str, str]:
    fields = {}
    for line in text.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            fields[name] = value
    return fields


def _number(value: str | None, factor: float) -> float | None:
    if value is None:
        return None
    try:
        number = float(value) * factor
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _keys(fields: Mapping[str, str]) -> float | None:
    # `db0:keys=5,expires=0,avg_ttl=0`; a database without keys has no line, so no lines in a Keyspace section mean zero.
    counts = [
        _number(value.partition(",")[0].removeprefix("keys="), 1)
        for name, value in fields.items()
        if name.startswith("db") and name[2:].isdigit()
    ]
    known = [count for count in counts if count is not None]
    return sum(known, 0.0) if len(known) == len(counts) else None


def _replication(fields: Mapping[str, str]) -> Replication:
    # While the link is down Redis gives -1 as the last contact, and how long the link has been down instead.
    last_io = _whole(fields.get("master_last_io_seconds_ago"))
    if last_io < 0:
        last_io = _whole(fields.get("master_link_down_since_seconds"))
    return Replication(
        link_up=fields.get("master_link_status") == "up",
        last_io_seconds=last_io,
        offset=max(0, _whole(fields.get("slave_repl_offset"))),
    )


def _whole(value: str | None) -> int:
    number = _number(value, 1)
    return -1 if number is None else int(number)
