"""The life of an anomaly of one site, as a state machine over its scored ticks.

| state   | tick over its threshold                          | tick under it                         |
| ------- | ------------------------------------------------ | ------------------------------------- |
| Calm    | -> Suspect                                       | Calm                                  |
| Suspect | -> Open after `open_after` in a row: OPENED      | -> Calm                               |
| Open    | Open; UPDATED when severity rose, or it is time  | -> Calm after `close_after`: CLOSED   |

Ticks that were missed are no ticks: a gap opens nothing and closes nothing. Times that people read are the samples' own, and the id comes
from site and first tick alone, so a replay of the same samples tells the same story.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from redis_agent.model import Anomaly, AnomalyId, AnomalyState, Severity, SiteId

_ORDER = list(Severity)
_LADDER = ((6.0, Severity.CRITICAL), (3.0, Severity.ERROR), (1.5, Severity.WARNING))


@dataclass(frozen=True, slots=True)
class Policy:
    """How many ticks it takes to believe, and how often to repeat."""

    open_after: int = 2
    close_after: int = 5
    update_every: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Tick:
    """One scored tick of a site: its smoothed score and the threshold that held.

    `at` is for people, `steady` for durations: a moment on a line that no wall clock moves.
    """

    at: datetime
    steady: timedelta
    score: float
    threshold: float

    @property
    def over(self) -> bool:
        """Whether it was too much."""
        return self.score > self.threshold


@dataclass(frozen=True, slots=True)
class Episode:
    """One anomaly so far."""

    id: AnomalyId
    site: SiteId
    opened_at: datetime
    at: datetime
    score: float
    peak_score: float
    threshold: float
    severity: Severity


def episode_of(anomaly: Anomaly) -> Episode:
    """The episode that a told anomaly was."""
    a = anomaly
    return Episode(a.id, a.site, a.opened_at, a.at, a.score, a.peak_score, a.threshold, a.severity)


@dataclass(frozen=True, slots=True)
class Calm:
    """Nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """The last `ticks` ticks were over, since `since`."""

    since: datetime
    ticks: int
    peak_score: float


@dataclass(frozen=True, slots=True)
class Open:
    """An anomaly is open; the last `under` ticks were under; it was last told of at `told_at` (as `Tick.steady`)."""

    episode: Episode
    under: int
    told_at: timedelta


State = Calm | Suspect | Open
CALM = Calm()


def step(state: State, site: SiteId, tick: Tick, policy: Policy) -> tuple[State, tuple[AnomalyState, Episode] | None]:
    """The state after a tick, and what is to be told, if anything."""
    match state:
        case Open():
            return _go_on(state, tick, policy) if tick.over else _calm_down(state, tick, policy)
        case Suspect() if tick.over:
            return _suspect(
                site, tick, Suspect(state.since, state.ticks + 1, max(state.peak_score, tick.score)), policy
            )
        case Calm() if tick.over:
            return _suspect(site, tick, Suspect(tick.at, 1, tick.score), policy)
        case _:
            return CALM, None


def _suspect(
    site: SiteId, tick: Tick, suspect: Suspect, policy: Policy
) -> tuple[State, tuple[AnomalyState, Episode] | None]:
    if suspect.ticks < policy.open_after:
        return suspect, None
    episode = Episode(
        id=identity(site, suspect.since),
        site=site,
        opened_at=suspect.since,
        at=tick.at,
        score=tick.score,
        peak_score=suspect.peak_score,
        threshold=tick.threshold,
        severity=severity(suspect.peak_score, tick.threshold),
    )
    return Open(episode, 0, tick.steady), (AnomalyState.OPENED, episode)


def _go_on(state: Open, tick: Tick, policy: Policy) -> tuple[State, tuple[AnomalyState, Episode] | None]:
    before = state.episode
    peak = max(before.peak_score, tick.score)
    worst = max(before.severity, severity(peak, tick.threshold), key=_ORDER.index)
    episode = replace(before, at=tick.at, score=tick.score, peak_score=peak, threshold=tick.threshold, severity=worst)
    if worst is before.severity and tick.steady - state.told_at < policy.update_every:
        return Open(episode, 0, state.told_at), None
    return Open(episode, 0, tick.steady), (AnomalyState.UPDATED, episode)


def _calm_down(state: Open, tick: Tick, policy: Policy) -> tuple[State, tuple[AnomalyState, Episode] | None]:
    episode = replace(state.episode, at=tick.at, score=tick.score, threshold=tick.threshold)
    if state.under + 1 < policy.close_after:
        return Open(episode, state.under + 1, state.told_at), None
    return CALM, (AnomalyState.CLOSED, episode)


def identity(site: SiteId, opened_at: datetime) -> AnomalyId:
    """The same for the same site and first tick, wherever and however often it is worked out."""
    text = f"{site} {opened_at.astimezone(UTC).isoformat(timespec='microseconds')}"
    return AnomalyId(f"anomaly-{sha256(text.encode()).hexdigest()[:16]}")


def severity(peak_score: float, threshold: float) -> Severity:
    """By how many times the threshold was passed: 1.5 a warning, 3 an error, 6 critical."""
    ratio = peak_score / threshold if threshold > 0 else 0.0
    return next((level for least, level in _LADDER if ratio >= least), Severity.INFO)
