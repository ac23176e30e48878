"""The connection against real Redis servers, against servers that say odd things, and through links that break."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable

import pytest

from collector.core.verdict import Answer, Failing, Failure
from collector.edges.resp import Connection, Endpoint
from simulator.proxy import Link, LinkMode
from simulator.redis_server import RedisServer

from .conftest import HOST, Asking, Certificate, Serving, Speaking

LATE_SECONDS = 1.5
"""Far above the time-out of 0.5 s that a poll may take, for a machine that does other things as well."""
PONG = b"+PONG\r\n"
INFO = b"$20\r\nused_memory:1024\r\n\r\n\r\n"


def to(server: RedisServer, password: str | None = None, username: str | None = None) -> Endpoint:
    return Endpoint(HOST, server.port, None, username, password)


async def poll(connection: Connection) -> Answer | Failure:
    """One poll, which may never take much longer than its time-out."""
    began = time.monotonic()
    outcome = await connection.poll()
    assert time.monotonic() - began < LATE_SECONDS
    return outcome


async def answered(connection: Connection) -> Answer:
    outcome = await poll(connection)
    assert isinstance(outcome, Answer), outcome
    return outcome


async def failing(connection: Connection) -> Failing:
    outcome = await poll(connection)
    assert isinstance(outcome, Failure), outcome
    return outcome.failing


async def statistic(server: RedisServer, section: str, field: str) -> int:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(f"INFO {section}\r\n".encode())
        size = int((await reader.readline())[1:])
        text = (await reader.readexactly(size)).decode()
    finally:
        writer.close()
        await writer.wait_closed()
    return int(dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)[field])


# --- real servers


def test_a_server_that_runs_answers_with_its_info(serving: Serving, asking: Asking) -> None:
    async def run() -> None:
        async with serving() as server, asking(to(server)) as connection:
            answer = await answered(connection)
            assert answer.ping == "PONG"
            assert answer.info is not None
            assert b"redis_version:" in answer.info
            assert 0 < answer.round_trip.total_seconds() < 0.5

    asyncio.run(run())


def test_polling_keeps_one_connection_and_adds_no_error_to_the_targets_counters(
    serving: Serving, asking: Asking
) -> None:
    async def run() -> None:
        async with serving() as server, asking(to(server)) as connection:
            await answered(connection)
            errors = await statistic(server, "stats", "total_error_replies")
            connections = await statistic(server, "stats", "total_connections_received")
            for _ in range(200):
                await answered(connection)
            assert await statistic(server, "stats", "total_error_replies") == errors
            # One more, and that is the question before this one.
            assert await statistic(server, "stats", "total_connections_received") == connections + 2

    asyncio.run(run())


def test_many_who_ask_at_once_each_get_an_answer(serving: Serving, asking: Asking) -> None:
    async def run() -> None:
        async with serving() as server, asking(to(server)) as connection:
            for _ in range(2):  # the first time all find it unconnected, the second time connected
                outcomes = await asyncio.gather(*(connection.poll() for _ in range(50)))
                assert [o for o in outcomes if not isinstance(o, Answer) or o.info is None] == []

    asyncio.run(run())


def test_the_right_password_lets_us_in_and_a_wrong_one_says_so(serving: Serving, asking: Asking) -> None:
    async def run() -> None:
        async with serving(requirepass="right-password") as server:
            async with asking(to(server, password="right-password")) as connection:
                assert (await answered(connection)).ping == "PONG"
            async with asking(to(server, password="wrong")) as connection:
                refusal = await answered(connection)
                assert refusal.is_error
                assert refusal.ping.startswith("WRONGPASS")
            async with asking(to(server)) as connection:
                assert (await answered(connection)).ping.startswith("NOAUTH")

    asyncio.run(run())


def test_a_user_who_may_only_ping_is_answered_and_asks_for_info_once(serving: Serving, asking: Asking) -> None:
    async def run() -> None:
        acl = "watcher on >its-password +ping"
        async with serving(user=acl) as server, asking(to(server, "its-password", "watcher")) as connection:
            first = await answered(connection)
            assert (first.ping, first.is_error, first.info) == ("PONG", False, None)
            assert first.info_error.startswith("NOPERM")
            errors = await statistic(server, "stats", "total_error_replies")
            again = [await answered(connection) for _ in range(20)]
            assert {(a.ping, a.info_error) for a in again} == {("PONG", first.info_error)}, "it still says why"
            assert await statistic(server, "stats", "total_error_replies") == errors

    asyncio.run(run())


def test_a_server_that_takes_no_more_clients_says_so(serving: Serving, asking: Asking) -> None:
    async def run() -> None:
        async with (
            serving(maxclients="1") as server,
            asking(to(server)) as only_client,
            asking(to(server)) as connection,
        ):
            # The connection that saw it start may not be gone yet.
            while (await answered(only_client)).is_error:  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.05)
            for _ in range(20):
                refusal = await answered(connection)
                assert refusal.is_error
                assert "max number of clients" in refusal.ping

    asyncio.run(run())


def test_a_frozen_server_is_a_time_out_and_one_that_thaws_answers_again(serving: Serving, asking: Asking) -> None:
    async def run() -> None:
        async with serving() as server, asking(to(server)) as connection:
            await answered(connection)
            server.freeze()
            assert await failing(connection) is Failing.TIMEOUT, "on the connection that it had"
            assert await failing(connection) is Failing.TIMEOUT, "on a new one: the kernel accepts, nobody answers"
            server.thaw()
            assert (await answered(connection)).ping == "PONG"

    asyncio.run(run())


def test_a_killed_server_is_reset_or_refused_and_the_next_one_in_its_place_answers(
    serving: Serving, asking: Asking
) -> None:
    async def run() -> None:
        async with serving() as server, asking(to(server)) as connection:
            await answered(connection)
            await server.kill()
            assert await failing(connection) in {Failing.RESET, Failing.REFUSED}
            assert await failing(connection) is Failing.REFUSED
            await server.start()
            assert (await answered(connection)).ping == "PONG"

    asyncio.run(run())


# --- links that break


def through_a_link(serving: Serving, check: Callable[[Link], Awaitable[None]]) -> None:
    async def run() -> None:
        async with serving() as server:
            link = Link(HOST, 0, server.host, server.port)
            await link.start()
            try:
                await check(link)
            finally:
                await link.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (LinkMode.CUT, Failing.RESET),
        (LinkMode.BLACK_HOLE, Failing.TIMEOUT),
        (LinkMode.REFUSED, Failing.REFUSED),
    ],
)
@pytest.mark.parametrize("connected_before", [True, False])
def test_each_way_a_link_breaks_has_its_name_and_healing_is_seen(
    serving: Serving, asking: Asking, mode: LinkMode, expected: Failing, connected_before: bool
) -> None:
    async def check(link: Link) -> None:
        async with asking(Endpoint(HOST, link.port)) as connection:
            if connected_before:
                await answered(connection)
            await link.set_mode(mode)
            assert await failing(connection) is expected
            assert await failing(connection) is expected
            await link.set_mode(LinkMode.OPEN)
            assert (await answered(connection)).ping == "PONG"

    through_a_link(serving, check)


def test_a_slow_link_shows_in_the_round_trip(serving: Serving, asking: Asking) -> None:
    async def check(link: Link) -> None:
        async with asking(Endpoint(HOST, link.port)) as connection:
            await answered(connection)
            link.delay_seconds = 0.1
            assert (await answered(connection)).round_trip.total_seconds() >= 0.2

    through_a_link(serving, check)


# --- servers that say odd things


async def asked(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"INFO\r\n")


def test_replies_that_come_byte_by_byte_are_put_together(speaking: Speaking, asking: Asking) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await asked(reader)
            for byte in PONG + INFO:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)

    async def run() -> None:
        async with speaking(drip) as endpoint, asking(endpoint) as connection:
            for _ in range(3):
                answer = await answered(connection)
                assert (answer.ping, answer.info) == ("PONG", b"used_memory:1024\r\n\r\n")

    asyncio.run(run())


def test_an_error_before_we_asked_and_then_the_end_is_the_answer(speaking: Speaking, asking: Asking) -> None:
    async def turn_away(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR max number of clients reached\r\n")

    async def run() -> None:
        async with speaking(turn_away) as endpoint, asking(endpoint) as connection:
            for _ in range(20):
                refusal = await answered(connection)
                assert (refusal.ping, refusal.is_error) == ("ERR max number of clients reached", True)

    asyncio.run(run())


def test_what_came_before_the_question_is_not_lost(speaking: Speaking, asking: Asking) -> None:
    """With a password, time passes between connecting and asking: the refusal is there before PING is sent."""

    async def turn_away_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"secret\r\n")
        writer.write(b"+OK\r\n-ERR max number of clients reached\r\n")

    async def run() -> None:
        async with (
            speaking(turn_away_late) as endpoint,
            asking(Endpoint(HOST, endpoint.port, password="secret")) as connection,
        ):
            refusal = await answered(connection)
            assert (refusal.ping, refusal.is_error) == ("ERR max number of clients reached", True)

    asyncio.run(run())


def test_a_close_after_pong_is_still_an_answer(speaking: Speaking, asking: Asking) -> None:
    async def pong_and_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(PONG)

    async def run() -> None:
        async with speaking(pong_and_go) as endpoint, asking(endpoint) as connection:
            answer = await answered(connection)
            assert (answer.ping, answer.info) == ("PONG", None)
            assert "closed" in answer.info_error
            assert (await answered(connection)).ping == "PONG", "on a new connection, and INFO is asked again"

    asyncio.run(run())


def test_pong_in_time_and_no_info_is_an_answer_too(speaking: Speaking, asking: Asking) -> None:
    async def only_pong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(PONG)
        await asyncio.sleep(60)

    async def run() -> None:
        async with speaking(only_pong) as endpoint, asking(endpoint) as connection:
            answer = await answered(connection)
            assert (answer.ping, answer.is_error, answer.info) == ("PONG", False, None)
            assert "within 0.50 s" in answer.info_error
            assert answer.round_trip.total_seconds() < 0.4, "of the PONG, not of the wait for INFO"

    asyncio.run(run())


def test_a_late_reply_is_never_taken_for_the_next_ones(speaking: Speaking, asking: Asking) -> None:
    count = 0

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        number = count
        while True:
            await asked(reader)
            await asyncio.sleep(0.7 if number == 1 else 0)
            writer.write(b"+PONG %d\r\n" % number + INFO)

    async def run() -> None:
        async with speaking(late) as endpoint, asking(endpoint) as connection:
            assert await failing(connection) is Failing.TIMEOUT
            await asyncio.sleep(0.4)
            assert (await answered(connection)).ping == "PONG 2"

    asyncio.run(run())


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",  # a TLS alert, as a server that wants TLS says to a client that doesn't
        b"$-1\r\n",
        b"$abc\r\n",
        b"$99999999999999999999999999\r\n",
        b"*2\r\n+a\r\n+b\r\n",
        b"+" + b"x" * 100_000,
    ],
    ids=["http", "tls", "null", "no-length", "huge", "array", "endless-line"],
)
@pytest.mark.parametrize("then_closes", [True, False])
def test_garbage_is_a_fault_of_the_protocol_and_no_evidence(
    speaking: Speaking, asking: Asking, garbage: bytes, then_closes: bool
) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(garbage)
        if not then_closes:
            await asyncio.sleep(60)

    async def run() -> None:
        async with speaking(babble) as endpoint, asking(endpoint) as connection:
            assert await failing(connection) is Failing.PROTOCOL
            assert await failing(connection) is Failing.PROTOCOL

    asyncio.run(run())


def test_garbage_after_pong_does_not_spoil_the_next_poll(speaking: Speaking, asking: Asking) -> None:
    count = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await asked(reader)
        writer.write(PONG + b"?what\r\n" if count == 1 else PONG + INFO)
        await asyncio.sleep(60)

    async def run() -> None:
        async with speaking(once) as endpoint, asking(endpoint) as connection:
            assert (await answered(connection)).info is None
            assert (await answered(connection)).info is not None

    asyncio.run(run())


@pytest.mark.parametrize("timeout_seconds", [0.1, 0.5])
def test_who_never_answers_is_a_time_out(speaking: Speaking, asking: Asking, timeout_seconds: float) -> None:
    async def silence(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        async with speaking(silence) as endpoint, asking(endpoint, timeout_seconds) as connection:
            outcome = await poll(connection)
            assert isinstance(outcome, Failure)
            assert outcome.failing is Failing.TIMEOUT
            assert f"within {timeout_seconds:.2f} s" in outcome.detail

    asyncio.run(run())


# --- TLS


async def encrypted_pong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await asked(reader)
        writer.write(PONG + INFO)


def test_a_server_whose_certificate_we_trust_answers(
    speaking: Speaking, asking: Asking, certificate: Certificate
) -> None:
    async def run() -> None:
        async with (
            speaking(encrypted_pong, certificate.of_server()) as endpoint,
            asking(Endpoint(HOST, endpoint.port, certificate.trusted())) as connection,
        ):
            for _ in range(3):
                assert (await answered(connection)).ping == "PONG"

    asyncio.run(run())


def test_a_certificate_that_we_do_not_trust_is_our_trouble_and_no_evidence(
    speaking: Speaking, asking: Asking, certificate: Certificate
) -> None:
    async def run() -> None:
        async with (
            speaking(encrypted_pong, certificate.of_server()) as endpoint,
            asking(Endpoint(HOST, endpoint.port, ssl.create_default_context())) as connection,
        ):
            assert await failing(connection) is Failing.TLS

    asyncio.run(run())


# --- names and networks of ours


def test_a_name_that_does_not_resolve_is_a_fault_of_the_name(asking: Asking) -> None:
    async def run() -> None:
        async with asking(Endpoint("nowhere.invalid", 6379)) as connection:
            assert await failing(connection) is Failing.NAME

    asyncio.run(run())


def test_a_resolver_that_does_not_answer_is_a_fault_of_the_name_and_no_evidence(asking: Asking) -> None:
    class DeafResolver(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, *_args: object, **_named: object) -> list[tuple[object, ...]]:  # type: ignore[override]
            await asyncio.sleep(60)
            return []

    async def run() -> None:
        async with asking(Endpoint("redis.example.com", 6379)) as connection:
            assert await failing(connection) is Failing.NAME

    with asyncio.Runner(loop_factory=DeafResolver) as runner:
        runner.run(run())


def test_of_a_names_addresses_the_one_that_answers_is_taken(serving: Serving, asking: Asking) -> None:
    async def run() -> None:
        async with serving() as server:
            # localhost is ::1 as well on most machines, where nobody listens.
            async with asking(Endpoint("localhost", server.port)) as connection:
                assert (await answered(connection)).ping == "PONG"
            await server.stop()
            async with asking(Endpoint("localhost", server.port)) as connection:
                assert await failing(connection) is Failing.REFUSED, "by every address, and not merely 'reset'"

    asyncio.run(run())


def test_no_way_out_of_this_machine_is_no_evidence(asking: Asking) -> None:
    async def run() -> None:
        # A multicast address can't be connected to: the kernel itself says ENETUNREACH.
        async with asking(Endpoint("255.255.255.255", 6379)) as connection:
            assert await failing(connection) is Failing.NO_ROUTE

    asyncio.run(run())
