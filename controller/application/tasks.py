"""One acting task an instance at most."""

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType

from redis_agent.errors import Refused, Transient, Unreachable
from redis_agent.model import InstanceId

logger = logging.getLogger(__name__)
_PAUSE_SECONDS = 0.5


class InstanceTasks:
    """Tasks that act, within a context that owns them: one that fails for good ends all of it."""

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None
        self._acting: dict[InstanceId, asyncio.Task[None]] = {}

    async def __aenter__(self) -> "InstanceTasks":
        self._group = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._group is not None:
            group, self._group = self._group, None
            await group.__aexit__(kind, fault, trace)

    def busy(self, instance: InstanceId) -> bool:
        """Whether somebody acts on it now."""
        task = self._acting.get(instance)
        return task is not None and not task.done()

    def start(self, instance: InstanceId, work: Coroutine[None, None, None]) -> None:
        """Let `work` act on the instance. Raises Refused while another does, Unreachable before the service is ready."""
        if self._group is None or self.busy(instance):
            work.close()
            if self._group is None:
                raise Unreachable("the controller isn't ready yet")
            raise Refused([f"the controller is already acting on {instance}"])
        self._acting[instance] = self._group.create_task(_patiently(work))


async def _patiently(work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except Transient as fault:
        logger.warning("%s; will try again", fault)
        await asyncio.sleep(_PAUSE_SECONDS)
