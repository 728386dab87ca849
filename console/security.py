"""The headers that keep a page to what this process serves, and to no script but its own.

Content-Security-Policy (https://www.w3.org/TR/CSP3/): every script and style element that a page
comes with carries the nonce of that one answer. There is no `unsafe-inline` and no `unsafe-eval`
for scripts: NiceGUI's own components have templates that Vue compiles in the browser, which would
need the latter, so the console uses none of these but the few in `console.widgets`, which are
written as render functions.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ELEMENTS = re.compile(rb"<(script|style)(?=[\s>])")
"""Text of data holds none: NiceGUI writes `<` in it as `&lt;`."""
_HIDDEN = b' style="display: none"'
"""The one inline style of NiceGUI's page, on an element that console.css hides, too."""
_OTHERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def policy(nonce: str) -> str:
    """Return the Content-Security-Policy of an answer."""
    directives: Mapping[str, str] = {
        "default-src": "'none'",
        "script-src": f"'self' 'nonce-{nonce}'",
        "style-src-elem": f"'self' 'nonce-{nonce}'",
        "style-src-attr": "'none'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


class Secured:
    """Gives every answer these headers, and a page's own scripts and styles the nonce."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        await self._app(scope, receive, answer.send)


class _Answer:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._nonce = secrets.token_urlsafe(16)
        self._start: Message | None = None
        """Held back while a page is being gathered: its length will change."""
        self._page = bytearray()

    async def send(self, message: Message) -> None:
        """Send a part of the answer on."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = policy(self._nonce)
            for name, value in _OTHERS.items():
                headers[name] = value
            if headers.get("content-type", "").startswith("text/html"):
                self._start = message
                return
        if self._start is None or message["type"] != "http.response.body":
            await self._send(message)
            return
        self._page += message.get("body", b"")
        if not message.get("more_body"):
            page = _ELEMENTS.sub(rb'<\1 nonce="' + self._nonce.encode() + rb'"', self._page)
            page = page.replace(_HIDDEN, b"")
            MutableHeaders(scope=self._start)["content-length"] = str(len(page))
            await self._send(self._start)
            await self._send({"type": "http.response.body", "body": page})
