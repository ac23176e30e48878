"""What is said when: news at once, in full only what is new, and never fresher than it was seen."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from collector.core.statements import AT_ONCE, EVIDENCE_AT_MOST_BYTES, RESTATED_WITHIN, Statement, Statements, what
from redis_agent.instants import Instant, after
from redis_agent.model import (
    Datacenter,
    InstanceId,
    Observation,
    Observations,
    Origin,
    Reason,
    Replication,
    Role,
    SiteId,
    Vantage,
    Verdict,
)
from redis_agent.wire import observations_to

START = Instant(timedelta(hours=1))
BETWEEN = timedelta(seconds=1)
FRESH = timedelta(seconds=1.75)
WITNESS = Vantage("witness")


def site(number: int) -> SiteId:
    return SiteId(InstanceId(f"orders-{number}"), Datacenter("dc-east"))


def seen(number: int, verdict: Verdict = Verdict.UP, evidence: str = "", role: Role = Role.PRIMARY) -> Observation:
    reason = Reason.ANSWERED if verdict is Verdict.UP else Reason.TIMEOUT
    at = datetime(2026, 11, 3, tzinfo=UTC)
    return Observation(site(number), WITNESS, at, verdict, reason, evidence, Origin("one", 1), role=role)


def at(seconds: float) -> Instant:
    return after(START, timedelta(seconds=seconds))


def statements() -> Statements:
    return Statements(BETWEEN, FRESH)


def news(book: Statements, now: Instant) -> list[Statement]:
    """All that is news, each part taken by the log."""
    return list(_taken(book, book.news, now))


def tick(book: Statements, now: Instant) -> list[Statement]:
    """A whole tick, each part taken by the log."""
    book.begin_tick()
    return list(_taken(book, book.of_tick, now))


def _taken(book: Statements, following: Callable[[Instant], Statement | None], now: Instant) -> Iterator[Statement]:
    while (statement := following(now)) is not None:
        book.said(statement)
        yield statement


@dataclass(slots=True)
class Listener:
    """Who keeps what was said, and takes a tick's word that the rest holds."""

    known: dict[SiteId, tuple[Observation, Instant]] = field(default_factory=dict)

    def hear(self, statement: Statement, now: Instant) -> None:
        told = {o.site: (o, after(now, -o.age)) for o in statement.observations}
        if statement.holding is not None:
            held_at = after(now, -statement.holding)
            self.known = {s: (o, max(seen_at, held_at)) for s, (o, seen_at) in self.known.items()}
        self.known |= told


def test_what_was_seen_first_is_news_and_the_same_again_is_not() -> None:
    book = statements()
    assert book.see(seen(1), at(0), fresh_evidence=False)
    [statement] = news(book, at(0.25))
    assert [(o.site, o.age) for o in statement.observations] == [(site(1), timedelta(seconds=0.25))]
    assert not book.see(seen(1), at(1), fresh_evidence=False)
    assert book.news(at(1)) is None


def test_another_verdict_reason_role_or_link_is_news_and_another_evidence_is_not() -> None:
    book = statements()
    book.see(seen(1), at(0), fresh_evidence=False)
    news(book, at(0))
    linked = replace(seen(1), replication=Replication(link_up=True, last_io_seconds=0, offset=1))
    assert book.see(seen(1, Verdict.DOWN), at(1), fresh_evidence=False)
    assert book.see(replace(seen(1), reason=Reason.LOADING), at(1), fresh_evidence=False)
    assert book.see(seen(1, role=Role.REPLICA), at(1), fresh_evidence=False)
    assert book.see(linked, at(1), fresh_evidence=False)
    assert not book.see(seen(1, evidence="0.3 ms"), at(1), fresh_evidence=False)


def test_a_quiet_tick_says_little_and_that_the_rest_holds() -> None:
    book = statements()
    for number in range(100):
        book.see(seen(number), at(number / 100), fresh_evidence=False)
    news(book, at(1))
    for number in range(100):
        book.see(seen(number), at(1 + number / 100), fresh_evidence=False)
    [statement] = tick(book, at(2))
    assert len(statement.observations) == 10, "a tenth, for listeners that came late"
    assert statement.holding == timedelta(seconds=0.9), "the oldest look at what isn't said in full"


def test_a_listener_that_comes_late_knows_all_within_ten_seconds() -> None:
    book, listener = statements(), Listener()
    for number in range(7):
        book.see(seen(number), at(0), fresh_evidence=False)
    tick(book, at(0))
    for second in range(1, int(RESTATED_WITHIN / BETWEEN) + 1):
        for number in range(7):
            book.see(seen(number), at(second), fresh_evidence=False)
        for statement in tick(book, at(second)):
            listener.hear(statement, at(second))
    assert len(listener.known) == 7


def test_a_site_that_was_not_looked_at_is_said_with_its_age_and_not_to_hold() -> None:
    book, listener = statements(), Listener()
    for number in (1, 2):
        book.see(seen(number), at(0), fresh_evidence=False)
    for second in range(8):
        book.see(seen(2), at(second), fresh_evidence=False)
        for statement in tick(book, at(second)):
            listener.hear(statement, at(second))
    assert listener.known[site(1)][1] == at(0)
    assert listener.known[site(2)][1] == at(7)


def test_what_the_log_did_not_take_is_said_anew_and_only_as_it_is_now() -> None:
    book = statements()
    book.see(seen(1, Verdict.DOWN), at(0), fresh_evidence=False)
    lost = book.news(at(0))
    assert lost is not None
    book.lost(lost)
    book.see(seen(1), at(1), fresh_evidence=False)
    [again] = tick(book, at(1))
    assert [o.verdict for o in again.observations] == [Verdict.UP]


def test_a_replicas_own_view_is_said_whenever_it_was_asked_anew() -> None:
    book = statements()
    replica = replace(seen(1), replication=Replication(link_up=True, last_io_seconds=0, offset=1))
    book.see(replica, at(0), fresh_evidence=True)
    for number in range(2, 60):
        book.see(seen(number), at(0), fresh_evidence=False)
    tick(book, at(0))
    newer = replace(replica, replication=Replication(link_up=True, last_io_seconds=0, offset=99))
    assert not book.see(newer, at(1), fresh_evidence=True)
    assert site(1) in {o.site for s in tick(book, at(1)) for o in s.observations}


def test_a_record_of_many_long_observations_stays_below_256_kib() -> None:
    book = statements()
    for number in range(3 * AT_ONCE):
        book.see(seen(number, evidence="…" * 10_000), at(0), fresh_evidence=False)
    parts = news(book, at(0))
    assert sum(len(part.observations) for part in parts) == 3 * AT_ONCE
    for part in parts:
        assert all(len(o.evidence.encode()) <= EVIDENCE_AT_MOST_BYTES for o in part.observations)
        record = observations_to(Observations(WITNESS, Origin("one", 1), part.observations))
        assert len(record.SerializeToString()) < 256 * 1024


# --- many at once


def test_of_a_tick_in_parts_only_the_last_says_that_the_rest_holds() -> None:
    """One that comes before the news of a living site would renew what was said of it when it was dead."""
    book = Statements(BETWEEN, FRESH, at_once=2)
    for number in range(6):
        book.see(seen(number, Verdict.DOWN), at(0), fresh_evidence=False)
    news(book, at(0))
    for number in range(5):
        book.see(seen(number), at(1), fresh_evidence=False)
    book.see(seen(5, Verdict.DOWN), at(1), fresh_evidence=False)
    assert [part.holding is not None for part in tick(book, at(1))][:-1] == [False, False]
    for number in range(5):
        book.see(seen(number, Verdict.DOWN), at(2), fresh_evidence=False)
    book.begin_tick()
    first = book.of_tick(at(2))
    assert first is not None and first.holding is None
    book.lost(first)
    assert book.of_tick(at(2)) is None, "after one that was lost the tick is over"


def test_more_that_was_not_looked_at_than_one_record_holds_leaves_no_word_that_the_rest_holds() -> None:
    book = Statements(BETWEEN, FRESH, at_once=2)
    for number in range(6):
        book.see(seen(number), at(0), fresh_evidence=False)
    news(book, at(0))
    book.see(seen(0), at(5), fresh_evidence=False)
    parts = tick(book, at(5))
    assert {o.site for part in parts for o in part.observations} >= {site(number) for number in range(1, 6)}
    assert all(part.holding is None for part in parts)


def test_each_parts_ages_are_those_of_its_own_handing_over() -> None:
    book = Statements(BETWEEN, FRESH, at_once=2)
    for number in range(4):
        book.see(seen(number), at(0), fresh_evidence=False)
    book.begin_tick()
    first, second = book.of_tick(at(0.1)), None
    assert first is not None
    book.said(first)
    second = book.of_tick(at(0.9))
    assert second is not None
    assert [o.age for o in (*first.observations, *second.observations)] == [
        timedelta(seconds=s) for s in (0.1, 0.1, 0.9, 0.9)
    ]


# --- whatever happens

_STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        st.lists(st.tuples(st.integers(1, 5), st.sampled_from(Verdict)), max_size=5),
        st.sampled_from(["news", "tick"]),
        st.integers(0, 4),
        st.sampled_from(["there", "lost", "unknown"]),
    ),
    max_size=25,
)


@given(_STEPS, st.integers(1, 6))
def test_a_listener_never_takes_a_vote_for_fresher_than_it_was_seen_nor_for_another(
    steps: list[tuple[float, list[tuple[int, Verdict]], str, int, str]], at_once: int
) -> None:
    """Of each step so many records are taken; then one is lost, or is there though nobody said so."""
    book, listener, now = Statements(BETWEEN, FRESH, at_once), Listener(), START
    history: dict[SiteId, list[tuple[Instant, Observation]]] = {}
    for pause, looks, kind, taken, fate in steps:
        now = after(now, timedelta(seconds=pause))
        for number, verdict in looks:
            book.see(seen(number, verdict), now, fresh_evidence=False)
            history.setdefault(site(number), []).append((now, seen(number, verdict)))
        book.begin_tick()
        following = book.of_tick if kind == "tick" else book.news
        records = 0
        while (statement := following(now)) is not None:
            records += 1
            if fate == "there" or records <= taken:
                listener.hear(statement, now)
                book.said(statement)
                continue
            if fate == "unknown":
                listener.hear(statement, now)
            book.lost(statement)
            break
        for known_site, (observation, seen_at) in listener.known.items():
            when_so = [when for when, o in history[known_site] if what(o) == what(observation)]
            assert max(when_so) >= seen_at, "it was seen so then, or later"
        if fate == "there" and kind == "tick":
            assert all(what(listener.known[s][0]) == what(seen_then[-1][1]) for s, seen_then in history.items())
