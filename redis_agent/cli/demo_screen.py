"""The demo's live screen: sites and votes, the failover's steps, what the client feels, what happened."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from redis_agent.cli.tables import status_view
from redis_agent.errors import AgentError

if TYPE_CHECKING:
    from simulator.story import Status, StoryLog
    from simulator.world import World

_REFRESH_SECONDS = 0.25
_LINES = 14
_LINES_AT_THE_END = 5


class Screen:
    """Draws what is known, a few times a second."""

    def __init__(self, world: "World", story_log: "StoryLog", port: int) -> None:
        self._world = world
        self._story_log = story_log
        self._port = port
        self._status: dict[str, Any] | None = None
        self._ended: str | None = None

    async def draw(self, display: Live, status: "Status") -> None:
        """Until cancelled."""
        while True:
            try:
                self._status = await status()
            except AgentError:
                self._status = None
            display.update(self._whole(), refresh=True)
            await asyncio.sleep(_REFRESH_SECONDS)

    async def linger(self, seconds: float | None) -> None:
        """Keep running after the story, for the reader to play with, until Ctrl-C or for so many seconds."""
        self._ended = "The story is over; everything keeps running. Ctrl-C ends it."
        try:
            await asyncio.sleep(seconds if seconds is not None else 10**9)
        except asyncio.CancelledError:
            # Ctrl-C: the way to end, not a fault. The report follows.
            task = asyncio.current_task()
            if task is None or task.uncancel() > 0:
                raise

    def _whole(self) -> RenderableType:
        page = Text(f"page: http://127.0.0.1:{self._port}/login?key={self._world.api_key}", style="bold")
        sites: RenderableType = Text("the controller does not answer yet")
        if self._status is not None:
            sites = status_view({"instances": [self._status], "findings": []})
        # What matters most stands first: a terminal that is too low loses the end of the list, never the verdict.
        parts: list[RenderableType] = [page]
        if self._ended is not None:
            parts.append(Text(self._ended, style="bold reverse"))
        if self._story_log.checks:
            parts.append(self._checks())
        if self._story_log.phases:
            parts.append(self._phases())
        return Group(*parts, self._client(), self._lines(), Panel(sites, title="sites and votes"))

    def _client(self) -> Panel:
        felt = self._world.client.log
        now = time.monotonic()
        lately = [ack for ack in felt.acks[-200:] if now - ack.at < 1.0]
        where = {self._world.address(site): site for site in self._world.servers}
        site = where.get(lately[-1].address, "?") if lately else "nobody"
        text = Text()
        text.append(f"{len(lately):3} writes/s acknowledged by {site}", style="green" if lately else "red")
        text.append(f"   errors {felt.errors}   longest gap {felt.longest_gap_seconds():.1f} s")
        return Panel(text, title=f"the client, through {self._world.name}")

    def _lines(self) -> Panel:
        text = Text()
        for seconds, line in self._story_log.lines[-(_LINES_AT_THE_END if self._story_log.checks else _LINES) :]:
            text.append(f"{seconds:6.1f} s  ", style="cyan")
            text.append(line + "\n")
        return Panel(text, title="what happened")

    def _phases(self) -> Panel:
        text = "   ".join(f"{name} {seconds:.1f} s" for name, seconds in self._story_log.phases)
        return Panel(text, title="seconds after the fault")

    def _checks(self) -> Panel:
        table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
        for check in self._story_log.checks:
            sign = Text("ok", style="green") if check.held else Text("FAIL", style="bold red")
            table.add_row(sign, Text(check.what), Text(check.seen, style="dim"))
        return Panel(table, title="checks")
