"""One aiohttp application on one loopback port: what every HTTP fake of the simulator stands on."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

GRACE_SECONDS = 0.1
DEFAULT_MAX_BODY_BYTES = 1024**2


class HttpListener:
    """Serves `routes` on host:port. A port given as 0 is chosen at the first start and kept over restarts."""

    def __init__(
        self, routes: Iterable[web.RouteDef], host: str, port: int, max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    ) -> None:
        self.host = host
        self.port = port
        self._routes = tuple(routes)
        self._max_body_bytes = max_body_bytes
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Raises OSError if the address can't be bound."""
        application = web.Application(client_max_size=self._max_body_bytes)
        application.add_routes(self._routes)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=GRACE_SECONDS
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes the port and every connection. Requests still being answered have 0.1 s to end, then they are cut."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()


@dataclass(frozen=True, slots=True)
class CannedAnswer:
    """An answer given instead of the true one: an HTTP status and, where it says so, Retry-After in seconds."""

    status: int
    retry_after_seconds: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}


class Misbehaviour:
    """What a vendor's fake was told to do wrong, and has not done yet."""

    def __init__(self) -> None:
        self._planned: deque[CannedAnswer] = deque()
        self._listening = asyncio.Event()
        self._listening.set()

    def answer_next(self, status: int, n: int = 1, retry_after_seconds: int | None = None) -> None:
        """Answers the next `n` requests with `status`, after those that were planned before."""
        self._planned.extend([CannedAnswer(status, retry_after_seconds)] * n)

    @property
    def black_hole(self) -> bool:
        """While true, requests are taken in and not looked at. Who still waits when it ends gets an answer."""
        return not self._listening.is_set()

    @black_hole.setter
    def black_hole(self, silent: bool) -> None:
        if silent:
            self._listening.clear()
        else:
            self._listening.set()

    async def take(self) -> CannedAnswer | None:
        """What to answer now instead of the truth, or None. Waits while the fake is a black hole."""
        await self._listening.wait()
        return self._planned.popleft() if self._planned else None
