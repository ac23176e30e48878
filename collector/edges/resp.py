"""One persistent connection to one Redis, and just enough RESP to ask PING and INFO.

The two commands go out in one write and come back in one read: one wake-up of our loop a poll. Nothing is sent that adds
to the target's error counters (no HELLO, no CLIENT SETINFO); after any failure the connection is thrown away.
"""

import asyncio
import errno
import socket
import ssl
from dataclasses import dataclass
from datetime import timedelta

from collector.core.verdict import Answer, Failing, Failure

_PING_INFO = b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nINFO\r\n"
_NO_ROUTE = {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a site answers and how to log in."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


Reply = tuple[bytes, bytes]  # type byte, payload


class _Replies(asyncio.Protocol):
    """Collects simple, error, integer and bulk replies of one connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._wanted = 0
        self._found: list[Reply] = []
        self._waiter: asyncio.Future[list[Reply]] | None = None
        self.first_at = 0.0
        self.lost = False
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self.transport = transport

    def ask(self, request: bytes, replies: int) -> "asyncio.Future[list[Reply]]":
        """Send and give a future of that many replies."""
        self._wanted, self._found, self.first_at = replies, [], 0.0
        self._waiter = self._loop.create_future()
        if self.lost or self.transport is None:
            self._waiter.set_exception(ConnectionResetError("connection closed by the server"))
        else:
            self.transport.write(request)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (reply := self._take()) is not None:
            if not self._found:
                self.first_at = self._loop.time()
            self._found.append(reply)
        waiter = self._waiter
        if waiter is not None and not waiter.done() and len(self._found) >= self._wanted:
            waiter.set_result(self._found)

    def _take(self) -> Reply | None:
        buffer = self._buffer
        end = buffer.find(b"\r\n")
        if end < 0:
            return None
        kind, head = bytes(buffer[:1]), bytes(buffer[1:end])
        if kind in (b"+", b"-", b":"):
            del buffer[: end + 2]
            return kind, head
        if kind != b"$" or not head.isdigit():
            self._fail(ValueError(f"unexpected reply {bytes(buffer[:40])!r}"))
            buffer.clear()
            return None
        size = int(head)
        if len(buffer) < end + 2 + size + 2:
            return None
        payload = bytes(buffer[end + 2 : end + 2 + size])
        del buffer[: end + 2 + size + 2]
        return kind, payload

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._fail(exc or ConnectionResetError("connection closed by the server"))

    def _fail(self, fault: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            # An error reply followed by a close (maxclients) is an answer, not a reset.
            if self._found:
                self._waiter.set_result(self._found)
            else:
                self._waiter.set_exception(fault)


class Connection:
    """Asks one endpoint, keeping the connection between polls."""

    def __init__(self, endpoint: Endpoint, timeout_seconds: float) -> None:
        self.endpoint = endpoint
        self._timeout = timeout_seconds
        self._replies: _Replies | None = None

    async def poll(self) -> Answer | Failure:
        """PING and INFO within the timeout, connecting first where needed. Never raises for what the target does."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                if self._replies is None or self._replies.lost:
                    refusal = await self._connect()
                    if refusal is not None:
                        return refusal
                return await self._ask(loop)
        except (TimeoutError, OSError, ValueError) as fault:
            self.close()
            return self._failure(fault)

    async def _connect(self) -> Answer | None:
        loop = asyncio.get_running_loop()
        self.close()
        endpoint = self.endpoint
        hostname = endpoint.host if endpoint.tls is not None else None
        _, self._replies = await loop.create_connection(
            _Replies, endpoint.host, endpoint.port, ssl=endpoint.tls, server_hostname=hostname
        )
        if endpoint.password is None:
            return None
        words = ["AUTH", *([endpoint.username] if endpoint.username else []), endpoint.password]
        started = loop.time()
        reply = (await self._replies.ask(_command(words), 1))[0]
        if reply[0] == b"-":
            self.close()
            return Answer(_text(reply), is_error=True, round_trip=timedelta(seconds=loop.time() - started), info=None)
        return None

    async def _ask(self, loop: asyncio.AbstractEventLoop) -> Answer:
        if self._replies is None:
            raise ConnectionResetError("connection closed by the server")
        started = loop.time()
        found = await self._replies.ask(_PING_INFO, 2)
        round_trip = timedelta(seconds=self._replies.first_at - started)
        ping = found[0]
        info = found[1] if len(found) > 1 else (b"-", b"no reply")
        text = info[1] if info[0] == b"$" else None
        return Answer(_text(ping), ping[0] == b"-", round_trip, text, "" if text is not None else _text(info))

    def _failure(self, fault: Exception) -> Failure:
        where = str(self.endpoint)
        match fault:
            case TimeoutError():
                return Failure(Failing.TIMEOUT, f"no answer from {where} within {self._timeout:.2f} s")
            case ConnectionRefusedError():
                return Failure(Failing.REFUSED, f"{where} refused the connection")
            case ssl.SSLError():
                return Failure(Failing.TLS, f"TLS with {where}: {fault.reason or fault}")
            case socket.gaierror():
                return Failure(Failing.NAME, f"{self.endpoint.host}: {fault.strerror}")
            case ValueError():
                return Failure(Failing.PROTOCOL, f"{where}: {fault}")
            case OSError() if fault.errno in _NO_ROUTE:
                return Failure(Failing.NO_ROUTE, f"{where}: {fault.strerror}")
            case _:
                return Failure(Failing.RESET, f"{where}: {fault}")

    def close(self) -> None:
        """Throw the connection away. Safe twice."""
        if self._replies is not None and self._replies.transport is not None:
            self._replies.transport.abort()
        self._replies = None


def _command(words: list[str]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)


def _text(reply: Reply) -> str:
    return reply[1].decode("utf-8", "replace")
