"""The bytes of a metrics record -> columns of numbers. Other versions of the schema are met column by column."""

from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detector.core.features import COUNTERS, GAUGES
from detector.core.rates import Readings
from redis_agent.errors import Malformed
from redis_agent.samples import METRICS

ROWS_AT_MOST = 200_000
AT = pl.Datetime("us", "UTC")
NUMBERS = ("ping_seconds", *(metric.name for metric in METRICS))
_NEEDED = ("at", "monotonic_us", "instance", "datacenter", "vantage")
_KINDS: dict[str, pl.DataType] = {
    "at": AT,
    "monotonic_us": pl.Int64(),
    **dict.fromkeys(("instance", "datacenter", "vantage", "run_id"), pl.String()),
    **dict.fromkeys(NUMBERS, pl.Float64()),
}
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)


_MONOTONIC_AT_MOST = 2**52
"""Microseconds: 142 years since a machine's start."""
_AT_FROM, _AT_TO = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as columns: who, by whom, and the numbers (counters [n, C], gauges [n, G]; NaN where not given)."""

    sites: list[tuple[str, str]]
    vantages: list[str]
    readings: Readings
    gauges: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.sites)


def read(value: bytes) -> pl.DataFrame:
    """One Arrow IPC stream of samples. Unknown columns are left out, missing metrics are null. Raises Malformed."""
    try:
        frame = pl.read_ipc_stream(BytesIO(value))
    except _UNREADABLE as fault:
        first = (str(fault).splitlines() or ["unreadable"])[0]
        raise Malformed(f"not an Arrow IPC stream: {first[:200]}") from fault
    if frame.height > ROWS_AT_MOST:
        raise Malformed(f"{frame.height} rows in one record; at most {ROWS_AT_MOST} are taken")
    schema = dict(frame.schema)
    if all(schema.get(name) == kind for name, kind in _KINDS.items()):
        _without_nulls(frame, _NEEDED)
        return _sound(frame.select(*_KINDS))
    return _sound(_converted(frame, schema))


def _sound(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame, if its times can be. Raises Malformed."""
    if frame.height and not frame["monotonic_us"].is_between(0, _MONOTONIC_AT_MOST).all():
        raise Malformed("column monotonic_us holds what no machine's clock says")
    if frame.height and not frame["at"].is_between(_AT_FROM, _AT_TO).all():
        raise Malformed("column at holds instants before 1970 or after 9000")
    return frame


def _converted(frame: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """A frame of another version of the schema, with the columns of this one."""
    for name in _NEEDED:
        if name not in schema:
            raise Malformed(f"column {name} is missing")
    _without_nulls(frame, _NEEDED)
    return frame.select(
        _instant(schema["at"]),
        _number(schema["monotonic_us"], "monotonic_us").cast(pl.Int64),
        *(_text(schema.get(name), name) for name in ("instance", "datacenter", "vantage", "run_id")),
        *(_number(schema.get(name), name) for name in NUMBERS),
    )


def _without_nulls(frame: pl.DataFrame, names: tuple[str, ...]) -> None:
    for name in names:
        if nulls := frame.get_column(name).null_count():
            raise Malformed(f"column {name} has {nulls} nulls; every row needs it")


def _instant(kind: pl.DataType) -> pl.Expr:
    if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
        raise Malformed(f"column at is {kind}; an instant with a time zone would be right")
    return pl.col("at").dt.convert_time_zone("UTC").cast(AT)


def _text(kind: pl.DataType | None, name: str) -> pl.Expr:
    if kind is None or kind == pl.Null:
        return pl.lit(None, pl.String).alias(name)
    if kind != pl.String:
        raise Malformed(f"column {name} is {kind}; a string would be right")
    return pl.col(name)


def _number(kind: pl.DataType | None, name: str) -> pl.Expr:
    if kind is None or kind == pl.Null:
        return pl.lit(None, pl.Float64).alias(name)
    if not kind.is_numeric():
        raise Malformed(f"column {name} is {kind}; a number would be right")
    return pl.col(name).cast(pl.Float64)


def columns(frame: pl.DataFrame) -> Table:
    """A frame as `read` gives it (or several, concatenated), as arrays.

    Durations are by the column `steady` (microseconds on one line for all vantages, which no wall clock moves) where there
    is one, else by the samples' own instants.
    """
    wall = frame["at"].to_physical().to_numpy()
    return Table(
        sites=list(zip(frame["instance"].to_list(), frame["datacenter"].to_list(), strict=True)),
        vantages=frame["vantage"].to_list(),
        readings=Readings(
            at=frame["steady"].to_numpy() if "steady" in frame.columns else wall,
            wall=wall,
            vantage=_hashes(frame["vantage"]),
            run=_hashes(frame["run_id"]),
            uptime=_numbers(frame, ["uptime_seconds"])[:, 0],
            counters=_numbers(frame, COUNTERS),
        ),
        gauges=_numbers(frame, GAUGES),
    )


def _hashes(texts: pl.Series) -> NDArray[np.uint64]:
    """A number a text, zero for none. Good within one process only."""
    hashed = texts.hash().to_numpy() | np.uint64(1)
    found: NDArray[np.uint64] = np.where(texts.is_null().to_numpy(), np.uint64(0), hashed)
    return found


def _numbers(frame: pl.DataFrame, names: tuple[str, ...] | list[str]) -> NDArray[np.float64]:
    numbers = frame.select(names).to_numpy().astype(np.float64)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers
