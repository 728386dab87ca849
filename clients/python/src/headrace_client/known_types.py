"""Types of messages, made known to msgspec before threads share a client."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from headrace_client import errors, types


def make_types_known() -> None:
    """Have msgspec look at each type of a message.

    It does so by itself when one is first decoded, but in 0.22 a second thread that decodes the
    type meanwhile reads what is half made, and the process ends with SIGSEGV.
    """
    for each in (*vars(types).values(), *vars(errors).values()):
        if isinstance(each, type) and issubclass(each, Struct):
            msgspec.json.Decoder(each)
