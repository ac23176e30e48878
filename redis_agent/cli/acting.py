"""`redis-agent failover | approve | pause | resume`: orders to the controller, and the kill switch."""

import getpass
import uuid
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from redis_agent import pause as switch
from redis_agent.cli.asking import Key, controller
from redis_agent.cli.terminal import ConfigOption, err, find_configuration, out, read_fleet, run
from redis_agent.errors import ConfigurationError, NotFound, Permanent, Refused
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import load
from redis_agent.rpc.channel import DEADLINE_SECONDS, answer
from redis_agent.rpc.plain import plain
from redis_agent.v1 import failover_pb2
from redis_agent.v1 import failover_service_pb2 as pb
from redis_agent.v1 import failover_service_pb2_grpc as pb_grpc

Stub: TypeAlias = "pb_grpc.FailoverServiceAsyncStub"


def failover(
    instance: str,
    to: Annotated[str, typer.Option("--to", help="The datacenter to move to.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the journal.")],
    planned: Annotated[
        bool, typer.Option("--planned/--emergency", help="Planned: the source is alive; lose nothing.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print the plan, its checks and the expected loss, ask, and follow it live. Ctrl-C detaches; it does not abort."""
    kind = failover_pb2.FAILOVER_KIND_PLANNED if planned else failover_pb2.FAILOVER_KIND_EMERGENCY
    run(
        _failover(
            read_fleet(config),
            pb.PlanFailoverRequest(instance=instance, target=to, kind=kind),
            reason,
            dry_run=dry_run,
            yes=yes,
        )
    )


async def _failover(fleet: Fleet, asked: pb.PlanFailoverRequest, reason: str, *, dry_run: bool, yes: bool) -> None:
    async with controller(fleet) as (stub, key):
        planned = await answer(stub.PlanFailover(asked, timeout=DEADLINE_SECONDS, metadata=key))
        if planned.refusals:
            raise Refused(list(planned.refusals))
        _show_plan(plain(planned.plan))
        if dry_run:
            return
        if not yes and not typer.confirm(f"Move {asked.instance} to {asked.target}?", err=True):
            raise typer.Exit(1)
        request = pb.ExecuteFailoverRequest(
            instance=asked.instance,
            target=asked.target,
            kind=asked.kind,
            reason=reason,
            actor=getpass.getuser(),
            request_id=str(uuid.uuid4()),
        )
        begun = await answer(stub.ExecuteFailover(request, timeout=DEADLINE_SECONDS, metadata=key))
        err.print(f"{begun.failover.id} has begun; Ctrl-C detaches, it goes on")
        await _follow(stub, key, begun.failover.id)


def _show_plan(plan: dict[str, Any]) -> None:
    out.print(f"{plan['kind']} {plan['instance']}: {plan['source']} → {plan['target']}")
    before, after = plan["before"], plan["after"]
    out.print(
        f"  DNS      {before['name']} {before['type']} {before['value']} → {after['value']}, ttl {after['ttl']} s"
    )
    out.print(f"  epoch    {before['epoch']} → {after['epoch']}")
    out.print(f"  promote  {'yes, REPLICAOF NO ONE' if plan['promote'] else 'nothing: every site takes writes'}")
    out.print(f"  loss     {plan['expected_loss']}")
    out.print(f"  checks   {', '.join(plan['checks'])}")


async def _follow(stub: "Stub", key: Key, failover_id: str) -> None:
    shown = 0
    call = stub.WatchFailovers(pb.WatchFailoversRequest(), metadata=key)
    try:
        while True:
            asked = pb.GetFailoverRequest(id=failover_id)
            found = (await answer(stub.GetFailover(asked, timeout=DEADLINE_SECONDS, metadata=key))).failover
            for event in found.events[shown:]:
                line = plain(event)
                err.print(f"  {line['at'][11:23]} {line['kind']:8} {line['stage']}: {line['reason']}", markup=False)
            shown = len(found.events)
            if found.HasField("ended_at"):
                return _ended(found)
            await call.read()
    finally:
        call.cancel()


def _ended(found: pb.Failover) -> None:
    if found.stage != failover_pb2.STAGE_DONE:
        raise Permanent(f"{found.id} ended as {plain(found)['stage']}: {found.reason}")
    out.print(f"{found.id} done: {found.reason}")


def approve(
    failover_id: Annotated[str, typer.Argument(metavar="ID")],
    comment: Annotated[str, typer.Option(help="It stands in the journal.")] = "approved",
    config: ConfigOption = None,
) -> None:
    """Let a failover go on that awaits approval; its conditions are looked at again."""
    run(_approve(read_fleet(config), failover_id, comment))


async def _approve(fleet: Fleet, failover_id: str, comment: str) -> None:
    async with controller(fleet) as (stub, key):
        request = pb.ApproveFailoverRequest(id=failover_id, actor=getpass.getuser(), comment=comment)
        await answer(stub.ApproveFailover(request, timeout=DEADLINE_SECONDS, metadata=key))
        await _follow(stub, key, failover_id)


InstanceOption = Annotated[str | None, typer.Option("--instance", help="One instance; else the whole fleet.")]


def pause(
    reason: Annotated[str, typer.Option(help="Why; status shows it.")],
    instance: InstanceOption = None,
    config: ConfigOption = None,
) -> None:
    """The kill switch: no step of a failover is begun while it is set. Works without the log and the network."""
    directory = _switch(config, instance)
    try:
        switch.pause(directory, instance, reason)
    except OSError as fault:
        raise Permanent(f"{directory} can't be written: {fault.strerror}") from fault
    err.print(f"paused: {instance or 'the whole fleet'}")


def resume(instance: InstanceOption = None, config: ConfigOption = None) -> None:
    """Release the kill switch."""
    directory = _switch(config, instance)
    try:
        was_set = switch.resume(directory, instance)
    except OSError as fault:
        raise Permanent(f"{directory} can't be written: {fault.strerror}") from fault
    err.print(f"{'resumed' if was_set else 'was not paused'}: {instance or 'the whole fleet'}")


def _switch(config: Path | None, instance: str | None) -> Path:
    try:
        fleet = load(find_configuration(config), sections=())
    except ConfigurationError as fault:
        raise ConfigurationError([*fault.faults, "the pause directory is named in failover.pause_dir"]) from None
    if instance is not None and fleet.instance(instance) is None:
        raise NotFound(f"no instance {instance!r}; known: {', '.join(i.id for i in fleet.instances)}")
    return fleet.failover.pause_dir
