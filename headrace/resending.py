"""Sending dead letters again: mended, checked first, keyed as they must be, and marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from headrace.catalog import parse_item
from headrace.dead_letters import RESENT, RESENT_FROM
from headrace.erasures import Erasures
from headrace.errors import HeadraceError, InvalidEvent
from headrace.events import parse_event
from headrace.importing.layout import FIELDS, ITEM, OBJECTS, Layout, Shaper
from headrace.letters import Letter, is_erased
from headrace.producer import Outgoing, Position, Producer
from headrace.settings import Settings
from headrace.topics import DEAD_LETTERS, ITEMS, RETRAIN, Topics
from headrace.training_requests import parse_request

_BATCH = 500


class Mending(Struct, frozen=True):
    """What is to be changed in letters."""

    fields: Mapping[str, str] = {}
    """By field (`user_id`, `context.device`), what it shall be."""
    dropped: Sequence[str] = ()
    """Members of the value that shall go."""
    value: bytes | None = None
    """In place of the whole value."""


def prepare(
    letter: Letter, mending: Mending, topics: Topics, erasures: Erasures, *, now: float
) -> Outgoing:
    """Return the record to send for a letter, which any worker would take.

    `erasures` are those up to now, `now` is in Unix seconds. Raises `HeadraceError` (`InvalidEvent`
    when that is what it is) with the reason why none would, and for the event of a user who was
    erased after it: sent again it would stand behind the erasure, and count.
    """
    kind = _kind(letter, topics)
    value = _mended(letter, mending, kind)
    headers = ((RESENT_FROM, letter.id.encode()),)
    if kind == RETRAIN:
        parse_request(value)
        return Outgoing(letter.topic, letter.key, value, headers)
    if kind != ITEM:
        event = parse_event(value, kind, received_at=now)
        if is_erased(letter, event.user_id, erasures, topics):
            raise HeadraceError("its user was erased after it")
        return Outgoing(letter.topic, event.user_id.encode(), value, headers)
    if value is not None:
        return Outgoing(letter.topic, parse_item(value).item_id.encode(), value, headers)
    if not letter.key or not _is_text(letter.key):
        raise InvalidEvent("", "it deletes an item, but its key names none")
    return Outgoing(letter.topic, letter.key, None, headers)


async def resend(
    prepared: Sequence[tuple[Letter, Outgoing]], settings: Settings, producer: Producer
) -> list[Position]:
    """Send records, and then the marks that they were sent; return where the records stand.

    Broken off in between, a letter may be without its mark; sent once more, an event has the same
    `event_id` and counts once. Raises `aiokafka.errors.KafkaError`.
    """
    marks = Topics(settings).name(DEAD_LETTERS)
    positions: list[Position] = []
    for start in range(0, len(prepared), _BATCH):
        batch = prepared[start : start + _BATCH]
        positions += await producer.send([record for _, record in batch])
        await producer.send([_mark(marks, letter) for letter, _ in batch])
    return positions


def editable(letter: Letter) -> str:
    """Return the value as text to be edited. Raises `HeadraceError` when it is no text."""
    value = letter.value or b""
    if not _is_text(value):
        raise HeadraceError(
            f"{letter.id} holds bytes that are no UTF-8; give the whole value with --value FILE."
        )
    try:
        return msgspec.json.format(value, indent=2).decode()
    except msgspec.DecodeError:
        return value.decode()


def _kind(letter: Letter, topics: Topics) -> str:
    if not letter.topic:
        raise HeadraceError("it does not say which topic it came from")
    topic = topics.plain(letter.topic)
    kinds = {**topics.all_kinds, ITEMS: ITEM, RETRAIN: RETRAIN}
    if topic not in kinds or topics.name(topic) != letter.topic:
        raise HeadraceError(f"{letter.topic} is no topic of events, items or retrain events")
    return kinds[topic]


def _mended(letter: Letter, mending: Mending, kind: str) -> bytes | None:
    value = letter.value if mending.value is None else mending.value
    if not mending.fields and not mending.dropped:
        return value
    content = _object(value)
    for name in mending.dropped:
        inside, last = _inside(content, name)
        if last not in inside:
            raise HeadraceError(f"it has no {name} to drop")
        del inside[last]
    if kind == RETRAIN and mending.fields:
        raise HeadraceError("fields of a retrain event are not set one by one; give its --value")
    unknown = [name for name in mending.fields if name.partition(".")[0] not in FIELDS[kind]]
    if unknown:
        raise HeadraceError(f"{unknown[0]!r} is not a field; there are {', '.join(FIELDS[kind])}")
    # As in an import: text becomes what the field holds.
    for name, field in Shaper(Layout(), kind, cells_are_text=True).fields(mending.fields).items():
        before = content.get(name)
        if name in OBJECTS and isinstance(field, dict) and isinstance(before, dict):
            field = {**before, **field}
        content[name] = field
    return msgspec.json.encode(content)


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise HeadraceError("its value is not JSON; give a whole one with --value FILE") from exc
    if not isinstance(content, dict):
        raise HeadraceError("its value is not a JSON object; give a whole one with --value FILE")
    return content


def _inside(content: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """Return the object that holds a member, named as it is or with a dot, and its name there."""
    base, dot, inner = name.partition(".")
    if name not in content and dot and isinstance(content.get(base), dict):
        return content[base], inner
    return content, name


def _mark(topic: str, letter: Letter) -> Outgoing:
    return Outgoing(topic, letter.id.encode(), None, ((RESENT, letter.id.encode()),))


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
