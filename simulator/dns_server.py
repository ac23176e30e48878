"""The authoritative DNS server of a zone, over UDP and TCP: it answers with what has propagated, not with more."""

import asyncio
import errno
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import dns.flags

from simulator.dns_answers import answer, format_error, parsed, udp_limit_bytes
from simulator.zone import Zone

MAX_TCP_MESSAGE_BYTES = 65_535
PORT_ATTEMPTS = 20


class DnsServer:
    """Serves `zone` on host:port, the same port for UDP and TCP.

    `answering = False` makes it silent: packets and connections are taken in, and nothing comes back. `queries` counts
    the messages that arrived, answered or not. The clock must be that of the zone's `now`.
    """

    def __init__(self, zone: Zone, host: str, port: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.zone = zone
        self.host = host
        self.port = port
        self.answering = True
        self.queries = 0
        self._clock = clock
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self) -> None:
        """Raises OSError if the address can't be bound."""
        if self.port:
            await self._bind(self.port)
        else:
            await self._bind_any()

    async def stop(self) -> None:
        if self._udp is not None:
            self._udp.abort()
            self._udp = None
        if self._tcp is not None:
            self._tcp.close()
            self._tcp = None
        connections = dict(self._connections)
        for task, writer in connections.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _bind_any(self) -> None:
        """A port that is free for TCP may be taken for UDP: then tries another."""
        for _ in range(PORT_ATTEMPTS):
            try:
                await self._bind(0)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return
        raise OSError(errno.EADDRINUSE, f"no port of {self.host} was free for both UDP and TCP, {PORT_ATTEMPTS} tries")

    async def _bind(self, port: int) -> None:
        self._tcp = await asyncio.start_server(self._serve_connection, self.host, port)
        bound = int(self._tcp.sockets[0].getsockname()[1])
        loop = asyncio.get_running_loop()
        try:
            self._udp, _ = await loop.create_datagram_endpoint(self._datagrams, (self.host, bound))
        except OSError:
            self._tcp.close()
            self._tcp = None
            raise
        self.port = bound

    def _datagrams(self) -> "_Datagrams":
        return _Datagrams(partial(self.respond, over_udp=True))

    def respond(self, wire: bytes, *, over_udp: bool) -> bytes | None:
        """The answer to one message, cut to size (TC) for UDP; None where nothing is to be sent."""
        self.queries += 1
        if not self.answering:
            return None
        query = parsed(wire)
        if query is None:
            return format_error(wire)
        if query.flags & dns.flags.QR:
            return None
        response = answer(query, self.zone.name, self.zone.propagated(self._clock()))
        limit_bytes = udp_limit_bytes(query) if over_udp else MAX_TCP_MESSAGE_BYTES
        return response.to_wire(max_size=limit_bytes, prefer_truncation=True)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._connections[task] = writer
        try:
            await self._converse(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or stop() cut it: either way this connection is over
        finally:
            writer.transport.abort()
            del self._connections[task]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Messages with a two-byte length before each, as many as the client sends (RFC 7766)."""
        while True:
            length_bytes = int.from_bytes(await reader.readexactly(2), "big")
            response = self.respond(await reader.readexactly(length_bytes), over_udp=False)
            if response is not None:
                writer.write(len(response).to_bytes(2, "big") + response)
                await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, respond: Callable[[bytes], bytes | None]) -> None:
        self._respond = respond
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response = self._respond(data)
        if response is not None and self._transport is not None:
            self._transport.sendto(response, addr)
