"""Real Redis servers, scripted ones, and the collector itself as a process, each for as long as a test wants it."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collector.edges.resp import Connection, Endpoint
from redis_agent.testing_process import ServiceProcess
from simulator.redis_server import RedisServer

HOST = "127.0.0.1"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Speaking = Callable[..., AbstractAsyncContextManager[Endpoint]]
Serving = Callable[..., AbstractAsyncContextManager[RedisServer]]
Asking = Callable[..., AbstractAsyncContextManager[Connection]]
Collecting = Callable[..., ServiceProcess]


@dataclass(frozen=True)
class Certificate:
    """A certificate for this host that signed itself, and its key."""

    path: Path
    key: Path

    def of_server(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.path, self.key)
        return context

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.path))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    directory = tmp_path_factory.mktemp("certificate")
    made = Certificate(directory / "cert.pem", directory / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subject = ["-subj", "/CN=redis.test", "-addext", f"subjectAltName=IP:{HOST}", "-days", "2"]
    subprocess.run([*command, *subject, "-keyout", made.key, "-out", made.path], check=True, capture_output=True)
    return made


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """A real redis-server; keyword arguments are lines of its configuration, `_` for `-`."""

    @asynccontextmanager
    async def run(directory: str = "redis", **lines: str) -> AsyncIterator[RedisServer]:
        extra = {name.replace("_", "-"): value for name, value in lines.items()}
        server = RedisServer(tmp_path / directory, HOST, 0, extra=extra)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    return run


@pytest.fixture
def speaking() -> Speaking:
    """A server that does what its script does with each connection, and then closes it."""

    @asynccontextmanager
    async def run(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
        tasks: set[asyncio.Task[None]] = set()

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                tasks.add(task)
            try:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    await script(reader, writer)
                    await writer.drain()
            finally:
                writer.close()

        server = await asyncio.start_server(converse, HOST, 0, ssl=tls)
        try:
            yield Endpoint(HOST, server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return run


@pytest.fixture
def asking() -> Asking:
    """A connection of the collector, closed at the end."""

    @asynccontextmanager
    async def run(endpoint: Endpoint, timeout_seconds: float = 0.5) -> AsyncIterator[Connection]:
        connection = Connection(endpoint, timeout_seconds)
        try:
            yield connection
        finally:
            connection.close()
            await asyncio.sleep(0)

    return run


def fleet_of(sites: Mapping[str, int], grpc_port: int, **collector: Any) -> dict[str, Any]:
    """A fleet with one instance, `orders`, that has a site in each datacenter at that port of this host."""
    return {
        "log": {"embedded": {"path": "log.db"}},
        "datacenters": [{"name": name} for name in sites],
        "instances": [
            {
                "id": "orders",
                "sites": [
                    {"datacenter": name, "url": f"redis://{HOST}:{port}", "dns_value": f"{name}.example.test."}
                    for name, port in sites.items()
                ],
            }
        ],
        "collector": {"vantage": "witness", "interval_seconds": 0.2, **collector},
        "failover": {"vote_max_age_seconds": 120},
        "grpc": {"ports": {"collector": grpc_port}},
    }


@pytest.fixture
def collecting(tmp_path: Path) -> Iterator[Collecting]:
    """`python -m collector` for sites at these ports; its log is `log.db` in the test's directory."""
    begun: list[ServiceProcess] = []

    def make(sites: Mapping[str, int], grpc_port: int, **collector: Any) -> ServiceProcess:
        begun.append(ServiceProcess("collector", fleet_of(sites, grpc_port, **collector), tmp_path))
        return begun[-1]

    yield make
    for process in begun:
        process.kill()
