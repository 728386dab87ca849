"""Several models in the settings: what each reads, where its state is, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headrace.errors import InvalidSetting, UnknownModel
from headrace.model_settings import RESERVED_TOPICS, EventTopicNames, ModelSettings
from headrace.settings import Settings
from headrace.settings_source import load_settings
from headrace.topics import ALL, EVENT_TOPICS, Topics

FILE = """
namespace = "shop"

[models.books.topics]
clicks = "book-views"

[models.books-again.topics]
clicks = "book-views"
purchases = "books-purchases"
ratings = "books-ratings"

[models.films]

[topics]
prefix = "live."
"""


@pytest.fixture
def shop(tmp_path: Path) -> Settings:
    path = tmp_path / "headrace.toml"
    path.write_text(FILE)
    return load_settings({"HEADRACE_CONFIG": str(path)})


def test_a_model_reads_its_own_topics_or_those_that_all_share(shop: Settings) -> None:
    own = EventTopicNames("book-views", "books-purchases", "books-ratings")
    assert shop.model_ids == ["books", "books-again", "default", "films"]
    assert shop.of_model("books").event_topics == own
    assert shop.of_model("books-again").event_topics == own
    assert shop.of_model("films").event_topics == shop.event_topics
    assert Topics(shop).kinds == EVENT_TOPICS
    books = Topics(shop.of_model("books"))
    assert books.kinds == {
        "book-views": "click",
        "books-purchases": "purchase",
        "books-ratings": "rating",
    }
    assert books.events == ("live.book-views", "live.books-purchases", "live.books-ratings")
    assert books.of_kind("purchase") == "books-purchases"
    assert books.all_kinds == {**EVENT_TOPICS, **books.kinds}
    assert books.all == Topics(shop).all
    assert set(books.all) == {*ALL, *books.kinds}
    assert books.to_train(global_data=False) == tuple(books.kinds)
    assert set(books.to_train(global_data=True)) == {*EVENT_TOPICS, *books.kinds}


def test_models_of_the_same_topics_share_their_state_and_nobody_elses(shop: Settings) -> None:
    books = shop.of_model("books")
    assert shop.state_key("user", "x") == shop.key("user", "x") == "shop:user:x"
    assert books.state_key("user", "x") == "shop:topics:book-views:user:x"
    assert shop.of_model("books-again").state_key("user") == books.state_key("user")
    assert shop.of_model("films").state_key("user") == "shop:user"
    assert books.key("tasks") == "shop:tasks"
    assert books.models_alike == ["books", "books-again"]
    assert shop.models_alike == ["default", "films"]
    assert [state.model_id for state in shop.states] == ["default", "books"]
    assert [state.model_id for state in books.states] == ["books", "default"]
    assert books.group != shop.group == shop.worker.group


def test_the_settings_model_stays_known_whatever_model_one_asks_for(shop: Settings) -> None:
    assert shop.of_model("books").of_model("default").of_model("films").model_ids == shop.model_ids
    assert shop.of_model("default") is shop
    with pytest.raises(UnknownModel, match="no model 'cars'; there are books, books-again"):
        shop.of_model("cars")


def test_the_settings_model_may_have_topics_of_its_own() -> None:
    settings = load_settings(
        {"HEADRACE_MODEL_ID": "books", "HEADRACE_MODELS": '{"books": {"topics": {}}}'}
    )
    assert settings.model_ids == ["books"]
    assert settings.event_topics.names == ("books-clicks", "books-purchases", "books-ratings")
    # The shared topics are there all the same: another model may come.
    assert "clicks" in Topics(settings).all


def test_what_helps_the_settings_model_can_be_trained_on_its_events(shop: Settings) -> None:
    assert set(shop.trained_ids) == {*shop.model_ids, "items", "ranking"}
    assert shop.of_model("items").event_topics == shop.event_topics
    own = load_settings(
        {"HEADRACE_MODEL_ID": "books", "HEADRACE_MODELS": '{"books": {"topics": {}}}'}
    )
    helping = own.of_model("ranking")
    assert (helping.model_id, helping.event_topics) == ("ranking", own.event_topics)
    assert helping.models_alike == ["books", "ranking"]
    # Listed it reads the same; it brings no topics that nobody else reads.
    listed = msgspec.structs.replace(own, models={**own.models, "items": ModelSettings()})
    assert listed.of_model("items").event_topics == own.event_topics
    assert listed.models_alike == ["books", "items"]
    assert [state.model_id for state in listed.states] == ["books"]
    films = msgspec.structs.replace(listed, models={**listed.models, "films": ModelSettings()})
    assert films.of_model("films").of_model("items").event_topics == own.event_topics
    # It may have topics of its own.
    apart = msgspec.structs.replace(
        own, models={**own.models, "items": ModelSettings(EventTopicNames("a", "b", "c"))}
    )
    assert apart.of_model("items").event_topics.names == ("a", "b", "c")


def test_a_child_process_reads_the_same_models(shop: Settings) -> None:
    assert load_settings(shop.environ()) == shop
    books = shop.of_model("books")
    assert load_settings(books.environ()) == books


def test_topics_of_no_events_are_reserved() -> None:
    assert {*ALL} - {*EVENT_TOPICS} <= RESERVED_TOPICS


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ("books", "HEADRACE_MODELS has value 'books'. It is no JSON"),
        ("[]", "It is a table"),
        ('{"Books": {}}', "models.Books is no model"),
        ('{"-a": {}}', "models.-a is no model"),
        ('{"books": 1}', "models.books has value 1. Expected `object`"),
        ('{"books": {"topic": {}}}', "unknown field `topic`"),
        ('{"books": {"topics": {"views": "x"}}}', "unknown field `views`"),
        ('{"books": {"topics": {"clicks": "a b"}}}', "models.books.topics.clicks has value 'a b'"),
        ('{"books": {"topics": {"clicks": "items"}}}', "items, which carries no events"),
        ('{"books": {"topics": {"clicks": "clicks"}}}', "shares clicks with those without"),
        ('{"books": {"topics": {"clicks": "x", "ratings": "x"}}}', "names one topic twice"),
        (
            '{"a": {"topics": {"clicks": "x"}}, "b": {"topics": {"clicks": "x"}}}',
            "models.b.topics shares x with models.a",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place_and_the_cure(models: str, words: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        load_settings({"HEADRACE_MODELS": models})
    assert words in str(refused.value)


def test_the_shared_topics_may_be_named() -> None:
    names = '{"clicks": "clicks", "purchases": "purchases", "ratings": "ratings"}'
    settings = load_settings({"HEADRACE_MODELS": f'{{"books": {{"topics": {names}}}}}'})
    assert [state.model_id for state in settings.states] == ["default"]
