"""The newest vote of every vantage: its own number orders what it says, and once a tick it says that all else holds."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.vote_book import VoteBook
from redis_agent.instants import Instant, after
from redis_agent.model import Observation, Observations, Origin, Replication, SiteId, Vantage, Verdict
from tests.controller.values import EAST_SITE, MAX_AGE, NOON, WEST_SITE, seconds, vote

UP, DOWN, CANNOT_TELL = Verdict.UP, Verdict.DOWN, Verdict.CANNOT_TELL
WITNESS = Vantage("witness")
NOW_READ = timedelta()


def says(
    number: int,
    *observations: Observation,
    holding: float | None = None,
    source: str = "one",
    vantage: Vantage = WITNESS,
) -> Observations:
    held = None if holding is None else seconds(holding)
    return Observations(vantage, Origin(source, number), observations, held)


def at(number: float) -> Instant:
    return after(NOON, seconds(number))


def of(book: VoteBook, site: SiteId, now: Instant) -> list[Verdict]:
    return [seen.counted for seen in book.tally(site, now).votes]


ON_EAST = {verdict: vote("witness", EAST_SITE, verdict, age=0) for verdict in Verdict}
ON_WEST = {verdict: vote("witness", WEST_SITE, verdict, age=0) for verdict in Verdict}


# --- in which order


def test_of_one_process_its_number_orders_and_not_its_clock() -> None:
    book = VoteBook(MAX_AGE)
    book.note(says(2, replace(ON_EAST[DOWN], at=ON_EAST[DOWN].at - timedelta(days=1))), NOON, NOW_READ, "")
    book.note(says(1, ON_EAST[UP]), NOON, NOW_READ, "")
    assert of(book, EAST_SITE, NOON) == [DOWN]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=20))
def test_what_comes_twice_or_late_changes_nothing(order: list[int]) -> None:
    book, highest = VoteBook(MAX_AGE), 0
    for number in order:
        highest = max(highest, number)
        book.note(says(number, ON_EAST[UP if number % 2 else DOWN], ON_WEST[UP]), NOON, NOW_READ, "")
        assert of(book, EAST_SITE, NOON) == [UP if highest % 2 else DOWN]


def test_of_two_processes_the_one_whose_word_comes_later_counts() -> None:
    book = VoteBook(MAX_AGE)
    book.note(says(900, ON_EAST[UP], source="before the restart"), NOON, NOW_READ, "")
    book.note(says(1, ON_EAST[DOWN], source="after the restart"), at(1), NOW_READ, "")
    assert of(book, EAST_SITE, at(1)) == [DOWN]


# --- that all else holds


def test_a_vote_is_as_fresh_as_the_last_word_that_it_holds() -> None:
    book = VoteBook(MAX_AGE)
    book.note(says(1, ON_EAST[DOWN], ON_WEST[UP], holding=0), NOON, NOW_READ, "")
    for tick in range(1, 61):
        book.note(says(1 + tick, holding=0.5), at(tick), NOW_READ, "")
    assert of(book, EAST_SITE, at(60)) == [DOWN]
    assert of(book, EAST_SITE, at(63.5)) == [DOWN]  # half a second when it was said, one on its way at most
    assert of(book, EAST_SITE, at(63.6)) == [CANNOT_TELL]


def test_what_a_vantage_took_back_is_not_held_up_by_it() -> None:
    book = VoteBook(MAX_AGE)
    book.note(says(1, ON_EAST[DOWN], ON_WEST[UP], holding=0), NOON, NOW_READ, "")
    book.note(says(2, ON_EAST[CANNOT_TELL], holding=0), at(1), NOW_READ, "")
    assert (of(book, EAST_SITE, at(1)), of(book, WEST_SITE, at(1))) == ([CANNOT_TELL], [UP])


def test_a_new_process_does_not_hold_up_what_the_last_one_said() -> None:
    book = VoteBook(MAX_AGE)
    book.note(says(1, ON_EAST[DOWN], ON_WEST[UP], holding=0), NOON, NOW_READ, "")
    book.note(says(1, ON_WEST[UP], holding=0, source="two"), at(3), NOW_READ, "")
    assert (of(book, EAST_SITE, at(4)), of(book, WEST_SITE, at(4))) == ([DOWN], [UP])
    assert (of(book, EAST_SITE, at(4.1)), of(book, WEST_SITE, at(4.1))) == ([CANNOT_TELL], [UP])


def test_a_word_whose_age_is_not_known_holds_nothing_up() -> None:
    # A reader that hasn't stood at the end: what it reads may have been there for hours.
    book = VoteBook(MAX_AGE)
    book.note(says(1, ON_EAST[UP], ON_WEST[UP], holding=0), NOON, None, "")
    book.note(says(2, holding=0), NOON, None, "")
    assert of(book, EAST_SITE, NOON) == [CANNOT_TELL]
    book.note(says(3, holding=0), at(1), NOW_READ, "")
    assert of(book, EAST_SITE, at(1)) == [UP]


# --- what must be counted again


def test_a_tick_that_brings_nothing_new_concerns_no_site() -> None:
    book = VoteBook(MAX_AGE)
    book.note(says(1, ON_EAST[UP], ON_WEST[UP], holding=0), NOON, NOW_READ, "")
    assert book.changed(NOON) == {EAST_SITE, WEST_SITE}
    for tick in range(1, 20):
        book.note(says(1 + tick, holding=0), at(tick), NOW_READ, "")
        assert book.changed(at(tick)) == set()


def test_a_full_restatement_of_the_same_concerns_no_site() -> None:
    book = VoteBook(MAX_AGE)
    for tick in range(3):
        book.note(says(1 + tick, ON_EAST[UP], ON_WEST[UP], holding=0), at(tick), NOW_READ, "")
        assert book.changed(at(tick)) == (set() if tick else {EAST_SITE, WEST_SITE})


def test_a_vantage_that_falls_silent_concerns_all_that_it_had_said_and_again_when_it_is_back() -> None:
    book = VoteBook(MAX_AGE)
    book.note(says(1, ON_EAST[UP], ON_WEST[UP], holding=0), NOON, NOW_READ, "")
    book.changed(NOON)
    assert book.changed(at(4)) == set()
    assert book.changed(at(4.1)) == {EAST_SITE, WEST_SITE}
    assert book.changed(at(5)) == set()
    book.note(says(2, holding=0), at(9), NOW_READ, "")
    assert book.changed(at(9)) == {EAST_SITE, WEST_SITE}


def test_a_vantage_that_is_cut_off_concerns_all_that_it_had_said() -> None:
    book = VoteBook(MAX_AGE)
    book.note(says(1, ON_EAST[DOWN], ON_WEST[UP], holding=0), NOON, NOW_READ, "")
    book.changed(NOON)
    book.note(says(2, ON_WEST[DOWN], holding=0), at(1), NOW_READ, "")
    assert book.changed(at(1)) == {EAST_SITE, WEST_SITE}
    assert book.cut_off == {WITNESS}


@dataclass(frozen=True, slots=True)
class Turn:
    """One step of a story: who speaks (and in which of its lives), how long after the last one, what of, whether all else is said to hold."""

    vantage: Vantage
    source: str
    pause: float
    new: tuple[Observation, ...]
    holding: bool
    unread: float | None


_SITES = [SiteId(EAST_SITE.instance, EAST_SITE.datacenter), WEST_SITE]
_TURNS = st.builds(
    Turn,
    vantage=st.sampled_from([Vantage("witness"), Vantage("dc-east")]),
    source=st.sampled_from(["one", "two"]),
    pause=st.sampled_from([0.1, 1.0, 3.0, 5.0]),
    new=st.lists(
        st.builds(vote, st.just("any"), st.sampled_from(_SITES), st.sampled_from(Verdict), age=st.sampled_from([0, 2])),
        max_size=2,
    ).map(tuple),
    holding=st.booleans(),
    unread=st.sampled_from([None, 0.0, 1.0]),
)


@given(st.lists(_TURNS, max_size=20))
def test_a_site_that_is_not_named_as_changed_counts_as_it_did(turns: list[Turn]) -> None:
    book, now = VoteBook(MAX_AGE), NOON
    known: dict[SiteId, tuple[tuple[Vantage, Verdict], ...]] = dict.fromkeys(_SITES, ())
    for number, turn in enumerate(turns, 1):
        now = after(now, seconds(turn.pause))
        told = tuple(replace(each, vantage=turn.vantage) for each in turn.new)
        holding = timedelta() if turn.holding else None
        unread = None if turn.unread is None else seconds(turn.unread)
        book.note(Observations(turn.vantage, Origin(turn.source, number), told, holding), now, unread, "")
        changed = book.changed(now)
        for site in _SITES:
            counts = tuple((seen.vantage, seen.counted) for seen in book.tally(site, now).votes)
            assert site in changed or counts == known[site]
            known[site] = counts


# --- what else a vote tells


def test_a_run_of_down_keeps_its_beginning_and_a_new_one_has_its_own() -> None:
    book = VoteBook(MAX_AGE)
    story = (DOWN, DOWN, UP, DOWN, DOWN)
    for number, verdict in enumerate(story):
        book.note(says(1 + number, ON_EAST[verdict], holding=0), at(number), NOW_READ, f"trace-{number}")
    [began] = book.first_down(EAST_SITE, (WITNESS,))
    assert (began.at, began.traceparent) == (at(3), "trace-3")


@pytest.mark.parametrize(("link_up", "expected"), [(True, at(-2)), (False, None)])
def test_a_replica_heard_from_its_primary_only_while_their_link_was_up(link_up: bool, expected: Instant | None) -> None:
    book = VoteBook(MAX_AGE)
    seen = replace(ON_WEST[UP], replication=Replication(link_up=link_up, last_io_seconds=2, offset=1))
    book.note(says(1, seen), NOON, NOW_READ, "")
    assert book.heard.get(WEST_SITE) == expected


def test_what_cannot_be_read_ends_the_belief_that_the_rest_holds_until_it_is_said_anew() -> None:
    """It may have been the news that the site is down: nothing that can't be read counts as healthy."""
    book = VoteBook(MAX_AGE)
    book.note(says(1, ON_EAST[UP], ON_WEST[UP]), at(0), NOW_READ, "")
    book.note_unreadable(WITNESS)
    for second in range(1, 20):
        book.note(says(1 + second, ON_WEST[UP], holding=0.0), at(second), NOW_READ, "")
    assert of(book, EAST_SITE, at(19)) == [CANNOT_TELL]
    assert of(book, WEST_SITE, at(19)) == [UP]
    book.note(says(21, ON_EAST[DOWN], holding=0.0), at(20), NOW_READ, "")
    assert of(book, EAST_SITE, at(20)) == [DOWN]
