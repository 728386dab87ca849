"""Item-to-item towers: from one item to the next ones of the same session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from logs import CLICK, columns
from toy import RING, TOY, item_id, toy_columns, toy_items

from headrace.training_settings import TrainingSettings
from headrace.versions import Manifest
from models.retrieval import Retriever, load_artifact


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Retriever]:
    from models.training.pipeline import Origin, train

    artifacts = tmp_path_factory.mktemp("items")
    manifest = train(
        toy_columns(), toy_items(), TOY, artifacts, "items", "v1", lambda *_, **__: None,
        Origin("items"),
    )  # fmt: skip
    return manifest, Retriever(load_artifact(artifacts / "items" / "v1"))


def test_what_follows_an_item_is_most_like_it(made: tuple[Manifest, Retriever]) -> None:
    manifest, retriever = made
    assert manifest.kind == "items"
    assert manifest.parameters["session_length"] == TOY.session_length
    # Of a session's next item, from one item alone.
    assert manifest.metrics["hr_at_10"] >= 0.9
    assert manifest.metrics["towers_hr_at_10"] >= 0.9
    for number in range(RING):
        found = retriever.similar(item_id("alpha", number), 3)
        assert found is not None
        assert found.item_ids[0] == item_id("alpha", number + 1)
        assert item_id("alpha", number) not in found.item_ids
        assert 0 <= found.scores[-1] <= found.scores[0] <= 1
    assert retriever.similar("unheard", 3) is None


def test_an_item_of_the_catalogue_alone_is_like_others(
    made: tuple[Manifest, Retriever], tmp_path: Path
) -> None:
    from headrace.catalog import Item

    retriever = made[1]
    retriever.add_items([Item(item_id="new", categories=("beta",))])
    found = retriever.similar("new", 5)
    assert found is not None
    assert sum(at.startswith("beta") for at in found.item_ids) >= 3


def test_sessions_end_with_a_pause_and_hold_no_item_twice_in_a_row() -> None:
    from models.training.kinds import sessions_apart

    #        user item
    log = columns([(0, 0, CLICK, 5), (1, 3, CLICK, 5), (0, 0, CLICK, 5), (0, 1, CLICK, 5),
                   (1, 4, CLICK, 5), (0, 1, CLICK, 5), (0, 2, CLICK, 5)])  # fmt: skip
    log.timestamp[:] = [0, 1, 2, 3, 4, 100, 101]
    apart, rows = sessions_apart(log, TrainingSettings(session_gap_s=50.0))
    assert rows.tolist() == [0, 1, 3, 4, 5, 6]
    sessions: dict[int, list[int]] = {}
    for user, item in zip(apart.user.tolist(), apart.item.tolist(), strict=True):
        sessions.setdefault(user, []).append(item)
    assert sorted(sessions.values()) == [[0, 1], [1, 2], [3, 4]]
    assert [apart.user_ids[user] for user in sessions] == ["u0", "u1", "u0"]


def test_a_session_is_asked_for_each_item_but_its_first() -> None:
    from models.training.evaluation import held_out
    from models.training.kinds import ITEMS

    log = columns([(0, 0, CLICK, 5), (0, 1, CLICK, 5), (0, 0, CLICK, 5), (1, 1, CLICK, 5)])
    parameters = ITEMS.parameters(TrainingSettings())
    data = ITEMS.histories(log, parameters)
    # The third, too, though its user has met the item; the fourth begins a session.
    assert held_out(data, 0).tolist() == [1, 2]
    assert not data.features.any()
    assert parameters.session_length == 1
    assert parameters.batch_size == 16 * 50
    np.testing.assert_array_equal(data.is_positive, True)
