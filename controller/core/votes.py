"""How votes are counted.

A vote counts as what it says only while it is fresh and its vantage isn't itself cut off; else it counts as CANNOT_TELL,
which is never for and never against. A vantage that reaches no site in two or more datacenters has more likely lost its
own network than seen them all die (Facebook 2021: sites that judged themselves withdrew together).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from redis_agent.model import Observation, SiteId, Vantage, Verdict, VoteSeen

Latest = Mapping[tuple[SiteId, Vantage], Observation]
_CLOCK_AHEAD = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes on one site, as counted."""

    site: SiteId
    votes: tuple[VoteSeen, ...]

    def count(self, verdict: Verdict) -> int:
        """How many count as that."""
        return sum(1 for vote in self.votes if vote.counted is verdict)

    def says_down(self, quorum: int) -> bool:
        """A quorum of vantages says DOWN, and more say so than say UP."""
        down = self.count(Verdict.DOWN)
        return down >= quorum and down > self.count(Verdict.UP)

    def still_says_down(self, quorum: int, at: datetime, now: datetime) -> bool:
        """A quorum's DOWN votes are dated `at` or later."""
        dated = [now - vote.age for vote in self.votes if vote.counted is Verdict.DOWN]
        return sum(1 for said in dated if said >= at) >= quorum

    def says_up(self, quorum: int) -> bool:
        """A quorum of vantages says UP, and more say so than say DOWN."""
        up = self.count(Verdict.UP)
        return up >= quorum and up > self.count(Verdict.DOWN)

    def down_vantages(self) -> tuple[Vantage, ...]:
        """Who counts as saying DOWN."""
        return tuple(vote.vantage for vote in self.votes if vote.counted is Verdict.DOWN)


def is_newer(observation: Observation, than: Observation | None) -> bool:
    """Whether it replaces the vote held: later in its own process's order, or later in time."""
    if than is None:
        return True
    if observation.origin.source == than.origin.source:
        return observation.origin.sequence > than.origin.sequence
    return observation.at > than.at


def tally(latest: Latest, sites: Iterable[SiteId], now: datetime, max_age: timedelta) -> dict[SiteId, Tally]:
    """Count the votes on each of `sites`. `latest` holds the whole fleet's: isolation is judged on all of them."""
    cut_off = isolated(latest, now, max_age)
    cast: dict[SiteId, list[Observation]] = {site: [] for site in sites}
    for observation in latest.values():
        if observation.site in cast:
            cast[observation.site].append(observation)
    return {site: Tally(site, tuple(_counted(votes, now, max_age, cut_off))) for site, votes in cast.items()}


def isolated(latest: Latest, now: datetime, max_age: timedelta) -> frozenset[Vantage]:
    """Vantages whose fresh votes cover two or more datacenters and say UP of none."""
    seen: dict[Vantage, list[Observation]] = {}
    for (_, vantage), observation in latest.items():
        if _staleness(observation, now, max_age) is None:
            seen.setdefault(vantage, []).append(observation)
    return frozenset(vantage for vantage, observations in seen.items() if _sees_nothing(observations))


def _sees_nothing(observations: list[Observation]) -> bool:
    datacenters = {observation.site.datacenter for observation in observations}
    return len(datacenters) >= 2 and all(o.verdict is not Verdict.UP for o in observations)


def _counted(
    votes: Iterable[Observation], now: datetime, max_age: timedelta, cut_off: frozenset[Vantage]
) -> Iterable[VoteSeen]:
    for observation in sorted(votes, key=lambda vote: vote.vantage):
        why = _staleness(observation, now, max_age)
        if why is None and observation.vantage in cut_off:
            why = "this vantage reaches no site anywhere: it is cut off itself"
        yield VoteSeen(
            site=observation.site,
            vantage=observation.vantage,
            verdict=observation.verdict,
            counted=observation.verdict if why is None else Verdict.CANNOT_TELL,
            reason=observation.reason,
            age=max(timedelta(), now - observation.at),
            why=why or observation.evidence,
        )


def _staleness(observation: Observation, now: datetime, max_age: timedelta) -> str | None:
    age = now - observation.at
    if age > max_age:
        return f"{age.total_seconds():.1f} s old; only votes up to {max_age.total_seconds():g} s count"
    if age < -_CLOCK_AHEAD:
        return f"dated {-age.total_seconds():.1f} s in the future: the clocks disagree"
    return None
