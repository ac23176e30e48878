"""What the page says and in which colour: words and signs never by colour alone."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

HEALTH = {
    "up": ("check_circle", "positive"),
    "suspect": ("help", "warning"),
    "down": ("cancel", "negative"),
    "unknown": ("remove_circle_outline", "grey"),
}
SEVERITY = {"critical": "negative", "error": "deep-orange", "warning": "warning", "info": "info"}
STEPS = ("suspected", "confirmed", "decided", "fenced", "promoted", "accepted", "authoritative", "verified")


def vote(said: Mapping[str, Any]) -> str:
    """One vote in a line."""
    counted = said["counted"].replace("_", " ")
    verdict = said["verdict"].replace("_", " ")
    if counted == verdict:
        return f"{said['vantage']}: {verdict}, {said['reason'].replace('_', ' ')}"
    return f"{said['vantage']}: said {verdict}, counts as {counted}"


def headline(instances: list[dict[str, Any]], open_anomalies: int) -> tuple[str, str]:
    """The fleet in one sentence, and its colour."""
    down = [f"{i['instance']}/{s['datacenter']}" for i in instances for s in i["sites"] if s["health"] == "down"]
    moving = [i["instance"] for i in instances if _moving(i)]
    if moving:
        return f"Moving {', '.join(moving)}", "negative"
    if down:
        return f"Down: {', '.join(down)}", "negative"
    if open_anomalies:
        return f"{open_anomalies} open {'anomaly' if open_anomalies == 1 else 'anomalies'}", "warning"
    return ("All sites are up", "positive") if instances else ("Nothing is known yet", "grey")


def _moving(instance: Mapping[str, Any]) -> bool:
    failover = instance.get("failover")
    return failover is not None and failover["ended_at"] is None


def steps(failover: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Every step of a failover, with the seconds at which it was seen, or None."""
    seen = {phase["name"]: phase["seconds"] for phase in failover["phases"]}
    return [(name, f"{seen[name]:.1f} s" if name in seen else None) for name in STEPS]


def clock(iso: str) -> str:
    """The time of day of an ISO instant, UTC."""
    return datetime.fromisoformat(iso).strftime("%H:%M:%S")
