"""What the world is told, asked at every authoritative server; and that a move counts only when all of them tell it."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import pytest

from controller.core.failover import Effect
from controller.edges import nameservers
from controller.edges.zones import Zones
from redis_agent.errors import Transient
from redis_agent.model import FailoverId, Record
from simulator.dns_server import DnsServer
from simulator.records import RecordSet
from simulator.route53 import Route53Server
from simulator.zone import Zone
from tests.controller.stage import NAME, ZONE_ID, section_of

RECORDS = (
    RecordSet(NAME, "CNAME", 30, ("east.example.com.",)),
    RecordSet("east.example.com.", "A", 60, ("192.0.2.1",)),
    RecordSet("west.example.com.", "A", 60, ("192.0.2.2",)),
    RecordSet("outside.example.com.", "CNAME", 60, ("localhost.",)),
)
BEFORE = Record(NAME, "CNAME", "east.example.com.", 30, 0)
AFTER = Record(NAME, "CNAME", "west.example.com.", 30, 1)
Check = Callable[[Zone, DnsServer], Awaitable[None]]


def with_server(check: Check) -> None:
    async def run() -> None:
        zone = Zone("example.com", ZONE_ID, propagation_seconds=0.2, records=RECORDS)
        server = DnsServer(zone, "127.0.0.1")
        await server.start()
        try:
            await check(zone, server)
        finally:
            await server.stop()

    asyncio.run(run())


def at(server: DnsServer) -> str:
    return f"{server.host}:{server.port}"


def unused() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_each_server_is_asked_and_told_apart() -> None:
    async def check(zone: Zone, server: DnsServer) -> None:
        nobody = unused()
        found = await nameservers.values([at(server), nobody], NAME, "CNAME")
        assert found == {at(server): "east.example.com.", nobody: None}

    with_server(check)


def test_names_are_the_same_whatever_their_case() -> None:
    async def check(zone: Zone, server: DnsServer) -> None:
        found = await nameservers.values([at(server)], NAME.upper(), "CNAME")
        assert str(found[at(server)]).lower() == "east.example.com."

    with_server(check)


def test_a_silent_server_is_none_within_its_deadline() -> None:
    async def check(zone: Zone, server: DnsServer) -> None:
        server.answering = False
        began = time.monotonic()
        assert await nameservers.values([at(server)], NAME, "CNAME") == {at(server): None}
        assert time.monotonic() - began < 10

    with_server(check)


def test_a_name_that_is_not_there_is_none() -> None:
    async def check(zone: Zone, server: DnsServer) -> None:
        assert await nameservers.values([at(server)], "nothing.example.com.", "CNAME") == {at(server): None}

    with_server(check)


def test_a_server_whose_own_name_does_not_resolve_is_none() -> None:
    async def check(zone: Zone, server: DnsServer) -> None:
        assert await nameservers.values(["ns.invalid"], NAME, "CNAME") == {"ns.invalid": None}

    with_server(check)


def test_a_name_is_followed_to_its_address() -> None:
    async def check(zone: Zone, server: DnsServer) -> None:
        assert await nameservers.addresses([at(server)], NAME, "east.example.com.", "CNAME") == ["192.0.2.1"]

    with_server(check)


def test_beyond_the_zone_this_machines_resolver_is_asked() -> None:
    async def check(zone: Zone, server: DnsServer) -> None:
        found = await nameservers.addresses([at(server)], "outside.example.com.", "localhost.", "CNAME")
        assert "127.0.0.1" in found

    with_server(check)


def test_a_name_that_leads_nowhere_is_worth_another_try() -> None:
    async def check(zone: Zone, server: DnsServer) -> None:
        with pytest.raises(Transient, match=r"nowhere\.invalid"):
            await nameservers.addresses([at(server)], "x.example.com.", "nowhere.invalid.", "CNAME")

    with_server(check)


# --- when a move counts as told


AnomalyLog = Callable[[Zones, Route53Server, list[DnsServer], str], Awaitable[None]]


def with_two_servers(check: AnomalyLog, *, configured: bool = True) -> None:
    """The zone behind Route 53's API, two name servers of it, and a change that was accepted."""

    async def run() -> None:
        zone = Zone("example.com", ZONE_ID, propagation_seconds=0.2, records=RECORDS)
        servers = [DnsServer(zone, "127.0.0.1"), DnsServer(zone, "127.0.0.1")]
        provider = Route53Server([zone], "127.0.0.1")
        everybody: tuple[DnsServer | Route53Server, ...] = (*servers, provider)
        for each in everybody:
            await each.start()
        zones = Zones({"main": section_of(provider, tuple(at(each) for each in servers) if configured else ())})
        try:
            moved = await zones.move("main", BEFORE, AFTER, FailoverId("fo-1"))
            await check(zones, provider, servers, moved.change_id)
        finally:
            await zones.close()
            for each in everybody:
                await each.stop()

    asyncio.run(run())


async def within(zones: Zones, change_id: str, seconds: float = 10) -> Effect:
    """What is seen at last, asked again and again."""
    deadline = time.monotonic() + seconds
    while (outcome := await zones.visible("main", AFTER, change_id)).effect is not Effect.SEEN:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.05)
    return outcome.effect


def test_it_is_told_once_every_server_says_so_and_the_provider_is_in_sync() -> None:
    async def check(zones: Zones, provider: Route53Server, servers: list[DnsServer], change_id: str) -> None:
        assert await within(zones, change_id) is Effect.SEEN

    with_two_servers(check)


def test_one_server_that_does_not_say_so_is_enough_to_wait() -> None:
    async def check(zones: Zones, provider: Route53Server, servers: list[DnsServer], change_id: str) -> None:
        servers[1].answering = False
        assert await within(zones, change_id, 1.5) is Effect.NOT_YET
        servers[1].answering = True
        assert await within(zones, change_id) is Effect.SEEN

    with_two_servers(check)


def test_an_old_value_is_named_with_the_server_that_tells_it() -> None:
    async def check(zones: Zones, provider: Route53Server, servers: list[DnsServer], change_id: str) -> None:
        provider.hold_pending = True
        outcome = await zones.visible("main", AFTER, change_id)
        assert outcome.effect is Effect.NOT_YET
        assert f"{at(servers[0])} says east.example.com." in outcome.detail

    with_two_servers(check)


def test_a_provider_that_will_not_say_is_no_reason_to_end_the_controller() -> None:
    async def check(zones: Zones, provider: Route53Server, servers: list[DnsServer], change_id: str) -> None:
        assert await within(zones, change_id) is Effect.SEEN
        provider.fail_next("AccessDenied", operation="GetChange")
        outcome = await zones.visible("main", AFTER, change_id)
        assert outcome.effect is Effect.NOT_YET
        assert "AccessDenied" in outcome.detail

    with_two_servers(check)


def test_without_a_change_id_after_a_lost_answer_the_servers_words_are_enough() -> None:
    async def check(zones: Zones, provider: Route53Server, servers: list[DnsServer], change_id: str) -> None:
        assert await within(zones, "") is Effect.SEEN

    with_two_servers(check)


def test_name_servers_that_do_not_exist_are_asked_in_vain_not_left_out() -> None:
    """Not configured, they are those of the zone's delegation: here names that resolve nowhere."""

    async def check(zones: Zones, provider: Route53Server, servers: list[DnsServer], change_id: str) -> None:
        await asyncio.sleep(0.3)
        assert (await zones.visible("main", AFTER, change_id)).effect is Effect.NOT_YET

    with_two_servers(check, configured=False)
