"""`redis-agent status | failovers | alerts`: what the services know, in words or as JSON."""

import asyncio
from typing import Annotated, Any

import typer
from rich.live import Live

from redis_agent.cli.reaching import Key, controller, notifier
from redis_agent.cli.tables import alerts_table, failover_lines, status_view
from redis_agent.cli.terminal import ConfigOption, JsonOption, note, out, print_json, read_fleet, run
from redis_agent.errors import ConfigurationError
from redis_agent.fleet import Fleet
from redis_agent.rpc.channel import DEADLINE_SECONDS, answer
from redis_agent.rpc.plain import plain
from redis_agent.v1 import alert_pb2, alert_service_pb2, types_pb2
from redis_agent.v1 import failover_service_pb2 as pb
from redis_agent.v1 import failover_service_pb2_grpc as pb_grpc

_WATCH_SECONDS = 1.0
_SEVERITIES = ("info", "warning", "error", "critical")
_KINDS = ("anomaly", "failover", "blocked", "finding")


def status(
    instance: Annotated[str | None, typer.Argument(metavar="[INSTANCE]", help="One instance; else all.")] = None,
    config: ConfigOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Health, active site, votes with age and reason, the newest failover; and what is found that is none of these."""
    if watch and as_json:
        raise ConfigurationError(["--watch and --json don't go together; for a stream: redis-agent tail"])
    fleet = read_fleet(config)
    run(_watch_status(fleet, instance) if watch else _status(fleet, instance, as_json=as_json))


async def _status(fleet: Fleet, instance: str | None, *, as_json: bool) -> None:
    async with controller(fleet) as (stub, key):
        shown = await _shown(stub, key, instance)
    if as_json:
        print_json(shown if instance is None else shown["instances"][0])
        return
    out.print(status_view(shown))


async def _watch_status(fleet: Fleet, instance: str | None) -> None:
    async with controller(fleet) as (stub, key):
        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(status_view(await _shown(stub, key, instance)), refresh=True)
                await asyncio.sleep(_WATCH_SECONDS)


async def _shown(stub: "pb_grpc.FailoverServiceAsyncStub", key: Key, instance: str | None) -> dict[str, Any]:
    """Instances, and what is found of the fleet when all are asked for."""
    if instance is None:
        reply = await answer(stub.GetFleetStatus(pb.GetFleetStatusRequest(), timeout=DEADLINE_SECONDS, metadata=key))
        found: dict[str, Any] = plain(reply)
        return found
    asked = pb.GetInstanceStatusRequest(instance=instance)
    one = await answer(stub.GetInstanceStatus(asked, timeout=DEADLINE_SECONDS, metadata=key))
    return {"instances": [plain(one)["status"]], "findings": []}


def failovers(
    instance: Annotated[str | None, typer.Argument(metavar="[INSTANCE]", help="One instance; else all.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The journal: every failover and every decision not to act, newest first."""
    run(_failovers(read_fleet(config), instance or "", as_json=as_json))


async def _failovers(fleet: Fleet, instance: str, *, as_json: bool) -> None:
    async with controller(fleet) as (stub, key):
        asked = pb.ListFailoversRequest(instance=instance)
        listed = plain(await answer(stub.ListFailovers(asked, timeout=DEADLINE_SECONDS, metadata=key)))["failovers"]
    if as_json:
        print_json(listed)
        return
    for line in failover_lines(listed):
        out.print(line)
    note("1 entry" if len(listed) == 1 else f"{len(listed)} entries")


def alerts(
    severity: Annotated[str | None, typer.Option(help=f"One of {', '.join(_SEVERITIES)}.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help=f"One of {', '.join(_KINDS)}.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What people were told, newest first, with each delivery."""
    request = alert_service_pb2.ListAlertsRequest(page_size=limit)
    if severity is not None:
        request.severity = types_pb2.Severity.Value(f"SEVERITY_{_known('--severity', severity, _SEVERITIES)}")
    if kind is not None:
        request.kind = alert_pb2.AlertKind.Value(f"ALERT_KIND_{_known('--type', kind, _KINDS)}")
    run(_alerts(read_fleet(config), request, as_json=as_json))


def _known(option: str, value: str, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise ConfigurationError([f"{option}: {value!r} is none of {', '.join(allowed)}"])
    return value.upper()


async def _alerts(fleet: Fleet, request: alert_service_pb2.ListAlertsRequest, *, as_json: bool) -> None:
    async with notifier(fleet) as (stub, key):
        listed = plain(await answer(stub.ListAlerts(request, timeout=DEADLINE_SECONDS, metadata=key)))["alerts"]
    if as_json:
        print_json(listed)
        return
    out.print(alerts_table(listed))
    note("1 alert" if len(listed) == 1 else f"{len(listed)} alerts")
