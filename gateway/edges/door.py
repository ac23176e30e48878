"""Who may come in: REST by key, the page by a cookie that only the key gives. Compared in constant time, open to nobody."""

import hashlib
import hmac
from http.cookies import SimpleCookie
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "redis-agent"
_OPEN = ("/api/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/login")
_FORM = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>redis-agent</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root{color-scheme:light dark}body{font:16px system-ui,sans-serif;display:grid;place-items:center;min-height:90vh}
form{display:grid;gap:.8rem;min-width:20rem}input,button{font:inherit;padding:.5rem}</style></head><body>
<form method="post" action="/login"><h1>redis-agent</h1><label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Open</button>%s</form></body></html>"""


class Door:
    """Knows the key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._token = hmac.new(self._key, b"redis-agent page", hashlib.sha256).hexdigest()

    def admits_key(self, request: Request) -> bool:
        """Whether the request carries the key in a header."""
        headers = request.headers
        bearer = headers.get("authorization", "")
        given = headers.get("api-key") or headers.get("x-api-key")
        if given is None and bearer.lower().startswith("bearer "):
            given = bearer[7:].strip()
        return self.is_key(given or "")

    def is_key(self, given: str) -> bool:
        """Whether that is the key."""
        return hmac.compare_digest(given.encode(), self._key)

    def admits_cookie(self, scope: Scope) -> bool:
        """Whether the connection carries the page's cookie."""
        raw = next((value for name, value in scope["headers"] if name == b"cookie"), b"")
        jar: SimpleCookie = SimpleCookie(raw.decode("latin-1"))
        return COOKIE in jar and hmac.compare_digest(jar[COOKIE].value.encode(), self._token.encode())

    def opened(self) -> Response:
        """To the page, with the cookie."""
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(COOKIE, self._token, httponly=True, samesite="strict", max_age=12 * 3600)
        return response


class PageGuard:
    """Lets HTTP and WebSocket connections of the page in by cookie only; REST and probes look after themselves."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        kind = scope["type"]
        if kind == "lifespan" or scope["path"].startswith(_OPEN) or self._door.admits_cookie(scope):
            await self._app(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 4401})
        else:
            await RedirectResponse("/login", status_code=303)(scope, receive, send)


def mount(app: FastAPI, door: Door) -> None:
    """`/login`: a form for people, `?key=` for a link that the demo prints."""

    @app.get("/login", include_in_schema=False)
    async def ask(key: str | None = None) -> Response:
        if key is None:
            return HTMLResponse(_FORM % "")
        return door.opened() if door.is_key(key) else HTMLResponse(_FORM % "<p>That is not the key.</p>", 401)

    @app.post("/login", include_in_schema=False)
    async def check(request: Request) -> Response:
        given = parse_qs((await request.body()).decode()).get("key", [""])[0]
        return door.opened() if door.is_key(given) else HTMLResponse(_FORM % "<p>That is not the key.</p>", 401)

    app.add_middleware(PageGuard, door=door)
