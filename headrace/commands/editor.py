"""A text in the user's own editor."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from headrace.errors import HeadraceError

_USUAL = "vi"


def edit(text: str, environ: Mapping[str, str], *, suffix: str) -> str | None:
    """Return the text as the user leaves it in `$VISUAL` or `$EDITOR`; None: it is unchanged.

    The file is the user's alone, and gone afterwards. Raises `HeadraceError` when the editor
    cannot be started, or ends in failure.
    """
    editor = environ.get("VISUAL") or environ.get("EDITOR") or _USUAL
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        file = Path(folder) / f"edit{suffix}"
        file.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)  # noqa: S603
            edited = file.read_text(encoding="utf-8")
        except (OSError, ValueError, subprocess.CalledProcessError) as exc:
            raise HeadraceError(
                f"The editor {editor!r} failed: {exc}. Name another in EDITOR."
            ) from exc
    return None if edited == text else edited
