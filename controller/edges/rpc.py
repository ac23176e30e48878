"""FailoverService: requests -> the service's state -> replies. Policy's refusals are FAILED_PRECONDITION, all of them."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import grpc

from controller.core.failover import Failover
from controller.core.policy import Go, InstanceView, Order, Refusal
from controller.edges.journal import JournalLog
from controller.settings import Instance, Settings
from redis_agent import pause
from redis_agent.errors import AgentError, NotFound, Refused
from redis_agent.model import Datacenter, EventKind, FailoverEvent, FailoverId, InstanceId, Kind
from redis_agent.rpc.channel import abort
from redis_agent.v1 import failover_pb2, observation_pb2
from redis_agent.v1 import failover_service_pb2 as pb
from redis_agent.v1 import failover_service_pb2_grpc as pb_grpc
from redis_agent.wire import enum_from, enum_to, failover_event_to, instant_to, plan_to, vote_to

NAME = "redis_agent.v1.FailoverService"
Context = grpc.aio.ServicerContext[Any, Any]
_LISTED = 50
_LISTED_AT_MOST = 500


class State(Protocol):
    """What the servicer needs of the fleet's state."""

    settings: Settings
    journal: JournalLog
    refusals: dict[InstanceId, tuple[str, ...]]

    def view(self, instance: Instance, now: datetime) -> InstanceView:
        """The instance as it stands."""


class Orders(Protocol):
    """What the servicer needs of the application: all of it that changes something."""

    @property
    def state(self) -> State:
        """The fleet's state."""

    def instance(self, instance_id: str) -> Instance:
        """The instance of that id. Raises NotFound."""

    async def plan(self, instance: Instance, target: Datacenter, kind: Kind | None) -> Go | Refusal:
        """What a failover ordered now would do. Raises NotFound."""

    async def begin(self, instance: Instance, order: Order) -> FailoverId:
        """Begin a failover. Raises Refused, NotFound, Transient."""

    async def approve(self, failover_id: FailoverId, actor: str, comment: str) -> None:
        """Let a waiting failover go on. Raises NotFound, Refused."""


class Servicer(pb_grpc.FailoverServiceServicer):
    """Serves the whole fleet."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._state = orders.state
        self._ordered: dict[str, FailoverId] = {}

    async def GetFleetStatus(self, request: pb.GetFleetStatusRequest, context: Context) -> pb.GetFleetStatusResponse:
        """Every instance."""
        statuses = [self._status(instance) for instance in self._state.settings.instances.values()]
        return pb.GetFleetStatusResponse(instances=statuses)

    async def GetInstanceStatus(
        self, request: pb.GetInstanceStatusRequest, context: Context
    ) -> pb.GetInstanceStatusResponse:
        """One instance."""
        try:
            return pb.GetInstanceStatusResponse(status=self._status(self._orders.instance(request.instance)))
        except AgentError as fault:
            await abort(context, fault)

    async def PlanFailover(self, request: pb.PlanFailoverRequest, context: Context) -> pb.PlanFailoverResponse:
        """The plan and what speaks against it."""
        try:
            instance = self._orders.instance(request.instance)
            verdict = await self._orders.plan(instance, Datacenter(request.target), _kind(request.kind))
        except AgentError as fault:
            await abort(context, fault)
        if isinstance(verdict, Refusal):
            return pb.PlanFailoverResponse(refusals=verdict.reasons)
        return pb.PlanFailoverResponse(plan=plan_to(verdict.plan))

    async def ExecuteFailover(self, request: pb.ExecuteFailoverRequest, context: Context) -> pb.ExecuteFailoverResponse:
        """Begin a failover; the same request_id gives the one that it began before."""
        known = self._ordered.get(request.request_id)
        try:
            if known is None:
                order = Order(
                    Datacenter(request.target),
                    _kind(request.kind),
                    request.reason or "ordered by an operator",
                    request.actor or "operator",
                )
                known = await self._orders.begin(self._orders.instance(request.instance), order)
        except AgentError as fault:
            await abort(context, fault)
        if request.request_id:
            self._ordered[request.request_id] = known
        return pb.ExecuteFailoverResponse(failover=self._failover(known))

    async def ApproveFailover(self, request: pb.ApproveFailoverRequest, context: Context) -> pb.ApproveFailoverResponse:
        """Let a waiting failover go on."""
        try:
            await self._orders.approve(FailoverId(request.id), request.actor or "operator", request.comment)
        except AgentError as fault:
            await abort(context, fault)
        return pb.ApproveFailoverResponse(failover=self._failover(FailoverId(request.id)))

    async def GetFailover(self, request: pb.GetFailoverRequest, context: Context) -> pb.GetFailoverResponse:
        """One failover with its journal."""
        if FailoverId(request.id) not in self._state.journal.journal.events:
            await abort(context, NotFound(f"no failover {request.id!r}"))
        return pb.GetFailoverResponse(failover=self._failover(FailoverId(request.id)))

    async def ListFailovers(self, request: pb.ListFailoversRequest, context: Context) -> pb.ListFailoversResponse:
        """Newest first, decisions not to act among them."""
        journal = self._state.journal.journal
        wanted = [
            (events[0].at, failover)
            for failover, events in journal.events.items()
            if not request.instance or events[0].instance == request.instance
        ]
        size = min(request.page_size or _LISTED, _LISTED_AT_MOST)
        newest = sorted(wanted, key=lambda pair: pair[0], reverse=True)[:size]
        return pb.ListFailoversResponse(failovers=[self._failover(failover) for _, failover in newest])

    async def WatchFailovers(
        self, request: pb.WatchFailoversRequest, context: Context
    ) -> AsyncIterator[pb.WatchFailoversResponse]:
        """Every journal entry from now on."""
        async with self._state.journal.watch() as events:
            while True:
                event = await events.get()
                if not request.instance or event.instance == request.instance:
                    yield pb.WatchFailoversResponse(event=failover_event_to(event))

    async def Pause(self, request: pb.PauseRequest, context: Context) -> pb.PauseResponse:
        """Set the kill switch."""
        try:
            if request.instance:
                self._orders.instance(request.instance)
            pause.pause(self._pause_dir, request.instance or None, request.reason or "no reason given")
        except AgentError as fault:
            await abort(context, fault)
        except OSError as fault:
            await abort(context, Refused([f"the pause switch can't be written: {fault.strerror}"]))
        return pb.PauseResponse()

    async def Resume(self, request: pb.ResumeRequest, context: Context) -> pb.ResumeResponse:
        """Release the kill switch."""
        try:
            pause.resume(self._pause_dir, request.instance or None)
        except OSError as fault:
            await abort(context, Refused([f"the pause switch can't be released: {fault.strerror}"]))
        return pb.ResumeResponse()

    @property
    def _pause_dir(self) -> Path:
        return self._state.settings.pause_dir

    def _status(self, instance: Instance) -> pb.InstanceStatus:
        view = self._state.view(instance, datetime.now(UTC))
        status = pb.InstanceStatus(
            instance=instance.id,
            record=instance.dns.record if instance.dns else "",
            active_datacenter=view.active or "",
            mode=instance.policy.mode.value,
            refusals=self._state.refusals.get(instance.id, ()),
            paused=view.paused is not None,
            pause_reason=view.paused or "",
            sites=[_site(view, dc) for dc in instance.values],
        )
        newest = self._state.journal.journal.newest(instance.id)
        if newest is not None:
            status.failover.CopyFrom(self._failover(newest.id))
        return status

    def _failover(self, failover_id: FailoverId) -> pb.Failover:
        events = self._state.journal.journal.events.get(failover_id, ())
        failover = self._state.journal.journal.failovers.get(failover_id)
        reply = _failover_message(failover) if failover is not None else _refusal_message(events)
        reply.events.extend(failover_event_to(event) for event in events)
        return reply


def _refusal_message(events: Sequence[FailoverEvent]) -> pb.Failover:
    """A decision not to act, with its newest reason; ended when it holds no longer."""
    newest = next((event for event in reversed(events) if event.kind is EventKind.REFUSED), events[-1])
    reply = pb.Failover(
        id=newest.failover,
        instance=newest.instance,
        stage=enum_to(failover_pb2.Stage, newest.stage),
        reason=newest.reason,
        actor=newest.actor,
        decided_at=instant_to(events[0].at),
    )
    if events[-1].kind is EventKind.ENDED:
        reply.ended_at.CopyFrom(instant_to(events[-1].at))
    return reply


def _failover_message(failover: Failover) -> pb.Failover:
    reply = pb.Failover(
        id=failover.id,
        instance=failover.plan.instance,
        stage=enum_to(failover_pb2.Stage, failover.stage),
        plan=plan_to(failover.plan),
        reason=failover.reason,
        actor=failover.actor,
        decided_at=instant_to(failover.decided_at),
        fence=enum_to(failover_pb2.Fence, failover.fence),
        phases=[failover_pb2.Phase(name=phase.name, seconds=phase.seconds) for phase in failover.phases],
    )
    if failover.ended_at is not None:
        reply.ended_at.CopyFrom(instant_to(failover.ended_at))
    return reply


def _site(view: InstanceView, dc: Datacenter) -> pb.SiteStatus:
    state = view.health[dc]
    status = pb.SiteStatus(
        datacenter=dc,
        health=enum_to(pb.SiteHealth, state.health),
        since=instant_to(state.since),
        active=view.active == dc,
        votes=[vote_to(vote) for vote in view.tallies[dc].votes],
    )
    if dc in view.freshest:
        status.role = enum_to(observation_pb2.Role, view.freshest[dc].role)
    return status


def _kind(number: int) -> Kind | None:
    """None: the one that fits."""
    if number == failover_pb2.FAILOVER_KIND_UNSPECIFIED:
        return None
    return enum_from(failover_pb2.FailoverKind, number, Kind)
