"""Keeps aside what C++ libraries print, which no setting of theirs turns off."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.errors import HeadraceError

_STDERR = 2


@contextmanager
def native_messages_aside() -> Iterator[None]:
    """Show what others than Python write to standard error only if the block fails unexpectedly."""
    sys.stderr.flush()
    python_stderr = sys.stderr
    with tempfile.TemporaryFile() as aside, os.fdopen(os.dup(_STDERR), "w") as terminal:
        os.dup2(aside.fileno(), _STDERR)
        sys.stderr = terminal
        try:
            yield
        except (HeadraceError, KeyboardInterrupt):
            raise
        except BaseException:
            terminal.flush()
            aside.seek(0)
            shutil.copyfileobj(aside, terminal.buffer)
            raise
        finally:
            terminal.flush()
            os.dup2(terminal.fileno(), _STDERR)
            sys.stderr = python_stderr
