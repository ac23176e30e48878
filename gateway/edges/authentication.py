"""Who may come in: REST by key, the page by a signed session that only the key opens. Compared in constant time, open to nobody.

Sessions are Starlette's: a signed cookie, whose secret comes from the key, so that another key ends them.
"""

import hashlib
import hmac
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import Headers
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core.problem import NO_KEY
from gateway.edges.answers import said

COOKIE = "redis-agent"
SESSION_SECONDS = 12 * 3600
_OPEN = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/login"})
_FORM_AT_MOST_BYTES = 4096
_OPENED = "opened"
_FORM = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>redis-agent</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root{color-scheme:light dark}*{box-sizing:border-box}
body{font:16px system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:0;padding:1rem;
background:light-dark(#f6f7f9,#121212)}
form{display:grid;gap:.7rem;width:min(22rem,100vw - 2rem);padding:1.5rem;border-radius:4px;
border:1px solid light-dark(#d9dce1,#3a3a3a);background:light-dark(#fff,#1d1d1d)}
h1{font-size:1.5rem;margin:0}p{margin:0;color:light-dark(#b3001b,#ff8a8a)}
input,button{font:inherit;padding:.55rem .7rem;border-radius:4px;border:1px solid light-dark(#9aa0a8,#666)}
button{background:#1f5fbf;border-color:#1f5fbf;color:#fff;cursor:pointer}</style></head><body>
<form method="post" action="/login"><h1>redis-agent</h1><label for="key">API key</label>
<input name="username" value="redis-agent" autocomplete="username" hidden>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
%s<button>Open</button></form></body></html>"""
_WRONG = '<p role="alert">That is not the key.</p>'


class Authenticator:
    """Knows the key. Raises ValueError for an empty one, which everybody would have."""

    def __init__(self, key: str) -> None:
        if not key:
            raise ValueError("an empty API key would let everybody in")
        self._key = key.encode()
        self.session_secret = hmac.new(self._key, b"redis-agent page", hashlib.sha256).hexdigest()

    def admits_key(self, headers: Headers) -> bool:
        """Whether the request carries the key in a header."""
        bearer = headers.get("authorization", "")
        given = headers.get("api-key") or headers.get("x-api-key")
        if given is None and bearer.lower().startswith("bearer "):
            given = bearer[7:].strip()
        return self.is_key(given or "")

    def is_key(self, given: str) -> bool:
        """Whether that is the key."""
        return hmac.compare_digest(given.encode(), self._key)


class Guard:
    """Lets REST in by key, the page's HTTP and WebSocket connections by session; probes and the form are open."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan" or self._admits(HTTPConnection(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4401})
        elif _is_rest(scope):
            await said(NO_KEY)(scope, receive, send)
        else:
            await RedirectResponse("/login", status_code=303)(scope, receive, send)

    def _admits(self, connection: HTTPConnection) -> bool:
        if _is_rest(connection.scope):
            return self._authenticator.admits_key(connection.headers)
        return connection.scope["path"] in _OPEN or connection.session.get(_OPENED) is True


def _is_rest(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == "/api" or path.startswith("/api/")


def mount(app: FastAPI, authenticator: Authenticator) -> None:
    """`/login`: a form for people, `?key=` for a link that the demo prints."""

    def answer(request: Request, given: str) -> Response:
        if not authenticator.is_key(given):
            return HTMLResponse(_FORM.replace("%s", _WRONG), 401)
        request.session[_OPENED] = True
        return RedirectResponse("/", status_code=303)

    @app.get("/login", include_in_schema=False)
    async def ask(request: Request, key: str | None = None) -> Response:
        return HTMLResponse(_FORM.replace("%s", "")) if key is None else answer(request, key)

    @app.post("/login", include_in_schema=False)
    async def check(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _FORM_AT_MOST_BYTES:
                return HTMLResponse(_FORM.replace("%s", _WRONG), 413)
        return answer(request, parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0])

    app.add_middleware(Guard, authenticator=authenticator)
    app.add_middleware(  # added last, so it is asked first: the guard needs the session
        SessionMiddleware,
        secret_key=authenticator.session_secret,
        session_cookie=COOKIE,
        max_age=SESSION_SECONDS,
        same_site="strict",
    )
