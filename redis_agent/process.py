"""How a service lives: read the configuration, listen, wait for the log, work, and on SIGTERM end within five seconds.

Order of start: configuration, telemetry, gRPC (NOT_SERVING), log, SERVING. Order of stop: NOT_SERVING, the loop ends and
commits, log, telemetry. Exit codes: 0 asked to stop, 1 it failed, 2 configuration.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from redis_agent import telemetry as telemetry_module
from redis_agent.clock import instant, wall
from redis_agent.errors import AgentError, ConfigurationError
from redis_agent.findings import Findings
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import load_for
from redis_agent.log import Log
from redis_agent.log.opening import log_of, wait_for
from redis_agent.model import FindingKind, Origin, Severity
from redis_agent.rpc.server import Server
from redis_agent.telemetry import Telemetry
from redis_agent.topics import FLEET

logger = logging.getLogger(__name__)
_STOP_WITHIN_SECONDS = 4.0
_GRACE_SECONDS = 0.5
_PARENT_CHECK_SECONDS = 1.0
_CLOCK_CHECK_SECONDS = 1.0
_CLOCK_JUMP = timedelta(seconds=2)
_PLAUSIBLE_FROM, _PLAUSIBLE_TO = datetime(2026, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)
_CLOCK_JUMP_TOLD = timedelta(minutes=10)
PARENT = "REDIS_AGENT_PARENT"  # process id of the supervisor that started this process, if one did


class Origins:
    """Gives every record of this process its identity: a source that changes at each start, and a running number."""

    def __init__(self, service: str) -> None:
        self.source = f"{service}@{socket.gethostname()}/{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._sequence = 0

    def next(self) -> Origin:
        """The next identity."""
        self._sequence += 1
        return self.same()

    def same(self) -> Origin:
        """The last identity that was given."""
        return Origin(self.source, self._sequence)


def reporter_of(service: str, fleet: Fleet) -> str:
    """A process's name that stays over its restarts: the port tells two of one service on one host apart."""
    port = fleet.api.port if service == "gateway" else fleet.grpc.port(service)
    return f"{service}@{socket.gethostname()}:{port}"


class Runtime:
    """What a service's main is given: the configuration, the log, telemetry, and when to be ready and to stop."""

    def __init__(self, service: str, fleet: Fleet, telemetry: Telemetry) -> None:
        self.service = service
        self.fleet = fleet
        self.telemetry = telemetry
        self.origins = Origins(service)
        self.findings = Findings(reporter_of(service, fleet), self.origins.next)
        self._server: Server | None = None

    def listen_with(self, server: Server) -> None:
        """Serve this gRPC server for the life of the process."""
        self._server = server

    @asynccontextmanager
    async def log(self) -> AsyncIterator[Log]:
        """The log, once it answers; closed at the end."""
        log = log_of(self.fleet.log)
        try:
            await wait_for(log)
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self.findings.keep(log)), group.create_task(self._watch_wall_clock())]
                try:
                    yield log
                finally:
                    for task in beside:
                        task.cancel()
        finally:
            await log.close()

    async def _watch_wall_clock(self) -> None:
        """Tell when somebody sets this machine's clock. Nothing here depends on it but what people read."""
        ahead = wall() - instant()
        while True:
            self._tell_whether_plausible()
            await asyncio.sleep(_CLOCK_CHECK_SECONDS)
            before, ahead = ahead, wall() - instant()
            if abs(jump := ahead - before) > _CLOCK_JUMP:
                self._tell_of_jump(jump)

    def _tell_whether_plausible(self) -> None:
        now = wall()
        if _PLAUSIBLE_FROM <= now < _PLAUSIBLE_TO:
            self.findings.close(FindingKind.CLOCK_SKEW, FLEET)
            return
        self.findings.open(
            FindingKind.CLOCK_SKEW,
            FLEET,
            Severity.ERROR,
            f"the wall clock of {socket.gethostname()} says {now.year}; set it: every timestamp from there is wrong",
            command="timedatectl set-ntp true",
        )

    def _tell_of_jump(self, jump: timedelta) -> None:
        where = "ahead" if jump > timedelta() else "back"
        self.findings.open(
            FindingKind.CLOCK_JUMP,
            FLEET,
            Severity.WARNING,
            f"the wall clock of {socket.gethostname()} jumped {where} by {abs(jump).total_seconds():.0f} s;"
            " timestamps are off, decisions are not",
            evidence=f"seen by {self.findings.reporter}; it says {wall():%Y-%m-%d %H:%M:%S} UTC now",
            command="timedatectl timesync-status",
            lasts=_CLOCK_JUMP_TOLD,
        )

    async def ready(self) -> None:
        """SERVING from here on."""
        if self._server is not None:
            await self._server.ready()
        logger.info("ready")

    async def run(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Listen, work until done or cancelled, stop listening. Raises ConfigurationError for a port that is taken."""
        try:
            with telemetry_module.metrics_served(self.telemetry, self.fleet.telemetry.metrics_port(self.service)):
                if self._server is not None:
                    await self._server.start(self.fleet.grpc.port(self.service))
                await self._until_asked(asyncio.create_task(work()))
        finally:
            if self._server is not None:
                await self._server.stop(_GRACE_SECONDS)
            self.telemetry.close()

    async def _until_asked(self, task: "asyncio.Task[None]") -> None:
        """Until the work is done; when cancelled, callers are told first, so that nobody asks a loop that has ended."""
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._server is not None:
                await self._server.leaving()
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()
            raise


Main = Callable[[Runtime], Awaitable[None]]


def run(service: str, main: Main) -> int:
    """Live as that service; the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {service}")
    parser.add_argument("--config", type=Path, required=True, help="the fleet's file")
    arguments = parser.parse_args()
    try:
        fleet = load_for(service, arguments.config)
        telemetry_module.configure_logging(service, fleet.telemetry)
        return asyncio.run(_live(Runtime(service, fleet, telemetry_module.build(service, fleet.telemetry)), main))
    except ConfigurationError as fault:
        for line in fault.faults:
            print(line, file=sys.stderr)  # noqa: T201 - the command's answer
        return 2


async def _live(runtime: Runtime, main: Main) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main(runtime))
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    waiting = asyncio.ensure_future(asked.wait())
    orphaned = asyncio.ensure_future(_outlive_no_parent(asked))
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    orphaned.cancel()
    if not asked.is_set():
        return _ended(runtime.service, task)
    logger.info("stopping")
    task.cancel()
    _, late = await asyncio.wait({task}, timeout=_STOP_WITHIN_SECONDS)
    if late:
        # A blocking call (a log that doesn't answer) can't be interrupted. Leaving it is like SIGKILL, which loses nothing.
        logger.warning("a call did not end within %.0f s; leaving it", _STOP_WITHIN_SECONDS)
        os._exit(0)
    if not task.cancelled() and (fault := task.exception()) is not None:
        logger.error("failed while stopping: %s", fault)
        return 1
    return 0


async def _outlive_no_parent(asked: asyncio.Event) -> None:
    """A service that a supervisor started ends with it, however the supervisor died."""
    parent = os.environ.get(PARENT)
    while parent is not None:
        await asyncio.sleep(_PARENT_CHECK_SECONDS)
        if os.getppid() != int(parent):
            logger.warning("the supervisor is gone")
            asked.set()
            return


def _ended(service: str, task: "asyncio.Future[None]") -> int:
    fault = task.exception()
    if fault is None:
        return 0
    if isinstance(fault, BaseExceptionGroup):
        known, other = fault.split(AgentError)
        fault = _first(known) if known is not None and other is None else fault
    if isinstance(fault, ConfigurationError):
        raise fault
    if isinstance(fault, AgentError):
        logger.error("%s ends: %s", service, fault)
        return 1
    raise fault


def _first(group: BaseExceptionGroup[AgentError]) -> AgentError:
    """Groups nest as deep as the tasks did."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
