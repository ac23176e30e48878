"""What holds for the whole fleet, as the control topic says it.

Of a key that isn't known, or a record of a newer version, nothing is guessed: it is told, and where it may be the kill
switch, it counts as set. Who can't read the switch must not act.
"""

from dataclasses import dataclass, field

from redis_agent.errors import Malformed
from redis_agent.log import Delivered
from redis_agent.model import ControlRecord, Pause
from redis_agent.topics import CONTROL, CONTROL_KEYS, pause_key
from redis_agent.wire import decode_control

_PAUSE = "pause"


@dataclass(slots=True)
class ControlState:
    """Folded record by record. `unreadable`: what each key's newest record is, where it can't be read."""

    pauses: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def note(self, record: Delivered) -> None:
        """Take one record in."""
        self._forget(record.key)
        try:
            known = _read(record)
        except Malformed as fault:
            self.unreadable[record.key] = str(fault)
            if record.key.partition("/")[0] == _PAUSE:
                self.pauses[record.key] = f"the switch can't be read: {fault}"
            return
        if known.pause is not None:
            self.set(record.key, known.pause)

    def set(self, key: str, pause: Pause) -> None:
        """As the record of that key says, which was read or just written."""
        self._forget(key)
        if pause.paused:
            self.pauses[key] = pause.reason or "no reason given"

    def _forget(self, key: str) -> None:
        self.pauses.pop(key, None)
        self.unreadable.pop(key, None)

    def paused(self, instance: str) -> str | None:
        """Why the instance is paused by this, or None."""
        return self.pauses.get(pause_key(None)) or self.pauses.get(pause_key(instance))


def _read(record: Delivered) -> ControlRecord:
    kind = record.key.partition("/")[0]
    if kind not in CONTROL_KEYS:
        raise Malformed(f"control key {record.key!r} is none of this version's ({', '.join(CONTROL_KEYS)})")
    schema = record.header("schema")
    if schema != CONTROL.schema:
        raise Malformed(f"control record {record.key} has schema {schema}; this version reads {CONTROL.schema}")
    known = decode_control(record.value)
    if kind == _PAUSE and known.pause is None:
        raise Malformed(f"control record {record.key} says nothing that this version knows")
    return known
