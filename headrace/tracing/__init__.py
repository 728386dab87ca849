"""Traces (OpenTelemetry) over HTTP, Kafka and Redis, when settings ask for them.

Without `HEADRACE_TRACING` nothing of it is made or imported: what is traced is another class, or
one more layer around what is there, and so costs nothing where it is not wanted. Where spans go and
which are kept, the standard variables `OTEL_*` say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import HeadraceError
from headrace.setting_variables import variable_of
from headrace.settings import Settings

if TYPE_CHECKING:
    from headrace.tracing.spans import Tracing


def start_tracing(settings: Settings, service: str) -> Tracing | None:
    """Return what traces this process as `service`, None unless settings ask for it.

    Raises `HeadraceError` when the packages that it needs are not installed.
    """
    if not settings.tracing:
        return None
    try:
        from headrace.tracing.spans import Tracing
    except ModuleNotFoundError as exc:
        raise HeadraceError(
            f"{variable_of(('tracing',))} is on, and needs the package {exc.name}, which is not "
            "installed; install it with `pip install 'headrace[tracing]'`, or switch it off."
        ) from exc
    return Tracing(service)
