"""The route that ours is compared with: it returns the same bytes, and does nothing for them.

Run as a process: `python -m serving.bench.plain FILE`, with the settings in the environment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.settings_source import load_settings
from serving.main import listen, uvicorn_config

PATH = "/v1/recommendations"


def create_plain_app(body: bytes) -> Starlette:
    """Return an application that answers each request with this."""

    async def answer(_: Request) -> Response:
        return Response(body, media_type="application/json")

    return Starlette(routes=[Route(PATH, answer, methods=["POST"])])


def main(path: str) -> None:
    """Serve what stands in the file."""
    settings = load_settings(os.environ)
    app = create_plain_app(Path(path).read_bytes())
    uvicorn.Server(uvicorn_config(settings, app)).run(sockets=[listen(settings)])


if __name__ == "__main__":
    main(sys.argv[1])
