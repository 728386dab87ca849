"""A training ends by itself when its trainer is gone, or hangs and may have lost the task."""

from __future__ import annotations

import os
import select
import sys
import threading

LEFT_ALONE = 75
"""Exit status of a training that ended because it heard nothing (`EX_TEMPFAIL` of sysexits.h)."""
_SHARE = 0.9
"""Of the lease: the training ends before another trainer may take the task."""


def end_without_word(descriptor: int, lease_s: float) -> None:
    """From now on end this process once nothing has come over the descriptor for so long.

    What comes says nothing but that the trainer has just renewed its lease.
    """
    threading.Thread(target=_listen, args=(descriptor, _SHARE * lease_s), daemon=True).start()


def _listen(descriptor: int, patience_s: float) -> None:
    while select.select([descriptor], [], [], patience_s)[0]:
        if not os.read(descriptor, 4096):
            break
    sys.stderr.write("The trainer is gone, or hangs; the training ends.\n")
    sys.stderr.flush()
    os._exit(LEFT_ALONE)
