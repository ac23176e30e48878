"""An anomaly's runtime."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from detector.core.anomaly import CALM, Episode, Open, Policy, State, Tick, identity, severity, step
from redis_agent.model import AnomalyState, Datacenter, InstanceId, Severity, SiteId

SITE = SiteId(InstanceId("orders"), Datacenter("dc-east"))
START = datetime(2026, 11, 1, tzinfo=UTC)
POLICY = Policy()
AnomalyLog = list[tuple[int, AnomalyState, Episode]]


def played(scores: list[float], policy: Policy = POLICY, every: float = 1.0) -> tuple[State, AnomalyLog]:
    """Ticks with threshold 1, one every `every` seconds, and what was told at which tick."""
    state: State = CALM
    told: AnomalyLog = []
    for number, score in enumerate(scores):
        lasted = timedelta(seconds=number * every)
        tick = Tick(START + lasted, lasted, score, 1.0)
        state, found = step(state, SITE, tick, policy)
        if found is not None:
            told.append((number, *found))
    return state, told


def test_one_tick_over_is_nothing_and_two_open() -> None:
    assert played([0.5, 2.0, 0.5, 2.0, 0.5])[1] == []
    _, told = played([0.5, 2.0, 3.0])
    assert [(number, state) for number, state, _ in told] == [(2, AnomalyState.OPENED)]
    assert told[0][2].opened_at == START + timedelta(seconds=1)
    assert told[0][2].peak_score == 3.0


def test_five_ticks_under_close_and_four_do_not() -> None:
    assert isinstance(played([2.0, 2.0, *[0.5] * 4])[0], Open)
    state, told = played([2.0, 2.0, *[0.5] * 5])
    assert state is CALM
    assert [state for _, state, _ in told] == [AnomalyState.OPENED, AnomalyState.CLOSED]
    assert told[0][2].id == told[1][2].id


def test_flapping_is_one_event() -> None:
    _, told = played([2.0, 2.0, *[0.5, 2.0] * 10, *[0.5] * 5])
    states = [state for _, state, _ in told]
    assert states.count(AnomalyState.OPENED) == 1
    assert states.count(AnomalyState.CLOSED) == 1
    assert len({episode.id for _, _, episode in told}) == 1


def test_an_anomaly_is_told_again_every_ten_seconds_and_at_once_when_it_gets_worse() -> None:
    _, told = played([1.2] * 25)
    assert [number for number, state, _ in told if state is AnomalyState.UPDATED] == [11, 21]
    _, told = played([1.2, 1.2, 1.2, 7.0, 7.0, 7.0])
    assert [(number, e.severity) for number, _, e in told] == [(1, Severity.INFO), (3, Severity.CRITICAL)]


def test_severity_does_not_fall_while_it_is_open() -> None:
    _, told = played([7.0, 7.0, *[1.1] * 12, *[0.5] * 5])
    assert {episode.severity for _, _, episode in told} == {Severity.CRITICAL}


def test_a_gap_closes_nothing_and_opens_nothing() -> None:
    whole = played([2.0, 2.0, 0.5, 0.5])[0]
    late = played([2.0, 2.0, 0.5, 0.5], every=3600.0)[0]
    assert isinstance(whole, Open)
    assert isinstance(late, Open)
    assert whole.under == late.under == 2


def test_the_ladder_of_severity() -> None:
    assert [severity(peak, 2.0) for peak in (2.1, 3.0, 6.0, 12.0)] == list(Severity)


def test_an_identity_depends_on_the_site_and_the_instant_alone() -> None:
    other = SiteId(SITE.instance, Datacenter("dc-west"))
    later = START + timedelta(microseconds=1)
    assert len({identity(SITE, START), identity(other, START), identity(SITE, later)}) == 3
    elsewhere = START.astimezone(tz=datetime.fromisoformat("2026-01-01T00:00:00+09:00").tzinfo)
    assert identity(SITE, START) == identity(SITE, elsewhere)


@given(st.lists(st.floats(0, 10), max_size=60))
def test_every_story_is_opened_before_it_is_updated_and_closed_at_most_once(scores: list[float]) -> None:
    _, told = played(scores)
    assert played(scores)[1] == told
    running = ""
    for _, state, episode in told:
        assert episode.peak_score >= episode.score or state is AnomalyState.CLOSED
        if state is AnomalyState.OPENED:
            assert running == ""
            running = episode.id
        assert episode.id == running
        running = "" if state is AnomalyState.CLOSED else running
