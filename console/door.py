"""The door: an API key is asked for, tried on the server, and kept for this browser session."""

from __future__ import annotations

import html
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from console.connection import Server
from console.errors import trouble_of
from console.plain import plain_page
from console.sessions import Sessions
from headrace_client import HeadraceError

_LONGEST_KEY = 4_096
_NONE_GIVEN = "The server asks for a key, and none was given."
_UNKNOWN = (
    "The server does not know this key, or it has ended. `headrace keys list` shows what there is."
)
_FORM = """<form method="post" action="/door" class="door-card">
<h1><img src="/static/mark.svg" alt="" width="28" height="28"> Headrace</h1>
<p class="muted">The console of the server at <strong>{url}</strong>.</p>
{trouble}
<input type="hidden" name="to" value="{to}">
<div class="field"><label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="off" spellcheck="false" autofocus
 aria-describedby="key-note"{invalid}>
<p id="key-note" class="hint">Kept for this browser session only, in the console's memory.
 <code>headrace env</code> prints that of the local stack, <code>headrace env --data FOLDER</code>
 that of one whose data lie elsewhere; a server without keys takes an empty one.</p>
</div>
<button class="button main" type="submit">Come in</button>
</form>"""


class Door:
    """Lets browsers in that bring a key the server knows."""

    def __init__(self, server: Server, sessions: Sessions, pages: Mapping[str, str]) -> None:
        """`pages`: by path that one may come in for, the scope that it needs."""
        self._server = server
        self._sessions = sessions
        self._pages = pages
        self._needed = frozenset(pages.values())

    async def ask(self, request: Request) -> Response:
        """Ask for the key, unless the browser is in already."""
        to = request.query_params.get("to", "")
        if self._sessions.find(request.cookies) is not None:
            return RedirectResponse(self._where(to))
        return self._page(to)

    async def enter(self, request: Request) -> Response:
        """Try the key; a good one opens the session and leads to the page."""
        if not is_own(request):
            return _not_own(request)
        form = await request.form(max_files=0, max_fields=4)
        key, to = str(form.get("key", "")).strip()[:_LONGEST_KEY], str(form.get("to", ""))
        if not (key.isascii() and key.isprintable()):
            return self._page(
                to, "This is no key: keys are letters, digits, hyphens and underscores.", 401
            )
        try:
            async with self._server.client(key) as client:
                found = await client.key()
        except HeadraceError as error:
            if getattr(error, "status", 0) == 401:
                return self._page(to, _UNKNOWN if key else _NONE_GIVEN, 401)
            return self._page(
                to, trouble_of(error, self._server.url, "Try again in a moment.").words, 502
            )
        if self._needed.isdisjoint(found.scopes):
            has, needs = (" or ".join(sorted(each)) for each in (found.scopes, self._needed))
            return self._page(to, f"This key is for {has} alone; a page needs {needs}.", 403)
        session_id = self._sessions.come_in(
            request.cookies, key=key, name=found.name, scopes=frozenset(found.scopes)
        )
        answer = RedirectResponse(self._where(to), 303)
        # No lifetime: the browser forgets it at its end.
        answer.set_cookie(
            self._sessions.cookie,
            session_id,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def leave(self, request: Request) -> Response:
        """End the session."""
        if not is_own(request):
            return _not_own(request)
        self._sessions.close(request.cookies)
        answer = RedirectResponse("/door", 303)
        answer.delete_cookie(self._sessions.cookie)
        return answer

    def _where(self, to: str) -> str:
        """Return the page that was asked for, the first one if it is none of ours."""
        try:
            at = urlsplit(to)
        except ValueError:
            return "/"
        # Without a host, which `//host/page` has, and without what browsers leave out.
        is_ours = not (at.scheme or at.netloc) and at.path in self._pages and to.isprintable()
        return to if is_ours else "/"

    def _page(self, to: str, trouble: str = "", status: int = 200) -> Response:
        told = f'<p class="trouble-card" role="alert">{html.escape(trouble)}</p>' if trouble else ""
        form = _FORM.format(
            url=html.escape(self._server.url),
            to=html.escape(self._where(to), quote=True),
            trouble=told,
            invalid=' aria-invalid="true"' if trouble else "",
        )
        return plain_page(form, status)


def door_for(path: str, query: str = "") -> str:
    """Return the address of the door that leads to a page, with the query of its address."""
    return f"/door?to={quote(f'{path}?{query}' if query else path)}"


def _not_own(request: Request) -> Response:
    origin, host = (request.headers.get(name, "")[:200] for name in ("origin", "host"))
    return PlainTextResponse(
        f"This form is not the console's own: it comes from a page of {origin}, and the console "
        f"was asked for as {host}. If a proxy stands before the console, have it pass on the Host "
        "that the browser names; for nginx: proxy_set_header Host $http_host;\n",
        403,
    )


def is_own(request: Request) -> bool:
    """Return whether a form was sent from a page of this console."""
    origin = request.headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        return False
