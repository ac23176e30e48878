"""The kill switch: in the control topic for every controller, and in a local file that works without the log. Either pauses."""

import logging
from pathlib import Path

from redis_agent import pause, telemetry
from redis_agent.clock import wall
from redis_agent.control import ControlState
from redis_agent.errors import LogUnavailable, NotFound, Refused, Unreachable
from redis_agent.log import Delivered, Outgoing, Writer
from redis_agent.model import ControlRecord, InstanceId, Pause
from redis_agent.process import Origins
from redis_agent.topics import CONTROL, pause_key
from redis_agent.wire import control_to

logger = logging.getLogger(__name__)


class Switch:
    """What pauses which instance. `opened` once the control topic was read to its end; before, everything is paused."""

    def __init__(self, directory: Path, origins: Origins, instances: frozenset[InstanceId]) -> None:
        self.control = ControlState()
        self.opened = False
        self._directory = directory
        self._origins = origins
        self._instances = instances
        self._writer: Writer | None = None

    def use(self, writer: Writer) -> None:
        """The control topic was read to its end; write with this writer from now on."""
        self._writer, self.opened = writer, True

    def note(self, record: Delivered) -> None:
        """Take a record of the control topic in."""
        self.control.note(record)

    def reason(self, instance: InstanceId) -> str | None:
        """Why the instance is paused, or None when it isn't."""
        if not self.opened:
            return "the control topic isn't read to its end yet"
        return self.control.paused(instance) or pause.reason(self._directory, instance)

    async def pause(self, instance: InstanceId | None, why: str, actor: str) -> str:
        """Set it for one instance, or for the fleet; where it is set, in words. Raises NotFound, Refused."""
        self._check(instance)
        try:
            await self._write(instance, Pause(paused=True, reason=why), actor)
        except LogUnavailable as fault:
            return self._pause_here(instance, why, fault)
        return "in the log, for every controller"

    def _pause_here(self, instance: InstanceId | None, why: str, away: LogUnavailable) -> str:
        try:
            pause.pause(self._directory, instance, why)
        except OSError as fault:
            raise Refused(
                [f"the log is away ({away}), and {self._directory} can't be written: {fault.strerror}"]
            ) from fault
        return f"in {self._directory} of this controller's machine alone: the log is away ({away})"

    async def resume(self, instance: InstanceId | None, actor: str) -> None:
        """Release both. Raises NotFound, Refused, and Unreachable when the log is away: then it may hold on."""
        self._check(instance)
        try:
            await self._write(instance, Pause(paused=False, reason=""), actor)
            pause.resume(self._directory, instance)
        except LogUnavailable as fault:
            raise Unreachable(
                f"whether the switch in the log is released isn't known, the log is away: {fault}; try again"
            ) from fault
        except OSError as fault:
            raise Refused([f"the pause switch {self._directory} can't be released: {fault.strerror}"]) from fault

    def _check(self, instance: InstanceId | None) -> None:
        if instance is not None and instance not in self._instances:
            raise NotFound(f"no instance {instance!r} in this fleet; known: {', '.join(self._instances)}")

    async def _write(self, instance: InstanceId | None, what: Pause, actor: str) -> None:
        if self._writer is None:
            raise LogUnavailable("the log isn't open yet")
        origin = self._origins.next()
        value = control_to(ControlRecord(origin, wall(), actor, what)).SerializeToString()
        key = pause_key(instance)
        await self._writer.append([Outgoing(CONTROL, key, value, telemetry.headers(CONTROL, origin))])
        self.control.set(key, what)  # at once: whoever is told that it is paused may rely on it
        logger.warning("%s: %s by %s", instance or "the whole fleet", "paused" if what.paused else "resumed", actor)
