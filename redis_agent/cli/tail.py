"""`redis-agent tail TOPIC`: any topic, decoded."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from google.protobuf.message import DecodeError, Message

from redis_agent import topics
from redis_agent.cli.terminal import ConfigOption, JsonOption, find_configuration, run
from redis_agent.errors import ConfigurationError
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import load
from redis_agent.log import Delivered, Start
from redis_agent.log.opening import log_of
from redis_agent.rpc.plain import plain
from redis_agent.topics import Topic, TopicName
from redis_agent.v1 import alert_pb2, anomaly_pb2, control_pb2, failover_pb2, finding_pb2, observation_pb2

_MESSAGES: dict[TopicName, Callable[[], Message]] = {
    topics.OBSERVATIONS.name: observation_pb2.Observations,
    topics.FINDINGS.name: finding_pb2.Finding,
    topics.CONTROL.name: control_pb2.ControlRecord,
    topics.ANOMALIES.name: anomaly_pb2.Anomaly,
    topics.FAILOVERS.name: failover_pb2.FailoverEvent,
    topics.ALERTS.name: alert_pb2.AlertEvent,
}


def tail(
    topic: Annotated[
        str,
        typer.Argument(
            metavar="TOPIC",
            help="metrics, observations, findings, anomalies, failovers, alerts, control or deadletter.",
        ),
    ],
    start: Annotated[str, typer.Option("--from", help="beginning or now.")] = "now",
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many records.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print a topic's records as they come."""
    found = topics.find(topic)
    if found is None:
        known = ", ".join(t.name.removeprefix("redis-agent.").removesuffix(".v1") for t in topics.ALL)
        raise ConfigurationError([f"no topic {topic!r}; known: {known}"])
    if start not in ("beginning", "now"):
        raise ConfigurationError([f"--from: {start!r} is neither beginning nor now"])
    fleet = load(find_configuration(config), sections=("log",))
    run(_tail(fleet, found, Start(start), limit, as_json=as_json))


async def _tail(fleet: Fleet, topic: Topic, start: Start, limit: int | None, *, as_json: bool) -> None:
    log = log_of(fleet.log)
    try:
        cursor = await log.cursor([topic], start)
        left = limit
        while left is None or left > 0:
            for record in await cursor.read(min(500, left or 500), 1.0):
                print(_line(record, as_json=as_json), flush=True)  # noqa: T201 - data
                left = None if left is None else left - 1
    finally:
        await log.close()


def _line(record: Delivered, *, as_json: bool) -> str:
    value = _decoded(record)
    if as_json:
        headers = dict(_text(record))
        place = {"partition": record.partition, "offset": record.offset, "at": record.at.isoformat(), "key": record.key}
        return json.dumps({"topic": record.topic, **place, "headers": headers, "value": value}, ensure_ascii=False)
    place_in_words = f"{record.at:%H:%M:%S.%f} {record.partition}/{record.offset} {record.key}"
    return f"{place_in_words} {json.dumps(value, ensure_ascii=False)}"


def _text(record: Delivered) -> list[tuple[str, str]]:
    return [(name, value.decode(errors="replace")) for name, value in record.headers]


def _decoded(record: Delivered) -> Any:
    if record.topic == topics.METRICS.name:
        return _samples(record.value)
    make = _MESSAGES.get(record.topic)
    if make is None:
        told = {
            name.removeprefix("deadletter-"): value for name, value in _text(record) if name.startswith("deadletter-")
        }
        return {**told, "bytes": record.value[:200].hex()}
    message = make()
    try:
        message.ParseFromString(record.value)
    except DecodeError as fault:
        return {"undecodable": str(fault), "bytes": record.value[:200].hex()}
    return plain(message)


def _samples(value: bytes) -> Any:
    # Imported here: only this topic needs Arrow, and it costs every other command a quarter of a second.
    import pyarrow as pa

    try:
        rows = pa.ipc.open_stream(value).read_all().to_pylist()
    except pa.ArrowInvalid as fault:
        return {"undecodable": str(fault), "bytes": value[:200].hex()}
    return [{name: _short(item) for name, item in row.items() if item is not None} for row in rows]


def _short(item: Any) -> Any:
    return item if isinstance(item, str | float | int) else item.isoformat()
