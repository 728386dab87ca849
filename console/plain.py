"""Pages of plain HTML, for who is not in, or nowhere: one card in the middle, and no script."""

from __future__ import annotations

import html

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Headrace console</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="/static/mark.svg">
<link rel="stylesheet" href="/static/console.css">
</head>
<body class="door">
<main>
{card}
</main>
</body>
</html>
"""
_NOWHERE = """<div class="door-card">
<h1><img src="/static/mark.svg" alt="" width="28" height="28"> Headrace</h1>
<p>The console has no page <strong>{path}</strong>.</p>
<p><a href="/">Go to its first page</a></p>
</div>"""


def plain_page(card: str, status: int = 200) -> Response:
    """Return a page with this card. `card`: HTML."""
    return HTMLResponse(_PAGE.format(card=card), status, headers={"cache-control": "no-store"})


async def no_such_page(request: Request, _: Exception) -> Response:
    """Say that there is nothing at an address, and where to go from there."""
    return plain_page(_NOWHERE.format(path=html.escape(request.url.path)), 404)
