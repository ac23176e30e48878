"""A service as its own process in a test, and waiting for what will come."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import Any

from redis_agent.process import PARENT

STOPPED_WITHIN_SECONDS = 10.0
"""Twice what a service promises when asked to stop: a machine that runs many tests at once is slow."""
_ROOT = Path(__file__).resolve().parents[1]


async def until(holds: Callable[[], bool], within_seconds: float = 30.0) -> None:
    """Return once it holds. Raises TimeoutError, which names what was waited for."""
    deadline = time.monotonic() + within_seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_seconds:g} s: {holds.__qualname__}")
        await asyncio.sleep(0.02)


class ServiceProcess:
    """A service as a process of its own, with `fleet` as its configuration. What it says is kept in a file.

    It runs in `directory` and ends when the test's process does, however that ends.
    """

    def __init__(self, service: str, fleet: Mapping[str, Any], directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.service = service
        self._directory = directory
        self._output = directory / f"{service}.out"
        self._configuration = directory / f"{service}.json"
        self._configuration.write_text(json.dumps(fleet))
        self._child: Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    @property
    def said(self) -> str:
        """Everything that it wrote so far, over all its lives."""
        return self._output.read_text() if self._output.exists() else ""

    def _running(self) -> "Popen[bytes]":
        if self._child is None:
            raise RuntimeError(f"{self.service} was not started")
        return self._child

    def begin(self) -> None:
        """Start it, again if it ran before, and don't wait."""
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), PARENT: str(os.getpid())}
        command = [sys.executable, "-m", self.service, "--config", str(self._configuration)]
        with self._output.open("ab") as output:
            self._child = Popen(
                command, cwd=self._directory, env=environment, stdin=DEVNULL, stdout=output, stderr=STDOUT
            )

    async def start(self) -> None:
        """Start it and return when it says that it is ready. Raises RuntimeError with what it said if it ends."""
        before = self.said.count(" ready\n")
        self.begin()
        child = self._running()
        await until(lambda: child.poll() is not None or self.said.count(" ready\n") > before, 60)
        if child.poll() is not None:
            raise RuntimeError(f"{self.service} ended with {child.returncode}:\n{self.said}")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._running().send_signal(number)

    async def ended(self, within_seconds: float = 20.0) -> int:
        """Its exit code, once it ended."""
        child = self._running()
        await until(lambda: child.poll() is not None, within_seconds)
        return child.returncode

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    def kill(self) -> None:
        """SIGKILL. Safe twice."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
