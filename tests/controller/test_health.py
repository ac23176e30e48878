"""A site's history by the votes: suspected at once, down only when confirmed without a gap."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from controller.core.health import Health, SiteHealth, step
from controller.core.votes import Tally
from redis_agent.instants import Instant, after
from redis_agent.model import Verdict
from tests.controller.values import EAST_SITE, NOON, VANTAGES, book_of, latest, seconds, vote

CONFIRM = seconds(3)


def votes(*verdicts: Verdict) -> Tally:
    said = latest(vote(v, EAST_SITE, verdict) for v, verdict in zip(VANTAGES, verdicts, strict=False))
    return book_of(said).tally(EAST_SITE, NOON)


DOWN = votes(Verdict.DOWN, Verdict.DOWN)
UP = votes(Verdict.UP, Verdict.UP, Verdict.UP)
SILENCE = votes()
ONE_DOWN = votes(Verdict.DOWN)


def at(number: float) -> Instant:
    return after(NOON, seconds(number))


def lived(*history: tuple[float, Tally], confirm: timedelta = CONFIRM) -> SiteHealth:
    state = SiteHealth(Health.UNKNOWN, NOON)
    for when, said in history:
        state = step(state, said, 2, confirm, at(when))
    return state


def test_nothing_is_known_at_first() -> None:
    assert lived((1, SILENCE)) == SiteHealth(Health.UNKNOWN, NOON)


def test_one_vantage_that_sees_it_up_is_enough_to_call_it_up() -> None:
    assert lived((1, votes(Verdict.UP))).health is Health.UP


def test_a_quorum_of_down_makes_it_suspect_at_once() -> None:
    assert lived((1, UP), (2, DOWN)) == SiteHealth(Health.SUSPECT, at(2), at(2))


def test_it_is_down_when_the_quorum_held_for_the_confirm_time() -> None:
    assert lived((1, UP), (2, DOWN), (4.9, DOWN)).health is Health.SUSPECT
    assert lived((1, UP), (2, DOWN), (4.9, DOWN), (5, DOWN)) == SiteHealth(Health.DOWN, at(5), at(2))


def test_one_bad_poll_followed_by_silence_confirms_nothing() -> None:
    said_once = Tally(EAST_SITE, tuple(replace(one, age=seconds(0)) for one in DOWN.votes))
    grown_old = Tally(EAST_SITE, tuple(replace(one, age=seconds(3)) for one in DOWN.votes))
    assert lived((2, said_once), (5, grown_old)) == SiteHealth(Health.SUSPECT, at(2), at(2))
    assert lived((2, said_once), (5, said_once)).health is Health.DOWN


def test_a_gap_in_the_evidence_starts_the_confirmation_anew() -> None:
    interrupted = lived((2, DOWN), (4, SILENCE), (4.5, DOWN), (6, DOWN))
    assert interrupted == SiteHealth(Health.SUSPECT, at(4.5), at(4.5))
    assert lived((2, DOWN), (4, SILENCE), (4.5, DOWN), (7.5, DOWN)).health is Health.DOWN


def test_losing_the_quorum_ends_down_too() -> None:
    assert lived((2, DOWN), (5, DOWN), (6, ONE_DOWN)) == SiteHealth(Health.UNKNOWN, at(6))


def test_one_down_vote_of_three_changes_nothing() -> None:
    mostly_up = votes(Verdict.DOWN, Verdict.UP, Verdict.UP)
    assert lived((1, UP), (2, mostly_up)) == SiteHealth(Health.UP, at(1))


def test_it_stays_down_since_when_it_was_confirmed() -> None:
    assert lived((2, DOWN), (5, DOWN), (50, DOWN)) == SiteHealth(Health.DOWN, at(5), at(2))


def test_without_a_confirm_time_it_is_down_at_once() -> None:
    assert lived((2, DOWN), confirm=timedelta()) == SiteHealth(Health.DOWN, at(2), at(2))


@given(st.lists(st.tuples(st.sampled_from([DOWN, UP, SILENCE, ONE_DOWN]), st.floats(0.05, 2.0)), max_size=40))
def test_down_always_means_an_unbroken_run_of_down_for_the_confirm_time(steps: list[tuple[Tally, float]]) -> None:
    state, now, run_began = SiteHealth(Health.UNKNOWN, NOON), NOON, None
    for said, pause in steps:
        now = after(now, seconds(pause))
        state = step(state, said, 2, CONFIRM, now)
        run_began = None if said is not DOWN else run_began or now
        assert (state.health is Health.DOWN) == (run_began is not None and now - run_began >= CONFIRM)
        assert state.down_since == run_began
