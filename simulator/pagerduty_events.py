"""PagerDuty's Events API v2 with the life of each alert: what is open, acknowledged, resolved, and what was dropped."""

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import uuid4

from aiohttp import web

from simulator.http_listener import CannedAnswer, HttpListener, Misbehaviour

MAX_BODY_BYTES = 512 * 1024
ROUTING_KEY_CHARACTERS = 32
MAX_DEDUP_KEY_CHARACTERS = 255
MAX_SUMMARY_CHARACTERS = 1024
SEVERITIES = frozenset({"critical", "error", "warning", "info"})
ACTIONS = frozenset({"trigger", "acknowledge", "resolve"})
WINDOW_SECONDS = 60.0
DEFAULT_CALLS_PER_WINDOW = 120
"""Per integration key over a sliding minute: the figure in PagerDuty's Events API documentation."""


class AlertState(Enum):
    TRIGGERED = "TRIGGERED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


class Fate(Enum):
    """What became of one request. DROPPED ones get 202 like the others: the API is asynchronous and doesn't tell."""

    OPENED = "OPENED"
    REPEATED = "REPEATED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"
    DROPPED = "DROPPED"
    INVALID = "INVALID"
    NOT_TAKEN = "NOT_TAKEN"


@dataclass(frozen=True, slots=True)
class PagerDutyEvent:
    """One request: when (monotonic seconds), what, the HTTP status it got and what became of it.

    `body` is the JSON object, or None if it wasn't one; `dedup_key` the one that was sent or made up."""

    at: float
    body: Mapping[str, Any] | None
    dedup_key: str
    status: int
    fate: Fate


class PagerDutyEvents:
    """Answers POST /v2/enqueue on host:port. `events` is every request that was answered, oldest first.

    `alerts` tells the state of each (routing key, dedup key) that was ever opened. More than `calls_per_window` requests
    with one routing key within 60 s get 429.
    """

    def __init__(self, host: str, port: int = 0, calls_per_window: int = DEFAULT_CALLS_PER_WINDOW) -> None:
        self.events: list[PagerDutyEvent] = []
        self.alerts: dict[tuple[str, str], AlertState] = {}
        self.calls_per_window = calls_per_window
        self._recent_calls: dict[str, deque[float]] = {}
        self._misbehaviour = Misbehaviour()
        self._listener = HttpListener([web.post("/v2/enqueue", self._receive)], host, port, MAX_BODY_BYTES)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def url(self) -> str:
        return f"http://{self._listener.host}:{self.port}/v2/enqueue"

    @property
    def black_hole(self) -> bool:
        """While true, requests are taken in and never answered."""
        return self._misbehaviour.black_hole

    @black_hole.setter
    def black_hole(self, silent: bool) -> None:
        self._misbehaviour.black_hole = silent

    async def start(self) -> None:
        """Raises OSError if the address can't be bound."""
        await self._listener.start()

    async def stop(self) -> None:
        await self._listener.stop()

    def answer_next(self, status: int, n: int = 1, retry_after_seconds: int | None = None) -> None:
        """Answers the next `n` requests with `status` and takes none of them."""
        self._misbehaviour.answer_next(status, n, retry_after_seconds)

    async def _receive(self, request: web.Request) -> web.Response:
        raw = await request.read()
        canned = await self._misbehaviour.take()
        body = _json_object(raw)
        if canned is None and self._is_over_limit(str((body or {}).get("routing_key", ""))):
            canned = CannedAnswer(429)
        if canned is not None:
            return self._turn_away(body, canned)
        errors = ["the body is not a JSON object"] if body is None else list(_errors(body))
        if errors or body is None:
            return self._refuse(body, errors)
        return self._take(body)

    def _take(self, body: Mapping[str, Any]) -> web.Response:
        dedup_key = body.get("dedup_key") or uuid4().hex
        fate = self._advance((body["routing_key"], dedup_key), body["event_action"])
        self.events.append(PagerDutyEvent(time.monotonic(), body, dedup_key, 202, fate))
        answer = {"status": "success", "message": "Event processed", "dedup_key": dedup_key}
        return web.json_response(answer, status=202)

    def _advance(self, alert: tuple[str, str], action: str) -> Fate:
        """One event against one alert: only a trigger opens, and only an open alert can be acknowledged or resolved."""
        is_open = self.alerts.get(alert, AlertState.RESOLVED) is not AlertState.RESOLVED
        if action == "trigger":
            if not is_open:
                self.alerts[alert] = AlertState.TRIGGERED
            return Fate.REPEATED if is_open else Fate.OPENED
        if not is_open:
            return Fate.DROPPED
        self.alerts[alert] = AlertState.ACKNOWLEDGED if action == "acknowledge" else AlertState.RESOLVED
        return Fate[self.alerts[alert].name]

    def _refuse(self, body: Mapping[str, Any] | None, errors: list[str]) -> web.Response:
        self.events.append(PagerDutyEvent(time.monotonic(), body, _dedup_key(body), 400, Fate.INVALID))
        answer = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
        return web.json_response(answer, status=400)

    def _turn_away(self, body: Mapping[str, Any] | None, canned: CannedAnswer) -> web.Response:
        self.events.append(PagerDutyEvent(time.monotonic(), body, _dedup_key(body), canned.status, Fate.NOT_TAKEN))
        status = "throttle exceeded" if canned.status == 429 else "error"
        answer = {"status": status, "message": "Event not processed. Please retry later."}
        return web.json_response(answer, status=canned.status, headers=canned.headers)

    def _is_over_limit(self, routing_key: str) -> bool:
        now = time.monotonic()
        recent = self._recent_calls.setdefault(routing_key, deque())
        while recent and recent[0] <= now - WINDOW_SECONDS:
            recent.popleft()
        if len(recent) >= self.calls_per_window:
            return True
        recent.append(now)
        return False


def _json_object(raw: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _dedup_key(body: Mapping[str, Any] | None) -> str:
    return str((body or {}).get("dedup_key", ""))


def _errors(body: Mapping[str, Any]) -> Iterator[str]:
    """What PagerDuty would find wrong with an event, in its manner of saying it."""
    routing_key, dedup_key = body.get("routing_key"), body.get("dedup_key")
    if not isinstance(routing_key, str) or not routing_key:
        yield "'routing_key' is missing or blank"
    elif len(routing_key) != ROUTING_KEY_CHARACTERS:
        yield f"Length of 'routing_key' is incorrect (should be {ROUTING_KEY_CHARACTERS} characters)"
    if body.get("event_action") not in ACTIONS:
        yield "'event_action' must be one of 'trigger', 'acknowledge', 'resolve'"
    if dedup_key is not None and not (isinstance(dedup_key, str) and len(dedup_key) <= MAX_DEDUP_KEY_CHARACTERS):
        yield f"'dedup_key' must be a string of at most {MAX_DEDUP_KEY_CHARACTERS} characters"
    if body.get("event_action") == "trigger":
        yield from _payload_errors(body.get("payload"))
    elif not dedup_key:
        yield "'dedup_key' is missing or blank"


def _payload_errors(payload: object) -> Iterator[str]:
    if not isinstance(payload, dict):
        yield "'payload' is missing or blank"
        return
    for field in ("summary", "source", "severity"):
        if not payload.get(field):
            yield f"'payload.{field}' is missing or blank"
    if len(str(payload.get("summary") or "")) > MAX_SUMMARY_CHARACTERS:
        yield f"'payload.summary' is longer than {MAX_SUMMARY_CHARACTERS} characters"
    if payload.get("severity") and payload["severity"] not in SEVERITIES:
        yield "'payload.severity' is invalid (must be one of critical, error, warning, info)"
