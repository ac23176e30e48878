"""The replies of one connection: the part of RESP2 that PING, INFO and AUTH are answered in."""

import asyncio
from datetime import timedelta

_LINE_AT_MOST_BYTES = 64 * 1024
_BULK_AT_MOST_BYTES = 4 * 1024 * 1024

Reply = tuple[bytes, bytes]  # type byte, payload


class Replies(asyncio.Protocol):
    """Collects simple, error, integer and bulk replies of one connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._asked_at = 0.0
        self._first_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._wanted = 0
        self._found: list[Reply] = []
        self._waiter: asyncio.Future[None] | None = None
        self._fault: Exception | None = None

    @property
    def usable(self) -> bool:
        """Whether it can be asked: still open, and nothing was said that nobody asked for."""
        return self._fault is None and not self._found and not self._buffer

    @property
    def round_trip(self) -> timedelta:
        """From the last question to the first reply after it."""
        return timedelta(seconds=max(0.0, self._first_at - self._asked_at))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self.transport = transport

    async def ask(self, request: bytes, replies: int) -> None:
        """Send, and return when that many replies are there, or some and then no connection.

        Raises the fault that ended the connection before any reply came, ValueError for what isn't RESP.
        """
        # An error that came before we asked (maxclients says so and closes) is the answer to whatever we ask.
        self._wanted = replies
        self._asked_at = self._loop.time()
        self._waiter = self._loop.create_future()
        if self._fault is None and self.transport is not None:
            self.transport.write(request)
        self._settle()
        await self._waiter

    def taken(self) -> list[Reply]:
        """The replies to the last question, as far as they came."""
        found, self._found = self._found[: self._wanted], self._found[self._wanted :]
        return found

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while (reply := self._next()) is not None:
                if not self._found:
                    self._first_at = self._loop.time()
                self._found.append(reply)
        except ValueError as fault:
            self._end(fault)
        self._settle()

    def _next(self) -> Reply | None:
        """The next whole reply, or None as long as it isn't all there. Raises ValueError."""
        buffer = self._buffer
        if buffer and bytes(buffer[:1]) not in (b"+", b"-", b":", b"$"):
            raise ValueError(f"unexpected reply {bytes(buffer[:40])!r}")
        end = buffer.find(b"\r\n")
        if end < 0:
            if len(buffer) > _LINE_AT_MOST_BYTES:
                raise ValueError(f"a reply of more than {_LINE_AT_MOST_BYTES} bytes without an end")
            return None
        kind, head = bytes(buffer[:1]), bytes(buffer[1:end])
        if kind != b"$":
            del buffer[: end + 2]
            return kind, head
        if not head.isdigit() or int(head[:20]) > _BULK_AT_MOST_BYTES:
            raise ValueError(f"unexpected reply {bytes(buffer[:40])!r}")
        begin, size = end + 2, int(head)
        if len(buffer) < begin + size + 2:
            return None
        payload = bytes(buffer[begin : begin + size])
        del buffer[: begin + size + 2]
        return kind, payload

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("connection closed by the server"))
        self._settle()

    def _end(self, fault: Exception) -> None:
        if self._fault is None:
            self._fault = fault
        self._buffer.clear()
        if self.transport is not None:
            self.transport.abort()

    def _settle(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if len(self._found) >= self._wanted or (self._found and self._fault is not None):
            waiter.set_result(None)
        elif self._fault is not None:
            waiter.set_exception(self._fault)
