"""The Arrow schema of a batch of samples: one row is one site at one tick, as one vantage saw it.

A record of the metrics topic is one Arrow IPC stream of this schema. Counters (`kind` = counter) are as Redis gives them:
they fall to zero at a restart, which `run_id` tells; rates are the reader's to make. A value that the target doesn't give
is null, never zero. `at` is the vantage's wall clock, for people; `monotonic_us` is its monotonic clock, for durations within
one `source` (a header of the record). The schema's metadata carries its version; each field's carries unit and kind.
"""

from dataclasses import dataclass
from enum import Enum

import pyarrow as pa

VERSION = "1"


class Kind(Enum):
    """How a metric moves."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its column, unit, kind, and the INFO field that it comes from (times `factor`)."""

    name: str
    unit: str
    kind: Kind
    info: str
    factor: float = 1.0


_C, _G = Kind.COUNTER, Kind.GAUGE
METRICS = (
    Metric("uptime_seconds", "s", _G, "uptime_in_seconds"),
    Metric("clients_connected", "1", _G, "connected_clients"),
    Metric("clients_blocked", "1", _G, "blocked_clients"),
    Metric("clients_max", "1", _G, "maxclients"),
    Metric("connections_received_total", "1", _C, "total_connections_received"),
    Metric("connections_rejected_total", "1", _C, "rejected_connections"),
    Metric("commands_processed_total", "1", _C, "total_commands_processed"),
    Metric("error_replies_total", "1", _C, "total_error_replies"),
    Metric("net_input_bytes_total", "By", _C, "total_net_input_bytes"),
    Metric("net_output_bytes_total", "By", _C, "total_net_output_bytes"),
    Metric("memory_used_bytes", "By", _G, "used_memory"),
    Metric("memory_rss_bytes", "By", _G, "used_memory_rss"),
    Metric("memory_max_bytes", "By", _G, "maxmemory"),
    Metric("memory_fragmentation_bytes", "By", _G, "mem_fragmentation_bytes"),
    Metric("memory_clients_bytes", "By", _G, "mem_clients_normal"),
    Metric("keys_evicted_total", "1", _C, "evicted_keys"),
    Metric("keys_expired_total", "1", _C, "expired_keys"),
    Metric("keyspace_hits_total", "1", _C, "keyspace_hits"),
    Metric("keyspace_misses_total", "1", _C, "keyspace_misses"),
    Metric("keys", "1", _G, ""),  # summed over the databases
    Metric("cpu_system_seconds_total", "s", _C, "used_cpu_sys"),
    Metric("cpu_user_seconds_total", "s", _C, "used_cpu_user"),
    Metric("fork_seconds", "s", _G, "latest_fork_usec", 1e-6),
    Metric("rdb_save_in_progress", "1", _G, "rdb_bgsave_in_progress"),
    Metric("rdb_changes_since_save", "1", _G, "rdb_changes_since_last_save"),
    Metric("aof_fsync_delayed_total", "1", _C, "aof_delayed_fsync"),
    Metric("replicas_connected", "1", _G, "connected_slaves"),
    Metric("replication_offset_bytes", "By", _C, "master_repl_offset"),
    Metric("replica_syncs_full_total", "1", _C, "sync_full"),
    Metric("primary_last_io_seconds", "s", _G, "master_last_io_seconds_ago"),
    Metric("primary_link_down_seconds", "s", _G, "master_link_down_since_seconds"),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def _field(name: str, kind: pa.DataType, unit: str, nature: str, nullable: bool) -> pa.Field:
    return pa.field(name, kind, nullable, metadata={"unit": unit, "kind": nature})


SCHEMA = pa.schema(
    [
        _field("at", pa.timestamp("us", "UTC"), "us", "instant", nullable=False),
        _field("monotonic_us", pa.int64(), "us", "instant", nullable=False),
        _field("instance", pa.string(), "", "key", nullable=False),
        _field("datacenter", pa.string(), "", "key", nullable=False),
        _field("vantage", pa.string(), "", "key", nullable=False),
        _field("run_id", pa.string(), "", "identity", nullable=True),
        _field("role", pa.string(), "", "state", nullable=False),
        _field("ping_seconds", pa.float64(), "s", "gauge", nullable=False),
        *(_field(m.name, pa.float64(), m.unit, m.kind.value, nullable=True) for m in METRICS),
    ],
    metadata={"schema": "redis-agent.samples", "version": VERSION},
)
UNITS = {field.name: field.metadata[b"unit"].decode() for field in SCHEMA}


def encode(columns: dict[str, list[object]]) -> bytes:
    """Rows, given as columns, as one Arrow IPC stream. Raises KeyError without a column, ValueError without a key."""
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([_column(field, columns[field.name]) for field in SCHEMA], schema=SCHEMA)
    with pa.ipc.new_stream(sink, SCHEMA) as stream:
        stream.write_batch(batch)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def _column(field: pa.Field, values: list[object]) -> pa.Array:
    # Arrow writes nulls into a column that says it has none; a reader that believes the schema would read garbage.
    column = pa.array(values, field.type)
    if column.null_count and not field.nullable:
        raise ValueError(f"{field.name}: null in a column that every row must have")
    return column
