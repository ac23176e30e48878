"""Histories in other shapes than JSON: one row a value, with the columns of `COLUMNS`."""

import csv
import io
from collections.abc import Iterator
from datetime import datetime

from redis_agent.v1.detector_service_pb2 import QueryMetricsResponse
from redis_agent.wire import instant_from

CSV = "text/csv; charset=utf-8"
ARROW = "application/vnd.apache.arrow.stream"
COLUMNS = ("at", "datacenter", "vantage", "metric", "unit", "value")


def csv_of(found: QueryMetricsResponse) -> str:
    """CSV with a heading; instants in ISO 8601, UTC."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for at, *rest in _rows(found):
        writer.writerow((at.isoformat(), *rest))
    return text.getvalue()


def arrow_of(found: QueryMetricsResponse) -> bytes:
    """An Arrow IPC stream; instants in microseconds, UTC."""
    # Imported here: 40 MB that a gateway which nobody asks for Arrow shouldn't pay.
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    types = (pa.timestamp("us", "UTC"), text, text, text, text, pa.float64())
    arrays = [pa.array(column, kind) for column, kind in zip(zip(*_rows(found), strict=True), types, strict=True)]
    table = pa.table(dict(zip(COLUMNS, arrays, strict=True)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def _rows(found: QueryMetricsResponse) -> Iterator[tuple[datetime, str, str, str, str, float]]:
    for series in found.series:
        of = (series.datacenter, series.vantage, series.metric, series.unit)
        yield from ((instant_from(at), *of, value) for at, value in zip(series.at, series.value, strict=True))
