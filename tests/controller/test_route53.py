"""The record in Route 53, against its API as the simulator speaks it: swapped when nobody changed it, once, and never guessed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.core.failover import Effect, Outcome
from controller.edges.aws_clock import CorrectedSigV4Auth
from controller.edges.route53 import Route53
from redis_agent.errors import Permanent, Transient
from redis_agent.model import FailoverId, Record
from simulator.records import RecordSet
from simulator.route53 import Route53Server
from simulator.zone import Action, Change, Zone
from tests.controller.stage import ZONE_ID, section_of

NAME = "orders.example.com."
EPOCH = "_fo.orders.example.com."
BEFORE = Record(NAME, "CNAME", "east.example.com.", 30, 0)
AFTER = Record(NAME, "CNAME", "west.example.com.", 20, 1)
ID, OTHER = FailoverId("fo-1"), FailoverId("fo-2")
Check = Callable[[Route53, Route53Server, Zone], Awaitable[None]]


def utc() -> datetime:
    return datetime.now(UTC)


def with_route53(check: Check, *records: RecordSet, wall: Callable[[], datetime] = utc) -> None:
    held = records or (RecordSet(NAME, "CNAME", 30, ("east.example.com.",)),)
    zone = Zone("example.com", ZONE_ID, propagation_seconds=0.3, records=held)

    async def run() -> None:
        server = Route53Server([zone], "127.0.0.1", wall=wall)
        await server.start()
        route53 = Route53(section_of(server))
        try:
            await check(route53, server, zone)
        finally:
            await asyncio.to_thread(route53.close)
            await server.stop()

    asyncio.run(run())


def change(zone: Zone, *changes: tuple[Action, RecordSet]) -> None:
    """Somebody else changes the zone."""
    zone.apply([Change(action, record) for action, record in changes], asyncio.get_running_loop().time(), "somebody")


def held(zone: Zone, name: str, kind: str) -> tuple[str, ...]:
    found = [records.values for key, records in zone.accepted.items() if key == (name, kind)]
    return found[0] if found else ()


# --- reading


def test_a_record_is_read_with_its_epoch() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        assert await route53.read(NAME, "CNAME") == BEFORE
        await route53.move(BEFORE, AFTER, ID)
        assert await route53.read(NAME, "CNAME") == replace(AFTER, epoch_text='"epoch=1 failover=fo-1"')

    with_route53(check)


def test_no_record_is_none_and_its_neighbour_is_not_taken_for_it() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        assert await route53.read("nothing.example.com.", "CNAME") is None
        assert await route53.read(NAME, "A") is None

    with_route53(check)


def test_a_record_with_several_values_is_refused() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        with pytest.raises(Permanent, match="has 2 values; a name that is moved must have exactly one"):
            await route53.read(NAME, "A")

    with_route53(check, RecordSet(NAME, "A", 30, ("192.0.2.1", "192.0.2.2")))


def test_what_may_pass_is_transient_and_what_will_not_is_permanent() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        for code in ("Throttling", "PriorRequestNotComplete", "InternalFailure"):
            server.fail_next(code)
            with pytest.raises(Transient, match=code):
                await route53.read(NAME, "CNAME")
        server.fail_next("NoSuchHostedZone")
        with pytest.raises(Permanent, match="NoSuchHostedZone"):
            await route53.read(NAME, "CNAME")

    with_route53(check)


def test_a_provider_that_is_gone_is_transient() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        await server.stop()
        with pytest.raises(Transient):
            await route53.read(NAME, "CNAME")

    with_route53(check)


# --- moving


def test_the_record_and_its_epoch_are_swapped_in_one_batch() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        outcome = await route53.move(BEFORE, AFTER, ID)
        assert outcome.effect is Effect.SEEN
        (batch,) = zone.history
        assert outcome.change_id.endswith(batch.change_id)
        assert [(each.action, each.record_set.name, each.record_set.type) for each in batch.changes] == [
            (Action.DELETE, NAME, "CNAME"),
            (Action.CREATE, NAME, "CNAME"),
            (Action.CREATE, EPOCH, "TXT"),
        ]
        assert batch.comment == "redis-agent fo-1"
        assert held(zone, NAME, "CNAME") == ("west.example.com.",)

    with_route53(check)


def test_the_next_move_takes_the_epoch_on() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        await route53.move(BEFORE, AFTER, ID)
        there = await route53.read(NAME, "CNAME")
        assert there is not None
        outcome = await route53.move(there, replace(BEFORE, epoch=2), OTHER)
        assert outcome.effect is Effect.SEEN
        assert held(zone, EPOCH, "TXT") == ('"epoch=2 failover=fo-2"',)
        assert held(zone, NAME, "CNAME") == ("east.example.com.",)

    with_route53(check)


def test_an_epoch_that_somebody_gave_another_ttl_is_still_swapped() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        change(zone, (Action.CREATE, RecordSet(EPOCH, "TXT", 300, ('"epoch=7"',))))
        there = await route53.read(NAME, "CNAME")
        assert there is not None
        assert there.epoch == 7
        assert (await route53.move(there, replace(AFTER, epoch=8), ID)).effect is Effect.SEEN

    with_route53(check)


def changed_value(zone: Zone) -> None:
    change(
        zone,
        (Action.DELETE, RecordSet(NAME, "CNAME", 30, ("east.example.com.",))),
        (Action.CREATE, RecordSet(NAME, "CNAME", 30, ("elsewhere.example.com.",))),
    )


def changed_ttl(zone: Zone) -> None:
    change(zone, (Action.UPSERT, RecordSet(NAME, "CNAME", 31, ("east.example.com.",))))


def gone(zone: Zone) -> None:
    change(zone, (Action.DELETE, RecordSet(NAME, "CNAME", 30, ("east.example.com.",))))


def another_epoch(zone: Zone) -> None:
    change(zone, (Action.CREATE, RecordSet(EPOCH, "TXT", 5, ('"epoch=1 failover=fo-2"',))))


def several_values(zone: Zone) -> None:
    change(
        zone,
        (Action.DELETE, RecordSet(NAME, "CNAME", 30, ("east.example.com.",))),
        (Action.CREATE, RecordSet(EPOCH, "TXT", 5, ('"epoch=1"', '"epoch=2"'))),
    )


CONFLICTS = [changed_value, gone, another_epoch]


def test_a_ttl_that_somebody_changed_since_the_plan_holds_nothing_up() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        changed_ttl(zone)
        outcome = await route53.move(BEFORE, AFTER, ID)
        assert outcome.effect is Effect.SEEN
        assert await route53.read(NAME, "CNAME") is not None
        assert len(zone.history) == 2

    with_route53(check)


@pytest.mark.parametrize("conflict", [*CONFLICTS, several_values])
def test_a_record_that_somebody_changed_since_the_plan_is_left_alone(conflict: Callable[[Zone], None]) -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        conflict(zone)
        outcome = await route53.move(BEFORE, AFTER, ID)
        assert outcome.effect is Effect.IMPOSSIBLE
        assert len(zone.history) == 1

    with_route53(check)


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_record_that_somebody_changes_between_the_look_and_the_swap_is_left_alone(
    conflict: Callable[[Zone], None],
) -> None:
    """The batch repeats what was read, so Route 53 itself refuses it: compare and swap."""

    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        outcome = await interrupted(route53, server, lambda: conflict(zone))
        assert outcome.effect is Effect.IMPOSSIBLE
        assert len(zone.history) == 1

    with_route53(check)


async def interrupted(route53: Route53, server: Route53Server, do: Callable[[], None]) -> Outcome:
    """Move, and `do` something once the record and its epoch were looked at, before the change is asked for."""
    server.delay_seconds = 0.2
    before = len(server.calls)
    moving = asyncio.create_task(route53.move(BEFORE, AFTER, ID))
    while len(server.calls) < before + 2:  # noqa: ASYNC110 - the server's count
        await asyncio.sleep(0.005)
    do()
    return await moving


def test_a_late_request_of_our_own_that_comes_first_is_found_to_be_ours() -> None:
    """A controller that died has a request under way when its successor asks: one of the two is refused, and no harm done."""

    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        def the_predecessors_arrives() -> None:
            change(
                zone,
                (Action.DELETE, RecordSet(NAME, "CNAME", 30, ("east.example.com.",))),
                (Action.CREATE, RecordSet(NAME, "CNAME", 20, ("west.example.com.",))),
                (Action.CREATE, RecordSet(EPOCH, "TXT", 5, ('"epoch=1 failover=fo-1"',))),
            )

        outcome = await interrupted(route53, server, the_predecessors_arrives)
        assert outcome.effect is Effect.SEEN
        assert len(zone.history) == 1

    with_route53(check)


def test_a_lost_answer_is_not_guessed_and_the_next_look_finds_the_move_done_once() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        server.lose_next_responses()
        first = await route53.move(BEFORE, AFTER, ID)
        assert first.effect is Effect.NOT_YET
        second = await route53.move(BEFORE, AFTER, ID)
        assert second.effect is Effect.SEEN
        assert len(zone.history) == 1

    with_route53(check)


def test_another_failovers_move_is_not_taken_for_ours() -> None:
    """fo-1 is not fo-11, and an epoch alone proves nothing."""

    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        assert (await route53.move(BEFORE, AFTER, FailoverId("fo-11"))).effect is Effect.SEEN
        assert (await route53.move(BEFORE, AFTER, ID)).effect is Effect.IMPOSSIBLE
        assert len(zone.history) == 1

    with_route53(check)


@pytest.mark.parametrize("code", ["Throttling", "PriorRequestNotComplete", "ServiceUnavailable", "AccessDenied"])
def test_what_may_be_mended_meanwhile_is_tried_again(code: str) -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        server.fail_next(code, operation="ChangeResourceRecordSets")
        outcome = await route53.move(BEFORE, AFTER, ID)
        assert outcome.effect is Effect.NOT_YET
        assert code in outcome.detail
        assert not zone.history
        assert (await route53.move(BEFORE, AFTER, ID)).effect is Effect.SEEN

    with_route53(check)


def test_throttled_while_it_looks_it_is_tried_again() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        server.throttle_next()
        assert (await route53.move(BEFORE, AFTER, ID)).effect is Effect.NOT_YET

    with_route53(check)


def test_a_change_that_will_never_be_accepted_is_given_up() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        bad = replace(AFTER, value="not a name at all..")
        outcome = await route53.move(BEFORE, bad, ID)
        assert outcome.effect is Effect.IMPOSSIBLE
        assert "InvalidChangeBatch" in outcome.detail
        assert not zone.history

    with_route53(check)


# --- what became of a change


def test_a_change_is_pending_until_every_server_has_it() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        server.hold_pending = True
        moved = await route53.move(BEFORE, AFTER, ID)
        assert not await route53.in_sync(moved.change_id)
        await asyncio.sleep(0.4)
        assert not await route53.in_sync(moved.change_id)
        server.hold_pending = False
        assert await route53.in_sync(moved.change_id)

    with_route53(check)


def test_the_zones_name_servers_are_those_of_its_delegation() -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        assert {each.rstrip(".") for each in await route53.nameservers()} == {
            each.rstrip(".") for each in zone.name_servers
        }

    with_route53(check)


# --- a wall clock that is wrong


@pytest.fixture
def as_learned() -> Iterator[None]:
    yield
    CorrectedSigV4Auth.ahead = timedelta()


@pytest.mark.usefixtures("as_learned")
@pytest.mark.parametrize("off", [timedelta(minutes=10), timedelta(minutes=-10), timedelta(days=365 * 50)], ids=str)
def test_with_a_wall_clock_that_is_wrong_requests_are_signed_by_the_providers(off: timedelta) -> None:
    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        assert (await route53.move(BEFORE, AFTER, ID)).effect is Effect.SEEN
        assert held(zone, NAME, "CNAME") == (AFTER.value,)
        codes = [call.error_code for call in server.calls]
        assert codes[0] == "SignatureDoesNotMatch" and set(codes[1:]) == {None}, "the first answer taught it"

    with_route53(check, wall=lambda: datetime.now(UTC) + off)


@pytest.mark.usefixtures("as_learned")
def test_a_wall_clock_that_somebody_sets_right_again_is_followed() -> None:
    off = [timedelta(minutes=10)]

    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        await route53.read(NAME, "CNAME")
        off[0] = timedelta()
        assert await route53.read(NAME, "CNAME") == BEFORE
        assert CorrectedSigV4Auth.ahead == timedelta()

    with_route53(check, wall=lambda: datetime.now(UTC) + off[0])


def test_who_may_not_is_told_so_and_asked_once() -> None:
    """A refusal that has nothing to do with time."""

    async def check(route53: Route53, server: Route53Server, zone: Zone) -> None:
        server.fail_next("SignatureDoesNotMatch")
        with pytest.raises(Permanent, match="SignatureDoesNotMatch"):
            await route53.read(NAME, "CNAME")
        assert len(server.calls) == 1

    with_route53(check)
