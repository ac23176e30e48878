"""A batch of samples as any Arrow reader finds it: version, units, kinds, and nulls where nothing was given."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redis_agent import samples
from redis_agent.samples import BY_NAME, METRICS, SCHEMA, Kind

KEYS = ("at", "monotonic_us", "instance", "datacenter", "vantage", "run_id", "role", "ping_seconds")


def read(value: bytes) -> pa.Table:
    return pa.ipc.open_stream(value).read_all()


def columns(rows: int, **given: list[Any]) -> dict[str, list[Any]]:
    at = datetime(2026, 11, 23, 2, 0, 0, 123_456, tzinfo=UTC)
    keys: dict[str, list[Any]] = {
        "at": [at] * rows,
        "monotonic_us": [7] * rows,
        "instance": ["orders"] * rows,
        "datacenter": ["dc-east"] * rows,
        "vantage": ["witness"] * rows,
        "run_id": ["0" * 40] * rows,
        "role": ["primary"] * rows,
        "ping_seconds": [0.001] * rows,
    }
    return {**keys, **{metric.name: [None] * rows for metric in METRICS}, **given}


def test_a_batch_says_its_schema_and_version_itself() -> None:
    table = read(samples.encode(columns(1)))
    assert table.schema.metadata == {b"schema": b"redis-agent.samples", b"version": samples.VERSION.encode()}
    assert table.schema.equals(SCHEMA, check_metadata=True)


def test_every_column_says_its_unit_and_how_it_moves() -> None:
    schema = read(samples.encode(columns(1))).schema
    assert schema.names == [*KEYS, *(metric.name for metric in METRICS)]
    for metric in METRICS:
        assert schema.field(metric.name).metadata == {
            b"unit": metric.unit.encode(),
            b"kind": metric.kind.value.encode(),
        }
    assert {name: schema.field(name).metadata[b"kind"] for name in KEYS} == {
        "at": b"instant",
        "monotonic_us": b"instant",
        "instance": b"key",
        "datacenter": b"key",
        "vantage": b"key",
        "run_id": b"identity",
        "role": b"state",
        "ping_seconds": b"gauge",
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metrics_name_tells_its_unit_and_kind(metric: samples.Metric) -> None:
    # Prometheus's and OpenMetrics' custom: a counter ends with _total, and the unit stands before it. An offset is a
    # position that only grows.
    assert metric.name.endswith(("_total", "_offset_bytes")) == (metric.kind is Kind.COUNTER)
    stem = metric.name.removesuffix("_total")
    assert stem.endswith("_seconds") == (metric.unit == "s")
    assert stem.endswith("_bytes") == (metric.unit == "By")
    assert BY_NAME[metric.name] is metric and samples.UNITS[metric.name] == metric.unit


def test_what_the_target_does_not_give_is_null_and_never_zero() -> None:
    table = read(samples.encode(columns(2, keys=[0.0, None])))
    assert table.column("keys").to_pylist() == [0.0, None]
    assert table.column("memory_used_bytes").to_pylist() == [None, None]


@settings(deadline=None)
@given(st.lists(st.tuples(*(st.none() | st.floats(allow_nan=False) for _ in METRICS)), max_size=5))
def test_rows_come_back_as_they_were(rows: list[tuple[float | None, ...]]) -> None:
    given_columns = columns(len(rows), **{m.name: [row[n] for row in rows] for n, m in enumerate(METRICS)})
    assert read(samples.encode(given_columns)).to_pydict() == given_columns


@pytest.mark.parametrize("name", ["at", "monotonic_us", "instance", "datacenter", "vantage", "role", "ping_seconds"])
def test_a_row_without_its_key_or_its_ping_is_refused(name: str) -> None:
    assert not SCHEMA.field(name).nullable
    with pytest.raises(ValueError, match=name):
        samples.encode(columns(1, **{name: [None]}))


def test_a_column_that_is_missing_is_refused() -> None:
    with pytest.raises(KeyError):
        samples.encode({name: values for name, values in columns(1).items() if name != "keys"})
