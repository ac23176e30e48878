"""How votes are counted.

A vote counts as what it says only while it is fresh and its vantage isn't itself cut off; else it counts as CANNOT_TELL,
which is never for and never against. A vantage that reaches no site in two or more datacenters has more likely lost its
own network than seen them all die (Facebook 2021: sites that judged themselves withdrew together).

A vote's age is what is known of it at most: nobody compares the clocks of two machines. Its vantage says by its own
monotonic clock how long ago it looked; how long the vote was on its way is bounded, and added where it must be fresh.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta

from redis_agent.instants import Instant
from redis_agent.model import Observation, SiteId, Vantage, Verdict, VoteSeen

UNKNOWN_AGE = timedelta(days=36_500)
"""Of a vote that may have stood in the log for any time before it was read."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What a vantage says of a site. It looked at `seen_at` at the latest, and may have done so `older_by` earlier.

    `stated_at` is the same of the look from which the observation's evidence is: its verdict was seen again since.
    """

    observation: Observation
    stated_at: Instant
    seen_at: Instant
    older_by: timedelta

    def is_fresh(self, now: Instant, max_age: timedelta) -> bool:
        """Whether it can't be older than that."""
        return now - self.seen_at + self.older_by <= max_age


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

    def still_says_down(self, quorum: int, for_at_most: timedelta) -> bool:
        """A quorum's DOWN votes are from a look no longer ago than that."""
        return sum(1 for v in self.votes if v.counted is Verdict.DOWN and v.age <= for_at_most) >= quorum

    def says_up(self, quorum: int) -> bool:
        """A quorum of vantages says UP, and more say so than say DOWN."""
        up = self.count(Verdict.UP)
        return up >= quorum and up > self.count(Verdict.DOWN)

    def down_vantages(self) -> tuple[Vantage, ...]:
        """Who counts as saying DOWN."""
        return tuple(vote.vantage for vote in self.votes if vote.counted is Verdict.DOWN)


def tally(site: SiteId, votes: Iterable[Vote], cut_off: Collection[Vantage], now: Instant, max_age: timedelta) -> Tally:
    """Count the votes on a site; `cut_off`: the vantages whose votes say nothing now."""
    by_name = sorted(votes, key=lambda vote: vote.observation.vantage)
    return Tally(site, tuple(_counted(vote, cut_off, now, max_age) for vote in by_name))


def _counted(vote: Vote, cut_off: Collection[Vantage], now: Instant, max_age: timedelta) -> VoteSeen:
    observation = vote.observation
    why = None
    if not vote.is_fresh(now, max_age):
        why = _staleness(vote, now, max_age)
    elif observation.vantage in cut_off:
        why = "this vantage reaches no site anywhere: it is cut off itself"
    return VoteSeen(
        site=observation.site,
        vantage=observation.vantage,
        verdict=observation.verdict,
        counted=observation.verdict if why is None else Verdict.CANNOT_TELL,
        reason=observation.reason,
        age=max(timedelta(), now - vote.seen_at),
        why=why or observation.evidence,
    )


def _staleness(vote: Vote, now: Instant, max_age: timedelta) -> str:
    if vote.older_by >= UNKNOWN_AGE:
        return "how old it is isn't known: it was in the log before this controller read to its end"
    age = now - vote.seen_at + vote.older_by
    return f"up to {age.total_seconds():.1f} s old; only votes up to {max_age.total_seconds():g} s count"
