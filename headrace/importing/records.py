"""From a row of a foreign file to the record that Kafka is to get, checked like any other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.catalog import parse_item
from headrace.errors import InvalidEvent
from headrace.events import KINDS, parse_event
from headrace.importing.layout import ITEM, TYPE, Shaper
from headrace.producer import Outgoing
from headrace.topics import ITEMS, Topics

IDENTITY = ("user_id", "item_id", "timestamp", "rating", "quantity", "price")
"""Beside the kind, what an event without an id is known by."""


class RecordMaker:
    """Makes records of rows.

    An event that brings no `event_id` gets one that is made of what the event says, so that the
    same event, imported again from whatever file, has the same one: trainings and dictionaries take
    it once, trending counts while it is among its user's newest.
    """

    def __init__(
        self, shaper: Shaper, kind: str | None, topics: Topics, *, file: str | None = None
    ) -> None:
        """`kind` None: each row's own `type` says it.

        `file`: make ids of this name and the row's number too, so that rows that say the same are
        as many events.
        """
        self._shaper = shaper
        self._kind = kind
        self._topics = {kind: topics.name(topic) for topic, kind in topics.kinds.items()}
        self._items = topics.name(ITEMS)
        self._file = file

    def make(self, cells: Mapping[str, Any], number: int, *, received_at: float) -> Outgoing:
        """Return the record of a row, keyed as it must be.

        `received_at` is the record's own time, in Unix seconds. Raises `InvalidEvent` for what is
        neither an event nor an item.
        """
        fields = self._shaper.fields(cells)
        kind = self._kind_of(fields)
        if kind == ITEM:
            raw = _encode(fields)
            return Outgoing(self._items, parse_item(raw).item_id.encode(), raw)
        fields.setdefault("event_id", self._id(kind, fields, number))
        raw = _encode(fields)
        event = parse_event(raw, kind, received_at=received_at)
        return Outgoing(self._topics[kind], event.user_id.encode(), raw)

    def _kind_of(self, fields: dict[str, Any]) -> str:
        said = fields.pop(TYPE, None)
        kind = said if self._kind is None else self._kind
        if kind is None:
            raise InvalidEvent(TYPE, f"is required, or `{self._shaper.hints.kind}` for all rows")
        if said not in (None, kind):
            hint = self._shaper.hints.kind
            raise InvalidEvent(TYPE, f"{said!r} is not the {kind} that `{hint}` says")
        if kind not in (*KINDS, ITEM):
            raise InvalidEvent(TYPE, f"{kind!r} is not one of {', '.join((*KINDS, ITEM))}")
        return str(kind)

    def _id(self, kind: str, fields: Mapping[str, Any], number: int) -> str:
        said = [kind, *(fields.get(name) for name in IDENTITY)]
        if self._file is not None:
            said += [self._file, number]
        return hashlib.blake2b(_encode(said), digest_size=16).hexdigest()


def _encode(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError as exc:
        raise InvalidEvent(
            "", "it is not text of the file's encoding (UTF-8, if not said)"
        ) from exc
    except (TypeError, OverflowError, RecursionError) as exc:
        raise InvalidEvent("", f"it holds what JSON does not: {exc}") from exc
