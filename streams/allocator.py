"""How the C library's allocator is set for a process through which much data passes."""

from __future__ import annotations

import asyncio
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


async def give_back_gaps() -> None:
    """Give the system back the pages that lie unused between blocks in use, where it is glibc.

    Of itself it gives back only what is unused at the heap's end (malloc_trim(3)): one block that
    lives long keeps all that was freed before it.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        await asyncio.to_thread(malloc_trim, 0)
