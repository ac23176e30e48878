"""Rows of a tick -> Arrow -> rows: what was gathered is what a reader of the topic finds."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from collector.core.info import parse
from collector.core.tick import Tick
from redis_agent import samples
from redis_agent.instants import Instant
from redis_agent.model import Datacenter, InstanceId, SiteId, Vantage

EAST = SiteId(InstanceId("orders"), Datacenter("dc-east"))
WEST = SiteId(InstanceId("orders"), Datacenter("dc-west"))
CARTS = SiteId(InstanceId("carts"), Datacenter("dc-east"))
AT = datetime(2026, 11, 3, 12, 0, 0, 250_000, tzinfo=UTC)
SEEN = Instant(timedelta(hours=3, microseconds=7))
INFO = parse(b"# Memory\r\nused_memory:1024\r\nrun_id:abc\r\nrole:master\r\n# Keyspace\r\ndb0:keys=3,expires=0\r\n")


def tick_of(homes: dict[SiteId, int]) -> Tick:
    return Tick(Vantage("witness"), homes)


def read(encoded: bytes) -> pa.Table:
    with pa.ipc.open_stream(encoded) as stream:
        return stream.read_all()


def test_a_row_survives_the_way_through_arrow() -> None:
    tick = tick_of({EAST: 0})
    tick.add(EAST, AT, SEEN, timedelta(milliseconds=2), INFO)
    (row,) = read(samples.encode(tick.drain()[0])).to_pylist()
    assert (row["at"], row["monotonic_us"]) == (AT, 3 * 3600 * 1_000_000 + 7)
    assert (row["instance"], row["datacenter"], row["vantage"]) == ("orders", "dc-east", "witness")
    assert (row["run_id"], row["role"], row["ping_seconds"]) == ("abc", "primary", 0.002)
    assert (row["memory_used_bytes"], row["keys"]) == (1024, 3)


def test_what_the_target_does_not_give_is_null_never_zero() -> None:
    tick = tick_of({EAST: 0})
    tick.add(EAST, AT, SEEN, timedelta(0), INFO)
    (row,) = read(samples.encode(tick.drain()[0])).to_pylist()
    assert row["clients_connected"] is None
    assert row["fork_seconds"] is None


def test_the_schema_says_its_version_and_each_columns_unit_and_kind() -> None:
    tick = tick_of({EAST: 0})
    tick.add(EAST, AT, SEEN, timedelta(0), INFO)
    schema = read(samples.encode(tick.drain()[0])).schema
    assert schema.metadata == {b"schema": b"redis-agent.samples", b"version": b"1"}
    assert schema.field("memory_used_bytes").metadata == {b"unit": b"By", b"kind": b"gauge"}
    assert schema.field("commands_processed_total").metadata == {b"unit": b"1", b"kind": b"counter"}
    assert schema.field("ping_seconds").metadata == {b"unit": b"s", b"kind": b"gauge"}
    assert [field.name for field in schema if field.metadata is None] == []


def test_each_partition_has_its_own_rows() -> None:
    tick = tick_of({EAST: 0, WEST: 3, CARTS: 0})
    for site in (EAST, WEST, CARTS):
        tick.add(site, AT, SEEN, timedelta(0), INFO)
    rows = {home: read(samples.encode(columns)).num_rows for home, columns in tick.drain().items()}
    assert rows == {0: 2, 3: 1}


def test_what_was_drained_is_gone() -> None:
    tick = tick_of({EAST: 0})
    tick.add(EAST, AT, SEEN, timedelta(0), INFO)
    tick.drain()
    assert tick.drain() == {}


def test_a_column_of_another_type_is_refused() -> None:
    tick = tick_of({EAST: 0})
    tick.add(EAST, AT, SEEN, timedelta(0), INFO)
    columns = tick.drain()[0]
    columns["ping_seconds"] = ["soon"]
    with pytest.raises(pa.ArrowInvalid):
        samples.encode(columns)
