"""Many sites' samples -> anomalies: everything that the detector knows of its sites, one batch after the other.

What comes out doesn't depend on how rows were batched: within a batch each site's rows are taken one at a time, in order
of arrival; sites only share the arithmetic.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detector.core.anomaly import CALM, Episode, Open, Policy, State, Tick, episode_of, step
from detector.core.intake import WIDTH, WINDOW, Intake, Taken
from detector.core.rates import MICROSECONDS
from detector.core.reservoir import Reservoir
from detector.core.ring import Floats32, Slots
from detector.core.scoring import Smoothed, model_input, residuals, scores
from detector.core.sites import Sites
from detector.core.table import Table, columns
from detector.core.threshold import Thresholds
from detector.core.vantage import Vantages
from detector.core.why import contributions
from redis_agent.model import Anomaly, AnomalyState, Contribution

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SILENT_FOR = 3600 * MICROSECONDS
_SWEEP_EVERY = 60 * MICROSECONDS
_LEARN_FROM = 2048


@dataclass(frozen=True, slots=True)
class Judge:
    """A trained model: windows [n, WINDOW, F] without gaps -> the expected newest tick [n, F], and what it got wrong in
    hold-out: `error` [F] a feature, `floor` the score that it rarely passed."""

    version: str
    expect: Callable[[Floats32], Floats32]
    error: Floats32
    floor: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts: how many sites at most, which vantage, how long a vantage is fresh, how long a silence ends a window."""

    room: int = 10_000
    vantage: str | None = None
    fresh_seconds: float = 5.0
    gap_seconds: float = 15.0
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell of an anomaly, and the features that weighed most when it was last over its threshold."""

    state: AnomalyState
    episode: Episode
    why: tuple[Contribution, ...]


@dataclass(slots=True)
class Digest:
    """What became of a batch."""

    scored: int = 0
    unready: int = 0
    duplicates: int = 0
    late: int = 0
    other_vantage: int = 0
    no_room: int = 0
    highest: float = 0.0
    notices: list[Notice] = field(default_factory=list)


class Stream:
    """The state of all sites. One owner; not for two threads at once."""

    def __init__(self, judge: Judge, rules: Rules) -> None:
        self.reservoir = Reservoir(_LEARN_FROM, WINDOW, WIDTH)
        self._rules = rules
        self._judge = judge
        self._sites = Sites(rules.room)
        self._vantages = Vantages(rules.vantage, int(rules.fresh_seconds * MICROSECONDS))
        self._intake = Intake(rules.room, rules.gap_seconds)
        self._smoothed = Smoothed(rules.room)
        self._thresholds = Thresholds(rules.room, judge.floor)
        self._watched = np.zeros(rules.room, np.bool_)
        self._states: dict[int, State] = {}
        self._why: dict[int, tuple[Contribution, ...]] = {}
        self._adopted: dict[tuple[str, str], tuple[Episode, tuple[Contribution, ...]]] = {}
        self._swept_at = 0

    @property
    def sites(self) -> int:
        """How many sites are known."""
        return len(self._sites)

    def judge_by(self, judge: Judge) -> None:
        """Another model from the next batch on. Each site keeps its own past scores: both models' are in hold-out units."""
        self._judge = judge
        self._thresholds.floor = judge.floor

    def adopt(self, known: Iterable[Anomaly]) -> None:
        """Anomalies that are open already, of sites that aren't known yet: they go on when those sites' samples do."""
        for anomaly in known:
            site = (anomaly.site.instance, anomaly.site.datacenter)
            if self._sites.slot(site) is None:
                self._adopted[site] = (episode_of(anomaly), anomaly.contributions)

    def digest(self, frame: pl.DataFrame, *, tell: bool = True) -> Digest:
        """Take rows as `table.read` gives them. Without `tell` they only fill the past: no anomaly opens or closes."""
        digest = Digest()
        if frame.height == 0:
            return digest
        table = columns(frame)
        slots = self._slots_of(table, digest)
        for rows in rounds(slots):
            taken = self._intake.take(slots[rows], table.readings.take(rows), table.gauges[rows])
            digest.duplicates += taken.duplicates
            digest.late += taken.late
            digest.unready += len(rows) - taken.duplicates - taken.late - len(taken.slots)
            if len(taken.slots):
                self._score(taken, digest, tell=tell)
        return digest

    # --- whose rows

    def _slots_of(self, table: Table, digest: Digest) -> Slots:
        """Each row's slot, -1 for rows that don't count."""
        slots = np.full(len(table), -1, np.intp)
        instants = table.readings.at.tolist()
        for row, (site, vantage, at) in enumerate(zip(table.sites, table.vantages, instants, strict=True)):
            if not self._vantages.counts(site, vantage, at):
                digest.other_vantage += 1
                continue
            slot = self._sites.slot(site)
            if slot is None:
                slot = self._slot_for(site, at, digest)
            if slot is None:
                digest.no_room += 1
                continue
            slots[row] = slot
        return slots

    def _slot_for(self, site: tuple[str, str], at: int, digest: Digest) -> int | None:
        slot = self._sites.add(site)
        if slot is None and at - self._swept_at > _SWEEP_EVERY:
            self._swept_at = at
            self._free_silent(at, digest)
            slot = self._sites.add(site)
        if slot is not None and (known := self._adopted.pop(site, None)) is not None:
            episode, self._why[slot] = known
            self._watch(slot, Open(episode, 0, timedelta(microseconds=at)))
        return slot

    def _free_silent(self, now: int, digest: Digest) -> None:
        """Make room by forgetting who was silent for an hour; their open anomalies end with them."""
        taken = np.array(self._sites.taken(), np.intp)
        heard_at = self._intake.heard_at(taken)
        silent = taken[(heard_at > 0) & (now - heard_at > _SILENT_FOR)]
        for slot in silent.tolist():
            if isinstance(state := self._states.get(slot), Open):
                digest.notices.append(Notice(AnomalyState.CLOSED, state.episode, self._why.get(slot, ())))
            name = self._sites.name(slot)
            self._vantages.forget((name.instance, name.datacenter))
            self._sites.remove(slot)
            self._watch(slot, CALM)
        for part in (self._intake, self._smoothed, self._thresholds):
            part.forget(silent)

    # --- how unlike

    def _score(self, taken: Taken, digest: Digest, *, tell: bool) -> None:
        judge, newest = self._judge, taken.windows[:, -1]
        expected = judge.expect(model_input(taken.windows))
        residual = residuals(newest, expected, judge.error)
        raw = scores(residual)
        known = np.flatnonzero(np.isfinite(raw))
        slots = taken.slots[known]
        smooth = self._smoothed.add(slots, raw[known])
        limits = self._thresholds.limits(slots)
        warming = self._thresholds.warming(slots)
        self._thresholds.add(slots, smooth, limits)
        over = smooth > limits
        digest.scored += len(known)
        digest.unready += len(raw) - len(known)
        digest.highest = max(digest.highest, float(smooth.max(initial=0.0)))
        self.reservoir.offer(taken.windows[known[~over & ~warming & ~self._watched[slots]]])
        if not tell:
            return
        for place in np.flatnonzero(over | self._watched[slots]).tolist():
            row, slot = int(known[place]), int(slots[place])
            if raw[row] > limits[place]:
                thought = self._intake.scales.undo(slot, expected[row])
                self._why[slot] = contributions(residual[row], taken.features[row], thought)
            at = _EPOCH + timedelta(microseconds=int(taken.wall[row]))
            steady = timedelta(microseconds=int(taken.at[row]))
            tick = Tick(at, steady, float(smooth[place]), float(limits[place]))
            self._step(slot, tick, digest)

    # --- what to tell

    def _step(self, slot: int, tick: Tick, digest: Digest) -> None:
        state, told = step(self._states.get(slot, CALM), self._sites.name(slot), tick, self._rules.policy)
        why = self._why.get(slot, ())
        self._watch(slot, state)
        if told is not None:
            digest.notices.append(Notice(*told, why))

    def _watch(self, slot: int, state: State) -> None:
        self._watched[slot] = state is not CALM
        if state is CALM:
            self._states.pop(slot, None)
            self._why.pop(slot, None)
        else:
            self._states[slot] = state


def rounds(slots: Slots) -> Iterator[NDArray[np.intp]]:
    """Rows in groups in which no slot comes twice, each slot's rows in order; rows with slot -1 are left out."""
    order = np.argsort(slots, kind="stable")
    order = order[np.searchsorted(slots[order], 0) :]
    ordered = slots[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, np.intp)
    turn = np.arange(len(ordered)) - np.repeat(begins, np.diff(np.r_[begins, len(ordered)]))
    by_turn = np.argsort(turn, kind="stable")
    yield from np.split(order[by_turn], np.cumsum(np.bincount(turn))[:-1]) if len(ordered) else ()
