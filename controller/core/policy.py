"""May traffic move? Every check is made and every refusal is told, not only the first.

A check looks at the view and gives a refusal in words, or None. Which checks hold for which request is the table at the
end: what an operator orders by hand skips the ones that guard against acting unasked.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from controller.core.health import Health, SiteHealth
from controller.core.votes import Tally, Vote
from redis_agent.instants import Instant, after
from redis_agent.model import (
    Datacenter,
    InstanceId,
    Kind,
    Mode,
    Plan,
    Record,
    Role,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration allows for one instance."""

    mode: Mode
    quorum: int
    confirm: timedelta
    cooldown: timedelta
    vote_max_age: timedelta
    max_data_loss: timedelta
    fence: timedelta
    step: timedelta


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance as it stands at `now`: everything that a decision may look at."""

    instance: InstanceId
    promotes: bool  # plain Redis: the target is a replica that must be made primary
    values: Mapping[Datacenter, str]  # what the record's value is for each site
    health: Mapping[Datacenter, SiteHealth]
    tallies: Mapping[Datacenter, Tally]
    freshest: Mapping[Datacenter, Vote]  # the newest vote of each site that says UP
    record: Record | None  # as the provider holds it; None: it couldn't be read
    ttl: int
    paused: str | None
    in_flight: str | None
    last_ended: Instant | None
    now: Instant
    heard: Mapping[Datacenter, Instant] = field(
        default_factory=dict
    )  # when a replica last heard over a link that was up
    half_moved_to: Datacenter | None = None  # where a failover of ours stopped half-way: it may be primary already

    @property
    def active(self) -> Datacenter | None:
        """The site that the name points to."""
        if self.record is None:
            return None
        return next((dc for dc, value in self.values.items() if same_name(value, self.record.value)), None)


@dataclass(frozen=True, slots=True)
class Request:
    """A wish to move: by the controller itself (`unasked`) or by an operator."""

    target: Datacenter
    kind: Kind
    unasked: bool


@dataclass(frozen=True, slots=True)
class Order:
    """A failover that somebody orders."""

    target: Datacenter
    kind: Kind | None  # None: planned while the source is up, else an emergency
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class Go:
    """It may be done: the plan."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Refusal:
    """It may not: every reason."""

    reasons: tuple[str, ...]


Check = Callable[[InstanceView, Request, Policy], str | None]


def same_name(one: str, other: str) -> bool:
    """Whether two record values name the same thing: case and the last dot don't matter."""
    return one.lower().rstrip(".") == other.lower().rstrip(".")


def not_paused(view: InstanceView, _request: Request, _policy: Policy) -> str | None:
    """The kill switch."""
    return None if view.paused is None else f"paused: {view.paused}"


def nothing_in_flight(view: InstanceView, _request: Request, _policy: Policy) -> str | None:
    """One failover at a time."""
    return None if view.in_flight is None else f"failover {view.in_flight} of {view.instance} is still under way"


def record_known(view: InstanceView, _request: Request, _policy: Policy) -> str | None:
    """The record must say where traffic goes now."""
    if view.record is None:
        return "the DNS record couldn't be read"
    if view.active is None:
        return f"the record's value {view.record.value} is none of the sites'"
    return None


def target_differs(view: InstanceView, request: Request, _policy: Policy) -> str | None:
    """Traffic must not be there already."""
    return f"{view.instance} is already in {request.target}" if view.active == request.target else None


def source_confirmed_down(view: InstanceView, _request: Request, policy: Policy) -> str | None:
    """The active site must be down by quorum for the confirm time."""
    if view.active is None:
        return None
    state = view.health[view.active]
    if state.health is Health.DOWN:
        return None
    return f"{view.active} is {state.health.value}, not confirmed down for {policy.confirm.total_seconds():g} s"


def source_denies(view: InstanceView, _request: Request, _policy: Policy) -> str | None:
    """The active site's own vantage must not see it serving."""
    if view.active is None:
        return None
    for vote in view.tallies[view.active].votes:
        if str(vote.vantage) == str(view.active) and vote.counted is Verdict.UP:
            return f"the vantage inside {view.active} still sees it serving: cut off from outside, not dead"
    return None


def replication_denies(view: InstanceView, request: Request, _policy: Policy) -> str | None:
    """The target must not have heard from its primary since the primary was found down."""
    if view.active is None or request.target not in view.freshest:
        return None
    replication = view.freshest[request.target].observation.replication
    if replication is None or not replication.link_up:
        return None  # while the link is down only its fall is dated, not the last word over it
    down_since = view.health[view.active].down_since
    heard = last_heard(view.freshest[request.target])
    if down_since is None or heard is None or heard <= down_since + timedelta(seconds=1):
        return None
    return f"{request.target} still replicates from {view.active}, heard {_ago(view.now, heard)} ago: it is alive"


def target_up(view: InstanceView, request: Request, policy: Policy) -> str | None:
    """The target must be up by quorum."""
    votes = view.tallies.get(request.target)
    if votes is None:
        return f"{view.instance} has no site in {request.target}"
    if votes.says_up(policy.quorum):
        return None
    return f"{request.target} is not up by quorum: {votes.count(Verdict.UP)} of {policy.quorum} needed vantages say so"


def target_is_a_copy(view: InstanceView, request: Request, policy: Policy) -> str | None:
    """A site to be promoted must be a replica that was in step: its loss must be known and within bounds."""
    if not view.promotes or view.active is None or request.target not in view.freshest:
        return None
    seen = view.freshest[request.target].observation
    if seen.role is Role.PRIMARY and request.target == view.half_moved_to:
        return None  # a failover of ours promoted it and went no further
    if seen.role is not Role.REPLICA or seen.replication is None:
        return f"{request.target} calls itself {seen.role.value}, not a replica: it holds no copy to promote; make it one first (REPLICAOF)"
    if request.kind is Kind.PLANNED and not seen.replication.link_up:
        return f"{request.target} is not connected to its primary: a planned move would wait for it in vain"
    loss = expected_loss(view, request.target)
    if loss is None:
        return f"{request.target} never heard from its primary: what would be lost is unknown"
    if loss > policy.max_data_loss:
        bound = policy.max_data_loss.total_seconds()
        return f"about {loss.total_seconds():.0f} s of writes would be lost; max_data_loss_seconds is {bound:g}"
    return None


def cooled_down(view: InstanceView, _request: Request, policy: Policy) -> str | None:
    """Not again too soon."""
    if view.last_ended is None:
        return None
    left = view.last_ended + policy.cooldown - view.now
    return f"cooling down for another {left.total_seconds():.0f} s" if left > timedelta() else None


def mode_allows(_view: InstanceView, _request: Request, policy: Policy) -> str | None:
    """Observe means watch only."""
    return "mode is observe: an operator must order it" if policy.mode is Mode.OBSERVE else None


_ALWAYS: tuple[Check, ...] = (
    not_paused, nothing_in_flight, record_known, target_differs, target_up, target_is_a_copy
)  # fmt: skip
_UNASKED: tuple[Check, ...] = (source_confirmed_down, source_denies, replication_denies, cooled_down, mode_allows)


def decide(view: InstanceView, request: Request, policy: Policy) -> Go | Refusal:
    """The plan, or every reason against it."""
    checks = _ALWAYS + (_UNASKED if request.unasked else ())
    reasons = tuple(reason for check in checks if (reason := check(view, request, policy)) is not None)
    if reasons or view.record is None or view.active is None:
        return Refusal(reasons)
    passed = tuple(check.__name__.replace("_", " ") for check in checks)
    return Go(_plan(view, request, view.record, view.active, passed))


def _plan(view: InstanceView, request: Request, before: Record, active: Datacenter, passed: tuple[str, ...]) -> Plan:
    after = Record(before.name, before.type, view.values[request.target], view.ttl, before.epoch + 1)
    return Plan(
        instance=view.instance,
        source=active,
        target=request.target,
        kind=request.kind,
        before=before,
        after=after,
        promote=view.promotes,
        checks=passed,
        expected_loss=_loss_in_words(view, request),
    )


def _loss_in_words(view: InstanceView, request: Request) -> str:
    if not view.promotes:
        return "none from the move itself: every site takes writes"
    if request.kind is Kind.PLANNED:
        return "none: the source is fenced, and the target promoted once it has everything"
    loss = expected_loss(view, request.target)
    return "unknown" if loss is None else f"up to {loss.total_seconds():.0f} s of writes"


def candidates(view: InstanceView, preferred: Datacenter | None) -> list[Datacenter]:
    """Where an emergency could go, best first: the preferred site, then those that are up, then the others.

    Policy says of each whether it may; a site that isn't up is refused with every reason.
    """
    others = [dc for dc in view.values if dc != view.active]
    return sorted(others, key=lambda dc: (view.health[dc].health is not Health.UP, dc != preferred))


def last_heard(seen: Vote) -> Instant | None:
    """When a replica last heard from its primary; None when never."""
    replication = seen.observation.replication
    if replication is None or replication.last_io_seconds < 0:
        return None
    return after(seen.stated_at, -timedelta(seconds=replication.last_io_seconds))


def expected_loss(view: InstanceView, target: Datacenter) -> timedelta | None:
    """How much of the source's writes the target may lack: from its last contact to the source's fall (or now)."""
    seen = view.freshest.get(target)
    heard = view.heard.get(target) or (last_heard(seen) if seen is not None else None)
    if heard is None or view.active is None:
        return None
    down_since = view.health[view.active].down_since
    return max(timedelta(), (down_since or view.now) - heard)


def _ago(now: Instant, then: Instant) -> str:
    return f"{(now - then).total_seconds():.0f} s"


def freshest_up(votes: Iterable[Vote], now: Instant, max_age: timedelta) -> Vote | None:
    """The newest of a site's votes that says UP and is fresh."""
    up = [vote for vote in votes if vote.observation.verdict is Verdict.UP and vote.is_fresh(now, max_age)]
    return max(up, key=lambda vote: vote.stated_at, default=None)
