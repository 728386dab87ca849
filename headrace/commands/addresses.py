"""Which server, Kafka and Redis a command means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headrace.local import DEFAULT_DATA
from headrace.settings import Settings
from headrace.settings_source import CONFIG_VARIABLE, load_settings

_ADDRESSES = ("HEADRACE_URL", "HEADRACE_API_KEY", "HEADRACE_KAFKA", "HEADRACE_REDIS")


def find_settings(environ: Mapping[str, str], data: Path = DEFAULT_DATA) -> Settings:
    """Return the settings of the variables, or else of the stack that runs on the folder.

    Whoever names any address, or a file of settings, means that one: a local stack's key is never
    sent elsewhere.
    """
    from headrace.local.folder import DataFolder

    own = load_settings(environ)
    if any(name in environ for name in (*_ADDRESSES, CONFIG_VARIABLE)):
        return own
    state = DataFolder(data).read()
    return own if state is None else state.settings
