"""What is found about those who look: a vantage that says nothing any more, one that is cut off, a clock that is wrong."""

from datetime import datetime, timedelta

from controller.core.vote_book import VoteBook
from redis_agent.findings import Findings
from redis_agent.instants import Instant
from redis_agent.model import FindingKind, Observations, Severity, Vantage

AWAY_AFTER = timedelta(seconds=15)
CUT_OFF_AFTER = timedelta(seconds=5)
SKEW_FROM = timedelta(seconds=10)
_READ_IN_TIME = timedelta(seconds=2)
_SKEW_LOOKS = 3


class VantageWatch:
    """Looked at once a second or so. One owner: the service's loop."""

    def __init__(self, book: VoteBook, findings: Findings) -> None:
        self._book = book
        self._findings = findings
        self._heard_at: dict[Vantage, Instant] = {}
        self._cut_off_since: dict[Vantage, Instant] = {}
        self._skewed: dict[Vantage, int] = {}

    def note(self, said: Observations, unread: timedelta, wall_now: datetime) -> None:
        """Compare what a vantage calls now with what we do, unless we may be late in reading it. Votes are dated without."""
        if unread > _READ_IN_TIME:
            return
        newest = max((o.at + o.age for o in said.observations), default=None)
        if newest is None:
            return
        skew = newest - wall_now
        if abs(skew) < SKEW_FROM:
            self._skewed.pop(said.vantage, None)
            self._findings.close(FindingKind.CLOCK_SKEW, said.vantage)
            return
        self._skewed[said.vantage] = self._skewed.get(said.vantage, 0) + 1
        if self._skewed[said.vantage] >= _SKEW_LOOKS:
            where = "ahead of" if skew > timedelta() else "behind"
            # In whole tens, so that the words stay while it lasts.
            seconds = round(abs(skew).total_seconds(), -1)
            self._findings.open(
                FindingKind.CLOCK_SKEW,
                said.vantage,
                Severity.WARNING,
                f"the wall clock of vantage {said.vantage} is about {seconds:.0f} s {where} the controller's;"
                " its timestamps are off, its votes count",
                command="timedatectl timesync-status",
            )

    def look(self, now: Instant) -> None:
        """Tell of each vantage that is away or cut off, and when it no longer is."""
        left = {Vantage(subject) for subject in self._findings.subjects(FindingKind.VANTAGE_AWAY)}
        for vantage in {*self._book.vantages, *left}:
            self._look_for(vantage, now)
            self._look_at(vantage, now)

    def _look_for(self, vantage: Vantage, now: Instant) -> None:
        if self._book.is_heard(vantage, now):
            self._heard_at[vantage] = now
            self._findings.close(FindingKind.VANTAGE_AWAY, vantage)
        elif now - self._heard_at.setdefault(vantage, now) >= AWAY_AFTER:
            others = sum(1 for each in self._book.vantages if self._book.is_heard(each, now))
            self._findings.open(
                FindingKind.VANTAGE_AWAY,
                vantage,
                Severity.WARNING,
                f"vantage {vantage} says nothing any more; its votes don't count, {_others(others)}",
                command=f"look at the collector at {vantage}: it may be down, or cut off from the log",
            )

    def _look_at(self, vantage: Vantage, now: Instant) -> None:
        if vantage not in self._book.cut_off:
            self._cut_off_since.pop(vantage, None)
            self._findings.close(FindingKind.VANTAGE_CUT_OFF, vantage)
        elif now - self._cut_off_since.setdefault(vantage, now) >= CUT_OFF_AFTER:
            self._findings.open(
                FindingKind.VANTAGE_CUT_OFF,
                vantage,
                Severity.WARNING,
                f"vantage {vantage} reaches no site in any datacentre: it is cut off itself, and its votes don't count",
                command=f"look at the network of {vantage}",
            )


def _others(count: int) -> str:
    return "one other is heard" if count == 1 else f"{count or 'no'} others are heard"
