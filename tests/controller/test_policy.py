"""May traffic move? Each check by itself refuses in its own words; all reasons are told; an order skips what guards the unasked."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.core.health import Health, SiteHealth
from controller.core.policy import (
    Go,
    InstanceView,
    Policy,
    Refusal,
    Request,
    candidates,
    decide,
    expected_loss,
    same_name,
)
from redis_agent.model import Datacenter, Kind, Mode, Observation, Replication, Role, SiteId, Vantage, Verdict
from tests.controller.values import (
    AFTER,
    BEFORE,
    EAST,
    EAST_SITE,
    NOON,
    POLICY,
    WEST,
    WEST_SITE,
    before_noon,
    east_dark,
    latest,
    tallies_of,
    view_of,
    vote,
    voted,
)

UNASKED = Request(WEST, Kind.EMERGENCY, unasked=True)
ORDERED = Request(WEST, Kind.EMERGENCY, unasked=False)
PLANNED = Request(WEST, Kind.PLANNED, unasked=False)
VIEW = view_of(east_dark())
Changed = Callable[[InstanceView], InstanceView]


def reasons(view: InstanceView, request: Request = UNASKED, policy: Policy = POLICY) -> tuple[str, ...]:
    verdict = decide(view, request, policy)
    return verdict.reasons if isinstance(verdict, Refusal) else ()


def with_health(health: Health) -> Changed:
    return lambda view: replace(view, health={**view.health, EAST: SiteHealth(health, NOON)})


def with_votes(votes: dict[tuple[SiteId, Vantage], Observation]) -> Changed:
    tallies = tallies_of(votes)
    return lambda view: replace(view, tallies={site.datacenter: each for site, each in tallies.items()})


def with_target(role: Role = Role.REPLICA, link_up: bool = False, last_io: int = 10) -> Changed:
    seen = vote("witness", WEST_SITE, Verdict.UP)
    replication = Replication(link_up, last_io, 100) if role is Role.REPLICA else None
    return lambda view: replace(view, freshest={WEST: voted(replace(seen, role=role, replication=replication))})


OWN_SEES_IT = latest([vote("dc-east", EAST_SITE, Verdict.UP)])
TARGET_UNSEEN = latest(vote(v, WEST_SITE, Verdict.UP, age=age) for v, age in (("dc-west", 9), ("witness", 0)))

# What is changed, its one refusal, and whether an operator's order is held back by it, too.
CHECKS: dict[str, tuple[Changed, str, bool]] = {
    "the kill switch": (lambda view: replace(view, paused="maintenance"), "paused: maintenance", True),
    "another failover": (
        lambda view: replace(view, in_flight="fo-0"),
        "failover fo-0 of orders is still under way",
        True,
    ),
    "an unread record": (lambda view: replace(view, record=None), "the DNS record couldn't be read", True),
    "a stranger's record": (
        lambda view: replace(view, record=replace(BEFORE, value="elsewhere.example.com.")),
        "the record's value elsewhere.example.com. is none of the sites'",
        True,
    ),
    "a target that isn't up": (
        with_votes({**east_dark(), **TARGET_UNSEEN}),
        "dc-west is not up by quorum: 1 of 2 needed vantages say so",
        True,
    ),
    "a target that is a primary": (
        with_target(Role.PRIMARY),
        "dc-west calls itself primary, not a replica: it holds no copy to promote; make it one first (REPLICAOF)",
        True,
    ),
    "a target that never replicated": (
        with_target(last_io=-1),
        "dc-west never heard from its primary: what would be lost is unknown",
        True,
    ),
    "a target too far behind": (
        with_target(last_io=40),
        "about 30 s of writes would be lost; max_data_loss_seconds is 20",
        True,
    ),
    "a source that is up": (with_health(Health.UP), "dc-east is up, not confirmed down for 3 s", False),
    "a source not yet confirmed": (
        with_health(Health.SUSPECT),
        "dc-east is suspect, not confirmed down for 3 s",
        False,
    ),
    "a source that nobody can judge": (
        with_health(Health.UNKNOWN),
        "dc-east is unknown, not confirmed down for 3 s",
        False,
    ),
    "a source that its own vantage sees": (
        with_votes({**east_dark(), **OWN_SEES_IT}),
        "the vantage inside dc-east still sees it serving: cut off from outside, not dead",
        False,
    ),
    "a source that still replicates": (
        with_target(link_up=True, last_io=0),
        "dc-west still replicates from dc-east, heard 0 s ago: it is alive",
        False,
    ),
    "the cooldown": (
        lambda view: replace(view, last_ended=before_noon(20)),
        "cooling down for another 40 s",
        False,
    ),
}


def test_a_dead_site_with_a_healthy_copy_may_be_left() -> None:
    verdict = decide(VIEW, UNASKED, POLICY)
    assert isinstance(verdict, Go)
    assert (verdict.plan.source, verdict.plan.target, verdict.plan.promote) == (EAST, WEST, True)
    assert (verdict.plan.before, verdict.plan.after) == (BEFORE, AFTER)


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_by_itself_refuses_in_its_own_words(name: str) -> None:
    change, refusal, _ = CHECKS[name]
    assert reasons(change(VIEW)) == (refusal,)


@pytest.mark.parametrize("name", CHECKS)
def test_an_order_is_held_back_by_what_is_unsafe_and_not_by_what_guards_the_unasked(name: str) -> None:
    change, refusal, also_ordered = CHECKS[name]
    assert reasons(change(VIEW), ORDERED) == ((refusal,) if also_ordered else ())


def test_observe_means_that_an_operator_must_order_it() -> None:
    observing = replace(POLICY, mode=Mode.OBSERVE)
    assert reasons(VIEW, UNASKED, observing) == ("mode is observe: an operator must order it",)
    assert reasons(VIEW, ORDERED, observing) == ()


def test_approve_is_no_refusal() -> None:
    assert reasons(VIEW, UNASKED, replace(POLICY, mode=Mode.APPROVE)) == ()


def test_traffic_that_is_there_already_is_not_moved() -> None:
    there = replace(VIEW, record=AFTER, freshest={}, health={**VIEW.health, WEST: VIEW.health[EAST]})
    assert "orders is already in dc-west" in reasons(there, ORDERED)


def test_a_site_that_is_not_configured_is_no_target() -> None:
    elsewhere = Request(Datacenter("dc-north"), Kind.EMERGENCY, unasked=False)
    assert "orders has no site in dc-north" in reasons(VIEW, elsewhere)


def test_every_reason_is_told_not_only_the_first() -> None:
    view = VIEW
    for name in (
        "the kill switch",
        "another failover",
        "a source that is up",
        "a target too far behind",
        "the cooldown",
    ):
        view = CHECKS[name][0](view)
    assert set(reasons(view, UNASKED, replace(POLICY, mode=Mode.OBSERVE))) == {
        "paused: maintenance",
        "failover fo-0 of orders is still under way",
        "dc-east is up, not confirmed down for 3 s",
        "about 40 s of writes would be lost; max_data_loss_seconds is 20",
        "cooling down for another 40 s",
        "mode is observe: an operator must order it",
    }


def test_a_cooldown_ends() -> None:
    assert reasons(replace(VIEW, last_ended=before_noon(60))) == ()


def test_replication_heard_within_the_second_of_the_fall_is_the_last_breath_not_life() -> None:
    """INFO counts whole seconds: what it heard "9 s ago" may have been up to a second earlier."""
    assert reasons(with_target(link_up=True, last_io=9)(VIEW)) == ()
    assert len(reasons(with_target(link_up=True, last_io=8)(VIEW))) == 1


def test_a_link_that_fell_says_nothing_of_life() -> None:
    """Once a replica calls its link down, Redis dates the fall, which comes `repl-timeout` after the last word."""
    assert reasons(with_target(link_up=False, last_io=1)(VIEW)) == ()


def test_the_loss_is_counted_from_the_last_word_while_the_link_was_up() -> None:
    fallen = replace(with_target(link_up=False, last_io=1)(VIEW), heard={WEST: before_noon(40)})
    assert any("writes would be lost" in reason for reason in reasons(fallen))


def test_a_primary_is_a_target_only_where_a_failover_of_ours_stopped_half_way() -> None:
    view = with_target(Role.PRIMARY)(VIEW)
    assert any("holds no copy to promote" in reason for reason in reasons(view))
    assert reasons(replace(view, half_moved_to=WEST)) == ()


def test_a_planned_move_needs_a_target_that_is_connected() -> None:
    refusal = "dc-west is not connected to its primary: a planned move would wait for it in vain"
    assert reasons(with_target(link_up=False)(VIEW), PLANNED) == (refusal,)
    assert reasons(with_target(link_up=True, last_io=0)(VIEW), PLANNED) == ()


def test_the_plan_names_the_checks_that_it_passed() -> None:
    unasked, ordered = (decide(VIEW, request, POLICY) for request in (UNASKED, ORDERED))
    assert isinstance(unasked, Go)
    assert isinstance(ordered, Go)
    assert set(unasked.plan.checks) - set(ordered.plan.checks) == {
        "source confirmed down",
        "source denies",
        "replication denies",
        "cooled down",
        "mode allows",
    }


# --- what would be lost


def test_the_expected_loss_runs_from_the_last_contact_to_the_fall() -> None:
    assert expected_loss(with_target(last_io=15)(VIEW), WEST) == timedelta(seconds=5.5)
    assert expected_loss(with_target(last_io=2)(VIEW), WEST) == timedelta()
    assert expected_loss(with_target(last_io=-1)(VIEW), WEST) is None


def test_while_the_source_is_up_the_expected_loss_runs_to_now() -> None:
    assert expected_loss(with_health(Health.UP)(with_target(last_io=3)(VIEW)), WEST) == timedelta(seconds=3.5)


@pytest.mark.parametrize(
    ("view", "request_", "told"),
    [
        (with_target(last_io=15)(VIEW), UNASKED, "up to 6 s of writes"),
        (with_target(link_up=True, last_io=0)(VIEW), PLANNED, "none: the source is fenced"),
        (replace(VIEW, promotes=False), UNASKED, "none from the move itself"),
    ],
)
def test_the_plan_says_what_would_be_lost(view: InstanceView, request_: Request, told: str) -> None:
    verdict = decide(view, request_, POLICY)
    assert isinstance(verdict, Go)
    assert verdict.plan.expected_loss.startswith(told)


def test_an_active_active_target_needs_no_promotion_and_no_replica() -> None:
    view = replace(with_target(Role.PRIMARY)(VIEW), promotes=False)
    verdict = decide(view, UNASKED, POLICY)
    assert isinstance(verdict, Go)
    assert not verdict.plan.promote


# --- where to


NORTH = Datacenter("dc-north")


def three_sites(**health: Health) -> InstanceView:
    values = {EAST: BEFORE.value, NORTH: "north.example.com.", WEST: AFTER.value}
    states = {dc: SiteHealth(health[dc.removeprefix("dc-")], NOON) for dc in values}
    return replace(VIEW, values=values, health=states)


def test_an_emergency_goes_to_the_preferred_site_if_it_is_up() -> None:
    view = three_sites(east=Health.DOWN, north=Health.UP, west=Health.UP)
    assert candidates(view, WEST) == [WEST, NORTH]
    assert candidates(view, None) == [NORTH, WEST]


def test_else_to_the_first_that_is_up() -> None:
    view = three_sites(east=Health.DOWN, north=Health.UNKNOWN, west=Health.UP)
    assert candidates(view, NORTH) == [WEST, NORTH]


def test_a_target_that_is_not_up_is_named_so_that_the_refusal_is_complete() -> None:
    view = three_sites(east=Health.DOWN, north=Health.UNKNOWN, west=Health.DOWN)
    assert candidates(view, WEST) == [WEST, NORTH]


def test_a_single_site_has_nowhere_to_go() -> None:
    assert candidates(replace(VIEW, values={EAST: BEFORE.value}), None) == []


@pytest.mark.parametrize("other", ["WEST.example.com.", "west.example.com"])
def test_names_are_the_same_whatever_their_case_and_last_dot(other: str) -> None:
    assert same_name("west.example.com.", other)
    assert not same_name("west.example.com.", "east.example.com.")
