"""Events: what a user did to an item. One parser reads them from Kafka and from HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Union

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from headrace.errors import InvalidEvent
from headrace.wrong_keys import with_key

MAX_BYTES = 64 * 1024
"""Longest record that is read as one event; a larger one is wrong in itself."""
MAX_AHEAD_S = 300.0
"""A timestamp further past its record's own time is wrong: milliseconds sent for seconds would
stay the newest of their user for ever."""

# `$` alone would let a last newline pass.
_PRINTABLE = "^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]+(?!\\n)$"
_printable = re.compile(_PRINTABLE)
EventId = Annotated[str, Meta(min_length=1, max_length=128, pattern=_PRINTABLE)]
UserId = Annotated[str, Meta(min_length=1, max_length=256, pattern=_PRINTABLE)]
ItemId = Annotated[str, Meta(min_length=1, max_length=256, pattern=_PRINTABLE)]
# The same, whose characters `parse_event` checks: msgspec would run the expression on each id of
# each event, which costs more than all the rest of its decoding.
_FreeEventId = Annotated[
    str, Meta(min_length=1, max_length=128, extra_json_schema={"pattern": _PRINTABLE})
]
_FreeId = Annotated[
    str, Meta(min_length=1, max_length=256, extra_json_schema={"pattern": _PRINTABLE})
]
ExactInt = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""What every JSON reader holds exactly; a larger one could be read here and never written again."""
NOT_ALLOWED = "has a character, or a form, that is not allowed"
"""What is said in place of the expression that a text does not match."""
Scalar = Union[str, ExactInt, float, bool, None]
Context = Annotated[dict[str, Scalar], Meta(max_length=64)]


class Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """What every kind of event has. The topic gives the kind; over HTTP `type` does."""

    event_id: _FreeEventId
    user_id: _FreeId
    item_id: _FreeId
    timestamp: Annotated[float, Meta(ge=0)]
    """Unix seconds."""
    recommendation_id: _FreeEventId | None = None
    """The served list that the item was chosen from."""
    context: Context | None = None
    """A flat object of the producer's own."""
    merged: bool | UnsetType = UNSET
    """Whether it repeats, as this user's, an event that was another one's (`serving.merger`): it
    belongs to the user's session and history, and aggregates have counted it before."""

    kind: ClassVar[str]
    """`click`, `purchase` or `rating`."""


class Click(Event, frozen=True, kw_only=True, tag="click"):
    """The user opened the item."""

    kind: ClassVar[str] = "click"


class Rating(Event, frozen=True, kw_only=True, tag="rating"):
    """The user rated the item."""

    kind: ClassVar[str] = "rating"

    rating: Annotated[float, Meta(ge=-1_000, le=1_000)]


class Purchase(Event, frozen=True, kw_only=True, tag="purchase"):
    """The user bought the item."""

    kind: ClassVar[str] = "purchase"

    quantity: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    price: Annotated[float, Meta(ge=0)] | None = None
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}(?!\\n)$")] | None = None
    rating: Annotated[float, Meta(ge=-1_000, le=1_000)] | None = None


AnyEvent = Union[Click, Purchase, Rating]
KINDS = ("click", "purchase", "rating")

_decoders: dict[str | None, msgspec.json.Decoder[Any]] = {
    None: msgspec.json.Decoder(AnyEvent),
    "click": msgspec.json.Decoder(Click),
    "purchase": msgspec.json.Decoder(Purchase),
    "rating": msgspec.json.Decoder(Rating),
}


def parse_event(raw: bytes | None, kind: str | None, *, received_at: float) -> AnyEvent:
    """Read one event from JSON.

    `kind` is one of `KINDS`, or None when the event's own `type` says it. `received_at` is the
    record's own time, in Unix seconds. Raises `InvalidEvent` for anything that is not an event.
    """
    if raw is None:
        raise InvalidEvent("", "the record has no value; an event is a JSON object")
    if len(raw) > MAX_BYTES:
        raise InvalidEvent("", f"the record is {len(raw):,} bytes long; at most {MAX_BYTES:,}")
    event: AnyEvent = decode(_decoders[kind], raw, InvalidEvent, own="context")
    if not _is_plain(raw):
        _check_ids(event)
    if event.timestamp > received_at + MAX_AHEAD_S:
        raise InvalidEvent(
            "timestamp",
            f"{event.timestamp:.15g} is more than {MAX_AHEAD_S:.0f} seconds past the record's own "
            f"time, {received_at:.0f}; send Unix seconds, not milliseconds",
        )
    return event


def _is_plain(raw: bytes) -> bool:
    """Return whether every character of every string in this JSON is surely printable.

    JSON forbids control characters below a space, unless they are escaped.
    """
    return raw.isascii() and b"\\" not in raw and b"\x7f" not in raw


def _check_ids(event: AnyEvent) -> None:
    for field in ("event_id", "user_id", "item_id", "recommendation_id"):
        value = getattr(event, field)
        if value is not None and _printable.search(value) is None:
            raise InvalidEvent(field, NOT_ALLOWED)


def decode(
    decoder: msgspec.json.Decoder[Any], raw: bytes, error: type[InvalidEvent], *, own: str = ""
) -> Any:
    """Decode JSON, turning every way in which bytes can be wrong into `error`.

    `own` is the field that takes what has no field of its own.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as exc:
        reason, _, where = str(exc).replace("`key` in `$", "`$", 1).partition(" - at `$")
        field = with_key(decoder, raw, where.strip("`."))
        if reason.startswith("Object missing required field `"):
            field = ".".join(part for part in (field, reason.split("`")[1]) if part)
            reason = "is required"
        elif reason.startswith("Object contains unknown field `"):
            field = ".".join(part for part in (field, reason.split("`")[1]) if part)
            hint = f"; data of your own goes into `{own}`" if own else ""
            reason = f"is not a field of this{hint}"
        elif reason.startswith("Expected `str` matching regex"):
            reason = NOT_ALLOWED
        elif field == "type" and reason.startswith("Invalid value"):
            reason = f"{reason}; it is one of {', '.join(KINDS)}"
        raise error(field, reason) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise error("", f"not JSON: {exc}") from exc


@dataclass(frozen=True)
class EventColumns:
    """A log of n events as columns, sorted by (timestamp, topic, partition, offset).

    Each `event_id` occurs once. `user` and `item` are codes into `user_ids` and `item_ids`.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    timestamp: NDArray[np.float64]
    """Unix seconds."""
    kind: NDArray[np.int8]
    """Codes into `KINDS`."""
    rating: NDArray[np.float32]
    """NaN where the event has none."""
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    through: dict[str, dict[str, int]]
    """By topic and partition, the offset that the log was read up to, exclusive."""

    def __len__(self) -> int:
        return len(self.user)
