"""The local stack starts a worker for each three topics that models read."""

from __future__ import annotations

from pathlib import Path

from headrace.local.folder import DataFolder
from headrace.local.stack import Plan, StackOptions, headrace_parts
from headrace.model_settings import EventTopicNames, ModelSettings
from headrace.settings import Settings


def test_models_with_the_same_topics_share_a_worker(tmp_path: Path) -> None:
    own = ModelSettings(EventTopicNames("views", "sales", "stars"))
    settings = Settings(models={"books": own, "books-again": own, "films": ModelSettings()})
    environ = {"HEADRACE_WORKER_PORT": "9464"}
    plan = Plan(StackOptions(), settings, DataFolder(tmp_path), environ)
    parts = {part.name: part for part in headrace_parts(plan)}
    assert list(parts) == ["worker", "worker-books", "trainer", "server"]
    assert parts["worker"].command[-1:] == ("worker",)
    assert parts["worker-books"].command[-3:] == ("worker", "--model", "books")
    # Two cannot listen on one port.
    assert parts["worker"].environ["HEADRACE_WORKER_PORT"] == "9464"
    assert parts["worker-books"].environ["HEADRACE_WORKER_PORT"] == "0"
