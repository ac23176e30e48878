"""The newest vote of every vantage on every site, and which sites must be counted again.

A vantage says in full what is new to it, and once a tick that all else it said holds: so a tick costs what changed in it,
however many sites there are. Between, only time can change how a vote counts, and that is a matter of few vantages.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from controller.core.votes import UNKNOWN_AGE, Tally, Vote, tally
from redis_agent.instants import Instant, after
from redis_agent.model import HAND_OVER_WITHIN, Datacenter, Observation, Observations, SiteId, Vantage, Verdict


@dataclass(frozen=True, slots=True)
class FirstDown:
    """When a vantage's present run of DOWN began, and the trace of the look that saw it."""

    at: Instant
    traceparent: str


@dataclass(slots=True)
class _Stated:
    observation: Observation
    at: Instant
    older_by: timedelta
    number: int | None  # None: an earlier process said it, and what a later one says to hold isn't this
    first_down: FirstDown | None


@dataclass(slots=True)
class _Sender:
    """One vantage: what it stated, and when it last said that all of it holds (`number` orders what it says)."""

    source: str = ""
    number: int = 0
    held_number: int = 0
    held_at: Instant | None = None
    held_older_by: timedelta = UNKNOWN_AGE
    stated: dict[SiteId, _Stated] = field(default_factory=dict)
    up: set[SiteId] = field(default_factory=set)
    datacenters: dict[Datacenter, int] = field(default_factory=dict)
    heard_at: Instant | None = None
    heard_older_by: timedelta = UNKNOWN_AGE
    stale: set[SiteId] = field(default_factory=set)
    passing: dict[SiteId, Instant] = field(default_factory=dict)
    """Fresh votes of which it didn't say since that they hold, and until when they are fresh."""
    passes_at: Instant | None = None
    held_before: bool = False

    def vote(self, stated: _Stated) -> Vote:
        """The later of what it stated and of what it said holds since."""
        latest, earliest = stated.at, stated.at - stated.older_by
        if self.held_at is not None and stated.number is not None and self.held_number > stated.number:
            latest = max(latest, self.held_at)
            earliest = max(earliest, self.held_at - self.held_older_by)
        return Vote(stated.observation, stated.at, latest, latest - earliest)


class VoteBook:
    """One owner. `max_age`: how old a vote that counts may be."""

    def __init__(self, max_age: timedelta) -> None:
        self.heard: dict[SiteId, Instant] = {}
        """When a replica last heard from its primary while their link was up; once it is down, only its fall is dated."""
        self.cut_off: frozenset[Vantage] = frozenset()
        """Vantages whose fresh votes cover two or more datacenters and say UP of none, as `changed` found last."""
        self._max_age = max_age
        self._senders: dict[Vantage, _Sender] = {}
        self._changed: set[SiteId] = set()

    # --- hearing

    def note(self, said: Observations, now: Instant, unread: timedelta | None, traceparent: str) -> None:
        """Take in what a collector said, read at `now`; `unread`: how long it stood in the log at most, if that is known."""
        sender = self._senders.setdefault(said.vantage, _Sender())
        if said.origin.source != sender.source:
            self._begin(sender, said.origin.source)
        if said.origin.sequence <= sender.number:
            return  # it came twice
        sender.number, sender.heard_at = said.origin.sequence, now
        on_its_way = sender.heard_older_by = UNKNOWN_AGE if unread is None else HAND_OVER_WITHIN + unread
        for observation in said.observations:
            self._state(sender, observation, now, on_its_way, traceparent)
        if said.holding is not None:
            self._hold(sender, after(now, -said.holding), on_its_way)

    def note_unreadable(self, vantage: Vantage) -> None:
        """Something that it said can't be read: of nothing that it said before its word that it holds is believed."""
        sender = self._senders.get(vantage)
        if sender is not None:
            self._keep_ages(sender)

    def _hold(self, sender: _Sender, at: Instant, on_its_way: timedelta) -> None:
        if sender.held_at is not None and at - on_its_way <= sender.held_at - sender.held_older_by:
            return  # what is known of the last one is fresher
        sender.held_number, sender.held_at, sender.held_older_by = sender.number, at, on_its_way
        renewed = {site for site in sender.stale if sender.stated[site].number not in (None, sender.number)}
        sender.stale -= renewed
        self._changed |= renewed
        until = after(at, self._max_age - on_its_way)
        sender.passing = {
            site: own
            for site, own in sender.passing.items()
            if own > until or sender.stated[site].number in (None, sender.number)
        }
        sender.passes_at = min(sender.passing.values(), default=None)

    def _begin(self, sender: _Sender, source: str) -> None:
        """A new process speaks: what the last one said keeps its age, and is renewed no more."""
        self._keep_ages(sender)
        sender.source, sender.number = source, 0
        sender.held_number, sender.held_at, sender.held_older_by = 0, None, UNKNOWN_AGE

    def _keep_ages(self, sender: _Sender) -> None:
        for stated in sender.stated.values():
            vote = sender.vote(stated)
            stated.at, stated.older_by, stated.number = vote.seen_at, vote.older_by, None
        for site in sender.stated:
            self._date(sender, site)

    def _state(
        self, sender: _Sender, observation: Observation, now: Instant, on_its_way: timedelta, traceparent: str
    ) -> None:
        site, at = observation.site, after(now, -observation.age)
        before = sender.stated.get(site)
        first_down = None
        if observation.verdict is Verdict.DOWN:
            first_down = before.first_down if before is not None else None
            first_down = first_down or FirstDown(at, traceparent)
        if before is None:
            sender.datacenters[site.datacenter] = sender.datacenters.get(site.datacenter, 0) + 1
        if observation.verdict is Verdict.UP:
            sender.up.add(site)
        else:
            sender.up.discard(site)
        stated = sender.stated[site] = _Stated(observation, at, on_its_way, sender.number, first_down)
        if before is None or self._differs(sender, before, stated, now):
            self._changed.add(site)
        if sender.vote(stated).is_fresh(now, self._max_age):
            sender.stale.discard(site)
            self._date(sender, site)
        else:
            sender.stale.add(site)
            if sender.passing.pop(site, None) is not None:
                self._changed.add(site)
        self._hear(observation, at)

    def _date(self, sender: _Sender, site: SiteId) -> None:
        stated = sender.stated[site]
        until = after(stated.at, self._max_age - stated.older_by)
        sender.passing[site] = until
        sender.passes_at = until if sender.passes_at is None else min(until, sender.passes_at)

    def _differs(self, sender: _Sender, before: _Stated, stated: _Stated, now: Instant) -> bool:
        old, new = before.observation, stated.observation
        if (old.verdict, old.reason, old.role) != (new.verdict, new.reason, new.role):
            return True
        fresh = [sender.vote(each).is_fresh(now, self._max_age) for each in (before, stated)]
        return fresh[0] is not fresh[1]

    def _hear(self, observation: Observation, at: Instant) -> None:
        replication = observation.replication
        if replication is not None and replication.link_up and replication.last_io_seconds >= 0:
            heard = after(at, -timedelta(seconds=replication.last_io_seconds))
            self.heard[observation.site] = max(heard, self.heard.get(observation.site, heard))

    # --- counting

    def changed(self, now: Instant) -> set[SiteId]:
        """The sites whose votes count otherwise than when this was asked last; who is cut off is found out here, too."""
        cut_off = frozenset(vantage for vantage, sender in self._senders.items() if self._is_cut_off(sender, now))
        for vantage, sender in self._senders.items():
            self._changed |= self._passed(sender, now)
            held = self._is_lately(sender.held_at, sender.held_older_by, now)
            if held is not sender.held_before or (vantage in cut_off) is not (vantage in self.cut_off):
                sender.held_before = held
                self._changed.update(sender.stated)
        self.cut_off = cut_off
        changed, self._changed = self._changed, set()
        return changed

    def _passed(self, sender: _Sender, now: Instant) -> set[SiteId]:
        """The sites whose votes grew too old, though their vantage is heard."""
        if sender.passes_at is None or now <= sender.passes_at:
            return set()
        passed = {site for site, until in sender.passing.items() if now > until}
        sender.passing = {site: until for site, until in sender.passing.items() if site not in passed}
        sender.passes_at = min(sender.passing.values(), default=None)
        sender.stale |= passed
        return passed

    def tally(self, site: SiteId, now: Instant) -> Tally:
        """The votes on a site, as they count at `now`."""
        return tally(site, self.votes(site), self.cut_off, now, self._max_age)

    def votes(self, site: SiteId) -> Iterator[Vote]:
        """Everybody's newest vote on a site."""
        for sender in self._senders.values():
            if (stated := sender.stated.get(site)) is not None:
                yield sender.vote(stated)

    def _is_cut_off(self, sender: _Sender, now: Instant) -> bool:
        if len(sender.datacenters) < 2 or sender.heard_at is None or now - sender.heard_at > self._max_age:
            return False  # what says nothing for so long has no vote that counts
        if any(sender.vote(sender.stated[site]).is_fresh(now, self._max_age) for site in sender.up):
            return False
        seen: set[Datacenter] = set()
        for site, stated in sender.stated.items():
            if site.datacenter not in seen and sender.vote(stated).is_fresh(now, self._max_age):
                seen.add(site.datacenter)
                if len(seen) == 2:
                    return True
        return False

    # --- who speaks

    @property
    def vantages(self) -> tuple[Vantage, ...]:
        """Everybody who ever said something here."""
        return tuple(self._senders)

    def is_heard(self, vantage: Vantage, now: Instant) -> bool:
        """Whether it lately said anything."""
        sender = self._senders.get(vantage)
        return sender is not None and self._is_lately(sender.heard_at, sender.heard_older_by, now)

    def _is_lately(self, at: Instant | None, older_by: timedelta, now: Instant) -> bool:
        return at is not None and now - at + older_by <= self._max_age

    def first_down(self, site: SiteId, vantages: tuple[Vantage, ...]) -> list[FirstDown]:
        """The beginnings of these vantages' runs of DOWN on that site, earliest first."""
        speaking = [self._senders[vantage] for vantage in vantages if vantage in self._senders]
        runs = [sender.stated[site].first_down for sender in speaking if site in sender.stated]
        return sorted((run for run in runs if run is not None), key=lambda run: run.at)
