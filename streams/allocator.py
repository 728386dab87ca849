"""How the C library's allocator is set for a process through which much data passes."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 64 << 10
_TRIM = 128 << 10


def give_back_buffers() -> None:
    """Have freed buffers of 64 KiB and more go back to the system at once, where it is glibc.

    By default glibc raises that limit to the largest buffer freed so far (mallopt(3)): answers of
    the broker then come from the heap, among small blocks that live long, and the memory held
    grows for hours though what is used does not.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _TRIM)
