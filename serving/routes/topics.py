"""Kafka as ops see it: topics, and dead letters, which can be mended and sent again."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import HeadraceError, InvalidEvent
from headrace.producer import Outgoing, Position
from headrace.tokens import Token
from headrace.topics import Topics
from serving.bodies import json_response, read_json
from serving.paths import path_id
from serving.problems import Problem, wrong_field
from serving.queries import number, words
from serving.schemas.dead_letters import (
    DeadLetter,
    DeadLetterList,
    LetterCursor,
    LetterId,
    ResendRequest,
    ResentLetter,
)
from serving.services import Services, services

if TYPE_CHECKING:
    from headrace.letters import Letter

MAX_LETTERS, MAX_REASON, MAX_TOPIC = 1_000, 200, 249
_LETTERS = 50
_LONGEST_CURSOR = 50
_ID_IS = "the partition and the offset in the topic of dead letters: 2-17"


async def get_topics(request: Request) -> Response:
    """Return the topics: how far each partition goes, how far workers are, how fast both move."""
    return json_response(await services(request).kafka.topics())


async def get_dead_letters(request: Request) -> Response:
    """Return the newest dead letters, newest first.

    With `reason` those whose reason holds that text, whatever its case; with `topic` those from
    there. One that was buried twice is there once; those of erased users are not. `cursor` asks for
    the page after the one that it came with.
    """
    server = services(request)
    found = await server.kafka.dead_letters(
        words(request, "reason", MAX_REASON),
        words(request, "topic", MAX_TOPIC),
        number(request, "limit", 1, MAX_LETTERS) or _LETTERS,
        _read_cursor(words(request, "cursor", _LONGEST_CURSOR)),
    )
    rows = [_shown(each, each.id in found.resent, server.topics) for each in found.letters]
    cursor = _write_cursor(found.letters[-1]) if found.older else None
    return json_response(DeadLetterList(found.count, rows, cursor))


async def get_dead_letter(request: Request) -> Response:
    """Return a dead letter."""
    server = services(request)
    letter, resent = await server.kafka.dead_letter(_letter_id(request))
    return json_response(_shown(letter, resent, server.topics))


async def post_resend(request: Request) -> Response:
    """Send a dead letter again to where it came from, mended; the answer comes when Kafka has it.

    422 says why no worker would take it, as a dry run does with 200, in `refused`; 409 that it was
    sent again already.
    """
    from headrace.resending import Mending, prepare

    server = services(request)
    letter_id, asked = _letter_id(request), await read_json(request, ResendRequest)
    mending = Mending(asked.set, tuple(asked.drop), _value(asked))
    letter, resent = await server.kafka.dead_letter(letter_id)
    if resent and not asked.again:
        raise Problem(
            409, f"Dead letter {letter_id} was sent again already; `again` sends it once more."
        )
    erasures = await server.kafka.erasures()
    try:
        record = prepare(letter, mending, server.topics, erasures, now=server.clock())
    except HeadraceError as exc:
        if asked.dry_run:
            return json_response(_refused(letter, exc))
        if isinstance(exc, InvalidEvent):
            raise
        raise Problem(
            422, f"Dead letter {letter_id} cannot be sent again: {exc}", [_wrong("", str(exc))]
        ) from exc
    position = None if asked.dry_run else await _send(server, letter, record)
    return json_response(_resent(letter, record, position, server.topics))


async def _send(server: Services, letter: Letter, record: Outgoing) -> Position:
    from headrace.resending import resend

    try:
        [position] = await resend([(letter, record)], server.settings, server.producer)
    finally:
        server.kafka.forget()
    return position


def _value(asked: ResendRequest) -> bytes | None:
    """Return the bytes in place of the whole value. Raises `Problem` 422."""
    if asked.value_base64 is None:
        return None if asked.value is None else asked.value.encode(errors="surrogatepass")
    if asked.value is not None:
        reason = "Give value or value_base64, not both"
        raise Problem(422, f"{reason}.", [_wrong("value_base64", reason)])
    try:
        return base64.b64decode(asked.value_base64, validate=True)
    except (binascii.Error, ValueError) as exc:
        reason = f"Expected base64: {exc}"
        raise Problem(422, f"value_base64: {reason}", [_wrong("value_base64", reason)]) from exc


def _wrong(field: str, reason: str) -> dict[str, object]:
    return wrong_field(field, reason, None)


def _refused(letter: Letter, why: HeadraceError) -> ResentLetter:
    return ResentLetter(
        id=letter.id, topic=None, key=None, value=None, sent=False, token=None, refused=str(why)
    )


def _resent(
    letter: Letter, record: Outgoing, position: Position | None, topics: Topics
) -> ResentLetter:
    topic = topics.plain(record.topic)
    token = None
    if position is not None and topic in topics.all_kinds:
        token = str(Token(topic, position.partition, position.offset))
    return ResentLetter(
        id=letter.id,
        topic=topic,
        key=None if record.key is None else record.key.decode(errors="backslashreplace"),
        value=None if record.value is None else record.value.decode(errors="backslashreplace"),
        sent=position is not None,
        token=token,
        refused=None,
    )


def _shown(letter: Letter, resent: bool, topics: Topics) -> DeadLetter:
    key, key_base64 = _text(letter.key)
    value, value_base64 = _text(letter.value)
    return DeadLetter(
        id=letter.id,
        buried_at=letter.buried_at,
        topic=topics.plain(letter.topic) if letter.topic else None,
        partition=letter.partition,
        offset=letter.offset,
        field=letter.field,
        reason=letter.reason,
        resent=resent,
        key=key,
        key_base64=key_base64,
        value=value,
        value_base64=value_base64,
    )


def _text(raw: bytes | None) -> tuple[str | None, str | None]:
    """Return bytes as text, or else in base64."""
    if raw is None:
        return None, None
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(raw).decode()


def _write_cursor(last: Letter) -> str:
    """Return the cursor of a page: its last letter's time in milliseconds, and id."""
    return f"{round(1_000 * last.buried_at)}-{last.id}"


def _read_cursor(cursor: str | None) -> tuple[float, str] | None:
    """Return when the last letter of a page was buried, and its id. Raises `Problem` 422."""
    if cursor is None:
        return None
    try:
        milliseconds, *of_id = msgspec.convert(cursor, LetterCursor).rsplit("-", 2)
    except msgspec.ValidationError as exc:
        reason = "Expected the `cursor` of an answer"
        raise Problem(422, f"cursor: {reason}.", [wrong_field("cursor", reason, None)]) from exc
    return int(milliseconds) / 1_000, "-".join(of_id)


def _letter_id(request: Request) -> str:
    return path_id(request, "letter_id", LetterId, _ID_IS)
