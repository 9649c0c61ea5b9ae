"""Who may talk to the console: whoever opened the printed URL, from the console's own pages.

The URL's token is good once and gives the browser a cookie. A page of another site that names this port is
refused by Origin, one whose name was made to mean this machine (DNS rebinding) by Host.
"""

from __future__ import annotations

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.ports import log

SAFE = frozenset({"GET", "HEAD"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    # Not no-referrer: with that a form's Origin would be null.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_REFUSED = "Not allowed. Open the console by the URL that the command printed: it is good once.\n"


class Access:
    """`address`: host and port as browsers name them."""

    def __init__(self, address: str) -> None:
        port = address.rpartition(":")[2]
        self.hosts = frozenset({address, f"localhost:{port}"})
        # Cookies are shared by the ports of a host.
        self.cookie = f"fairlane-console-{port}"
        self.token = secrets.token_urlsafe(32)
        self._opened: str | None = None

    def redeem(self, token: str) -> str | None:
        """The cookie's value for a token that was not used yet."""
        if self._opened is not None or not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        self._opened = secrets.token_urlsafe(32)
        return self._opened

    def is_open_to(self, headers: Headers) -> bool:
        """The browser's cookie is the one that was given."""
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        given, opened = (found.value if found else ""), self._opened
        return opened is not None and hmac.compare_digest(given.encode(), opened.encode())

    def is_ours(self, method: str, headers: Headers) -> bool:
        """The request is for us, and from our own page where one has asked for it."""
        (host, *more), origin = headers.getlist("host") or [""], headers.get("origin")
        if host not in self.hosts or more:
            return False
        if origin is None:
            return method in SAFE
        return origin == f"http://{host}"


class Guard:
    """Stands before every page: lets in, refuses, and writes down who looked and who changed what."""

    def __init__(self, app: ASGIApp, access: Access, who: str) -> None:
        self._app = app
        self._access = access
        self._who = who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        method, headers = scope["method"], Headers(scope=scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    added.setdefault(name, value)
                added.setdefault("cache-control", "no-store")
                self._write_down(scope, message["status"])
            await send(message)

        app = self._answer(scope, method, headers) or self._app
        await app(scope, receive, with_headers)

    def _answer(self, scope: Scope, method: str, headers: Headers) -> Response | None:
        """None: it may pass."""
        if not self._access.is_ours(method, headers):
            return PlainTextResponse(_REFUSED, 403)
        if token := QueryParams(scope["query_string"]).get("token"):
            cookie = self._access.redeem(token) if method == "GET" else None
            if cookie is None:
                return PlainTextResponse(_REFUSED, 403)
            opened = RedirectResponse(scope["path"], 303)
            opened.set_cookie(self._access.cookie, cookie, httponly=True, samesite="strict", path="/")
            return opened
        return None if self._access.is_open_to(headers) else PlainTextResponse(_REFUSED, 403)

    def _write_down(self, scope: Scope, status: int) -> None:
        """The path names the clinic, the chat or the turn; what was typed is not written down."""
        path, words = scope["path"], QueryParams(scope["query_string"]).get("words") == "1"
        fields = {"who": self._who, "path": path, "status": status}
        if status == 403:
            log.warning("console.refused", **fields)
        elif scope["method"] not in SAFE:
            log.warning("console.changed", **fields)
        elif not path.startswith("/static/"):
            log.info("console.looked", words=words, **fields)
