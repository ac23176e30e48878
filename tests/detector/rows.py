"""Made-up samples: rows of the schema as one vantage would see a few databases."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from redis_agent.samples import METRICS, Kind, encode

START = datetime(2026, 11, 1, tzinfo=UTC)
BOOTED_SECONDS = 5000
"""How long the vantage's machine runs already, at START."""
HOME = "dc-east"
LEVELS = {
    "clients_connected": 12.0,
    "keys": 5000.0,
    "memory_used_bytes": 5e7,
    "memory_max_bytes": 2e8,
    "clients_max": 1e4,
}
PER_SECOND = {"commands_processed_total": 900.0, "net_input_bytes_total": 8e4, "net_output_bytes_total": 3e5}
Columns = dict[str, list[object]]


class Database:
    """One database whose counters grow and whose gauges wander a little. `levels` and `per_second` may be changed."""

    def __init__(self, instance: str, datacenter: str = HOME, vantage: str = HOME, seed: int = 1) -> None:
        self.keys = (instance, datacenter, vantage)
        self.levels = dict(LEVELS)
        self.per_second = {**PER_SECOND, "keyspace_hits_total": 500.0, "keyspace_misses_total": 50.0}
        self.run_id = "a" * 40
        self._dice = np.random.default_rng([seed, *instance.encode()])
        self._counters = {m.name: 0.0 for m in METRICS if m.kind is Kind.COUNTER}
        self._age = 0.0

    def restart(self) -> None:
        """Counters at zero, another run."""
        self.run_id = "b" * 40
        self._counters = dict.fromkeys(self._counters, 0.0)
        self._age = 0.0

    def row(self, seconds: float) -> dict[str, object]:
        """The row at that many seconds after START."""
        for name in self._counters:
            self._counters[name] += float(self._dice.normal(1, 0.03)) * self.per_second.get(name, 0.0)
        self._age += 1
        gauges = {name: level * float(self._dice.normal(1, 0.01)) for name, level in self.levels.items()}
        instance, datacenter, vantage = self.keys
        return {
            "at": START + timedelta(seconds=seconds),
            "monotonic_us": round((BOOTED_SECONDS + seconds) * 1_000_000),
            "instance": instance,
            "datacenter": datacenter,
            "vantage": vantage,
            "run_id": self.run_id,
            "role": "primary",
            "ping_seconds": float(self._dice.gamma(4, 5e-5)),
            **{m.name: None for m in METRICS},
            **self._counters,
            **gauges,
            "uptime_seconds": self._age,
        }


def columns(rows: Sequence[dict[str, object]]) -> Columns:
    """Rows as columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def record(rows: Sequence[dict[str, object]]) -> bytes:
    """Rows as the collector sends them."""
    return encode(columns(rows))


def played(databases: Iterable[Database], ticks: Iterable[int]) -> list[dict[str, object]]:
    """Every database's row at each tick, tick by tick."""
    watched = list(databases)
    return [database.row(tick) for tick in ticks for database in watched]
