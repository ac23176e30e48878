"""The link with real sockets on both sides, in each mode."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest

from simulator.proxy import CHUNK_BYTES, CHUNKS_IN_FLIGHT, Link, LinkMode

HOST = "127.0.0.1"
QUIET_SECONDS = 0.1
LONG_SECONDS = 5.0


class Echo:
    """A server that says everything back, and keeps what it heard."""

    def __init__(self) -> None:
        self.heard = b""
        self.accepted = 0
        self.endings: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                self.heard += chunk
                writer.write(chunk)
                await writer.drain()
            self.endings.append("closed")
        except ConnectionResetError:
            self.endings.append("reset")
        writer.close()


class Client:
    """A connection through the link. Those that a test leaves open are closed with the link."""

    opened: ClassVar[list["Client"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, link: Link) -> "Client":
        client = cls(*await asyncio.open_connection(HOST, link.port))
        cls.opened.append(client)
        return client

    @classmethod
    def close_all(cls) -> None:
        for client in cls.opened:
            client.writer.transport.abort()
        cls.opened.clear()

    async def ask(self, line: bytes, seconds: float = LONG_SECONDS) -> bytes:
        self.writer.write(line)
        return await asyncio.wait_for(self.reader.readline(), seconds)

    async def hears_nothing(self) -> bool:
        try:
            await asyncio.wait_for(self.reader.read(1), QUIET_SECONDS)
        except TimeoutError:
            return True
        return False

    async def is_reset(self) -> bool:
        try:
            await asyncio.wait_for(self.reader.read(1), LONG_SECONDS)
        except ConnectionResetError:
            return True
        return False


def with_link(check: Callable[[Link, Echo], Awaitable[None]]) -> None:
    async def run() -> None:
        echo = Echo()
        server = await asyncio.start_server(echo, HOST, 0)
        link = Link(HOST, 0, HOST, server.sockets[0].getsockname()[1])
        await link.start()
        try:
            await check(link, echo)
        finally:
            await link.stop()
            await link.stop()
            assert link.connections == 0
            server.close()
            Client.close_all()

    asyncio.run(run())


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_SECONDS):
        while not condition():  # noqa: ASYNC110  what is waited for is on the other side of a socket
            await asyncio.sleep(0.005)


def test_an_open_link_passes_bytes_both_ways_and_the_end_of_the_stream() -> None:
    async def check(link: Link, echo: Echo) -> None:
        client = await Client.connect(link)
        assert await client.ask(b"one\n") == b"one\n"
        client.writer.write(b"two\n")
        client.writer.write_eof()
        assert await asyncio.wait_for(client.reader.read(), LONG_SECONDS) == b"two\n"
        await eventually(lambda: link.connections == 0)
        assert echo.endings == ["closed"]

    with_link(check)


def test_a_cut_link_resets_what_is_connected_and_every_new_connection() -> None:
    async def check(link: Link, echo: Echo) -> None:
        client = await Client.connect(link)
        await client.ask(b"one\n")
        await link.set_mode(LinkMode.CUT)
        assert await client.is_reset()
        await eventually(lambda: echo.endings == ["reset"])
        assert await (await Client.connect(link)).is_reset()
        assert echo.accepted == 1
        await link.set_mode(LinkMode.OPEN)
        assert await (await Client.connect(link)).ask(b"two\n") == b"two\n"

    with_link(check)


def test_a_refused_link_resets_what_is_connected_and_refuses_until_it_is_open_on_the_same_port() -> None:
    async def check(link: Link, echo: Echo) -> None:
        port = link.port
        client = await Client.connect(link)
        await client.ask(b"one\n")
        for _ in range(3):
            await link.set_mode(LinkMode.REFUSED)
            with pytest.raises(ConnectionRefusedError):
                await Client.connect(link)
            await link.set_mode(LinkMode.OPEN)
        assert await client.is_reset()
        assert link.port == port
        assert await (await Client.connect(link)).ask(b"two\n") == b"two\n"

    with_link(check)


def test_a_black_hole_passes_nothing_and_delivers_what_it_held_when_it_opens() -> None:
    async def check(link: Link, echo: Echo) -> None:
        client = await Client.connect(link)
        await client.ask(b"one\n")
        await link.set_mode(LinkMode.BLACK_HOLE)
        client.writer.write(b"two\n")
        assert await client.hears_nothing()
        assert echo.heard == b"one\n"
        await link.set_mode(LinkMode.OPEN)
        assert await asyncio.wait_for(client.reader.readline(), LONG_SECONDS) == b"two\n"

    with_link(check)


def test_answers_under_way_are_held_too() -> None:
    async def check(link: Link, echo: Echo) -> None:
        client = await Client.connect(link)
        link.delay_seconds = 0.05
        client.writer.write(b"one\n")
        await eventually(lambda: echo.heard == b"one\n")
        await link.set_mode(LinkMode.BLACK_HOLE)
        assert await client.hears_nothing()
        await link.set_mode(LinkMode.OPEN)
        assert await asyncio.wait_for(client.reader.readline(), LONG_SECONDS) == b"one\n"

    with_link(check)


def test_a_new_connection_into_a_black_hole_is_accepted_and_not_answered_until_it_opens() -> None:
    async def check(link: Link, echo: Echo) -> None:
        await link.set_mode(LinkMode.BLACK_HOLE)
        client = await Client.connect(link)
        client.writer.write(b"one\n")
        assert await client.hears_nothing()
        assert echo.accepted == 0
        await link.set_mode(LinkMode.OPEN)
        assert await asyncio.wait_for(client.reader.readline(), LONG_SECONDS) == b"one\n"

    with_link(check)


def test_a_client_that_gives_up_in_a_black_hole_leaves_nothing_behind() -> None:
    async def check(link: Link, echo: Echo) -> None:
        await link.set_mode(LinkMode.BLACK_HOLE)
        for _ in range(5):
            client = await Client.connect(link)
            client.writer.write(b"anyone?\n")
            await eventually(lambda: link.connections == 1)
            client.writer.close()
            await eventually(lambda: link.connections == 0)
        await link.set_mode(LinkMode.OPEN)
        await asyncio.sleep(QUIET_SECONDS)
        assert echo.accepted == 0

    with_link(check)


def test_a_link_holds_a_bounded_amount_and_then_stops_reading() -> None:
    async def check(link: Link, echo: Echo) -> None:
        client = await Client.connect(link)
        await client.ask(b"one\n")
        await link.set_mode(LinkMode.BLACK_HOLE)
        line = b"x" * 1023 + b"\n"
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 64 * CHUNKS_IN_FLIGHT * CHUNK_BYTES:
                client.writer.write(line * 64)
                await asyncio.wait_for(client.writer.drain(), 0.5)
                sent += 64 * len(line)
        client.writer.transport.abort()

    with_link(check)


def test_much_data_passes_whole_through_a_hole_that_opens() -> None:
    async def check(link: Link, echo: Echo) -> None:
        client = await Client.connect(link)
        lines = b"".join(b"%07d\n" % number for number in range(400_000))
        reading = asyncio.ensure_future(client.reader.readexactly(len(lines)))
        client.writer.write(lines)
        await eventually(lambda: bool(echo.heard))
        for mode in (LinkMode.BLACK_HOLE, LinkMode.OPEN, LinkMode.BLACK_HOLE, LinkMode.OPEN):
            await link.set_mode(mode)
            await asyncio.sleep(0.02)
        assert await asyncio.wait_for(reading, 30) == lines

    with_link(check)


def test_delay_is_added_to_each_direction_and_does_not_narrow_the_link() -> None:
    async def check(link: Link, echo: Echo) -> None:
        client = await Client.connect(link)
        await client.ask(b"warm\n")
        link.delay_seconds = 0.1
        began = time.monotonic()
        for number in range(8):
            client.writer.write(b"%d\n" % number)
            await asyncio.sleep(0.005)
        for _ in range(8):
            await asyncio.wait_for(client.reader.readline(), LONG_SECONDS)
        assert 0.2 <= time.monotonic() - began < 0.5

    with_link(check)


def test_a_target_that_is_gone_shows_as_a_reset() -> None:
    async def run() -> None:
        server = await asyncio.start_server(Echo(), HOST, 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        link = Link(HOST, 0, HOST, port)
        await link.start()
        assert await (await Client.connect(link)).is_reset()
        await link.stop()
        Client.close_all()

    asyncio.run(run())


def test_stop_resets_connections_and_the_link_can_start_again_in_its_last_mode() -> None:
    async def check(link: Link, echo: Echo) -> None:
        client = await Client.connect(link)
        await client.ask(b"one\n")
        await link.stop()
        assert await client.is_reset()
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(link)
        await link.set_mode(LinkMode.CUT)
        await link.start()
        assert await (await Client.connect(link)).is_reset()

    with_link(check)
