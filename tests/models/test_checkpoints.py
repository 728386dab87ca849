"""A training that is killed goes on from its last checkpoint, and comes to the same version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy import TOY, toy_columns, toy_items

from headrace.versions import Manifest
from models.retrieval import load_artifact

_PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from toy import TOY, toy_columns, toy_items
from models.training.pipeline import Origin, train

def progress(step, fraction, **figures):
    print(step, int(figures.get("epoch", 0)), flush=True)

work = Origin(work=Path({work!r}))
train(toy_columns(), toy_items(), TOY, Path({artifacts!r}), "toy", "v1", progress, work)
"""


def killed_after(line: str, work: Path, artifacts: Path) -> list[str]:
    """Start the toy's training in a process, kill it when it has said this; return what it said."""
    here = str(Path(__file__).parent)
    program = _PROGRAM.format(here=here, work=str(work), artifacts=str(artifacts))
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for heard in process.stdout:
            said.append(heard.strip())
            if said[-1] == line:
                process.kill()
                break
        assert process.wait() < 0, process.stderr.read()
    return said


def test_broken_off_at_any_stage_it_comes_to_the_same_version(
    toy_manifest: Manifest, toy_folder: Path, tmp_path: Path
) -> None:
    from models.training.pipeline import Origin, train

    work, artifacts = tmp_path / "work", tmp_path / "artifacts"
    killed_after("fit 3", work, artifacts)
    assert (work / "fit.npz").is_file()
    told: list[tuple[str, float]] = []
    origin = Origin(work=work)

    class BrokenOff(Exception):
        pass

    def breaking(step: str, fraction: float, **figures: float) -> None:
        told.append((step, figures.get("epoch", 0.0)))
        if step == "fit on all" and figures["epoch"] == 2:
            raise BrokenOff

    def progress(step: str, fraction: float, **figures: float) -> None:
        told.append((step, figures.get("epoch", 0.0)))

    # Once more, before the last epoch is kept: those before it are not gone through again.
    with pytest.raises(BrokenOff):
        train(toy_columns(), toy_items(), TOY, artifacts, "toy", "v1", breaking, origin)
    epochs = [epoch for step, epoch in told if step == "fit"]
    assert 1 not in epochs
    told.clear()
    manifest = train(toy_columns(), toy_items(), TOY, artifacts, "toy", "v1", progress, origin)
    assert [epoch for step, epoch in told if epoch] == [2]
    once, again = load_artifact(toy_folder), load_artifact(artifacts / "toy" / "v1")
    np.testing.assert_allclose(again.item_vectors, once.item_vectors, atol=1e-6)
    assert again.blend == once.blend
    for name in ("hr_at_10", "ndcg_at_10", "towers_hr_at_10", "rules_share"):
        assert abs(manifest.metrics[name] - toy_manifest.metrics[name]) < 1e-6
    assert abs(again.calibration.slope - once.calibration.slope) < 1e-6


def test_a_checkpoint_of_another_training_is_passed_over(tmp_path: Path) -> None:
    from models.training.checkpoint import Work

    state = {"model_000": np.arange(3.0), "done": np.array(2)}
    Work(tmp_path, "these data").stage("fit").save(state)
    found = Work(tmp_path, "these data").stage("fit").load()
    assert found is not None
    assert found["done"] == 2
    assert Work(tmp_path, "other data").stage("fit").load() is None
    assert Work(tmp_path, "these data").stage("fit-on-all").load() is None
    assert Work(None).stage("fit").load() is None


def test_a_checkpoint_that_is_damaged_is_passed_over(tmp_path: Path) -> None:
    from models.training.checkpoint import Work

    stage = Work(tmp_path, "x").stage("fit")
    stage.save({"done": np.array(2)})
    whole = (tmp_path / "fit.npz").read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"not an archive"):
        (tmp_path / "fit.npz").write_bytes(damaged)
        assert stage.load() is None
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object))
    (tmp_path / "fit.npz").write_bytes((tmp_path / "pickled.npy").read_bytes())
    assert stage.load() is None
