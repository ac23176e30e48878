"""`redis-agent failover | approve | pause | resume`: orders to the controller, and the kill switch."""

import asyncio
import getpass
import os
import time
import uuid
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from redis_agent import pause as switch
from redis_agent.cli.reaching import Key, controller
from redis_agent.cli.terminal import ConfigOption, agreed, find_configuration, note, read_fleet, run, say
from redis_agent.errors import AgentError, ConfigurationError, NotFound, Permanent, Refused, Unreachable
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import load
from redis_agent.rpc.channel import DEADLINE_SECONDS, answer
from redis_agent.rpc.plain import plain
from redis_agent.v1 import failover_pb2
from redis_agent.v1 import failover_service_pb2 as pb
from redis_agent.v1 import failover_service_pb2_grpc as pb_grpc

Stub: TypeAlias = "pb_grpc.FailoverServiceAsyncStub"
_FOLLOW_SECONDS = 0.25
_PATIENCE_SECONDS = 60.0
_CONFIRM_SECONDS = 2.0
_UNCONFIRMED = " (the controller does not answer; it looks at the switch before each step)"


_KINDS = {
    True: failover_pb2.FAILOVER_KIND_PLANNED,
    False: failover_pb2.FAILOVER_KIND_EMERGENCY,
    None: failover_pb2.FAILOVER_KIND_UNSPECIFIED,
}


def failover(
    instance: Annotated[str, typer.Argument(metavar="INSTANCE")],
    to: Annotated[str, typer.Option("--to", help="The datacenter to move to.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the journal.")],
    planned: Annotated[
        bool | None,
        typer.Option(
            "--planned/--emergency", help="Planned: lose nothing; needs a source that is alive. By default what fits."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print the plan, its checks and the expected loss, ask, and follow it live. Ctrl-C detaches; it does not abort."""
    kind = _KINDS[planned]
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
        if not yes and not agreed(f"Move {asked.instance} to {asked.target}?"):
            raise typer.Exit(1)
        request = pb.ExecuteFailoverRequest(
            instance=asked.instance,
            target=asked.target,
            kind=asked.kind,
            reason=reason,
            actor=_actor(),
            request_id=str(uuid.uuid4()),
        )
        begun = await answer(stub.ExecuteFailover(request, timeout=DEADLINE_SECONDS, metadata=key))
        note(f"{begun.failover.id} has begun; Ctrl-C detaches, it goes on")
        await _follow(stub, key, begun.failover.id)


def _show_plan(plan: dict[str, Any]) -> None:
    before, after = plan["before"], plan["after"]
    say(f"{plan['kind']} {plan['instance']}: {plan['source']} → {plan['target']}")
    say(f"  DNS      {before['name']} {before['type']} {before['value']} → {after['value']}, ttl {after['ttl']} s")
    say(f"  epoch    {before['epoch']} → {after['epoch']}")
    say(f"  promote  {'yes, REPLICAOF NO ONE' if plan['promote'] else 'nothing: every site takes writes'}")
    say(f"  loss     {plan['expected_loss']}")
    say(f"  checks   {', '.join(plan['checks'])}")


async def _follow(stub: Stub, key: Key, failover_id: str) -> None:
    """Tell each new entry of the journal until the failover ends. A controller that restarts meanwhile is waited for."""
    shown = 0
    heard = time.monotonic()
    while True:
        try:
            asked = pb.GetFailoverRequest(id=failover_id)
            found = (await answer(stub.GetFailover(asked, timeout=DEADLINE_SECONDS, metadata=key))).failover
            heard = time.monotonic()
        except Unreachable:
            if time.monotonic() - heard > _PATIENCE_SECONDS:
                raise
        else:
            for event in found.events[shown:]:
                line = plain(event)
                note(f"  {line['at'][11:23]} {line['kind']:8} {line['stage'].replace('_', ' ')}: {line['reason']}")
            shown = len(found.events)
            if found.HasField("ended_at"):
                return _ended(found)
        await asyncio.sleep(_FOLLOW_SECONDS)


def _ended(found: pb.Failover) -> None:
    if found.stage != failover_pb2.STAGE_DONE:
        raise Permanent(f"{found.id} {plain(found)['stage']}: {found.reason}")
    say(f"{found.id} done: {found.reason}")


def approve(
    failover_id: Annotated[str, typer.Argument(metavar="ID")],
    comment: Annotated[str, typer.Option(help="It stands in the journal.")] = "approved",
    config: ConfigOption = None,
) -> None:
    """Let a failover go on that awaits approval; its conditions are looked at again."""
    run(_approve(read_fleet(config), failover_id, comment))


async def _approve(fleet: Fleet, failover_id: str, comment: str) -> None:
    async with controller(fleet) as (stub, key):
        request = pb.ApproveFailoverRequest(id=failover_id, actor=_actor(), comment=comment)
        await answer(stub.ApproveFailover(request, timeout=DEADLINE_SECONDS, metadata=key))
        await _follow(stub, key, failover_id)


def _actor() -> str:
    """Who gives the order, for the journal."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


InstanceOption = Annotated[str | None, typer.Option("--instance", help="One instance; else the whole fleet.")]


def pause(
    reason: Annotated[str, typer.Option(help="Why; status shows it.")],
    instance: InstanceOption = None,
    config: ConfigOption = None,
) -> None:
    """The kill switch: no step of a failover is begun while it is set. Works without the log and the network.

    It is a file in `failover.pause_dir`; a controller elsewhere is asked to set its own. Fails when neither can be known to
    reach a controller.
    """
    fleet = _fleet(config, instance)
    directory = fleet.failover.pause_dir
    used_before = directory.is_dir()
    try:
        switch.pause(directory, instance, reason)
    except OSError as fault:
        raise Permanent(f"{directory} can't be written: {fault.strerror}") from fault
    confirmed = asyncio.run(_confirmed(config, pb.PauseRequest(instance=instance or "", reason=reason)))
    if not confirmed and not used_before:
        raise Permanent(
            f"no controller answers, and none ever used {directory.absolute()}: is it paused where it runs?"
        )
    note(f"paused: {instance or 'the whole fleet'}{'' if confirmed else _UNCONFIRMED}")


def resume(instance: InstanceOption = None, config: ConfigOption = None) -> None:
    """Release the kill switch."""
    fleet = _fleet(config, instance)
    directory = fleet.failover.pause_dir
    confirmed = asyncio.run(_confirmed(config, pb.ResumeRequest(instance=instance or "")))
    try:
        was_set = switch.resume(directory, instance) or confirmed
    except OSError as fault:
        raise Permanent(f"{directory} can't be written: {fault.strerror}") from fault
    note(f"{'resumed' if was_set else 'was not paused'}: {instance or 'the whole fleet'}")


async def _confirmed(config: Path | None, request: pb.PauseRequest | pb.ResumeRequest) -> bool:
    """Whether a running controller says that it did the same. The switch works without: nothing here may fail it."""
    try:
        async with controller(read_fleet(config)) as (stub, key):
            if isinstance(request, pb.PauseRequest):
                await answer(stub.Pause(request, timeout=_CONFIRM_SECONDS, metadata=key))
            else:
                await answer(stub.Resume(request, timeout=_CONFIRM_SECONDS, metadata=key))
    except AgentError:
        return False
    return True


def _fleet(config: Path | None, instance: str | None) -> Fleet:
    try:
        fleet = load(find_configuration(config), sections=())
    except ConfigurationError as fault:
        raise ConfigurationError([*fault.faults, "the pause directory is named in failover.pause_dir"]) from None
    if instance is not None and fleet.instance(instance) is None:
        raise NotFound(f"no instance {instance!r}; known: {', '.join(i.id for i in fleet.instances)}")
    return fleet
