"""The page in Chromium: who gets in, what it shows, that it changes by itself, and that it asks nobody but us."""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Route, async_playwright, expect

from redis_agent import model as m
from redis_agent.testing_process import STOPPED_WITHIN_SECONDS

from .conftest import HOST, KEY, Gateway, Running, anomaly, failover, instance, site, vote

LONG_MS = 20_000
Check = Callable[[Gateway, Page], Awaitable[None]]


@asynccontextmanager
async def browsing(said: list[str], asked: list[str]) -> AsyncIterator[Page]:
    """A page of a headless Chromium; what its console says beyond the ordinary, and every address that it asks."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = await browser.new_page(viewport={"width": 1280, "height": 900})
            page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
            page.on("pageerror", lambda fault: said.append(str(fault)))
            page.on("request", lambda request: asked.append(request.url))
            page.on("websocket", lambda socket: asked.append(socket.url))
            page.set_default_timeout(LONG_MS)
            yield page
        finally:
            await browser.close()


def with_page(running: Running, check: Check) -> None:
    """With a gateway and a browser. In the end the console was silent, and nobody but the gateway was asked."""
    said: list[str] = []
    asked: list[str] = []

    async def run() -> None:
        async with running() as gateway, browsing(said, asked) as page:
            await check(gateway, page)

    asyncio.run(run())
    assert said == []
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))} == {HOST}


async def shows(page: Page, text: str | re.Pattern[str]) -> None:
    await expect(page.get_by_text(text).first).to_be_visible(timeout=LONG_MS)


async def shows_no(page: Page, text: str | re.Pattern[str]) -> None:
    await expect(page.get_by_text(text)).to_have_count(0, timeout=LONG_MS)


async def log_in(gateway: Gateway, page: Page) -> None:
    await page.goto(gateway.url)
    await page.get_by_label("API key").fill(KEY)
    await page.get_by_role("button", name="Open").click()
    await expect(page.get_by_role("heading", name="redis-agent")).to_be_visible(timeout=LONG_MS)
    await shows(page, re.compile("live, as of"))


def test_who_has_not_shown_the_key_gets_the_form_and_a_wrong_key_is_told_so(running: Running) -> None:
    said: list[str] = []

    async def run() -> None:
        async with running() as gateway, browsing(said, []) as page:
            await page.goto(gateway.url)
            assert page.url == f"{gateway.url}/login"
            await page.get_by_label("API key").fill("not-the-key")
            await page.get_by_role("button", name="Open").click()
            await shows(page, "That is not the key.")
            await page.goto(gateway.url)
            assert page.url == f"{gateway.url}/login"
            await log_in(gateway, page)
            assert page.url == f"{gateway.url}/"

    asyncio.run(run())
    assert [line for line in said if "401" not in line] == [], "but for the 401 itself"


def test_a_link_with_the_key_opens_the_page(running: Running) -> None:
    async def check(gateway: Gateway, page: Page) -> None:
        await page.goto(f"{gateway.url}/login?key={KEY}")
        await shows(page, re.compile("live, as of"))
        assert page.url == f"{gateway.url}/", "and the key isn't in the address any more"

    with_page(running, check)


def test_sites_votes_anomalies_and_alerts_are_shown(running: Running) -> None:
    async def check(gateway: Gateway, page: Page) -> None:
        await log_in(gateway, page)
        await shows(page, "All sites are up; 1 open anomaly")
        await expect(page.get_by_role("heading", name="orders")).to_be_visible()
        await shows(page, "orders.example.test. → dc-east")
        for name in ("dc-east", "dc-west", "witness"):
            await shows(page, name)
        await shows(page, re.compile("since 12:00:00: PING takes 40 ms"))
        await expect(page.get_by_role("heading", name="Alerts")).to_be_visible()
        await shows(page, "orders/dc-east does not behave normally (5)")

    with_page(running, check)


def test_a_failover_is_seen_as_it_happens_without_a_reload(running: Running) -> None:
    async def check(gateway: Gateway, page: Page) -> None:
        gateway.behind.anomalies.clear()
        await log_in(gateway, page)
        await shows(page, "All sites are up")

        status = instance()
        del status.sites[:]
        status.sites.extend([site("dc-east", "down", active=True), site("dc-west", "up")])
        status.sites[0].votes[2].CopyFrom(vote("dc-east", "witness", m.Verdict.DOWN, m.Verdict.CANNOT_TELL))
        gateway.behind.instances["orders"] = status
        await shows(page, "Down: orders/dc-east")
        await shows(page, re.compile("said down, counts as cannot tell"))
        await shows(page, re.compile("down: no answer from"))

        status.failover.CopyFrom(failover(3, m.Stage.FENCING))
        await shows(page, "Moving orders from dc-east to dc-west: fencing")
        await shows(page, "1.4 s")
        await shows_no(page, "2.1 s")
        await page.get_by_text("Journal").click()
        await shows(page, re.compile("decided fencing: step 0"))
        status.failover.CopyFrom(failover(4, m.Stage.PROMOTING))
        await shows(page, "2.1 s")
        await shows(page, re.compile("decided promoting: step 0"))  # what was unfolded stays so

        status.failover.CopyFrom(failover(8, m.Stage.DONE))
        status.active_datacenter = "dc-west"
        await shows(page, "12:00:04 emergency from dc-east to dc-west: done")
        await shows(page, "orders.example.test. → dc-west")

    with_page(running, check)


def test_why_nothing_is_moved_is_shown(running: Running) -> None:
    async def check(gateway: Gateway, page: Page) -> None:
        await log_in(gateway, page)
        gateway.behind.instances["orders"] = instance(
            paused=True, pause_reason="maintenance until noon", refusals=["paused: maintenance until noon"]
        )
        await shows(page, "Paused: maintenance until noon")
        await shows(page, "not moved")

    with_page(running, check)


def test_a_text_of_another_system_is_text_and_no_markup(running: Running) -> None:
    async def check(gateway: Gateway, page: Page) -> None:
        evil = anomaly()
        evil.explanation = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
        gateway.behind.anomalies[:] = [evil]
        await log_in(gateway, page)
        await shows(page, re.compile("<b>bold</b>"))
        assert await page.title() == "redis-agent"

    with_page(running, check)


@pytest.mark.parametrize("service", ["controller", "detector", "notifier"])
def test_a_service_that_is_away_is_said_in_red_and_its_return_is_seen(running: Running, service: str) -> None:
    async def check(gateway: Gateway, page: Page) -> None:
        await log_in(gateway, page)
        await gateway.services.stop(service)
        card = page.get_by_role("alert").filter(has_text=f"The {service} does not answer")
        await expect(card).to_be_visible(timeout=LONG_MS)
        assert await card.evaluate("card => getComputedStyle(card).backgroundColor") == "rgb(179, 0, 27)"
        if service == "controller":
            await shows(page, "Whether sites are up is not known")
        await gateway.services.start(service)
        await expect(card).to_have_count(0, timeout=LONG_MS)

    with_page(running, check)


def test_a_service_that_stands_still_does_not_hold_back_the_others(running: Running) -> None:
    async def check(gateway: Gateway, page: Page) -> None:
        await log_in(gateway, page)
        gateway.behind.stalled.add("notifier")
        await shows(page, "The notifier does not answer; what it knows is missing here")
        seen = set()
        deadline = time.monotonic() + 12
        while time.monotonic() < deadline:
            seen.add(await page.get_by_text(re.compile("live, as of")).inner_text())
            await asyncio.sleep(0.2)
        assert len(seen) >= 4, "the others' news every two seconds, not at the end of each long wait"

    with_page(running, check)


@pytest.mark.parametrize("fonts", [True, False], ids=["", "before its fonts have come"])
def test_the_page_fits_a_telephone(running: Running, fonts: bool) -> None:
    """A sign is a word until its font has come, and mustn't widen the page meanwhile."""

    async def check(gateway: Gateway, page: Page) -> None:
        come = asyncio.Event()

        async def late(route: Route) -> None:
            await come.wait()
            await route.continue_()

        if not fonts:
            await page.route("**/*.woff*", late)
        await page.set_viewport_size({"width": 390, "height": 844})
        status = instance(refusals=["the newest failover is 300 s ago; 3600 s are to lie between two"])
        status.failover.CopyFrom(failover(5))
        gateway.behind.instances["orders"] = status
        await log_in(gateway, page)
        await shows(page, "Moving orders from dc-east to dc-west: redirecting")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        come.set()

    with_page(running, check)


def test_asked_to_stop_it_ends_in_time_with_a_page_open(running: Running) -> None:
    said: list[str] = []

    async def run() -> None:
        async with running() as gateway, browsing(said, []) as page:
            await log_in(gateway, page)
            began = time.monotonic()
            assert await gateway.process.stop() == 0
            assert time.monotonic() - began < STOPPED_WITHIN_SECONDS
            assert "Traceback" not in gateway.process.said, gateway.process.said

    asyncio.run(run())
