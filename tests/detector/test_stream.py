"""Samples in, anomalies out: with a judge that expects each site's own median."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.intake import WIDTH, WINDOW
from detector.core.reservoir import Reservoir
from detector.core.stream import Digest, Judge, Rules, Stream, rounds
from detector.core.table import read
from redis_agent.model import Anomaly, AnomalyState, Origin
from tests.detector.rows import Database, played, record

MEDIAN = Judge("median", lambda windows: np.zeros_like(windows[:, -1]), np.full(WIDTH, 1, np.float32), 2.0)
CALM_TICKS = 100
Row = dict[str, object]


def stream(rules: Rules | None = None) -> Stream:
    return Stream(MEDIAN, rules or Rules())


def fed(to: Stream, rows: list[Row], batch: int = 10_000, *, tell: bool = True) -> Digest:
    """Give the rows in batches; the sum of what became of them."""
    whole = Digest()
    for at in range(0, len(rows), batch):
        part = to.digest(read(record(rows[at : at + batch])), tell=tell)
        for name in ("scored", "unready", "duplicates", "late", "other_vantage", "no_room"):
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
        whole.highest = max(whole.highest, part.highest)
        whole.notices += part.notices
    return whole


def story(databases: list[Database], storm: range, until: int) -> list[Row]:
    """Calm, then a client storm on the first database, then calm again."""
    rows = []
    for tick in range(until):
        databases[0].levels["clients_connected"] = 900.0 if tick in storm else 12.0
        rows += played(databases, [tick])
    return rows


def test_a_client_storm_opens_one_anomaly_that_names_the_clients_and_closes() -> None:
    rows = story([Database("orders"), Database("carts")], range(CALM_TICKS, CALM_TICKS + 12), CALM_TICKS + 60)
    notices = fed(stream(), rows).notices
    assert notices[0].state is AnomalyState.OPENED
    assert notices[-1].state is AnomalyState.CLOSED
    assert {str(n.episode.site) for n in notices} == {"orders/dc-east"}
    assert len({n.episode.id for n in notices}) == 1
    why = notices[0].why[0]
    assert why.feature == "clients_connected"
    assert why.observed == pytest.approx(900, rel=0.05)
    assert why.expected == pytest.approx(12, rel=0.1)
    assert why.share > 0.5
    assert (notices[0].episode.opened_at - rows[0]["at"]).total_seconds() <= CALM_TICKS + 2  # type: ignore[operator]


def test_a_drop_to_nothing_is_an_anomaly_too() -> None:
    database = Database("orders")
    rows = played([database], range(CALM_TICKS))
    database.per_second = dict.fromkeys(database.per_second, 0.0)
    notices = fed(stream(), rows + played([database], range(CALM_TICKS, CALM_TICKS + 10))).notices
    assert notices
    assert "per_second" in notices[0].why[0].feature


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_what_comes_out_does_not_depend_on_the_batches(batch: int) -> None:
    rows = story([Database("orders"), Database("carts"), Database("users")], range(100, 112), 140)
    whole, parts = fed(stream(), rows), fed(stream(), rows, batch)
    assert parts.scored == whole.scored
    assert parts.highest == pytest.approx(whole.highest, abs=1e-5)
    assert [(n.state, n.episode.id) for n in parts.notices] == [(n.state, n.episode.id) for n in whole.notices]
    for part, other in zip(parts.notices, whole.notices, strict=True):
        assert part.episode.score == pytest.approx(other.episode.score, abs=1e-5)


def test_nothing_is_told_while_warming_up_but_the_past_is_kept() -> None:
    rows = story([Database("orders")], range(CALM_TICKS, CALM_TICKS + 20), CALM_TICKS + 20)
    warm, cold = stream(), stream()
    assert fed(warm, rows[:110], tell=False).notices == []
    assert fed(warm, rows[110:]).notices
    assert fed(cold, rows[110:]).notices == []


def test_a_restart_and_a_gap_are_no_anomaly() -> None:
    database = Database("orders")
    rows = played([database], range(CALM_TICKS))
    database.restart()
    rows += played([database], range(CALM_TICKS, CALM_TICKS + 60))
    rows += played([database], range(CALM_TICKS + 400, CALM_TICKS + 460))
    assert fed(stream(), rows).notices == []


def test_after_a_gap_a_window_has_to_fill_before_a_site_is_scored_again() -> None:
    database = Database("orders")
    to = stream()
    fed(to, played([database], range(CALM_TICKS)))
    after = fed(to, played([database], range(CALM_TICKS + 60, CALM_TICKS + 70)))
    assert after.unready == WINDOW - 1
    assert after.scored == 10 - (WINDOW - 1)


def test_rows_that_come_twice_or_late_are_counted_and_change_nothing() -> None:
    rows = played([Database("orders")], range(CALM_TICKS))
    to = stream()
    scored = fed(to, rows).scored
    again = fed(to, rows[-5:])
    assert (again.duplicates, again.late, again.scored) == (1, 4, 0)
    assert scored == fed(stream(), rows).scored


def test_rows_of_other_vantages_are_counted_and_not_scored() -> None:
    home, away = Database("orders"), Database("orders", vantage="witness", seed=2)
    digest = fed(stream(), played([home, away], range(20)))
    assert digest.other_vantage == 20
    assert digest.scored == fed(stream(), played([Database("orders")], range(20))).scored


def test_an_open_anomaly_that_is_adopted_goes_on_under_its_id_and_closes() -> None:
    rows = story([Database("orders")], range(CALM_TICKS, CALM_TICKS + 12), CALM_TICKS + 60)
    opened = next(n for n in fed(stream(), rows).notices if n.state is AnomalyState.OPENED)
    e = opened.episode
    known = Anomaly(
        e.id, e.site, opened.state, e.opened_at, e.at, e.score, e.peak_score, e.threshold, e.severity, opened.why,
        "", "median", Origin("detector", 1),
    )  # fmt: skip
    restarted = stream()
    restarted.adopt([known])
    fed(restarted, rows[: CALM_TICKS + 5], tell=False)
    notices = fed(restarted, rows[CALM_TICKS + 5 :]).notices
    assert AnomalyState.OPENED not in [n.state for n in notices]
    assert notices[-1].state is AnomalyState.CLOSED
    assert notices[-1].episode.id == e.id
    assert notices[-1].why


def test_sites_beyond_the_room_are_counted_and_get_a_place_once_others_are_silent_for_an_hour() -> None:
    to = stream(Rules(room=2))
    crowd = [Database(name) for name in ("a", "b", "c")]
    assert fed(to, played(crowd, range(5))).no_room == 5
    assert fed(to, played([Database("b")], [3000])).no_room == 0
    assert fed(to, played([Database("c")], [4000])).no_room == 0
    assert to.sites == 2


def test_an_empty_record_is_no_work() -> None:
    assert stream().digest(read(record(played([Database("orders")], [0]))).clear()) == Digest()
    assert stream().digest(pl.DataFrame()) == Digest()


@given(st.lists(st.integers(-1, 4), max_size=40))
def test_rounds_keep_each_slots_order_and_never_hold_a_slot_twice(slots: list[int]) -> None:
    seen: list[int] = []
    for rows in rounds(np.array(slots, np.intp)):
        assert len({slots[row] for row in rows}) == len(rows)
        seen += rows.tolist()
    assert sorted(seen) == [row for row, slot in enumerate(slots) if slot >= 0]
    for slot in set(slots) - {-1}:
        mine = [row for row in seen if slots[row] == slot]
        assert mine == sorted(mine)


@given(st.lists(st.integers(1, 9), max_size=30))
def test_a_reservoir_is_bounded_and_spread_over_all_that_was_offered(counts: list[int]) -> None:
    reservoir = Reservoir(16, 1, 1)
    number = 0
    for count in counts:
        reservoir.offer(np.arange(number, number + count, dtype=np.float32)[:, None, None])
        number += count
    kept = reservoir.windows()[:, 0, 0].tolist()
    assert len(kept) < 16
    assert kept == sorted(kept)
    if number:
        assert kept[0] == 0
        steps = {b - a for a, b in pairwise(kept)}
        assert len(steps) <= 1
        assert number - kept[-1] <= max(steps, default=16)
