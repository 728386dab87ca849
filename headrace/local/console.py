"""The browser console as a part of the stack, where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping

from headrace.local import readiness
from headrace.local.folder import DataFolder
from headrace.local.parts import Part, PartStatus
from headrace.setting_variables import PREFIX

NAME = "console"
GET_IT = "There is no console: `pip install 'headrace[console]' headrace-client` brings it."
_HOST = "127.0.0.1"
_NEEDS = ("nicegui", "headrace_client")


def is_installed() -> bool:
    """Return whether what the console is made of is here."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDS)


def console_part(url: str, port: int, environ: Mapping[str, str]) -> Part:
    """Return the process of the console of the server at `url`.

    It gets no setting: like any client it has the server's address, and asks for a key.
    """
    own = {name: value for name, value in environ.items() if not name.startswith(PREFIX)}
    address = f"http://{_HOST}:{port}"
    command = (sys.executable, "-m", "headrace.cli", "console", "--url", url, "--port", str(port))
    return Part(
        name=NAME,
        command=command,
        environ=own,
        is_ready=readiness.lives(address),
        cure="Try another port with --console-port, or none with --no-console.",
        about=address,
        stop_within_s=2.0,
    )


def address_of(parts: Iterable[PartStatus]) -> str | None:
    """Return where the console of a stack is, None if it has none."""
    return next((part.about for part in parts if part.name == NAME), None)


def welcome(parts: Iterable[PartStatus], folder: DataFolder, *, wanted: bool) -> str | None:
    """Return the line that tells a user of the console, or how to get it.

    `folder`: of the stack that has these parts.
    """
    address = address_of(parts)
    if address is not None:
        command = f"headrace env{folder.flag}"
        return f"See it at {address}; `{command}` has the key that its door asks for."
    return GET_IT if wanted and not is_installed() else None
