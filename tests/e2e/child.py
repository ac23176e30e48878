"""A child process of a test, and waiting for what will come."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import TypeVar

from redis_agent.errors import AgentError
from redis_agent.process import PARENT

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0


class Process:
    """A child of the test, with what it says in a file. It ends when the test does, however that ends."""

    def __init__(self, command: Sequence[str], output: Path, variables: Mapping[str, str]) -> None:
        self._output = output
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            PARENT: str(os.getpid()),
            "COLUMNS": "300",
            **variables,
        }
        with output.open("ab") as file:
            self._child = Popen([sys.executable, *command], env=environment, stdin=DEVNULL, stdout=file, stderr=STDOUT)

    @property
    def said(self) -> str:
        """Everything that it wrote so far."""
        return self._output.read_text()

    @property
    def ready(self) -> bool:
        """Whether it said that it is ready. Raises AssertionError with its words when it ended."""
        assert self._child.poll() is None, f"ended with {self._child.returncode}:\n{self.said}"
        return " ready\n" in self.said

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._child.send_signal(number)

    async def code(self, within_seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code, once it ended. Raises AssertionError with its words when it doesn't in time."""
        deadline = time.monotonic() + within_seconds
        while (code := self._child.poll()) is None:
            assert time.monotonic() < deadline, f"still running after {within_seconds:g} s:\n{self.said}"
            await asyncio.sleep(0.02)
        return code

    def kill(self) -> None:
        """SIGKILL. Safe twice."""
        self._child.kill()
        self._child.wait()


async def eventually(
    ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool], within: float = PATIENCE_SECONDS
) -> T:
    """Ask until the answer is right; the answer. Raises AssertionError with the last one."""
    deadline = time.monotonic() + within
    while True:
        found: T | AgentError
        try:
            found = await ask()
        except AgentError as fault:
            found = fault
        if not isinstance(found, AgentError) and holds(found):
            return found
        assert time.monotonic() < deadline, f"not within {within:g} s: {str(found)[:2000]}"
        await asyncio.sleep(0.05)
