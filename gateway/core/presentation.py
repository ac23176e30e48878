"""What the page says, with which sign and in which colour: never by colour alone. What matters most comes first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

HEALTH = {
    "up": ("check_circle", "positive"),
    "suspect": ("help", "warning"),
    "down": ("cancel", "negative"),
    "unknown": ("remove_circle_outline", "grey-7"),
}
VERDICT = {
    "up": ("check", "positive"),
    "down": ("close", "negative"),
    "cannot_tell": ("question_mark", "grey-7"),
}
SEVERITY = {"critical": "negative", "error": "deep-orange-9", "warning": "warning", "info": "info"}
STEPS = ("suspected", "confirmed", "decided", "fenced", "promoted", "accepted", "authoritative", "verified")


@dataclass(frozen=True, slots=True)
class Headline:
    """The fleet in one sentence."""

    text: str
    icon: str
    colour: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a failover: the seconds at which its effect was seen, if it was, and whether it is the one awaited."""

    name: str
    seconds: float | None
    awaited: bool


def headline(
    instances: Sequence[Mapping[str, Any]],
    anomalies: Sequence[Mapping[str, Any]],
    findings: Sequence[Mapping[str, Any]],
    missing: Mapping[str, str],
) -> Headline:
    """What matters most now. What isn't known is never called well."""
    moving = [move(i["failover"], i["instance"]) for i in instances if is_running(i["failover"])]
    if moving:
        return Headline("; ".join(moving), "swap_horiz", "negative")
    if "controller" in missing:
        return Headline("Whether sites are up is not known", "help", "grey-7")
    for health, told in (("down", "Down"), ("suspect", "Suspect"), ("unknown", "Not known")):
        if sites := _sites(instances, health):
            return Headline(f"{told}: {', '.join(sites)}", *HEALTH[health])
    if not instances:
        return Headline("Nothing is known yet", "hourglass_empty", "grey-7")
    if anomalies:
        several = "anomaly" if len(anomalies) == 1 else "anomalies"
        return Headline(f"All sites are up; {len(anomalies)} open {several}", "troubleshoot", "warning")
    if findings:
        return Headline(f"All sites are up, but: {findings[0]['text']}{_more(findings)}", "report", "warning")
    if "detector" in missing:
        return Headline("All sites are up; whether they behave normally is not known", "help", "grey-7")
    return Headline("All sites are up", "check_circle", "positive")


def _more(findings: Sequence[object]) -> str:
    return f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""


def _sites(instances: Sequence[Mapping[str, Any]], health: str) -> list[str]:
    return [f"{i['instance']}/{s['datacenter']}" for i in instances for s in i["sites"] if _health(s) == health]


def _health(site: Mapping[str, Any]) -> str:
    health: str = site["health"]
    return health if health in HEALTH else "unknown"


def is_running(failover: Mapping[str, Any] | None) -> bool:
    """Whether it has begun and not ended."""
    return failover is not None and failover["ended_at"] is None


def move(failover: Mapping[str, Any], instance: str) -> str:
    """A failover in a line."""
    plan, stage = failover["plan"], failover["stage"].replace("_", " ")
    if plan is None:
        return f"{instance}: not moved, {stage}"
    if is_running(failover):
        return f"Moving {instance} from {plan['source']} to {plan['target']}: {stage}"
    return f"{clock(failover['decided_at'])} {plan['kind']} from {plan['source']} to {plan['target']}: {stage}"


def is_fenced(failover: Mapping[str, Any] | None, datacenter: str) -> bool:
    """Whether the newest failover left that site refusing writes."""
    if failover is None or failover["plan"] is None:
        return False
    return bool(failover["plan"]["source"] == datacenter and failover["fence"] == "refuses_writes")


def steps(failover: Mapping[str, Any]) -> list[Step]:
    """Every step of a failover in its order."""
    seen = {phase["name"]: phase["seconds"] for phase in failover["phases"]}
    last = max((n for n, name in enumerate(STEPS) if name in seen), default=-1)
    running = is_running(failover)
    return [Step(name, seen.get(name), running and n == last + 1) for n, name in enumerate(STEPS)]


def vote(said: Mapping[str, Any]) -> str:
    """What a vantage says, how that counts where it counts as something else, and why where it isn't UP."""
    counted, verdict = (said[name].replace("_", " ") for name in ("counted", "verdict"))
    what = verdict if counted == verdict else f"said {verdict}, counts as {counted}"
    return what if counted == "up" else f"{what}: {said['why'] or said['reason'].replace('_', ' ')}"


def steady_findings(findings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The findings without what each renewal makes different."""
    return [{**f, "at": None, "origin": None} for f in findings]


def steady(instances: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The instances without what is different at every look and isn't shown: the ages of votes, and why one says UP."""
    return [{**i, "sites": [{**s, "votes": [_steady(v) for v in s["votes"]]} for s in i["sites"]]} for i in instances]


def _steady(said: Mapping[str, Any]) -> dict[str, Any]:
    return {**said, "age": None, "why": None if said["counted"] == "up" else said["why"]}


def clock(iso: str | None) -> str:
    """The time of day of an ISO instant, UTC."""
    return datetime.fromisoformat(iso).strftime("%H:%M:%S") if iso else "–"
