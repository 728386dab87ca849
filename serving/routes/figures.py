"""Figures over time, for whoever runs the system."""

from __future__ import annotations

from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.figures import WINDOWS, Window
from serving.bodies import json_response
from serving.queries import one_of
from serving.services import services


async def get_figures(request: Request) -> Response:
    """Return events, lag, requests, latency and quality over the last hour or day.

    What all workers and servers have told, up to five seconds ago.
    """
    window = cast("Window", one_of(request, "window", tuple(WINDOWS)) or "1h")
    return json_response(await services(request).figures.read(window))
