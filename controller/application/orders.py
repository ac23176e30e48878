"""What operators ask for: a plan, a failover, an approval. Policy's refusals are theirs to read, every one."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace

from controller.application.decisions import Decisions
from controller.application.driver import Driver
from controller.application.fleet_state import FleetState
from controller.application.tasks import InstanceTasks
from controller.core.failover import CONTROLLER, Failover, first_stage
from controller.core.policy import Go, Order, Refusal, Request, decide
from controller.settings import Instance
from redis_agent.clock import instant
from redis_agent.errors import AgentError, Fenced, NotFound, Refused
from redis_agent.model import Datacenter, EventKind, FailoverId, InstanceId, Kind, Plan, Stage


class Orders:
    """Each order is carried out in the instance's one task, so that no two of them begin at once."""

    def __init__(self, state: FleetState, decisions: Decisions, driver: Driver, tasks: InstanceTasks) -> None:
        self.state = state
        self._decisions = decisions
        self._driver = driver
        self._tasks = tasks

    def instance(self, instance_id: str) -> Instance:
        """The instance of that id. Raises NotFound."""
        instances = self.state.settings.instances
        found = instances.get(InstanceId(instance_id))
        if found is None:
            raise NotFound(f"no instance {instance_id!r} in this fleet; known: {', '.join(instances)}")
        return found

    async def plan(self, instance: Instance, target: Datacenter, kind: Kind | None) -> Go | Refusal:
        """What a failover ordered now would do, or every reason against it. Changes nothing. Raises NotFound."""
        if instance.dns is None:
            return Refusal((f"{instance.id} has no dns section: there is no name to move",))
        if target not in instance.values:
            raise NotFound(f"{instance.id} has no site in {target!r}; known: {', '.join(instance.values)}")
        return await self._verdict(instance, Request(target, kind or self._fitting(instance), unasked=False), None)

    def _fitting(self, instance: Instance) -> Kind:
        """A source that a quorum sees up can be fenced and waited for; moving away from it as from a dead one loses writes."""
        view = self.state.view(instance, instant())
        source = view.tallies.get(view.active) if view.active is not None else None
        return Kind.PLANNED if source is not None and source.says_up(instance.policy.quorum) else Kind.EMERGENCY

    async def begin(self, instance: Instance, order: Order) -> FailoverId:
        """Begin a failover. Raises Refused with every reason, NotFound, Transient."""

        async def decided() -> FailoverId:
            plan = _plan_of(await self.plan(instance, order.target, order.kind))
            return await self._decisions.act(instance, plan, first_stage(plan), order.reason, _operator(order.actor))

        return await self._as_task(instance, decided())

    async def approve(self, failover_id: FailoverId, actor: str, comment: str) -> None:
        """Let a waiting failover go on; its conditions are looked at again. Raises NotFound, Refused."""
        instance = self.instance(self._waiting(failover_id).plan.instance)

        async def approved() -> FailoverId:
            failover = self._waiting(failover_id)
            request = Request(failover.plan.target, failover.plan.kind, unasked=False)
            plan = _plan_of(await self._verdict(instance, request, failover_id))
            if plan.before != failover.plan.before:
                raise Refused(["the DNS record changed since this failover was decided"])
            going = replace(failover, stage=first_stage(failover.plan), actor=_operator(actor))
            await self.state.journal.note(going, EventKind.APPROVED, comment or "approved")
            return failover_id

        await self._as_task(instance, approved())

    def _waiting(self, failover_id: FailoverId) -> Failover:
        failover = self.state.journal.journal.failover(failover_id)
        if failover is None:
            raise NotFound(f"no failover {failover_id!r}")
        if failover.stage is not Stage.AWAITING_APPROVAL:
            raise Refused([f"{failover_id} is {failover.stage.value}, not awaiting approval"])
        return failover

    async def _verdict(self, instance: Instance, request: Request, apart_from: FailoverId | None) -> Go | Refusal:
        await self.state.records.refresh(instance)
        return decide(self.state.view(instance, instant(), apart_from), request, instance.policy)

    async def _as_task(self, instance: Instance, deciding: Coroutine[None, None, FailoverId]) -> FailoverId:
        """Decide and then drive in a task of its own, which an asker who goes away doesn't cancel; what was decided."""
        decided: asyncio.Future[FailoverId] = asyncio.get_running_loop().create_future()

        async def acting() -> None:
            try:
                failover_id = await deciding
            except Fenced:
                decided.cancel()
                raise
            except AgentError as fault:
                if not decided.done():
                    decided.set_exception(fault)
                return
            if not decided.done():
                decided.set_result(failover_id)
            await self._driver.drive(failover_id, instance)

        try:
            self._tasks.start(instance.id, acting())
        except AgentError:
            deciding.close()
            raise
        return await decided


def _plan_of(verdict: Go | Refusal) -> Plan:
    if isinstance(verdict, Refusal):
        raise Refused(verdict.reasons)
    return verdict.plan


def _operator(actor: str) -> str:
    return actor if actor != CONTROLLER else f"operator {actor}"
