"""`redis-agent status | failovers | alerts`: what the services know, as tables or JSON."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from redis_agent.cli.terminal import ConfigOption, JsonOption, err, out, print_json, read_fleet, run
from redis_agent.errors import ConfigurationError
from redis_agent.fleet import Fleet
from redis_agent.rpc.channel import DEADLINE_SECONDS, answer, channel, metadata
from redis_agent.rpc.plain import plain
from redis_agent.v1 import alert_pb2, alert_service_pb2, alert_service_pb2_grpc, types_pb2
from redis_agent.v1 import failover_service_pb2 as pb
from redis_agent.v1 import failover_service_pb2_grpc as pb_grpc

Key = tuple[tuple[str, str], ...]
_WATCH_SECONDS = 1.0
_COLOURS = {"up": "green", "suspect": "yellow", "down": "red", "unknown": "bright_black"}
_SEVERITIES = ("info", "warning", "error", "critical")
_KINDS = ("anomaly", "failover", "blocked")


@asynccontextmanager
async def controller(fleet: Fleet) -> "AsyncIterator[tuple[pb_grpc.FailoverServiceAsyncStub, Key]]":
    """The controller's stub and the key to send."""
    opened = channel(fleet.grpc, "controller")
    try:
        stub: pb_grpc.FailoverServiceAsyncStub = pb_grpc.FailoverServiceStub(opened)
        yield stub, metadata(fleet.grpc)
    finally:
        await opened.close()


def status(
    instance: Annotated[str | None, typer.Argument(help="One instance; else all.")] = None,
    config: ConfigOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Health, active site, votes with age and reason, the newest failover."""
    fleet = read_fleet(config)
    run(_watch_status(fleet, instance) if watch else _status(fleet, instance, as_json=as_json))


async def _status(fleet: Fleet, instance: str | None, *, as_json: bool) -> None:
    async with controller(fleet) as (stub, key):
        instances = await _instances(stub, key, instance)
    if as_json:
        print_json(instances if instance is None else instances[0])
        return
    out.print(status_table(instances))


async def _watch_status(fleet: Fleet, instance: str | None) -> None:
    async with controller(fleet) as (stub, key):
        with Live(console=out, auto_refresh=False) as live:
            while True:
                live.update(status_table(await _instances(stub, key, instance)), refresh=True)
                await asyncio.sleep(_WATCH_SECONDS)


async def _instances(stub: "pb_grpc.FailoverServiceAsyncStub", key: Key, instance: str | None) -> list[dict[str, Any]]:
    if instance is None:
        reply = await answer(stub.GetFleetStatus(pb.GetFleetStatusRequest(), timeout=DEADLINE_SECONDS, metadata=key))
        found: list[dict[str, Any]] = plain(reply)["instances"]
        return found
    asked = pb.GetInstanceStatusRequest(instance=instance)
    one = await answer(stub.GetInstanceStatus(asked, timeout=DEADLINE_SECONDS, metadata=key))
    return [plain(one)["status"]]


def status_table(instances: list[dict[str, Any]]) -> Table:
    """Instances, sites and votes."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("instance", "site", "health", "role", "votes", "newest failover"):
        table.add_column(heading)
    for shown in instances:
        newest = shown["failover"]
        told = f"{newest['stage'].replace('_', ' ')}: {newest['id']}" if newest is not None else "none"
        for number, site in enumerate(shown["sites"]):
            table.add_row(
                shown["instance"] if number == 0 else "",
                site["datacenter"] + (" (active)" if site["active"] else ""),
                f"[{_COLOURS.get(site['health'], 'white')}]{site['health']}[/]",
                site["role"].replace("unspecified", "-"),
                ", ".join(_vote(vote) for vote in site["votes"]) or "none",
                told if number == 0 else _standing(shown),
            )
    return table


def _standing(instance: dict[str, Any]) -> str:
    if instance["paused"]:
        return f"[yellow]paused: {instance['pause_reason']}[/]"
    return "; ".join(instance["refusals"])


def _vote(vote: dict[str, Any]) -> str:
    counted = "" if vote["counted"] == vote["verdict"] else f" (counts as {vote['counted'].replace('_', ' ')})"
    return f"{vote['vantage']}: {vote['verdict'].replace('_', ' ')}, {vote['reason']}, {vote['age']:.1f} s{counted}"


def failovers(
    instance: Annotated[str | None, typer.Argument(help="One instance; else all.")] = None,
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
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("id", "instance", "decided (UTC)", "stage", "from → to", "why"):
        table.add_column(heading)
    for failover in listed:
        plan = failover["plan"]
        route = f"{plan['source']} → {plan['target']}" if plan else "-"
        at = failover["decided_at"][:19].replace("T", " ")
        stage = failover["stage"].replace("_", " ")
        table.add_row(failover["id"], failover["instance"], at, stage, route, failover["reason"])
    out.print(table)
    err.print(f"{len(listed)} entries")


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
    opened = channel(fleet.grpc, "notifier")
    try:
        stub: alert_service_pb2_grpc.AlertServiceAsyncStub = alert_service_pb2_grpc.AlertServiceStub(opened)
        call = stub.ListAlerts(request, timeout=DEADLINE_SECONDS, metadata=metadata(fleet.grpc))
        listed = plain(await answer(call))["alerts"]
    finally:
        await opened.close()
    if as_json:
        print_json(listed)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("at (UTC)", "severity", "state", "alert", "told"):
        table.add_column(heading)
    for history in listed:
        alert = history["alert"]
        told = sorted({d["notification"]["receiver"] for d in history["deliveries"] if d["kind"] == "delivered"})
        table.add_row(
            alert["at"][:19].replace("T", " "),
            alert["severity"],
            alert["state"],
            alert["title"],
            ", ".join(told) or "nobody yet",
        )
    out.print(table)
