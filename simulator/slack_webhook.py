"""A Slack incoming webhook that remembers what was posted, and says no as Slack does."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from simulator.http_listener import HttpListener, Misbehaviour

MAX_BLOCKS = 50
MAX_ATTACHMENTS = 100
MAX_HEADER_CHARACTERS = 150
MAX_SECTION_CHARACTERS = 3_000
MAX_FIELDS = 10


@dataclass(frozen=True, slots=True)
class SlackPost:
    """One request: when (monotonic seconds), to which path, what, and the HTTP status it got.

    `payload` is the JSON object, or None if the body wasn't one."""

    at: float
    path: str
    payload: Mapping[str, Any] | None
    status: int


class SlackWebhook:
    """Answers POST /services/… on host:port: 200 "ok", or 400 for what Slack would refuse.

    `posts` is every request that was answered, oldest first; `accepted` the payloads of those that Slack would show.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        self.posts: list[SlackPost] = []
        self._misbehaviour = Misbehaviour()
        self._listener = HttpListener([web.post("/services/{secret:.+}", self._receive)], host, port)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def url(self) -> str:
        """A webhook address of this fake. Any other path below /services/ works as well."""
        return f"http://{self._listener.host}:{self.port}/services/T0SIMULATOR/B0SIMULATOR/simulatorsimulatorsimula"

    @property
    def accepted(self) -> list[Mapping[str, Any]]:
        return [post.payload for post in self.posts if post.status == 200 and post.payload is not None]

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
        """Answers the next `n` posts with `status` and shows none of them."""
        self._misbehaviour.answer_next(status, n, retry_after_seconds)

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        canned = await self._misbehaviour.take()
        payload = _payload(body)
        if canned is not None:
            text = "rate_limited" if canned.status == 429 else "rollup_error"
            answer = web.Response(status=canned.status, text=text, headers=canned.headers)
        else:
            refusal = "invalid_payload" if payload is None else next(_refusals(payload), None)
            answer = web.Response(status=400 if refusal else 200, text=refusal or "ok")
        self.posts.append(SlackPost(time.monotonic(), request.path, payload, answer.status))
        return answer


def _payload(body: bytes) -> dict[str, Any] | None:
    try:
        payload = json.loads(body)
    except ValueError:
        return None
    return payload if isinstance(payload, dict) else None


def _refusals(payload: Mapping[str, Any]) -> Iterator[str]:
    """The bodies of the 400s that a payload deserves. Limits: Slack's Block Kit reference."""
    blocks, attachments = payload.get("blocks", []), payload.get("attachments", [])
    if not (payload.get("text") or blocks or attachments):
        yield "invalid_payload"
    if not isinstance(blocks, list) or len(blocks) > MAX_BLOCKS or not all(map(_is_valid_block, blocks)):
        yield "invalid_blocks"
    if not isinstance(attachments, list) or len(attachments) > MAX_ATTACHMENTS:
        yield "too_many_attachments"


def _is_valid_block(block: object) -> bool:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        return False
    text = block.get("text")
    length = len(str(text.get("text", ""))) if isinstance(text, dict) else 0
    if block["type"] == "header":
        return 0 < length <= MAX_HEADER_CHARACTERS
    if block["type"] == "section":
        return length <= MAX_SECTION_CHARACTERS and len(block.get("fields", [])) <= MAX_FIELDS
    return True
