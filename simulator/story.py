"""Stories to watch: what is done to the world, and what must be true at the end.

A story ends with checks. Each looks at the world (the zone's history, the receivers, the client's acknowledgements, the
old site itself), not at what the services say of themselves.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from redis_agent.errors import AgentError
from simulator.world import CLIENTS, EAST, WEST, World

_AFTER = "the fault"
Status = Callable[[], Awaitable[dict[str, Any]]]
_STEADY_SECONDS = 4.0
_READY_SECONDS = 60.0
_FAILOVER_SECONDS = 60.0
_QUIET_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must be true at the end."""

    what: str
    held: bool
    seen: str


@dataclass(slots=True)
class StoryLog:
    """What happened so far: lines with seconds since the fault (or the start), the phases, the checks."""

    say: Callable[[str], None]
    lines: list[tuple[float, str]] = field(default_factory=list)
    phases: list[tuple[str, float]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    fault_at: float | None = None
    began: float = field(default_factory=time.monotonic)

    def tell(self, text: str) -> None:
        """A line."""
        since = time.monotonic() - (self.fault_at or self.began)
        if self.fault_at is not None and not any(line.startswith(_AFTER) for _, line in self.lines):
            self.lines.append((0.0, f"{_AFTER}, in seconds since then:"))
        self.lines.append((since, text))
        self.say(f"{since:6.1f} s  {text}")

    @property
    def held(self) -> bool:
        """Whether every check held, and there was one."""
        return bool(self.checks) and all(check.held for check in self.checks)


async def all_ready(world: World, status: Status, story_log: StoryLog) -> None:
    """Wait until both sites are up by the controller's votes and the client writes. Raises TimeoutError."""
    await world.client.start()
    async with asyncio.timeout(_READY_SECONDS):
        while not _all_up(await _status_or_none(status)) or not world.client.log.acks:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    story_log.tell("every site is up; the client writes through the name")
    await asyncio.sleep(_STEADY_SECONDS)


def _all_up(status: dict[str, Any] | None) -> bool:
    if status is None or not status["active_datacenter"]:
        return False
    return all(site["health"] == "up" and len(site["votes"]) == 3 for site in status["sites"])


async def _status_or_none(status: Status) -> dict[str, Any] | None:
    try:
        return await status()
    except AgentError:
        return None


async def a_datacenter_dies(world: World, status: Status, story_log: StoryLog) -> None:
    """dc-east goes dark, with the collector in it; traffic moves to dc-west; dc-east comes back and is fenced."""
    fault = story_log.fault_at = time.monotonic()
    fault_wall = time.time()
    story_log.tell("dc-east goes dark: its server stands still, no byte passes in or out")
    await world.lose(EAST)
    moved_at = await _follow(world, status, story_log)
    final = await status()
    failover = final["failover"]
    _phases(story_log, failover, fault_wall, moved_at - fault if moved_at else None)
    await asyncio.sleep(1.5)
    returned = time.monotonic()
    story_log.tell("dc-east returns: it still believes that it is the primary")
    await world.bring_back(EAST)
    fenced_after = await _fenced(world, story_log)
    await asyncio.sleep(2.0)
    story_log.checks += _checks(world, failover, fault, moved_at, fenced_after)
    story_log.checks.append(await _old_site(world, returned, fenced_after))


async def _follow(world: World, status: Status, story_log: StoryLog) -> float | None:
    """Tell what the controller does until the failover ended and the client writes again; when it did."""
    told: set[str] = set()
    moved_at: float | None = None
    deadline = time.monotonic() + _FAILOVER_SECONDS
    while time.monotonic() < deadline:
        shown = await _status_or_none(status)
        if shown is not None:
            _tell_news(shown, story_log, told)
        acks = world.client.log.acknowledged(world.address(WEST))
        if acks and moved_at is None:
            moved_at = acks[0].at
            story_log.tell("the client's writes go on, at dc-west")
        failover = shown["failover"] if shown is not None else None
        if moved_at is not None and failover is not None and failover["ended_at"] is not None:
            return moved_at
        await asyncio.sleep(0.1)
    story_log.tell(f"gave up waiting after {_FAILOVER_SECONDS:.0f} s")
    return moved_at


def _tell_news(shown: dict[str, Any], story_log: StoryLog, told: set[str]) -> None:
    news = [f"{site['datacenter']} is {site['health']}" for site in shown["sites"] if site["health"] != "up"]
    failover = shown["failover"]
    if failover is not None:
        news += [f"{_called(e)}: {e['reason']}" for e in failover["events"] if e["kind"] != "intent"]
    news += [f"not moved: {reason}" for reason in shown["refusals"]]
    for line in news:
        if line not in told:
            told.add(line)
            story_log.tell(line)


def _called(event: dict[str, Any]) -> str:
    """What a journal entry tells of: an outcome carries the stage that follows it."""
    if event["kind"] != "outcome":
        return str(event["kind"]).replace("_", " ")
    done = {"promoting": "fence", "redirecting": "promote", "propagating": "DNS", "verifying": "authoritative"}
    return done.get(event["stage"], str(event["stage"]))


def _phases(story_log: StoryLog, failover: dict[str, Any] | None, fault_wall: float, moved: float | None) -> None:
    """Seconds since the fault: the controller's phases are since it was first seen."""
    if failover is None:
        return
    decided = next((p["seconds"] for p in failover["phases"] if p["name"] == "decided"), 0.0)
    seen = _epoch(failover["decided_at"]) - decided - fault_wall
    story_log.phases.append(("seen", seen))
    story_log.phases += [(phase["name"], seen + phase["seconds"]) for phase in failover["phases"]]
    if moved is not None:
        story_log.phases.append(("client moved", moved))


def _epoch(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


async def _fenced(world: World, story_log: StoryLog) -> float | None:
    """When the returned site first refused a write; None when it never did."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if (refusal := await write_to(world, EAST)) is not None and "NOREPLICAS" in refusal:
            story_log.tell(f"dc-east refuses writes: {refusal}")
            return time.monotonic()
        await asyncio.sleep(0.2)
    return None


async def write_to(world: World, site: str) -> str | None:
    """Write straight to a site as a client with an old address would; the error, or None when it was acknowledged."""
    host, port = world.endpoint(CLIENTS, site)
    client = redis.asyncio.Redis(
        host=host,
        port=port,
        protocol=2,
        driver_info=None,
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        await client.set("stray", "1")
    except (RedisError, OSError) as fault:
        return str(fault) or type(fault).__name__
    finally:
        await client.aclose()
    return None


def _checks(
    world: World, failover: dict[str, Any] | None, fault: float, moved_at: float | None, fenced_at: float | None
) -> list[Check]:
    client_log = world.client.log
    decided = next((e for e in failover["events"] if e["kind"] == "decided"), None) if failover is not None else None
    votes = [v for v in decided["votes"] if v["site"]["datacenter"] == EAST] if decided is not None else []
    down = [v["vantage"] for v in votes if v["counted"] == "down"]
    stage = failover["stage"] if failover is not None else "none"
    stray = client_log.acknowledged(world.address(EAST), fenced_at or fault)
    after = len(client_log.acknowledged(world.address(WEST)))
    return [
        Check("dc-east was voted down by a quorum", len(down) >= 2, f"{', '.join(down) or 'nobody'} said down"),
        Check("the failover ended verified", stage == "done", f"it is {stage}"),
        Check("exactly one DNS change was made", len(world.zone.history) == 1, f"{len(world.zone.history)} changes"),
        Check("the client's writes resumed through the name", moved_at is not None, f"{after} writes at dc-west"),
        Check(
            "the old site acknowledged none of the client's writes after the fence", not stray, f"{len(stray)} writes"
        ),
        *_told_once(world, failover["id"] if failover is not None else ""),
    ]


def _told_once(world: World, failover: str) -> list[Check]:
    """The failover's alert at each receiver: opened once, resolved once."""
    slack = [str(post) for post in world.slack.accepted]
    mails = [str(mail.message["Subject"]) for mail in world.mail.mails]
    pages = [e for e in world.pagerduty.events if e.dedup_key == f"failover/{failover}"]
    actions = [e.body.get("event_action") for e in pages if isinstance(e.body, dict)]
    seen = {
        "Slack": (_holding(slack, "is being moved"), _holding(slack, "was moved")),
        "mail": (_holding(mails, "is being moved"), _holding(mails, "was moved")),
        "PagerDuty": (actions.count("trigger"), actions.count("resolve")),
    }
    return [
        Check(f"{receiver} was told of it once, and once of its end", counts == (1, 1), f"{counts[0]} and {counts[1]}")
        for receiver, counts in seen.items()
    ]


def _holding(texts: list[str], part: str) -> int:
    return sum(1 for text in texts if part in text)


async def _old_site(world: World, returned: float, fenced_at: float | None) -> Check:
    refusal = await write_to(world, EAST)
    seconds = f"{fenced_at - returned:.1f} s after its return" if fenced_at is not None else "never"
    held = refusal is not None and "NOREPLICAS" in refusal
    return Check(
        "the returned site refuses writes", held, f"fenced {seconds}; a write now: {refusal or 'acknowledged'}"
    )


async def the_witness_is_cut_off(world: World, status: Status, story_log: StoryLog) -> None:
    """The witness reaches no site any more. Nothing may move."""
    story_log.fault_at = time.monotonic()
    story_log.tell("the witness is cut off from every site")
    await world.cut_off("witness")
    told: set[str] = set()
    until = time.monotonic() + _QUIET_SECONDS
    while time.monotonic() < until:
        shown = await _status_or_none(status)
        if shown is not None:
            _tell_news(shown, story_log, told)
        await asyncio.sleep(0.2)
    final = await status()
    gap = world.client.log.longest_gap_seconds()
    votes = [v for site in final["sites"] for v in site["votes"] if v["vantage"] == "witness"]
    counted = {vote["counted"] for vote in votes}
    story_log.checks += [
        Check("no DNS change was made", not world.zone.history, f"{len(world.zone.history)} changes"),
        Check("no failover was begun", final["failover"] is None, str(final["failover"] and final["failover"]["id"])),
        Check("the witness's votes count as cannot tell", counted == {"cannot_tell"}, f"they count as {counted}"),
        Check("the client client_log nothing", gap < 1.0, f"longest gap {gap:.2f} s"),
    ]


Story = Callable[[World, Status, StoryLog], Awaitable[None]]
STORIES: dict[str, Story] = {
    "a-datacenter-dies": a_datacenter_dies,
    "the-witness-is-cut-off": the_witness_is_cut_off,
}
