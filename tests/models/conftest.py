"""One version trained on the toy stream, for all tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from once import made_once
from toy import TOY, toy_columns, toy_items

from headrace.versions import Manifest
from models.retrieval import Artifact, Retriever, load_artifact

Reports = list[tuple[str, float, dict[str, float]]]
"""Step, how far the training is, and figures."""


@pytest.fixture(scope="session")
def toy_training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of a training, and beside them what it reported; not to be changed."""

    def make(folder: Path) -> None:
        from models.training.pipeline import train

        reports: Reports = []

        def progress(step: str, fraction: float, **figures: float) -> None:
            reports.append((step, fraction, figures))

        train(toy_columns(), toy_items(), TOY, folder / "artifacts", "toy", "v1", progress)
        (folder / "reports.json").write_bytes(msgspec.json.encode(reports))

    return made_once(tmp_path_factory, "toy-training", make)


@pytest.fixture(scope="session")
def toy_artifacts(toy_training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts, this process's own."""
    own = tmp_path_factory.mktemp("artifacts")
    return Path(shutil.copytree(toy_training / "artifacts", own, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def reports(toy_training: Path) -> Reports:
    """What the training of `toy_manifest` reported."""
    return msgspec.json.decode((toy_training / "reports.json").read_bytes(), type=Reports)


@pytest.fixture(scope="session")
def toy_manifest(toy_artifacts: Path) -> Manifest:
    return load_artifact(toy_artifacts / "toy" / "v1").manifest


@pytest.fixture(scope="session")
def toy_folder(toy_manifest: Manifest, toy_artifacts: Path) -> Path:
    return toy_artifacts / "toy" / toy_manifest.version


@pytest.fixture(scope="session")
def toy_artifact(toy_folder: Path) -> Artifact:
    return load_artifact(toy_folder)


@pytest.fixture
def retriever(toy_artifact: Artifact) -> Retriever:
    """Anew for each test, for tests add and remove items."""
    return Retriever(toy_artifact)
