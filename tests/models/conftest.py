"""One version trained on the toy stream, for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import TOY, toy_columns, toy_items

from headrace.versions import Manifest
from models.retrieval import Artifact, Retriever, load_artifact


@pytest.fixture(scope="session")
def toy_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="session")
def reports() -> list[tuple[str, float, dict[str, float]]]:
    """What the training of `toy_manifest` reported."""
    return []


@pytest.fixture(scope="session")
def toy_manifest(
    toy_artifacts: Path, reports: list[tuple[str, float, dict[str, float]]]
) -> Manifest:
    from models.training.pipeline import train

    def progress(step: str, fraction: float, **figures: float) -> None:
        reports.append((step, fraction, figures))

    return train(toy_columns(), toy_items(), TOY, toy_artifacts, "toy", "v1", progress)


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
