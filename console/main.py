"""The console as a process."""

from __future__ import annotations

import uvicorn

from console.app import create_app


def run(url: str, *, host: str, port: int) -> None:
    """Serve the console of the server at `url` until a signal ends it."""
    app = create_app(url, cookie=f"headrace-console-{port}")
    at = f"[{host}]" if ":" in host else host
    print(f"The console of {url} is at http://{at}:{port}; its door asks for a key.", flush=True)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=1,
        # A frame holds a list of cards at the most.
        ws_max_size=1 << 20,
        server_header=False,
    )
