"""How votes are counted: who counts, who can't tell, and what a quorum of them allows."""

from dataclasses import replace
from itertools import permutations, product

import pytest

from controller.core.policy import Go, Request, decide
from controller.core.vote_book import VoteBook
from redis_agent.model import Datacenter, Kind, Observation, Observations, Replication, Role, SiteId, Vantage, Verdict
from tests.controller.values import (
    EAST,
    EAST_SITE,
    MAX_AGE,
    NOON,
    POLICY,
    VANTAGES,
    WEST,
    WEST_SITE,
    book_of,
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
    return {each.vantage: each.counted for each in book_of(votes).tally(site, NOON).votes}


@ALL_27
def test_a_site_is_down_only_where_two_say_so_and_more_than_say_up(verdicts: tuple[Verdict, ...]) -> None:
    site = book_of(votes_on_east(verdicts)).tally(EAST_SITE, NOON)
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
    site = book_of(latest(vote(f"v{n}", EAST_SITE, DOWN if n < 2 else UP) for n in range(4))).tally(EAST_SITE, NOON)
    assert (site.says_down(2), site.says_up(2)) == (False, False)


# --- how old it is: by the sender's look, by its way through the log (at most a second), by how long it is here


def test_a_vote_that_may_be_too_old_counts_as_cannot_tell() -> None:
    [seen] = book_of(latest([vote("witness", EAST_SITE, DOWN, age=4.1)])).tally(EAST_SITE, NOON).votes
    assert seen.verdict is DOWN
    assert seen.counted is CANNOT_TELL
    assert seen.why == "up to 5.1 s old; only votes up to 5 s count"


def test_a_vote_that_is_just_young_enough_counts() -> None:
    assert counted(latest([vote("witness", EAST_SITE, DOWN, age=4.0)])) == {"witness": DOWN}


def test_old_up_votes_do_not_make_a_site_healthy() -> None:
    site = book_of(latest(vote(v, EAST_SITE, UP, age=60) for v in VANTAGES)).tally(EAST_SITE, NOON)
    assert not site.says_up(1)


@pytest.mark.parametrize("hours", [-24 * 365 * 56, -1, 1, 24 * 365 * 74], ids=["1970", "behind", "ahead", "2100"])
def test_what_the_senders_wall_clock_says_is_never_asked(hours: int) -> None:
    said = vote("witness", EAST_SITE, DOWN)
    assert counted(latest([replace(said, at=said.at + seconds(hours * 3600))])) == {"witness": DOWN}


def test_the_time_a_vote_stood_in_the_log_is_added_to_its_age() -> None:
    said = vote("witness", EAST_SITE, DOWN, age=1)
    for unread, expected in ((3.0, DOWN), (3.1, CANNOT_TELL)):
        book = VoteBook(MAX_AGE)
        book.note(Observations(said.vantage, said.origin, (said,)), NOON, seconds(unread), "")
        assert [seen.counted for seen in book.tally(EAST_SITE, NOON).votes] == [expected]


def test_a_vote_that_was_in_the_log_before_its_reader_stood_at_the_end_says_nothing() -> None:
    said = vote("witness", EAST_SITE, DOWN, age=0)
    book = VoteBook(MAX_AGE)
    book.note(Observations(said.vantage, said.origin, (said,)), NOON, None, "")
    [seen] = book.tally(EAST_SITE, NOON).votes
    assert seen.counted is CANNOT_TELL
    assert seen.why.startswith("how old it is isn't known")


# --- whose votes say nothing


@pytest.mark.parametrize("verdict", [DOWN, CANNOT_TELL])
def test_a_vantage_that_reaches_no_site_anywhere_cannot_tell(verdict: Verdict) -> None:
    votes = latest([vote("witness", EAST_SITE, DOWN), vote("witness", WEST_SITE, verdict)])
    assert book_of(votes).cut_off == {"witness"}
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


def test_the_count_does_not_depend_on_who_spoke_first() -> None:
    said = [vote(v, EAST_SITE, each) for v, each in zip(VANTAGES, (DOWN, UP, CANNOT_TELL), strict=True)]
    said += [vote(v, WEST_SITE, UP) for v in VANTAGES]
    tallies = set()
    for order in permutations(said, 6):
        numbered = (replace(each, origin=replace(each.origin, sequence=n)) for n, each in enumerate(order, 1))
        tallies.add(book_of(latest(numbered)).tally(EAST_SITE, NOON))
    assert len(tallies) == 1


def test_a_primary_in_the_other_site_is_no_vote_on_this_one() -> None:
    west = replace(vote("witness", WEST_SITE, UP), role=Role.PRIMARY)
    assert counted(latest([west])) == {}
