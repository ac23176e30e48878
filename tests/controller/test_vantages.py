"""What is found about those who look: who says nothing any more, who is cut off, whose clock is wrong."""

from datetime import timedelta

import pytest

from controller.application.vantages import AWAY_AFTER, CUT_OFF_AFTER, VantageWatch
from controller.core.vote_book import VoteBook
from redis_agent.findings import Findings
from redis_agent.instants import Instant, after
from redis_agent.model import FindingKind, Observation, Observations, Origin, Vantage, Verdict
from tests.controller.values import EAST_SITE, MAX_AGE, NOON, WEST_SITE, seconds, vote

WITNESS, OTHER = Vantage("witness"), Vantage("dc-west")


class Heard(Findings):
    """What is open, by kind and subject, and how often each was opened."""

    def __init__(self) -> None:
        self.texts: dict[tuple[FindingKind, str], str] = {}
        self.openings: list[FindingKind] = []

    def open(self, kind, subject, severity, text, **told) -> None:  # type: ignore[no-untyped-def]
        if (kind, subject) not in self.texts:
            self.openings.append(kind)
        self.texts[(kind, subject)] = text

    def subjects(self, kind: FindingKind) -> list[str]:
        return [subject for found, subject in self.texts if found is kind]

    def close(self, kind: FindingKind, subject: str, text: str = "") -> None:
        self.texts.pop((kind, subject), None)


class Watched:
    """A watch, and what it found; vantages say what the test wants."""

    def __init__(self) -> None:
        self.book = VoteBook(MAX_AGE)
        self.found = Heard()
        self.watch = VantageWatch(self.book, self.found)
        self._numbers = 0

    def say(self, vantage: Vantage, now: Instant, *observations: Observation, holding: bool = False) -> None:
        self._numbers += 1
        said = Observations(
            vantage, Origin(f"{vantage}-1", self._numbers), observations, timedelta() if holding else None
        )
        self.book.note(said, now, timedelta(), "")

    def look(self, now: Instant) -> set[tuple[FindingKind, str]]:
        """What is open after a look at `now`."""
        self.book.changed(now)
        self.watch.look(now)
        return set(self.found.texts)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def at(number: float) -> Instant:
    return after(NOON, seconds(number))


def east(verdict: Verdict, vantage: str = "witness") -> Observation:
    return vote(vantage, EAST_SITE, verdict, age=0)


def west(verdict: Verdict, vantage: str = "witness") -> Observation:
    return vote(vantage, WEST_SITE, verdict, age=0)


@pytest.mark.parametrize("in_full", [True, False], ids=["says all in full", "says that all holds"])
def test_who_speaks_is_there_whichever_way(watched: Watched, in_full: bool) -> None:
    watched.say(WITNESS, at(0), east(Verdict.UP))
    for second in range(60):
        watched.say(WITNESS, at(second), *([east(Verdict.UP)] if in_full else []), holding=not in_full)
        assert watched.look(at(second)) == set()


def test_who_says_nothing_for_a_while_is_away_until_it_speaks_again(watched: Watched) -> None:
    away = (FindingKind.VANTAGE_AWAY, "witness")
    watched.say(WITNESS, at(0), east(Verdict.UP))
    last = 0.0
    for second in range(1, 60):
        watched.say(OTHER, at(second), east(Verdict.UP, "dc-west"))
        if away in watched.look(at(second)):
            last = last or second
    assert AWAY_AFTER <= seconds(last) <= AWAY_AFTER + MAX_AGE
    assert "one other is heard" in watched.found.texts[away]
    assert watched.found.openings == [FindingKind.VANTAGE_AWAY]
    watched.say(WITNESS, at(60), east(Verdict.UP))
    assert watched.look(at(60)) == set()


def test_who_reaches_nothing_anywhere_is_cut_off_once_that_lasts(watched: Watched) -> None:
    cut_off = (FindingKind.VANTAGE_CUT_OFF, "witness")
    for tenths in range(int(CUT_OFF_AFTER.total_seconds()) * 10):
        watched.say(WITNESS, at(tenths / 10), east(Verdict.DOWN), west(Verdict.DOWN))
        assert watched.look(at(tenths / 10)) == set()
    watched.say(WITNESS, at(5.1), east(Verdict.DOWN), west(Verdict.DOWN))
    assert watched.look(at(5.1)) == {cut_off}
    watched.say(WITNESS, at(5.2), east(Verdict.DOWN), west(Verdict.UP))
    assert watched.look(at(5.2)) == set()


@pytest.mark.parametrize(("offset", "where"), [(3600, "3600 s ahead of"), (-3600, "3600 s behind")])
def test_a_clock_that_is_wrong_is_told_after_three_looks_and_not_for_one(
    watched: Watched, offset: float, where: str
) -> None:
    off = east(Verdict.UP)
    said = Observations(WITNESS, Origin("one", 1), (off,))
    right, wrong = off.at, off.at - seconds(offset)
    watched.watch.note(said, timedelta(), wrong)
    watched.watch.note(said, timedelta(), wrong)
    assert watched.found.texts == {}
    watched.watch.note(said, timedelta(), wrong)
    assert where in watched.found.texts[(FindingKind.CLOCK_SKEW, "witness")]
    watched.watch.note(said, timedelta(), right)
    assert watched.found.texts == {}
    watched.watch.note(said, timedelta(), wrong)
    watched.watch.note(said, timedelta(), right)
    watched.watch.note(said, timedelta(), wrong)
    watched.watch.note(said, timedelta(), wrong)
    assert watched.found.texts == {}


def test_what_was_read_late_says_nothing_about_a_clock(watched: Watched) -> None:
    """After a pause of our own a backlog is read: its stamps are old, and nobody's clock is wrong."""
    off = east(Verdict.UP)
    for _ in range(10):
        watched.watch.note(Observations(WITNESS, Origin("one", 1), (off,)), seconds(60), off.at + seconds(60))
    assert watched.found.texts == {}


def test_a_vantage_that_an_earlier_process_found_away_is_looked_for(watched: Watched) -> None:
    watched.found.texts[(FindingKind.VANTAGE_AWAY, "witness")] = "as the earlier one left it"
    for second in range(60):
        assert watched.look(at(second)) == {(FindingKind.VANTAGE_AWAY, "witness")}
    assert "says nothing any more" in watched.found.texts[(FindingKind.VANTAGE_AWAY, "witness")]
    watched.say(WITNESS, at(60), east(Verdict.UP))
    assert watched.look(at(60)) == set()
