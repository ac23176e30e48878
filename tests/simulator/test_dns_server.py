"""The DNS server asked by dnspython over real sockets."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.dns_answers import answer, format_error, parsed
from simulator.dns_server import DnsServer
from simulator.records import RecordSet
from simulator.zone import Action, Change, Zone

HOST = "127.0.0.1"
RECORDS = [
    RecordSet("redis.example.com", "CNAME", 30, ("east.example.com.",)),
    RecordSet("east.example.com", "A", 60, ("192.0.2.1", "192.0.2.2")),
    RecordSet("east.example.com", "AAAA", 60, ("2001:db8::1",)),
    RecordSet("out.example.com", "CNAME", 30, ("redis.example.net.",)),
    RecordSet("loop-a.example.com", "CNAME", 30, ("loop-b.example.com.",)),
    RecordSet("loop-b.example.com", "CNAME", 30, ("loop-a.example.com.",)),
    RecordSet("dangling.example.com", "CNAME", 30, ("nowhere.example.com.",)),
    RecordSet("epoch.example.com", "TXT", 5, ('"epoch=7"',)),
    RecordSet("deep.down.example.com", "A", 60, ("192.0.2.9",)),
    RecordSet("big.example.com", "TXT", 60, tuple(f'"{i:03d}{"x" * 200}"' for i in range(40))),
]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def zone() -> Zone:
    return Zone("example.com", propagation_seconds=10.0, records=RECORDS)


def with_server(check: Callable[[DnsServer], Awaitable[None]], clock: Clock | None = None) -> None:
    async def run() -> None:
        server = DnsServer(zone(), HOST, clock=clock or Clock())
        await server.start()
        try:
            await check(server)
        finally:
            await server.stop()
            await server.stop()

    asyncio.run(run())


async def udp(server: DnsServer, name: str, record_type: str, **options: int) -> dns.message.Message:
    query = dns.message.make_query(name, record_type, **options)  # type: ignore[arg-type]
    return await dns.asyncquery.udp(query, HOST, timeout=2.0, port=server.port)


async def tcp(server: DnsServer, name: str, record_type: str) -> dns.message.Message:
    return await dns.asyncquery.tcp(dns.message.make_query(name, record_type), HOST, timeout=2.0, port=server.port)


def texts(section: list[dns.rrset.RRset]) -> list[str]:
    return sorted(f"{rrset.name} {rrset.ttl} {rdata.to_text()}" for rrset in section for rdata in rrset)


def test_a_cname_is_chased_inside_the_zone_with_the_ttls_as_stored() -> None:
    async def check(server: DnsServer) -> None:
        for ask in (udp, tcp):
            response = await ask(server, "redis.example.com", "A")
            assert texts(response.answer) == [
                "east.example.com. 60 192.0.2.1",
                "east.example.com. 60 192.0.2.2",
                "redis.example.com. 30 east.example.com.",
            ]
            assert response.flags & dns.flags.AA
            assert not response.flags & dns.flags.RA

    with_server(check)


@pytest.mark.parametrize(
    ("name", "record_type", "expected"),
    [
        ("redis.example.com", "CNAME", ["redis.example.com. 30 east.example.com."]),
        ("out.example.com", "A", ["out.example.com. 30 redis.example.net."]),
        ("east.example.com", "AAAA", ["east.example.com. 60 2001:db8::1"]),
        ("epoch.example.com", "TXT", ['epoch.example.com. 5 "epoch=7"']),
        (
            "example.com",
            "NS",
            ["example.com. 172800 ns-1.simulator.test.", "example.com. 172800 ns-2.simulator.test."],
        ),
        (
            "loop-a.example.com",
            "A",
            ["loop-a.example.com. 30 loop-b.example.com.", "loop-b.example.com. 30 loop-a.example.com."],
        ),
    ],
)
def test_each_type_is_answered(name: str, record_type: str, expected: list[str]) -> None:
    async def check(server: DnsServer) -> None:
        assert texts((await udp(server, name, record_type)).answer) == expected

    with_server(check)


def test_soa_tells_the_propagated_serial() -> None:
    clock = Clock()

    async def check(server: DnsServer) -> None:
        changes = [Change(Action.UPSERT, RecordSet("epoch.example.com", "TXT", 5, ('"epoch=8"',)))]
        server.zone.apply(changes, now=0.0)
        assert texts((await udp(server, "example.com", "SOA")).answer)[0].split()[4] == "1"
        clock.now = 10.0
        assert texts((await udp(server, "example.com", "SOA")).answer)[0].split()[4] == "2"
        assert texts((await udp(server, "epoch.example.com", "TXT")).answer) == ['epoch.example.com. 5 "epoch=8"']

    with_server(check, clock)


@pytest.mark.parametrize(
    ("name", "record_type", "rcode"),
    [
        ("nowhere.example.com", "A", dns.rcode.NXDOMAIN),
        ("east.example.com", "TXT", dns.rcode.NOERROR),
        ("down.example.com", "A", dns.rcode.NOERROR),
        ("dangling.example.com", "A", dns.rcode.NXDOMAIN),
    ],
)
def test_what_is_not_there_is_denied_with_the_soa(name: str, record_type: str, rcode: dns.rcode.Rcode) -> None:
    async def check(server: DnsServer) -> None:
        response = await udp(server, name, record_type)
        assert response.rcode() == rcode
        assert [rrset.rdtype for rrset in response.authority] == [dns.rdatatype.SOA]
        assert response.authority[0].ttl == 900
        assert response.flags & dns.flags.AA

    with_server(check)


@pytest.mark.parametrize("name", ["example.net", "com", "notexample.com"])
def test_a_name_outside_the_zone_is_refused(name: str) -> None:
    async def check(server: DnsServer) -> None:
        response = await udp(server, name, "A")
        assert response.rcode() == dns.rcode.REFUSED
        assert not response.answer
        assert not response.flags & dns.flags.AA

    with_server(check)


def test_case_of_the_question_is_kept_and_does_not_matter() -> None:
    async def check(server: DnsServer) -> None:
        response = await udp(server, "EaSt.Example.COM", "AAAA")
        assert response.answer[0].name.to_text() == "EaSt.Example.COM."

    with_server(check)


def test_an_answer_too_large_for_udp_is_truncated_and_whole_over_tcp() -> None:
    async def check(server: DnsServer) -> None:
        for options in ({}, {"use_edns": 0, "payload": 4096}):
            assert (await udp(server, "big.example.com", "TXT", **options)).flags & dns.flags.TC
        whole = await tcp(server, "big.example.com", "TXT")
        assert not whole.flags & dns.flags.TC
        assert len(texts(whole.answer)) == 40

    with_server(check)


def test_edns_makes_room_for_more_than_512_bytes() -> None:
    async def check(server: DnsServer) -> None:
        values = tuple(f'"{i}{"y" * 200}"' for i in range(4))
        server.zone.propagation_seconds = 0.0
        server.zone.apply([Change(Action.CREATE, RecordSet("mid.example.com", "TXT", 5, values))], now=0.0)
        assert (await udp(server, "mid.example.com", "TXT")).flags & dns.flags.TC
        response = await udp(server, "mid.example.com", "TXT", use_edns=0, payload=1232)
        assert (response.flags & dns.flags.TC, len(texts(response.answer)), response.edns) == (0, 4, 0)

    with_server(check)


def test_a_silent_server_takes_the_question_and_says_nothing() -> None:
    async def check(server: DnsServer) -> None:
        server.answering = False
        query = dns.message.make_query("east.example.com", "A")
        for ask in (dns.asyncquery.udp, dns.asyncquery.tcp):
            with pytest.raises(dns.exception.Timeout):
                await ask(query, HOST, timeout=0.1, port=server.port)
        assert server.queries == 2
        server.answering = True
        assert (await udp(server, "east.example.com", "A")).answer

    with_server(check)


def test_several_questions_may_come_over_one_tcp_connection() -> None:
    async def check(server: DnsServer) -> None:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        for record_type in ("A", "AAAA"):
            wire = dns.message.make_query("east.example.com", record_type).to_wire()
            writer.write(len(wire).to_bytes(2, "big") + wire)
        for count in (2, 1):
            size = int.from_bytes(await reader.readexactly(2), "big")
            assert len(texts(dns.message.from_wire(await reader.readexactly(size)).answer)) == count
        writer.close()
        await writer.wait_closed()

    with_server(check)


def test_a_packet_that_is_no_message_gets_formerr_or_nothing_and_harms_nobody() -> None:
    async def check(server: DnsServer) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)  # noqa: FBT003
            client.connect((HOST, server.port))
            await loop.sock_sendall(client, b"\x00\x01short")
            await loop.sock_sendall(client, b"\x12\x34\x01\x00\x00\x01" + b"\x00" * 6)
            response = dns.message.from_wire(await asyncio.wait_for(loop.sock_recv(client, 512), 2.0))
        assert (response.id, response.rcode()) == (0x1234, dns.rcode.FORMERR)
        assert (await udp(server, "east.example.com", "A")).answer

    with_server(check)


def test_stop_frees_the_port_and_cuts_connections() -> None:
    async def run() -> None:
        server = DnsServer(zone(), HOST)
        await server.start()
        reader, writer = await asyncio.open_connection(HOST, server.port)
        await udp(server, "east.example.com", "A")
        await server.stop()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        await server.start()
        assert (await udp(server, "east.example.com", "A")).answer
        await server.stop()

    asyncio.run(run())


@given(st.binary(max_size=80))
def test_no_packet_can_break_the_server(packet: bytes) -> None:
    query = parsed(packet)
    if query is None:
        format_error(packet)
    else:
        answer(query, "example.com.", zone().accepted).to_wire()
