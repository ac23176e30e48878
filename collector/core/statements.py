"""What is said when: news at once, all that is new once a tick, and of the rest that it still holds.

Who listens keeps what was said, so a tick says in full only what changed; a listener that came late hears the rest again,
a part in each tick, all of it within `RESTATED_WITHIN`. What the log did not take counts as unsaid. Instants are the
process's own, so a wall clock that jumps silences nothing.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from math import ceil

from redis_agent.instants import Instant
from redis_agent.model import Observation, Reason, Role, SiteId, Verdict

RESTATED_WITHIN = timedelta(seconds=10)
AT_ONCE = 500
"""Observations in one record, which keeps it below 256 KiB, whatever they are called and say."""
EVIDENCE_AT_MOST_BYTES = 120
_What = tuple[Verdict, Reason, Role, bool | None]


@dataclass(slots=True)
class _Site:
    seen: Observation
    seen_at: Instant
    said: _What | None = None
    fresh_evidence: bool = False

    @property
    def is_news(self) -> bool:
        """Whether it isn't said yet, as it was seen last."""
        return self.said != what(self.seen)


@dataclass(frozen=True, slots=True)
class Statement:
    """Observations for one record, with their ages, and what a tick says of all others: seen again so long ago at most."""

    observations: tuple[Observation, ...]
    holding: timedelta | None = None


class Statements:
    """Of every site what was seen last, and what of that was said.

    `between`: the time between two ticks. `fresh`: how old a look may be for a tick to say that it holds. `at_once`:
    observations in one record. Each statement is made when it is to be handed over: its ages are those of that moment, and
    what became of the one before it is known (`said` or `lost`).
    """

    def __init__(self, between: timedelta, fresh: timedelta, at_once: int = AT_ONCE) -> None:
        self._fresh = fresh
        self._share = min(1.0, between / RESTATED_WITHIN)
        self._at_once = at_once
        self._sites: dict[SiteId, _Site] = {}
        self._longest_ago: dict[SiteId, None] = {}  # what was said, the longest ago first
        self._again: set[SiteId] = set()  # to be said in this tick though it is no news
        self._told: set[SiteId] = set()  # in this tick
        self._ended = True
        self._may_hold = False

    def see(self, observation: Observation, at: Instant, fresh_evidence: bool) -> bool:
        """Note what was seen of a site; whether it is news. `fresh_evidence`: a replica's own view came with it."""
        site = self._sites.get(observation.site)
        if site is None:
            site = self._sites[observation.site] = _Site(observation, at)
        site.seen, site.seen_at = _cut(observation), at
        site.fresh_evidence |= fresh_evidence and observation.replication is not None
        return site.is_news

    def news(self, now: Instant) -> Statement | None:
        """What differs from what was said last, or the first part of it; None when nothing does."""
        unsaid = [site for site in self._sites.values() if site.is_news]
        return Statement(_observations(unsaid[: self._at_once], now)) if unsaid else None

    def begin_tick(self) -> None:
        """From here on `of_tick` gives what is to be said in this tick."""
        share = islice(self._longest_ago, ceil(self._share * len(self._sites)))
        self._again = {site.seen.site for site in self._sites.values() if site.fresh_evidence} | set(share)
        self._told = set()
        self._ended, self._may_hold = False, True

    def of_tick(self, now: Instant) -> Statement | None:
        """The next statement of the tick, None after the last one, which says of all others that they hold.

        A listener takes that word for everything that it was ever told. So it comes when all that is news was taken by the
        log, and what wasn't looked at lately stands beside it; else it isn't given.
        """
        if self._ended:
            return None
        rest, stale = self._due(now)
        if len(rest) + len(stale) > self._at_once:
            self._may_hold = self._may_hold and bool(rest)
            part = (rest or stale)[: self._at_once]
            self._told |= {site.seen.site for site in part}
            return Statement(_observations(part, now))
        self._ended = True
        part = [*rest, *stale]
        holding = self._holding(now, {site.seen.site for site in part}) if self._may_hold else None
        return Statement(_observations(part, now), holding)

    def _due(self, now: Instant) -> tuple[list[_Site], list[_Site]]:
        """What is to be said yet in this tick: news and what is said again; what wasn't looked at lately."""
        rest, stale = [], []
        for name, site in self._sites.items():
            if site.is_news:
                rest.append(site)
            elif name not in self._told:
                if now - site.seen_at > self._fresh:
                    stale.append(site)
                elif name in self._again:
                    rest.append(site)
        return rest, stale

    def said(self, statement: Statement) -> None:
        """The log took it."""
        for observation in statement.observations:
            site = self._sites[observation.site]
            site.said, site.fresh_evidence = what(observation), False
            self._longest_ago.pop(observation.site, None)
            self._longest_ago[observation.site] = None

    def lost(self, statement: Statement) -> None:
        """The log did not take it, or didn't say so: it is to be said anew, and this tick says no more."""
        for observation in statement.observations:
            self._sites[observation.site].said = None
            self._longest_ago.pop(observation.site, None)
        self._ended = True

    def _holding(self, now: Instant, apart_from: Collection[SiteId]) -> timedelta | None:
        """The oldest look at what isn't said in this tick; None when all of it is."""
        ages = [now - s.seen_at for s in self._sites.values() if s.said is not None and s.seen.site not in apart_from]
        return max(ages, default=None)


def _observations(sites: Iterable[_Site], now: Instant) -> tuple[Observation, ...]:
    return tuple(replace(site.seen, age=now - site.seen_at) for site in sites)


def what(observation: Observation) -> _What:
    """What makes an observation news when it changes."""
    replication = observation.replication
    return observation.verdict, observation.reason, observation.role, replication.link_up if replication else None


def _cut(observation: Observation) -> Observation:
    text = observation.evidence.encode()
    if len(text) <= EVIDENCE_AT_MOST_BYTES:
        return observation
    kept = text[: EVIDENCE_AT_MOST_BYTES - 4].decode(errors="ignore")
    return replace(observation, evidence=f"{kept} …")
