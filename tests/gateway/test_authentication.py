"""Who may come in: by key, by cookie, and nobody else."""

import stat
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from gateway import settings
from gateway.edges.authentication import COOKIE, Authenticator
from redis_agent.errors import ConfigurationError
from redis_agent.fleet import Fleet

KEY = "the-key-of-these-tests-0123456789"


def page(cookie: str | None) -> HTTPConnection:
    headers = [] if cookie is None else [(b"cookie", cookie.encode("latin-1"))]
    return HTTPConnection({"type": "http", "path": "/", "headers": headers})


def cookie_of(authenticator: Authenticator) -> str:
    return authenticator.opened().headers["set-cookie"].partition(";")[0]


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


def test_there_is_no_door_with_an_empty_key() -> None:
    with pytest.raises(ValueError, match="everybody"):
        Authenticator("")


def test_the_cookie_opens_the_page_and_does_not_hold_the_key() -> None:
    authenticator = Authenticator(KEY)
    cookie = cookie_of(authenticator)
    assert KEY not in cookie
    assert authenticator.admits_cookie(page(cookie))
    assert authenticator.admits_cookie(page(f"other=1; {cookie}; more=2"))
    attributes = authenticator.opened().headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=strict" in attributes


def test_another_keys_cookie_does_not_open_the_page() -> None:
    assert not Authenticator(KEY).admits_cookie(page(cookie_of(Authenticator(KEY + "x"))))


@pytest.mark.parametrize(
    "cookie", [None, "", f"{COOKIE}=", f"{COOKIE}=x", f"{COOKIE}={KEY}", "a:b=1", "=", "ü", f"{COOKIE}=ü"]
)
def test_odd_cookies_of_others_open_nothing_and_break_nothing(cookie: str | None) -> None:
    assert not Authenticator(KEY).admits_cookie(page(cookie))


def test_a_cookie_of_others_does_not_hide_ours() -> None:
    authenticator = Authenticator(KEY)
    assert authenticator.admits_cookie(page(f"a:b=1; {cookie_of(authenticator)}"))


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
