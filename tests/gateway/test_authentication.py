"""Who may come in: by key, by cookie, and nobody else."""

import asyncio
import base64
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.datastructures import Headers

from gateway import settings
from gateway.edges.authentication import COOKIE, SESSION_SECONDS, Authenticator, mount
from redis_agent.errors import ConfigurationError
from redis_agent.fleet import Fleet

KEY = "the-key-of-these-tests-0123456789"


@pytest.mark.parametrize(
    "headers",
    [{"api-key": KEY}, {"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {KEY} "}],
)
def test_the_key_is_taken_in_each_of_its_three_headers(headers: dict[str, str]) -> None:
    assert Authenticator(KEY).admits_key(Headers(headers))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"api-key": ""},
        {"api-key": KEY + "x"},
        {"api-key": KEY[:-1]},
        {"api-key": KEY.upper()},
        {"X-API-Key": "ü"},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer "},
        {"api-key": "wrong", "Authorization": f"Bearer {KEY}"},
    ],
)
def test_anything_else_is_not_taken(headers: dict[str, str]) -> None:
    assert not Authenticator(KEY).admits_key(Headers(headers))


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(ValueError, match="everybody"):
        Authenticator("")


# --- the page's session


@asynccontextmanager
async def asking(key: str = KEY) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a page that says only `the page`, behind that key."""
    app = FastAPI()

    @app.get("/")
    async def page() -> str:
        return "the page"

    mount(app, Authenticator(key))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page") as client:
        yield client


async def opens(client: httpx.AsyncClient, cookie: str | None) -> bool:
    answer = await client.get("/", headers={} if cookie is None else {b"cookie": cookie.encode("latin-1")})
    assert answer.status_code in (200, 303)
    return answer.status_code == 200


async def cookie_for(key: str) -> str:
    async with asyncio.timeout(10), asking(key) as client:
        answer = await client.post("/login", data={"key": key})
        assert answer.status_code == 303
        return answer.headers["set-cookie"]


def test_the_key_opens_the_page_and_its_cookie_does_not_hold_it() -> None:
    async def go() -> None:
        said = await cookie_for(KEY)
        assert KEY not in said
        assert {"httponly", "samesite=strict", f"max-age={SESSION_SECONDS}"} <= {
            p.strip() for p in said.lower().split(";")
        }
        cookie = said.partition(";")[0]
        async with asking() as client:
            assert await opens(client, cookie)
            assert await opens(client, f"other=1; {cookie}; more=2")
            assert await opens(client, f"a:b=1; {cookie}")

    asyncio.run(go())


def test_another_keys_session_does_not_open_the_page() -> None:
    async def go() -> None:
        async with asking() as client:
            assert not await opens(client, (await cookie_for(KEY + "x")).partition(";")[0])

    asyncio.run(go())


@pytest.mark.parametrize(
    "cookie", [None, "", f"{COOKIE}=", f"{COOKIE}=x", f"{COOKIE}={KEY}", "a:b=1", "=", "ü", f"{COOKIE}=ü"]
)
def test_odd_cookies_of_others_open_nothing_and_break_nothing(cookie: str | None) -> None:
    async def go() -> None:
        async with asking() as client:
            assert not await opens(client, cookie)

    asyncio.run(go())


def test_a_session_that_somebody_changed_opens_nothing() -> None:
    async def go() -> None:
        name, _, value = (await cookie_for(KEY)).partition(";")[0].partition("=")
        forged = base64.b64encode(b'{"opened": true}').decode() + value[value.index(".") :].replace("a", "b")
        async with asking() as client:
            assert not await opens(client, f"{name}={forged}")

    asyncio.run(go())


# --- a key that nobody configured

FLEET = {
    "datacenters": [{"name": "dc-east"}],
    "instances": [
        {"id": "orders", "sites": [{"datacenter": "dc-east", "url": "redis://127.0.0.1:1", "dns_value": "e.test."}]}
    ],
    "collector": {"vantage": "witness"},
    "api": {"enabled": True},
}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / settings.GENERATED_KEY


def test_a_key_is_made_once_kept_and_readable_by_its_owner_alone(elsewhere: Path) -> None:
    first = settings.read(Fleet.model_validate(FLEET))
    again = settings.read(Fleet.model_validate(FLEET))
    assert first.key == again.key == elsewhere.read_text().strip()
    assert len(first.key) == 48
    assert first.generated == settings.GENERATED_KEY
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o600


@pytest.mark.parametrize("left", ["", "\n", "  \n"])
def test_an_empty_key_file_is_no_key(elsewhere: Path, left: str) -> None:
    elsewhere.parent.mkdir()
    elsewhere.write_text(left)
    assert len(settings.read(Fleet.model_validate(FLEET)).key) == 48


def test_a_place_where_no_key_can_be_kept_is_a_fault_of_the_configuration(elsewhere: Path) -> None:
    elsewhere.parent.write_text("a file where a directory should be")
    with pytest.raises(ConfigurationError, match=r"api\.api_key_file"):
        settings.read(Fleet.model_validate(FLEET))


def test_a_configured_key_is_used_and_none_is_made(elsewhere: Path) -> None:
    fleet = Fleet.model_validate({**FLEET, "api": {"enabled": True, "api_key": KEY}})
    assert (settings.read(fleet).key, settings.read(fleet).generated) == (KEY, None)
    assert not elsewhere.exists()
