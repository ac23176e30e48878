"""What the services answer, laid out for a terminal of 80 columns or more. Ids are never cut: they get pasted."""

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_COLOURS = {"up": "green", "suspect": "yellow", "down": "red", "unknown": "bright_black"}
_GAP = (0, 2, 0, 0)


def status_view(status: dict[str, Any]) -> RenderableType:
    """Instances, sites and votes; below them what stands in the way, each instance's newest failover, and what is found."""
    instances = status["instances"]
    table = Table(box=None, padding=_GAP)
    for heading in ("instance", "site", "health", "role"):
        table.add_column(heading, overflow="fold")
    table.add_column("votes", overflow="fold")
    for shown in instances:
        for number, site in enumerate(shown["sites"]):
            table.add_row(
                Text(shown["instance"] if number == 0 else ""),
                Text(site["datacenter"] + (" (active)" if site["active"] else "")),
                Text(site["health"], style=_COLOURS.get(site["health"], "")),
                Text(site["role"].replace("unspecified", "-") + (", fenced" if _is_fenced(shown, site) else "")),
                Text("\n".join(_vote(vote) for vote in site["votes"]) or "none"),
            )
    below = [*(line for shown in instances for line in _state(shown)), *map(_finding, status["findings"])]
    return Group(table, *below)


def _finding(finding: dict[str, Any]) -> Text:
    since, command = finding["since"][11:19], f" → {finding['command']}" if finding["command"] else ""
    return _line(f"{finding['severity']}: {finding['text']} (since {since} UTC){command}", "yellow")


def _is_fenced(instance: dict[str, Any], site: dict[str, Any]) -> bool:
    """Whether the newest failover left that site refusing writes."""
    newest = instance["failover"]
    if newest is None or newest["plan"] is None:
        return False
    return bool(newest["plan"]["source"] == site["datacenter"] and newest["fence"] == "refuses_writes")


def _vote(vote: dict[str, Any]) -> str:
    counted = "" if vote["counted"] == vote["verdict"] else f" (counts as {_words(vote['counted'])})"
    return f"{vote['vantage']}: {_words(vote['verdict'])}, {_words(vote['reason'])}, {vote['age']:.1f} s{counted}"


def _state(instance: dict[str, Any]) -> Iterator[Text]:
    name = instance["instance"]
    if instance["paused"]:
        yield _line(f"{name}: paused: {instance['pause_reason']}", "yellow")
    for reason in instance["refusals"]:
        yield _line(f"{name}: not moved: {reason}", "yellow")
    newest = instance["failover"]
    if newest is not None:
        yield _line(f"{name}: newest failover {newest['id']}: {_words(newest['stage'])}")


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, overflow="fold")


def failover_lines(listed: list[dict[str, Any]]) -> Iterator[RenderableType]:
    """Two lines a failover: its id, where from and to and how it stands; then when it was decided, and why."""
    ids = max((len(failover["id"]) for failover in listed), default=0)
    names = max((len(failover["instance"]) for failover in listed), default=0)
    for failover in listed:
        plan = failover["plan"]
        route = f"{plan['source']} → {plan['target']}  " if plan else ""
        at = failover["decided_at"][:19].replace("T", " ")
        yield _line(f"{failover['id']:{ids}}  {failover['instance']:{names}}  {route}{_words(failover['stage'])}")
        yield Padding(_line(f"{at} UTC: {failover['reason']}"), (0, 0, 0, 4), expand=False)


def alerts_table(listed: list[dict[str, Any]]) -> Table:
    """One row an alert: when, how bad, what, and who was told."""
    table = Table(box=None, padding=_GAP)
    for heading in ("at (UTC)", "severity", "state"):
        table.add_column(heading, no_wrap=True)
    table.add_column("alert", overflow="fold")
    table.add_column("told", overflow="fold")
    for history in listed:
        alert = history["alert"]
        told = sorted({d["notification"]["receiver"] for d in history["deliveries"] if d["kind"] == "delivered"})
        at = alert["at"][:19].replace("T", " ")
        shown = (at, alert["severity"], alert["state"], alert["title"], "\n".join(told) or "nobody yet")
        table.add_row(*(Text(text) for text in shown))
    return table


def _words(word: str) -> str:
    return word.replace("_", " ")
