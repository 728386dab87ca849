"""The topics described as AsyncAPI 3.0, made from the types that records really have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from headrace import __version__
from headrace.catalog import Item
from headrace.dead_letters import NO_KEY, RESENT, RESENT_FROM, TOPIC_ID
from headrace.erasures import Erasure
from headrace.events import AnyEvent, Click, ItemId, Purchase, Rating, UserId
from headrace.impressions import Asked, Impression, Newest, SessionState
from headrace.model_settings import ModelId
from headrace.settings import Settings
from headrace.topics import (
    COMPACTED,
    DEAD_LETTERS,
    ERASURES,
    IMPRESSIONS,
    ITEMS,
    MODEL_VERSIONS,
    RETRAIN,
    Topics,
)
from headrace.training_requests import TrainingRequest
from headrace.versions import VersionChange

_JSON = "application/json"
_NOW = 1704060026.5
_VERSION = "20240101T020500Z-3fa9c1"
_SASL = {"PLAIN": "plain", "SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512"}
TRACEPARENT = "traceparent"

Action = Literal["receive", "send"]


class Message(Struct, frozen=True):
    """A kind of record."""

    name: str
    summary: str
    example: Any
    """A value of the record's type, which is described; None: a record without a value; bytes: as
    they were received, whatever they are."""
    headers: Mapping[str, str] = {}
    """By name, what each tells."""


class Channel(Struct, frozen=True):
    """A topic: what it is for, its key, its records, and what Headrace does with them."""

    what: str
    key: Any
    """The type of the records' keys."""
    messages: tuple[Message, ...]
    actions: tuple[Action, ...]


_TRACED = {TRACEPARENT: "W3C Trace Context of who sent it, if that is traced."}
_SENT = {**_TRACED, RESENT_FROM: "The id of the dead letter that this record was, if it was one."}


def _events(what: str, event: AnyEvent) -> Channel:
    message = Message(event.kind, f"{type(event).__doc__}", event, _SENT)
    return Channel(what, UserId, (message,), ("receive", "send"))


CHANNELS: dict[str, Channel] = {
    "clicks": _events(
        "What users opened. Over HTTP sent by servers, else by anyone.",
        Click(event_id="3f6c", user_id="42", item_id="21253", timestamp=_NOW),
    ),
    "purchases": _events(
        "What users bought.",
        Purchase(
            event_id="3f6e", user_id="42", item_id="21253", timestamp=_NOW, quantity=2, price=9.99
        ),
    ),
    "ratings": _events(
        "How users rated.",
        Rating(event_id="3f6d", user_id="42", item_id="21253", timestamp=_NOW, rating=4.5),
    ),
    ITEMS: Channel(
        "The catalogue. The key is the item_id.",
        ItemId,
        (
            Message(
                "item",
                "Adds or replaces an item.",
                Item(item_id="21253", title="Toy Story", categories=("Animation",), price=9.99),
                _TRACED,
            ),
            Message("item-deleted", "Deletes the item of the key.", None, _TRACED),
        ),
        ("receive", "send"),
    ),
    IMPRESSIONS: Channel(
        "What was served. The key is the user_id, or the list's id for a session without a user.",
        Annotated[str, Meta(min_length=1, max_length=256)],
        (
            Message(
                "impression",
                "A list that was served: to whom, from which version and session.",
                Impression(
                    id="5c0f9a7be2d4435a8b1f0c9d7e6a3b2c",
                    user_id="42",
                    served_at=_NOW,
                    item_ids=("318", "50"),
                    scores=(0.41, 0.37),
                    model_id="default",
                    version=_VERSION,
                    asked=Asked(k=2),
                    session=SessionState(
                        interactions=1,
                        applied=1,
                        updated_at=_NOW,
                        marks={"ratings/3": 4711},
                        newest=Newest(("21253",), (_NOW,), ("rating",), (4.5,)),
                    ),
                ),
            ),
        ),
        ("receive", "send"),
    ),
    RETRAIN: Channel(
        "Asks for a training of the model of the key.",
        ModelId,
        (
            Message(
                "retrain",
                "The same idempotency_key means the same task, for a week.",
                TrainingRequest(
                    idempotency_key="nightly-2026-11-22",
                    reason="nightly",
                    requested_by="cron",
                    epochs=10,
                ),
                _TRACED,
            ),
        ),
        ("receive", "send"),
    ),
    MODEL_VERSIONS: Channel(
        "What changed of the versions of the model of the key.",
        ModelId,
        (
            Message(
                "model-version",
                "A version went live, was pinned or deleted, and how the model stands since.",
                VersionChange(
                    model_id="default",
                    change="live",
                    version=_VERSION,
                    at=_NOW,
                    reason="trained",
                    sequence=7,
                    live=_VERSION,
                    pinned=None,
                ),
            ),
        ),
        ("send",),
    ),
    ERASURES: Channel(
        "Who was erased. The key is the user_id; of a user the last one counts.",
        UserId,
        (
            Message(
                "erasure",
                "What stood in the log by then counts no more.",
                Erasure(
                    user_id="42",
                    at=_NOW,
                    topic_ids={"clicks": "Sm9obkNvbHRyYW5lQWxpY2U"},
                    through={"clicks": {"0": 4711, "1": 0}},
                ),
            ),
            Message("erasure-taken-back", "Takes the erasure of the key's user back.", None),
        ),
        ("receive", "send"),
    ),
    DEAD_LETTERS: Channel(
        "Records that are wrong in themselves. Key and value are those received.",
        None,
        (
            Message(
                "dead-letter",
                "The bytes as they were received; headers tell why they are here.",
                b'{"event_id": "3f6f", "rating": "five"}',
                {
                    "topic": "The topic that it came from, with its prefix.",
                    TOPIC_ID: "The id that this topic had then; empty when nobody knew it.",
                    "partition": "The partition there.",
                    "offset": "The offset there.",
                    "field": "The field at fault; empty when the whole record is.",
                    "reason": "What is wrong, in words.",
                    NO_KEY: "The record had neither key nor value.",
                },
            ),
            Message(
                "resent-mark",
                "No letter, but the mark that one was sent again.",
                None,
                {RESENT: "The id of the letter."},
            ),
        ),
        ("send",),
    ),
}
"""By topic, without the prefix."""


def document(settings: Settings, *, servers: bool = True) -> dict[str, Any]:
    """Return the AsyncAPI document of the topics under these settings' names.

    `servers`: whether it says where the brokers are.
    """
    schemas, payloads = _payloads()
    topics = Topics(settings)
    described: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headrace",
            "version": __version__,
            "description": "Events in, live recommendations out: the topics of Kafka.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _JSON,
        "channels": {
            name: _channel(topics.name(name), channel, name in COMPACTED)
            for name, channel in CHANNELS.items()
        },
        "operations": {
            f"{action}-{name}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": channel.what,
            }
            for name, channel in CHANNELS.items()
            for action in channel.actions
        },
        "components": {
            "messages": {
                message.name: _message(message, channel, payloads)
                for channel in CHANNELS.values()
                for message in channel.messages
            },
            "schemas": schemas,
        },
    }
    if servers:
        described["servers"], schemes = _servers(settings)
        described["components"]["securitySchemes"] = schemes
    return described


def _payloads() -> tuple[dict[str, Any], dict[type, Any]]:
    """Return the schemas by name, and by type how each is referred to."""
    types = [type(message.example) for message in _messages() if _is_typed(message)]
    refs, schemas = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    for event in (Click, Purchase, Rating):
        # The topic says it; over HTTP the field must.
        schemas[event.__name__]["required"].remove("type")
    return schemas, dict(zip(types, refs, strict=True))


def _messages() -> Iterable[Message]:
    return (message for channel in CHANNELS.values() for message in channel.messages)


def _is_typed(message: Message) -> bool:
    return isinstance(message.example, Struct)


def _channel(address: str, channel: Channel, compacted: bool) -> dict[str, Any]:
    kept = {"cleanup.policy": ["compact" if compacted else "delete"]}
    return {
        "address": address,
        "description": channel.what,
        "messages": {
            message.name: {"$ref": f"#/components/messages/{message.name}"}
            for message in channel.messages
        },
        "bindings": {"kafka": {"topicConfiguration": kept, "bindingVersion": "0.5.0"}},
    }


def _message(message: Message, channel: Channel, payloads: Mapping[type, Any]) -> dict[str, Any]:
    binding: dict[str, Any] = {"bindingVersion": "0.5.0"}
    if channel.key is not None:
        binding["key"] = msgspec.json.schema(channel.key)
    described: dict[str, Any] = {
        "name": message.name,
        "summary": message.summary,
        "bindings": {"kafka": binding},
    }
    if message.headers:
        described["headers"] = {
            "type": "object",
            "properties": {
                name: {"type": "string", "description": what}
                for name, what in message.headers.items()
            },
        }
    if _is_typed(message):
        described["payload"] = payloads[type(message.example)]
        described["examples"] = [{"payload": _as_json(message.example)}]
    elif message.example is None:
        described["payload"] = {"type": "null", "description": "No value: a tombstone."}
    else:
        described["contentType"] = "application/octet-stream"
        described["payload"] = {"description": "Any bytes, or none."}
        described["examples"] = [{"payload": message.example.decode()}]
    return described


def _as_json(example: Any) -> Any:
    """Return a value as a record holds it; of an event, the topic gives the type."""
    built = msgspec.to_builtins(example)
    built.pop("type", None)
    optional = {
        field.encode_name for field in msgspec.structs.fields(example) if not field.required
    }
    return {
        name: value for name, value in built.items() if value is not None or name not in optional
    }


def _servers(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the brokers, and how they want to be shown who comes."""
    security = settings.kafka_security
    server: dict[str, Any] = {"protocol": "kafka-secure" if security.uses_tls else "kafka"}
    schemes: dict[str, Any] = {}
    if security.uses_sasl:
        server["security"] = [{"$ref": "#/components/securitySchemes/sasl"}]
        schemes["sasl"] = {"type": _SASL[security.sasl_mechanism]}
    brokers = settings.kafka.split(",")
    servers = {
        f"broker-{number}": {"host": host.strip(), **server}
        for number, host in enumerate(brokers, start=1)
    }
    return servers, schemes
