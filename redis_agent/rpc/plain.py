"""Protobuf messages as plain data for JSON: enums as words (`VERDICT_CANNOT_TELL` -> `cannot_tell`), times as ISO 8601,
durations as seconds, every field present. JSON has no NaN and no infinity: they are None."""

import math
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from redis_agent.wire import instant_from


def plain(message: Message) -> Any:
    """The message as dicts, lists, numbers and strings."""
    if isinstance(message, Timestamp):
        return instant_from(message).isoformat().replace("+00:00", "Z")
    if isinstance(message, Duration):
        return message.ToTimedelta().total_seconds()
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        return [_value(item, field) for item in value]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _value(value, field)


def _value(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        return _word(field, value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _word(field: Any, number: int) -> str | int:
    enum = field.enum_type
    if enum is None or number not in enum.values_by_number:
        return number
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    name: str = enum.values_by_number[number].name
    return name.removeprefix(prefix).lower()
