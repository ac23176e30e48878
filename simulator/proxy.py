"""A TCP link between a client and a server that can be cut, black-holed, refused or slowed while in use."""

import asyncio
import socket
import struct
from enum import Enum
from typing import cast

CHUNK_BYTES = 64 * 1024
CHUNKS_IN_FLIGHT = 16
"""With CHUNK_BYTES: what one direction of one connection holds at most (1 MiB). Beyond it, the link stops reading."""
BACKLOG = 128


class LinkMode(Enum):
    """What happens on the link.

    CUT: the listener stays; existing connections are reset, new ones are accepted and reset at once.
    BLACK_HOLE: connections stay and new ones are accepted, but no byte passes either way until the mode is OPEN again.
    REFUSED: nobody listens, so that connecting gets ECONNREFUSED; existing connections are reset.
    """

    OPEN = "OPEN"
    CUT = "CUT"
    BLACK_HOLE = "BLACK_HOLE"
    REFUSED = "REFUSED"


class Link:
    """Passes connections to listen_host:listen_port on to target_host:target_port.

    `delay_seconds` is added to each direction while the link is OPEN, without narrowing it. A target that can't be
    reached shows as a reset after the connection was accepted: a proxy can't refuse in another's name.
    """

    def __init__(self, listen_host: str, listen_port: int, target_host: str, target_port: int) -> None:
        self.delay_seconds = 0.0
        self.host = listen_host
        self.port = listen_port
        self._target = (target_host, target_port)
        self._mode = LinkMode.OPEN
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    @property
    def mode(self) -> LinkMode:
        return self._mode

    @property
    def connections(self) -> int:
        """How many client connections there are now."""
        return len(self._connections)

    async def start(self) -> None:
        """Takes the port, and listens unless the mode is REFUSED. Raises OSError if the address can't be bound."""
        self._reserve()
        if self._mode is not LinkMode.REFUSED:
            await self._listen()

    async def stop(self) -> None:
        """Gives the port back and resets every connection."""
        self._stop_listening()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        await self._reset_connections()

    async def set_mode(self, mode: LinkMode) -> None:
        """Returns when the mode is in force. While the link is stopped it sets the mode of the next start."""
        running = self._server is not None or self._reserved is not None
        self._mode = mode
        if mode is LinkMode.OPEN:
            self._open.set()
        else:
            self._open.clear()
        if mode is LinkMode.REFUSED and self._server is not None:
            self._stop_listening()
            self._reserve()
        elif mode is not LinkMode.REFUSED and running and self._server is None:
            await self._listen()
        if mode in {LinkMode.CUT, LinkMode.REFUSED}:
            await self._reset_connections()

    def _reserve(self) -> None:
        """Binds the port without listening: connecting is refused, and nobody else takes the port meanwhile."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        reserved = socket.socket(family, socket.SOCK_STREAM)
        try:
            reserved.setblocking(False)  # noqa: FBT003  the standard library's own signature
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind((self.host, self.port))
        except OSError:
            reserved.close()
            raise
        self.port = int(reserved.getsockname()[1])
        self._reserved = reserved

    async def _listen(self) -> None:
        reserved, self._reserved = self._reserved, None
        self._server = await asyncio.start_server(self._accept, sock=reserved, limit=CHUNK_BYTES, backlog=BACKLOG)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset_connections(self) -> None:
        connections = dict(self._connections)
        for task, writers in connections.items():
            for writer in writers:
                _reset(writer)
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        writers = self._connections[task] = [writer]
        try:
            if self._mode in {LinkMode.OPEN, LinkMode.BLACK_HOLE}:
                await self._carry(reader, writer, writers)
        except* (OSError, asyncio.CancelledError):
            pass  # one side reset, the target can't be reached, or the link was cut: the other side is to see a reset
        finally:
            for open_writer in writers:
                _reset(open_writer)
            del self._connections[task]

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, writers: list[asyncio.StreamWriter]
    ) -> None:
        held = await self._hold(reader)
        if held is None:
            return
        target_reader, target_writer = await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)
        writers.append(target_writer)
        target_writer.write(held)
        async with asyncio.TaskGroup() as directions:
            directions.create_task(self._pass_on(reader, target_writer))
            directions.create_task(self._pass_on(target_reader, writer))
        for finished in writers:
            finished.close()
            await finished.wait_closed()

    async def _hold(self, reader: asyncio.StreamReader) -> bytes | None:
        """Waits until the link is open; the bytes that came meanwhile, or None if the client gave up first.

        Watching for that matters: a client that connects anew each second would otherwise leave a socket each time."""
        held = b""
        while not self._open.is_set() and len(held) < CHUNK_BYTES:
            received = await self._read_until_open(reader, CHUNK_BYTES - len(held))
            if received == b"":
                return None
            held += received or b""
        await self._open.wait()
        return held

    async def _read_until_open(self, reader: asyncio.StreamReader, limit_bytes: int) -> bytes | None:
        """What comes next, nothing at the end of the stream, or None if the link opened first."""
        opened = asyncio.ensure_future(self._open.wait())
        chunk = asyncio.ensure_future(reader.read(limit_bytes))
        try:
            await asyncio.wait({opened, chunk}, return_when=asyncio.FIRST_COMPLETED)
            return chunk.result() if chunk.done() else None
        finally:
            opened.cancel()
            chunk.cancel()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction: bytes as they come, each `delay_seconds` after it came; then the end of the stream."""
        writer.transport.set_write_buffer_limits(high=0)
        in_flight: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_IN_FLIGHT)
        async with asyncio.TaskGroup() as halves:
            halves.create_task(self._take_in(reader, in_flight))
            halves.create_task(self._give_out(in_flight, writer))

    async def _take_in(self, reader: asyncio.StreamReader, in_flight: asyncio.Queue[tuple[float, bytes]]) -> None:
        clock = asyncio.get_running_loop().time
        while chunk := await reader.read(CHUNK_BYTES):
            await in_flight.put((clock() + self.delay_seconds, chunk))
        await in_flight.put((clock() + self.delay_seconds, b""))

    async def _give_out(self, in_flight: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due_at, chunk = await in_flight.get()
            if due_at > clock():
                await asyncio.sleep(due_at - clock())
            await self._open.wait()
            if not chunk:
                writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST instead of FIN (SO_LINGER of zero), so that the peer sees a reset. A closed one is left alone."""
    endpoint = writer.get_extra_info("socket")
    if endpoint is not None and endpoint.fileno() >= 0 and not writer.is_closing():
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
