"""`redis-agent failover | approve | pause | resume`: orders to the controller, and the kill switch."""

import asyncio
import getpass
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from redis_agent import pause as switch
from redis_agent.cli.reaching import Key, controller
from redis_agent.cli.terminal import ConfigOption, agreed, find_configuration, note, read_fleet, run, say
from redis_agent.clock import wall
from redis_agent.errors import AgentError, ConfigurationError, NotFound, Permanent, Refused, Unreachable
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import load
from redis_agent.log import Outgoing
from redis_agent.log.opening import log_of
from redis_agent.model import ControlRecord, Origin, Pause
from redis_agent.rpc.channel import DEADLINE_SECONDS, answer
from redis_agent.rpc.plain import plain
from redis_agent.telemetry import headers
from redis_agent.topics import CONTROL, pause_key
from redis_agent.v1 import failover_pb2
from redis_agent.v1 import failover_service_pb2 as pb
from redis_agent.v1 import failover_service_pb2_grpc as pb_grpc
from redis_agent.wire import control_to

Stub: TypeAlias = "pb_grpc.FailoverServiceAsyncStub"
_FOLLOW_SECONDS = 0.25
_PATIENCE_SECONDS = 60.0
_CONFIRM_SECONDS = 2.0
_LOG_SECONDS = 5.0
_HERE_ONLY = " (neither a controller nor the log answers; one that runs here looks at the switch before each step)"


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

    It is set in a file of `failover.pause_dir` here, and in the log for every controller: by the one that answers, or from
    here where none does. Fails when neither can be known to reach a controller.
    """
    fleet = _fleet(config, instance)
    directory = fleet.failover.pause_dir
    used_before = directory.is_dir()
    try:
        switch.pause(directory, instance, reason)
    except OSError as fault:
        raise Permanent(f"{directory} can't be written: {fault.strerror}") from fault
    set_in_the_log = asyncio.run(_in_the_log(config, instance, Pause(paused=True, reason=reason)))
    if not set_in_the_log and not used_before:
        switch.resume(directory, instance)
        directory.rmdir()  # else the next try would take it for one that a controller used
        raise Permanent(
            f"no controller and no log answers, and no controller ever used {directory.absolute()}:"
            " is it paused where it runs?"
        )
    note(f"paused: {instance or 'the whole fleet'}{'' if set_in_the_log else _HERE_ONLY}")


def resume(instance: InstanceOption = None, config: ConfigOption = None) -> None:
    """Release the kill switch, here and in the log. When the log doesn't answer, what is set there may hold on."""
    fleet = _fleet(config, instance)
    directory = fleet.failover.pause_dir
    try:
        switch.resume(directory, instance)
    except OSError as fault:
        raise Permanent(f"{directory} can't be written: {fault.strerror}") from fault
    if not asyncio.run(_in_the_log(config, instance, Pause(paused=False, reason=""))):
        raise Unreachable(
            "released here; neither a controller nor the log answers, and what is set in the log may hold on: try again"
        )
    note(f"resumed: {instance or 'the whole fleet'}")


async def _in_the_log(config: Path | None, instance: str | None, wanted: Pause) -> bool:
    """Whether the control topic says so now. The file works without: nothing here may fail it."""
    try:
        async with controller(read_fleet(config)) as (stub, key):
            if wanted.paused:
                asked = pb.PauseRequest(instance=instance or "", reason=wanted.reason, actor=_actor())
                await answer(stub.Pause(asked, timeout=_CONFIRM_SECONDS, metadata=key))
            else:
                released = pb.ResumeRequest(instance=instance or "", actor=_actor())
                await answer(stub.Resume(released, timeout=_CONFIRM_SECONDS, metadata=key))
    except ConfigurationError:
        return False
    except AgentError as fault:
        if not (wanted.paused or isinstance(fault, Unreachable)):
            raise
        return await _written(config, instance, wanted)
    return True


async def _written(config: Path | None, instance: str | None, wanted: Pause) -> bool:
    """Whether the log took it from here."""
    try:
        log = log_of(load(find_configuration(config), sections=("log",)).log)
    except AgentError:
        return False
    origin = Origin(f"redis-agent@{socket.gethostname()}/{uuid.uuid4().hex[:8]}", 1)
    value = control_to(ControlRecord(origin, wall(), _actor(), wanted)).SerializeToString()
    record = Outgoing(CONTROL, pause_key(instance), value, headers(CONTROL, origin))
    try:
        async with asyncio.timeout(_LOG_SECONDS):
            await log.partitions(CONTROL)  # a log that no service ever used reaches no controller
            await (await log.writer()).append([record])
    except (AgentError, TimeoutError):
        return False
    finally:
        await log.close()
    return True


def _fleet(config: Path | None, instance: str | None) -> Fleet:
    try:
        fleet = load(find_configuration(config), sections=())
    except ConfigurationError as fault:
        raise ConfigurationError([*fault.faults, "the pause directory is named in failover.pause_dir"]) from None
    if instance is not None and fleet.instance(instance) is None:
        raise NotFound(f"no instance {instance!r}; known: {', '.join(i.id for i in fleet.instances)}")
    return fleet
