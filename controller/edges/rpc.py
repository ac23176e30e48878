"""FailoverService: requests -> the service's state -> replies. Policy's refusals are FAILED_PRECONDITION, all of them."""

import heapq
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import grpc

from controller.core.failover import Failover
from controller.core.journal import Entry, Journal
from controller.core.policy import InstanceView, Order, Refusal
from controller.edges.application import Orders
from controller.settings import Instance
from redis_agent.clock import instant
from redis_agent.errors import AgentError, NotFound
from redis_agent.model import Datacenter, FailoverId, InstanceId, Kind, SiteId
from redis_agent.rpc.channel import abort
from redis_agent.v1 import failover_pb2, observation_pb2
from redis_agent.v1 import failover_service_pb2 as pb
from redis_agent.v1 import failover_service_pb2_grpc as pb_grpc
from redis_agent.wire import (
    decode_failover_event,
    enum_from,
    enum_to,
    failover_event_to,
    finding_to,
    instant_to,
    plan_to,
    vote_to,
)

NAME = "redis_agent.v1.FailoverService"
Context = grpc.aio.ServicerContext[Any, Any]
_LISTED = 50
_LISTED_AT_MOST = 500


class Servicer(pb_grpc.FailoverServiceServicer):
    """Serves the whole fleet."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._state = orders.state
        self._ordered: dict[str, FailoverId] = {}

    async def GetFleetStatus(self, request: pb.GetFleetStatusRequest, context: Context) -> pb.GetFleetStatusResponse:
        """Every instance."""
        statuses = [self._status(instance) for instance in self._state.settings.instances.values()]
        findings = [finding_to(finding) for finding in self._state.findings.listed(instant())]
        return pb.GetFleetStatusResponse(instances=statuses, findings=findings)

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
        return pb.ExecuteFailoverResponse(failover=self._of(known))

    async def ApproveFailover(self, request: pb.ApproveFailoverRequest, context: Context) -> pb.ApproveFailoverResponse:
        """Let a waiting failover go on."""
        try:
            await self._orders.approve(FailoverId(request.id), request.actor or "operator", request.comment)
        except AgentError as fault:
            await abort(context, fault)
        return pb.ApproveFailoverResponse(failover=self._of(FailoverId(request.id)))

    async def GetFailover(self, request: pb.GetFailoverRequest, context: Context) -> pb.GetFailoverResponse:
        """One failover with its journal."""
        failover_id = FailoverId(request.id)
        try:
            entries = (await self._state.journal.history([failover_id])).get(failover_id)
            if not entries:
                raise NotFound(f"no failover {request.id!r}")
        except AgentError as fault:
            await abort(context, fault)
        return pb.GetFailoverResponse(failover=self._message(failover_id, entries))

    async def ListFailovers(self, request: pb.ListFailoversRequest, context: Context) -> pb.ListFailoversResponse:
        """Newest first, decisions not to act among them."""
        wanted = [
            (place.decided_at, failover)
            for failover, place in self._state.journal.journal.places.items()
            if not request.instance or place.instance == request.instance
        ]
        size = min(request.page_size or _LISTED, _LISTED_AT_MOST)
        newest = [failover for _, failover in heapq.nlargest(size, wanted)]
        try:
            entries = await self._state.journal.history(newest)
        except AgentError as fault:
            await abort(context, fault)
        return pb.ListFailoversResponse(
            failovers=[self._message(id_, entries[id_]) for id_ in newest if entries.get(id_)]
        )

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
        instance = InstanceId(request.instance) if request.instance else None
        try:
            where = await self._state.switch.pause(instance, request.reason, request.actor or "operator")
        except AgentError as fault:
            await abort(context, fault)
        return pb.PauseResponse(where=where)

    async def Resume(self, request: pb.ResumeRequest, context: Context) -> pb.ResumeResponse:
        """Release the kill switch."""
        instance = InstanceId(request.instance) if request.instance else None
        try:
            await self._state.switch.resume(instance, request.actor or "operator")
        except AgentError as fault:
            await abort(context, fault)
        return pb.ResumeResponse()

    def _status(self, instance: Instance) -> pb.InstanceStatus:
        view = self._state.view(instance, instant())
        status = pb.InstanceStatus(
            instance=instance.id,
            record=instance.dns.record if instance.dns else "",
            active_datacenter=view.active or "",
            mode=instance.policy.mode.value,
            refusals=self._state.refusals.get(instance.id, ()),
            paused=view.paused is not None,
            pause_reason=view.paused or "",
            sites=[_site(view, dc, self._state.changed_at(SiteId(instance.id, dc))) for dc in instance.values],
        )
        newest = self._state.journal.journal.newest(instance.id)
        if newest is not None:
            status.failover.CopyFrom(self._of(newest.id))
        return status

    def _of(self, failover_id: FailoverId) -> pb.Failover:
        """One that is in memory."""
        kept = self._state.journal.journal.kept(failover_id)
        return self._message(failover_id, kept.entries if kept is not None else ())

    def _message(self, failover_id: FailoverId, entries: Sequence[bytes]) -> pb.Failover:
        failover = self._state.journal.journal.failover(failover_id) or _folded(failover_id, entries)
        events = [failover_pb2.FailoverEvent.FromString(entry) for entry in entries]
        reply = _failover_message(failover) if failover is not None else _refusal_message(events)
        reply.events.extend(events)
        return reply


def _folded(failover_id: FailoverId, entries: Sequence[bytes]) -> Failover | None:
    """An old failover, as its entries tell it."""
    journal = Journal()
    for entry in entries:
        journal.note(Entry(decode_failover_event(entry, with_votes=False), instant(), entry))
    return journal.failover(failover_id)


def _refusal_message(events: Sequence[failover_pb2.FailoverEvent]) -> pb.Failover:
    """A decision not to act, with its newest reason; ended when it holds no longer."""
    refused, ended = failover_pb2.EVENT_KIND_REFUSED, failover_pb2.EVENT_KIND_ENDED
    newest = next((event for event in reversed(events) if event.kind == refused), events[-1])
    return pb.Failover(
        id=newest.failover,
        instance=newest.instance,
        stage=newest.stage,
        reason=newest.reason,
        actor=newest.actor,
        decided_at=events[0].at,
        ended_at=events[-1].at if events[-1].kind == ended else None,
    )


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


def _site(view: InstanceView, dc: Datacenter, since: datetime) -> pb.SiteStatus:
    state = view.health[dc]
    status = pb.SiteStatus(
        datacenter=dc,
        health=enum_to(pb.SiteHealth, state.health),
        since=instant_to(since),
        active=view.active == dc,
        votes=[vote_to(vote) for vote in view.tallies[dc].votes],
    )
    if dc in view.freshest:
        status.role = enum_to(observation_pb2.Role, view.freshest[dc].observation.role)
    return status


def _kind(number: int) -> Kind | None:
    """None: the one that fits."""
    if number == failover_pb2.FAILOVER_KIND_UNSPECIFIED:
        return None
    return enum_from(failover_pb2.FailoverKind, number, Kind)
