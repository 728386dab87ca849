"""Cursors: what a feed has shown so far, so that its next page repeats none of it.

A cursor carries the ids themselves, compressed. So it holds whatever the session, the model or the
server have become since, and no server keeps anything for it. It gives no rights: one that is
forged can only leave items out.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence

from headrace.errors import InvalidCursor

MAX_SHOWN = 2_000
"""Items that a feed can show before it ends."""
_MAX_BYTES = 256 * 1024
"""Of all its ids: bounds what a cursor can unfold to."""
MAX_LENGTH = 350_000
"""Characters: `_MAX_BYTES` that cannot be compressed, as base64."""
_BETWEEN = "\n"
"""No id holds a control character."""
_NOT_ONE = "is not one that an answer gave; send it as it was, or ask without one"


def write_cursor(item_ids: Sequence[str]) -> str | None:
    """Return the cursor of a feed that has shown these, None for more than one can hold."""
    raw = _BETWEEN.join(item_ids).encode()
    if len(item_ids) > MAX_SHOWN or len(raw) > _MAX_BYTES:
        return None
    return base64.urlsafe_b64encode(zlib.compress(raw, 1)).rstrip(b"=").decode()


def read_cursor(cursor: str) -> list[str]:
    """Return the ids that a feed has shown. Raises `InvalidCursor`."""
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        unpacking = zlib.decompressobj()
        raw = unpacking.decompress(packed, _MAX_BYTES)
        item_ids = raw.decode().split(_BETWEEN)
    except (binascii.Error, zlib.error, ValueError) as exc:
        raise InvalidCursor("cursor", _NOT_ONE) from exc
    if not unpacking.eof or unpacking.unused_data or len(item_ids) > MAX_SHOWN:
        raise InvalidCursor("cursor", _NOT_ONE)
    return item_ids
