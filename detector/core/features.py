"""What the model looks at: about two dozen numbers a tick, on curves where equal steps mean equally much.

Rates and sizes span orders of magnitude, so most are `log1p(x / knee)`: linear below the knee, where noise lives, and
logarithmic above it. `floor` is the least spread that a site's own scale may have, in the curve's units: without it a
value that never moved would make its first harmless step look like a miracle.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from redis_agent.samples import METRICS, Kind

Floats = NDArray[np.float64]
COUNTERS = tuple(metric.name for metric in METRICS if metric.kind is Kind.COUNTER)
GAUGES = ("ping_seconds", *(metric.name for metric in METRICS if metric.kind is Kind.GAUGE))


class Curve(Enum):
    """From natural units to the model's."""

    LOG = "log"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: its name and natural unit, its curve, and the least spread of its scale."""

    name: str
    unit: str
    curve: Curve = Curve.LOG
    knee: float = 1.0
    floor: float = 0.3


_RATES: tuple[tuple[Feature, str], ...] = (
    (Feature("commands_per_second", "1/s", knee=10), "commands_processed_total"),
    (Feature("error_replies_per_second", "1/s", knee=5), "error_replies_total"),
    (Feature("net_input_bytes_per_second", "By/s", knee=1000), "net_input_bytes_total"),
    (Feature("net_output_bytes_per_second", "By/s", knee=10_000), "net_output_bytes_total"),
    (Feature("connections_received_per_second", "1/s", knee=5), "connections_received_total"),
    (Feature("connections_rejected_per_second", "1/s", knee=0.5), "connections_rejected_total"),
    (Feature("keys_evicted_per_second", "1/s", knee=10), "keys_evicted_total"),
    (Feature("keys_expired_per_second", "1/s", knee=10), "keys_expired_total"),
    (Feature("keyspace_hits_per_second", "1/s", knee=10), "keyspace_hits_total"),
    (Feature("keyspace_misses_per_second", "1/s", knee=10), "keyspace_misses_total"),
    (Feature("aof_fsyncs_delayed_per_second", "1/s", knee=0.5), "aof_fsync_delayed_total"),
    (Feature("replication_bytes_per_second", "By/s", knee=1000), "replication_offset_bytes"),
    (Feature("replica_full_syncs_per_second", "1/s", knee=0.5), "replica_syncs_full_total"),
)
_LEVELS: tuple[Feature, ...] = (
    Feature("clients_connected", "1", knee=5, floor=0.15),
    Feature("clients_blocked", "1", knee=5, floor=0.25),
    Feature("keys", "1", knee=100, floor=0.1),
    Feature("ping_seconds", "s", knee=0.005, floor=0.5),
    Feature("fork_seconds", "s", knee=0.005, floor=0.5),
    Feature("memory_used_bytes", "By", knee=1e6, floor=0.05),
    Feature("memory_clients_bytes", "By", knee=1e5, floor=0.3),
    Feature("replicas_connected", "1", Curve.LINEAR, floor=0.25),
    Feature("primary_last_io_seconds", "s", knee=2, floor=0.5),
    Feature("primary_link_down_seconds", "s", knee=2, floor=0.5),
)
_CPU = Feature("cpu_cores_used", "1", Curve.LINEAR, floor=0.03)
_HITS = Feature("hit_ratio", "1", Curve.LINEAR, floor=0.1)
_MEMORY = Feature("memory_used_share", "1", Curve.LINEAR, floor=0.03)

FEATURES = (*(feature for feature, _ in _RATES), *_LEVELS, _CPU, _HITS, _MEMORY)
NAMES = tuple(feature.name for feature in FEATURES)
FLOORS = np.array([feature.floor for feature in FEATURES], np.float32)
_KNEES = np.array([f.knee if f.curve is Curve.LOG else np.nan for f in FEATURES])
_IS_LOG = np.array([f.curve is Curve.LOG for f in FEATURES])

_RATE_COLUMNS = [COUNTERS.index(counter) for _, counter in _RATES]
_CPU_COLUMNS = [COUNTERS.index("cpu_system_seconds_total"), COUNTERS.index("cpu_user_seconds_total")]
_HIT, _MISS = COUNTERS.index("keyspace_hits_total"), COUNTERS.index("keyspace_misses_total")
_LEVEL_COLUMNS = [GAUGES.index(feature.name) for feature in _LEVELS]
_USED, _MAX = GAUGES.index("memory_used_bytes"), GAUGES.index("memory_max_bytes")


def features(rates: Floats, gauges: Floats) -> NDArray[np.float32]:
    """Rates [n, C] and gauges [n, G] -> features [n, F] on their curves; NaN where not known."""
    lookups = rates[:, _HIT] + rates[:, _MISS]
    natural = np.concatenate(
        (
            rates[:, _RATE_COLUMNS],
            gauges[:, _LEVEL_COLUMNS],
            rates[:, _CPU_COLUMNS].sum(axis=1, keepdims=True),
            _ratio(rates[:, _HIT], lookups),
            _ratio(gauges[:, _USED], gauges[:, _MAX]),
        ),
        axis=1,
    )
    return curved(natural).astype(np.float32)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole [n, 1]; NaN where there is no whole."""
    found: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return found[:, None]


def curved(natural: Floats) -> Floats:
    """Natural units [..., F] -> the curve's. Logarithmic features below zero count as zero (`-1`: Redis's "never")."""
    bent = np.log1p(np.maximum(natural, 0) / _KNEES)
    return np.where(_IS_LOG, bent, natural)


def natural(curve_values: Floats) -> Floats:
    """The curve's units [..., F] -> natural ones: the inverse of `curved`."""
    unbent = np.expm1(np.where(_IS_LOG, np.maximum(curve_values, 0), 0)) * _KNEES
    return np.where(_IS_LOG, unbent, curve_values)
