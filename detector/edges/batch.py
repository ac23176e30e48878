"""Records of the metrics topic -> one frame of samples, and the records that can't be read, each with the reason."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from detector.core.table import read
from redis_agent.errors import Malformed
from redis_agent.log import Delivered

_AHEAD_AT_MOST = timedelta(minutes=5)
Refused = list[tuple[Delivered, str]]


def gather(records: Sequence[Delivered]) -> tuple[pl.DataFrame, Refused]:
    """The samples in the records' order."""
    frames: list[pl.DataFrame] = []
    refused: Refused = []
    for record in records:
        try:
            frames.append(_sound(record))
        except Malformed as fault:
            refused.append((record, str(fault)))
    return pl.concat(frames) if frames else pl.DataFrame(), refused


def _sound(record: Delivered) -> pl.DataFrame:
    """One record's samples. A clock that runs ahead would make every right sample after it look late: refused."""
    frame = read(record.value)
    newest = frame.select(pl.col("at").max()).item()
    if newest is not None and newest - record.at > _AHEAD_AT_MOST:
        raise Malformed(
            f"a sample of {newest}, {newest - record.at} ahead of the log's clock; set that vantage's clock"
        )
    return frame
