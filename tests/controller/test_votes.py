"""How votes are counted: who counts, who can't tell, and what a quorum of them allows."""

from dataclasses import replace
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.policy import Go, Request, decide
from controller.core.votes import is_newer, isolated, tally
from redis_agent.model import Datacenter, Kind, Observation, Replication, Role, SiteId, Vantage, Verdict
from tests.controller.values import (
    EAST,
    EAST_SITE,
    MAX_AGE,
    NOON,
    POLICY,
    VANTAGES,
    WEST,
    WEST_SITE,
    east_dark,
    latest,
    seconds,
    view_of,
    vote,
)

UP, DOWN, CANNOT_TELL = Verdict.UP, Verdict.DOWN, Verdict.CANNOT_TELL


ALL_27 = pytest.mark.parametrize(
    "verdicts", list(product(Verdict, repeat=3)), ids=lambda verdicts: "-".join(each.name for each in verdicts)
)


def votes_on_east(verdicts: tuple[Verdict, ...]) -> dict[tuple[SiteId, Vantage], Observation]:
    """Three vantages' votes on dc-east. Each sees dc-west up, so that none of them is cut off."""
    on_east = [vote(v, EAST_SITE, each) for v, each in zip(VANTAGES, verdicts, strict=True)]
    heard = Replication(link_up=False, last_io_seconds=10, offset=100)
    return latest([*on_east, *(replace(vote(v, WEST_SITE, UP), replication=heard) for v in VANTAGES)])


def counted(votes: dict[tuple[SiteId, Vantage], Observation], site: SiteId = EAST_SITE) -> dict[str, Verdict]:
    votes_seen = tally(votes, [EAST_SITE, WEST_SITE], NOON, MAX_AGE)[site].votes
    return {each.vantage: each.counted for each in votes_seen}


@ALL_27
def test_a_site_is_down_only_where_two_say_so_and_more_than_say_up(verdicts: tuple[Verdict, ...]) -> None:
    site = tally(votes_on_east(verdicts), [EAST_SITE], NOON, MAX_AGE)[EAST_SITE]
    down, up = verdicts.count(DOWN), verdicts.count(UP)
    assert site.says_down(2) == (down >= 2)
    assert not (site.says_down(2) and down <= up)
    assert site.says_up(2) == (up >= 2)


@ALL_27
def test_a_failover_is_possible_only_where_two_say_down_and_the_sites_own_vantage_not_up(
    verdicts: tuple[Verdict, ...],
) -> None:
    votes = votes_on_east(verdicts)
    verdict = decide(view_of(votes), Request(WEST, Kind.EMERGENCY, unasked=True), POLICY)
    own = verdicts[VANTAGES.index(Vantage("dc-east"))]
    assert isinstance(verdict, Go) == (verdicts.count(DOWN) >= 2 and own is not UP)


def test_a_tie_is_no_quorum() -> None:
    votes = latest(vote(f"v{n}", EAST_SITE, DOWN if n < 2 else UP) for n in range(4))
    site = tally(votes, [EAST_SITE], NOON, MAX_AGE)[EAST_SITE]
    assert (site.says_down(2), site.says_up(2)) == (False, False)


def test_a_vote_that_is_too_old_counts_as_cannot_tell() -> None:
    site = tally(latest([vote("witness", EAST_SITE, DOWN, age=5.1)]), [EAST_SITE], NOON, MAX_AGE)[EAST_SITE]
    assert site.votes[0].verdict is DOWN
    assert site.votes[0].counted is CANNOT_TELL
    assert site.votes[0].why == "5.1 s old; only votes up to 5 s count"


def test_a_vote_that_is_just_young_enough_counts() -> None:
    assert counted(latest([vote("witness", EAST_SITE, DOWN, age=5.0)])) == {"witness": DOWN}


def test_old_up_votes_do_not_make_a_site_healthy() -> None:
    site = tally(latest(vote(v, EAST_SITE, UP, age=60) for v in VANTAGES), [EAST_SITE], NOON, MAX_AGE)[EAST_SITE]
    assert not site.says_up(1)


def test_a_vote_from_the_future_counts_as_cannot_tell() -> None:
    site = tally(latest([vote("witness", EAST_SITE, DOWN, age=-2.5)]), [EAST_SITE], NOON, MAX_AGE)[EAST_SITE]
    assert site.votes[0].counted is CANNOT_TELL
    assert site.votes[0].why == "dated 2.5 s in the future: the clocks disagree"
    assert site.votes[0].age == seconds(0)


def test_a_clock_that_is_a_little_ahead_is_forgiven() -> None:
    assert counted(latest([vote("witness", EAST_SITE, DOWN, age=-1.5)])) == {"witness": DOWN}


@pytest.mark.parametrize("verdict", [DOWN, CANNOT_TELL])
def test_a_vantage_that_reaches_no_site_anywhere_cannot_tell(verdict: Verdict) -> None:
    votes = latest([vote("witness", EAST_SITE, DOWN), vote("witness", WEST_SITE, verdict)])
    assert isolated(votes, NOON, MAX_AGE) == {"witness"}
    assert counted(votes) == {"witness": CANNOT_TELL}
    assert counted(votes, WEST_SITE) == {"witness": CANNOT_TELL}


def test_a_vantage_that_reaches_one_site_is_believed_about_the_other() -> None:
    votes = latest([vote("witness", EAST_SITE, DOWN), vote("witness", WEST_SITE, UP)])
    assert counted(votes) == {"witness": DOWN}


def test_one_datacenter_is_too_few_to_call_a_vantage_cut_off() -> None:
    other = SiteId(EAST_SITE.instance, EAST)
    votes = latest([vote("witness", EAST_SITE, DOWN), vote("witness", other, DOWN)])
    assert counted(votes) == {"witness": DOWN}


def test_an_up_vote_that_is_old_does_not_save_a_vantage_from_being_cut_off() -> None:
    third = replace(EAST_SITE, datacenter=Datacenter("dc-north"))
    votes = latest(
        [vote("witness", EAST_SITE, DOWN), vote("witness", third, DOWN), vote("witness", WEST_SITE, UP, age=9)]
    )
    assert counted(votes)["witness"] is CANNOT_TELL


def test_a_dark_datacenter_takes_its_own_vantages_vote_with_it() -> None:
    assert counted(east_dark()) == {"dc-east": CANNOT_TELL, "dc-west": DOWN, "witness": DOWN}


def test_when_every_vantage_sees_nothing_nobody_can_tell() -> None:
    votes = latest(vote(v, site, DOWN) for v in VANTAGES for site in (EAST_SITE, WEST_SITE))
    assert set(counted(votes).values()) == {CANNOT_TELL}


# --- which vote is the newest


def test_a_later_vote_of_the_same_process_replaces_the_earlier_and_never_the_other_way() -> None:
    # By sequence, not by clock: the second was dated earlier.
    first, second = (vote("witness", EAST_SITE, DOWN, age=n, sequence=n) for n in (1, 2))
    assert is_newer(second, first)
    assert not is_newer(first, second)


def test_a_duplicate_is_not_newer() -> None:
    one = vote("witness", EAST_SITE, DOWN)
    assert not is_newer(one, one)


def test_of_two_processes_the_one_that_spoke_later_counts() -> None:
    old = vote("witness", EAST_SITE, UP, age=3, source="before-restart", sequence=900)
    new = vote("witness", EAST_SITE, DOWN, age=1, source="after-restart", sequence=1)
    assert is_newer(new, old)
    assert not is_newer(old, new)


@given(st.permutations(range(6)))
def test_the_order_of_arrival_does_not_matter(order: list[int]) -> None:
    said = [vote("witness", EAST_SITE, UP if n % 2 else DOWN, age=10 - n, sequence=n) for n in range(6)]
    held: Observation | None = None
    for n in order:
        if is_newer(said[n], held):
            held = said[n]
    assert held is said[5]


def test_the_count_does_not_depend_on_who_spoke_first() -> None:
    said = [vote(v, EAST_SITE, each) for v, each in zip(VANTAGES, (DOWN, UP, CANNOT_TELL), strict=True)]
    said += [vote(v, WEST_SITE, UP) for v in VANTAGES]
    tallies = {tally(latest(order), [EAST_SITE], NOON, MAX_AGE)[EAST_SITE] for order in permutations(said, 6)}
    assert len(tallies) == 1


def test_a_primary_in_the_other_site_is_no_vote_on_this_one() -> None:
    west = replace(vote("witness", WEST_SITE, UP), role=Role.PRIMARY)
    assert counted(latest([west])) == {}
