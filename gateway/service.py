"""The gateway's loop: serve REST and the page until asked to stop; keep what the page shows fresh while somebody looks."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from gateway.edges import authentication, page, rest
from gateway.edges.authentication import Authenticator
from gateway.edges.backends import Backends
from gateway.edges.snapshot import Snapshots
from gateway.settings import Settings
from redis_agent.errors import ConfigurationError
from redis_agent.process import Runtime

logger = logging.getLogger(__name__)
_GRACE_SECONDS = 2


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the process has them. `listening` is set once it takes connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class Service:
    """Owns the HTTP server and the channels behind it."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self._runtime = runtime
        self._settings = settings

    async def run(self) -> None:
        """Serve until cancelled. Raises ConfigurationError when the port is taken."""
        listener = _bound(self._settings.host, self._settings.port)
        backends = Backends(self._settings.grpc)
        snapshots = Snapshots(backends)
        server = _Server(
            uvicorn.Config(
                self._app(backends, snapshots),
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        try:
            await self._serve(server, listener)
        finally:
            await backends.close()
            listener.close()

    async def _serve(self, server: _Server, listener: socket.socket) -> None:
        host, port = listener.getsockname()[:2]
        serving = asyncio.create_task(server.serve([listener]))
        try:
            await _first({serving, asyncio.create_task(server.listening.wait())})
            if self._settings.generated is not None:
                logger.info("the API key is in %s", self._settings.generated)
            logger.info("listening on http://%s:%d/", host, port)
            await self._runtime.ready()
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await asyncio.wait([serving], timeout=_GRACE_SECONDS + 1)
            raise

    def _app(self, backends: Backends, snapshots: Snapshots) -> FastAPI:
        app = rest.build(backends, self._runtime.telemetry.registry)
        authentication.mount(app, Authenticator(self._settings.key))
        page.mount(app, snapshots)
        return app


async def _first(tasks: "set[asyncio.Task[Any]]") -> None:
    """Until one of them is done. Raises what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as fault:
        listener.close()
        right = "stop its owner or choose another with api.port"
        raise ConfigurationError([f"api.port: {host}:{port}: {fault.strerror}; {right}"]) from fault
    return listener
