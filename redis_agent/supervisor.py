"""The services of one machine as child processes: started in order, restarted with back-off when one dies, stopped in
reverse order."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from redis_agent.process import PARENT

logger = logging.getLogger(__name__)
_BACK_OFF_SECONDS = 0.5
_BACK_OFF_AT_MOST_SECONDS = 30.0
_STEADY_SECONDS = 30.0
_STOP_WITHIN_SECONDS = 6.0
_WRONG_CONFIGURATION = 2


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep alive. `output`: its stdout and stderr go there; None: to ours."""

    name: str
    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    output: Path | None = None


class _Died(Exception):
    """A child ended that did not run for long, or could not be started."""


class Supervisor:
    """Keeps its children alive until stopped. `gave_up` is set when one can't run at all."""

    def __init__(self, children: Sequence[Child], say: Callable[[str], None] = logger.info) -> None:
        self._children = children
        self._say = say
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self.gave_up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.restarts: dict[str, int] = {child.name: 0 for child in children}

    async def start(self) -> None:
        """Start every child, in order."""
        for child in self._children:
            await self._spawn(child)
            self._keepers.append(asyncio.create_task(self._keep(child)))

    def pid(self, name: str) -> int:
        """The process id of that child as it runs now."""
        return self._processes[name].pid

    async def _spawn(self, child: Child) -> None:
        output = child.output.open("ab") if child.output is not None else None
        try:
            self._processes[child.name] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                child.module,
                *child.arguments,
                env={**os.environ, PARENT: str(os.getpid()), **child.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        finally:
            if output is not None:
                output.close()

    async def _keep(self, child: Child) -> None:
        """Start it again whenever it ends, each time later; one that ran for a while begins that anew."""
        while not self.gave_up.done():
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(_Died),
                wait=wait_exponential(multiplier=_BACK_OFF_SECONDS, max=_BACK_OFF_AT_MOST_SECONDS),
                before_sleep=self._say_again,
            ):
                with attempt:
                    await self._live_once(child)

    async def _live_once(self, child: Child) -> None:
        """One life of a child, which is started where it doesn't run. Raises _Died after a short one."""
        if self._processes[child.name].returncode is not None:
            try:
                await self._spawn(child)
            except OSError as fault:  # the machine has no room for a process, or for what it says
                raise _Died(f"{child.name} can't be started: {fault}") from fault
            self.restarts[child.name] += 1
        started = asyncio.get_running_loop().time()
        code = await self._processes[child.name].wait()
        steady = asyncio.get_running_loop().time() - started > _STEADY_SECONDS
        if code == _WRONG_CONFIGURATION and self.restarts[child.name] == 0 and not steady:
            self._give_up(f"{child.name} can't run with this configuration; see its lines above")
        elif steady:
            self._say(f"{child.name} ended with {_exit_reason(code)}; starting it again")
        else:
            raise _Died(f"{child.name} ended with {_exit_reason(code)}")

    def _say_again(self, state: RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome is not None else None
        self._say(f"{fault}; starting it again in {state.upcoming_sleep:g} s")

    def _give_up(self, why: str) -> None:
        if not self.gave_up.done():
            self.gave_up.set_result(why)

    async def stop(self) -> None:
        """SIGTERM from the last to the first, each waited for; SIGKILL for one that doesn't end. Safe twice."""
        for keeper in self._keepers:  # first: one that waits to start its child again must not do so now
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for child in reversed(self._children):
            process = self._processes.get(child.name)
            if process is not None and process.returncode is None:
                await self._end(child.name, process)

    async def _end(self, name: str, process: asyncio.subprocess.Process) -> None:
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_WITHIN_SECONDS):
                await process.wait()
        except TimeoutError:
            self._say(f"{name} did not end within {_STOP_WITHIN_SECONDS:g} s; killing it")
            process.kill()
            await process.wait()


def _exit_reason(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
