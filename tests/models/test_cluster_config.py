"""TF_CONFIG: who takes part, who this process is, and what is wrong where it cannot be used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.errors import InvalidSetting
from models.training.cluster_config import cluster_config

ONE, OTHER, THIRD = "10.0.0.1:2222", "[::1]:2223", "trainer-2.example:2222"


def read(cluster: Any, task: Any) -> Any:
    return cluster_config({"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})})


def test_the_first_worker_is_the_chief_unless_there_is_one() -> None:
    workers = {"worker": [ONE, OTHER]}
    first = read(workers, {"type": "worker", "index": 0})
    second = read(workers, {"type": "worker", "index": 1})
    assert (first.is_chief, second.is_chief) == (True, False)
    assert first.name == second.name
    led = {"worker": [ONE, OTHER], "chief": [THIRD]}
    worker = read(led, {"type": "worker", "index": 0})
    assert (worker.number, worker.addresses) == (1, (THIRD, ONE, OTHER))
    assert read(led, {"type": "chief", "index": 0}).is_chief
    assert worker.name != first.name


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (None, "TF_CONFIG is not set. With --distributed"),
        (" ", "TF_CONFIG is not set"),
        ("{", "is not JSON"),
        ("[]", "has no `cluster`"),
        ({"cluster": {"worker": [ONE, OTHER]}}, "has no `task`"),
        ({"cluster": {"ps": [ONE]}, "task": {}}, "`cluster.ps`; a training has a chief and"),
        ({"cluster": {"worker": ONE}, "task": {}}, "no list of addresses"),
        ({"cluster": {"worker": ["10.0.0.1"]}, "task": {}}, "'10.0.0.1' in `cluster.worker`"),
        ({"cluster": {"chief": [ONE, OTHER]}, "task": {}}, "has 2 chiefs"),
        ({"cluster": {"worker": [ONE]}, "task": {}}, "names 1 process; a distributed training has"),
        ({"cluster": {"worker": [ONE, ONE]}, "task": {}}, "names an address twice"),
        (
            {"cluster": {"worker": [ONE, OTHER]}, "task": {"type": "chief", "index": 0}},
            "`task.type` 'chief'; the cluster has worker",
        ),
        (
            {"cluster": {"worker": [ONE, OTHER]}, "task": {"type": "worker", "index": 2}},
            "`task.index` 2; of worker there are 0 to 1",
        ),
        (
            {"cluster": {"worker": [ONE, OTHER]}, "task": {"type": "worker", "index": "0"}},
            "`task.index` '0'",
        ),
    ],
)
def test_what_cannot_be_used_is_named(raw: Any, words: str) -> None:
    value = raw if isinstance(raw, str) else json.dumps(raw)
    with pytest.raises(InvalidSetting) as caught:
        cluster_config({} if raw is None else {"TF_CONFIG": value})
    assert words in str(caught.value)


def test_a_trainer_that_is_to_be_distributed_says_so_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    result = CliRunner().invoke(app, ["trainer", "--distributed"])
    assert result.exit_code != 0
    assert "TF_CONFIG is not set" in result.output + str(result.exception)
