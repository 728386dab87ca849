"""The AsyncAPI document: valid by the standard's own schema, and true of what is on the topics."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest
from npm_packages import npm_package

from headrace.asyncapi import document
from headrace.catalog import parse_item
from headrace.erasures import decode_erasure
from headrace.events import parse_event
from headrace.impressions import parse_impression
from headrace.settings import KafkaSecuritySettings, Settings, TopicSettings
from headrace.topics import ALL, COMPACTED, EVENT_TOPICS
from headrace.training_requests import parse_request
from serving.app import create_app
from serving.services import create_services

SETTINGS = Settings(
    kafka="one:9092, two:9092",
    topics=TopicSettings(prefix="shop-"),
    kafka_security=KafkaSecuritySettings(protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512"),
)
DOCUMENT = document(SETTINGS)


@pytest.fixture(scope="module")
def standard() -> Any:
    """The schema that the AsyncAPI Initiative publishes for documents of version 3.0."""
    schema = npm_package("@asyncapi/specs") / "schemas" / "3.0.0.json"
    return jsonschema_rs.validator_for(json.loads(schema.read_bytes()))


@pytest.mark.parametrize("settings", [SETTINGS, Settings()], ids=["secured", "plain"])
@pytest.mark.parametrize("servers", [True, False])
def test_the_document_is_valid(standard: Any, settings: Settings, servers: bool) -> None:
    described = document(settings, servers=servers)
    assert [str(fault) for fault in standard.iter_errors(described)] == []
    assert _unresolved(described, described) == []


def test_the_check_above_sees_a_fault(standard: Any) -> None:
    operations = {"send-it": {"action": "shout", "channel": {"$ref": "#/channels/clicks"}}}
    assert not standard.is_valid({**DOCUMENT, "operations": operations})
    assert _unresolved({"$ref": "#/channels/none"}, DOCUMENT) == ["#/channels/none"]


def test_every_topic_is_in_it_under_its_name_on_the_broker() -> None:
    channels = DOCUMENT["channels"]
    assert {each["address"] for each in channels.values()} == {f"shop-{topic}" for topic in ALL}
    for topic, channel in channels.items():
        kept = channel["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"]
        assert kept == ["compact" if topic in COMPACTED else "delete"]


def test_each_message_shows_an_example_that_fits_its_schema() -> None:
    for name, message in DOCUMENT["components"]["messages"].items():
        schema = {**message["payload"], "components": DOCUMENT["components"]}
        validator = jsonschema_rs.validator_for(schema)
        if validator.is_valid(None) and "examples" not in message:
            continue
        for example in message["examples"]:
            assert validator.is_valid(example["payload"]), name


def test_what_reads_the_topics_takes_the_examples() -> None:
    for topic, kind in EVENT_TOPICS.items():
        assert parse_event(_example(topic), kind, received_at=2e9).kind == kind
    assert parse_impression(_example("impressions")).item_ids == ("318", "50")
    assert parse_item(_example("items")).item_id == "21253"
    assert parse_request(_example("retrain")).epochs == 10
    assert decode_erasure(_example("erasures")).user_id == "42"


def test_an_event_needs_no_type_on_its_topic_and_may_have_no_other() -> None:
    schema = {**DOCUMENT["components"]["schemas"]["Click"], "components": DOCUMENT["components"]}
    event = json.loads(_example("clicks"))
    assert jsonschema_rs.is_valid(schema, event)
    assert jsonschema_rs.is_valid(schema, {**event, "type": "click"})
    assert not jsonschema_rs.is_valid(schema, {**event, "type": "rating"})
    assert not jsonschema_rs.is_valid(schema, {**event, "colour": "red"})


async def test_a_server_shows_it_without_the_brokers(settings: Settings) -> None:
    app = create_app(settings)
    app.state.services = create_services(settings)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/asyncapi.json")
    wanted = msgspec.json.encode(document(settings, servers=False))
    assert answer.json() == json.loads(wanted)
    assert settings.kafka not in answer.text


def _example(topic: str) -> bytes:
    """Return the first example of the topic's first message, as a record holds it."""
    name = next(iter(DOCUMENT["channels"][topic]["messages"]))
    return json.dumps(DOCUMENT["components"]["messages"][name]["examples"][0]["payload"]).encode()


def _unresolved(part: Any, whole: Any) -> list[str]:
    """Return the references in this part of the document that lead nowhere in it."""
    if isinstance(part, list):
        return [ref for each in part for ref in _unresolved(each, whole)]
    if not isinstance(part, dict):
        return []
    found = [ref for each in part.values() for ref in _unresolved(each, whole)]
    ref = part.get("$ref")
    if isinstance(ref, str) and not _leads(ref, whole):
        found.append(ref)
    return found


def _leads(ref: str, whole: Any) -> bool:
    at = whole
    for step in ref.removeprefix("#/").split("/"):
        if step not in at:
            return False
        at = at[step]
    return True
