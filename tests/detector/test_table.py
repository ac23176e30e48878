"""Bytes of a record to columns, and other versions of the schema."""

import random
from io import BytesIO

import numpy as np
import polars as pl
import pytest

from detector.core.features import COUNTERS, GAUGES
from detector.core.table import NUMBERS, columns, read
from redis_agent.errors import Malformed
from tests.detector.rows import START, Database, played, record

VALUE = record(played([Database("orders"), Database("carts")], range(3)))
FRAME = pl.read_ipc_stream(BytesIO(VALUE))


def sent(frame: pl.DataFrame) -> bytes:
    sink = BytesIO()
    frame.write_ipc_stream(sink, compat_level=pl.CompatLevel.oldest())
    return sink.getvalue()


def test_a_record_of_the_collector_is_read_as_it_was_written() -> None:
    table = columns(read(VALUE))
    assert table.sites[:2] == [("orders", "dc-east"), ("carts", "dc-east")]
    assert table.readings.at[0] == int(START.timestamp() * 1e6)
    assert table.readings.counters.shape == (6, len(COUNTERS))
    assert table.gauges.shape == (6, len(GAUGES))
    assert np.isnan(table.gauges[0, GAUGES.index("primary_link_down_seconds")])


def test_columns_that_are_missing_are_null_and_columns_that_are_unknown_are_left_out() -> None:
    older = FRAME.drop("keys", "run_id").with_columns(pl.lit(1).alias("something_new"))
    frame = read(sent(older))
    assert frame.columns == read(VALUE).columns
    assert frame["keys"].null_count() == frame.height
    assert (columns(frame).readings.run == 0).all()


def test_whole_numbers_and_other_clocks_are_converted() -> None:
    other = FRAME.with_columns(pl.col("keys").cast(pl.Int64), pl.col("at").cast(pl.Datetime("ms", "Asia/Tokyo")))
    assert read(sent(other)).schema == read(VALUE).schema
    assert read(sent(other))["at"].to_list() == read(VALUE)["at"].to_list()


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (FRAME.with_columns(pl.lit("many").alias("keys")), "column keys is String"),
        (FRAME.with_columns(pl.lit(1).alias("instance")), "column instance is Int32"),
        (FRAME.with_columns(pl.lit(None, pl.String).alias("vantage")), "nulls"),
        (FRAME.with_columns(pl.col("at").dt.replace_time_zone(None)), "column at is"),
        (FRAME.drop("at"), "column at is missing"),
    ],
)
def test_rows_of_the_wrong_kind_are_malformed_and_say_why(frame: pl.DataFrame, complaint: str) -> None:
    with pytest.raises(Malformed, match=complaint):
        read(sent(frame))


@pytest.mark.parametrize("value", [b"", b"hello", b"\xff" * 100, VALUE[: len(VALUE) // 2], b"ARROW1\0\0" + VALUE])
def test_what_is_no_stream_is_malformed(value: bytes) -> None:
    with pytest.raises(Malformed, match="not an Arrow IPC stream"):
        read(value)


def test_damaged_bytes_are_read_or_refused_but_never_anything_else() -> None:
    dice = random.Random(1)
    refused = 0
    for _ in range(300):
        damaged = bytearray(VALUE)
        for _ in range(dice.choice((1, 4, 40))):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            columns(read(bytes(damaged)))
        except Malformed:
            refused += 1
    assert refused > 50


def test_numbers_that_are_not_finite_are_missing() -> None:
    odd = FRAME.with_columns(pl.lit(float("inf")).alias("keys"))
    assert np.isnan(columns(read(sent(odd))).gauges[:, GAUGES.index("keys")]).all()


def test_every_metric_of_the_schema_is_kept() -> None:
    assert set(NUMBERS) <= set(read(VALUE).columns)
