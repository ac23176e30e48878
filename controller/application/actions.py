"""Each stage's one action, done in the world."""

from controller.core.failover import Failover, Outcome
from controller.edges import redis_admin
from controller.edges.zones import Zones
from controller.settings import Instance
from redis_agent.errors import Permanent
from redis_agent.fleet import DnsName
from redis_agent.model import Kind, Stage


async def perform(failover: Failover, instance: Instance, zones: Zones, objection: Outcome | None) -> Outcome:
    """Do the stage's action, or find that it is done. Never raises for what the world does.

    An objection holds every step up to the one from which there is no way back; whether that one was done already is
    looked at first.
    """
    plan, dns = failover.plan, _dns(instance)
    source, target = instance.access[plan.source], instance.access[plan.target]
    match failover.stage:
        case Stage.FENCING:
            return objection or await redis_admin.fence(source)
        case Stage.PROMOTING:
            return await redis_admin.promote(target, source if plan.kind is Kind.PLANNED else None, objection)
        case Stage.REDIRECTING:
            if objection is not None:
                return await zones.moved(dns.provider, plan.after, failover.id) or objection
            return await zones.move(dns.provider, plan.before, plan.after, failover.id)
        case Stage.PROPAGATING:
            return await zones.visible(dns.provider, plan.after, failover.change_id)
        case Stage.VERIFYING:
            return await zones.write_through(dns.provider, plan.after, target, f"redis-agent:canary:{failover.id}")
        case _:
            raise ValueError(f"{failover.id}: {failover.stage.value} has no action")


def _dns(instance: Instance) -> DnsName:
    if instance.dns is None:
        raise Permanent(f"{instance.id} has no dns section: there is no name to move")
    return instance.dns
