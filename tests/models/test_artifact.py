"""A damaged or forged version is refused, and the message says what is wrong where."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from headrace.errors import ArtifactInvalid
from headrace.versions import Manifest
from models.retrieval import Retriever, load_artifact


@pytest.fixture
def folder(toy_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_folder, tmp_path / "v1"))


def resign(folder: Path, **names: str) -> None:
    """Write the manifest anew, so that only the contents are wrong, not their sums."""
    path = folder / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    files = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest.files
    }
    path.write_bytes(
        msgspec.json.encode(msgspec.structs.replace(manifest, files={**files, **names}))
    )


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(ArtifactInvalid) as error:
        Retriever(load_artifact(folder))
    for word in words:
        assert word in str(error.value)


def test_a_version_as_written_is_loaded(folder: Path) -> None:
    artifact = load_artifact(folder)
    assert artifact.item_vectors.shape == (len(artifact.item_ids), 16)
    assert set(artifact.popular) <= set(artifact.item_ids)


@pytest.mark.parametrize(
    "name", ["query_tower.tflite", "item_vectors.npy", "items.json", "savedmodel/saved_model.pb"]
)
def test_a_changed_byte(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    refused(folder, name, "sha256")


@pytest.mark.parametrize("points", [np.zeros((3, 2)), np.full((1, 2), np.nan), np.zeros(4)])
def test_a_map_that_does_not_fit(folder: Path, points: np.ndarray) -> None:
    np.save(folder / "map.npy", points.astype(np.float32))
    resign(folder)
    refused(folder, "map.npy")


def test_a_missing_file(folder: Path) -> None:
    (folder / "calibration.json").unlink()
    refused(folder, "calibration.json")


def test_a_missing_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    refused(folder, "manifest.json")


def test_a_broken_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"model_id": 1')
    refused(folder, "manifest.json")


def test_a_file_that_the_manifest_does_not_list(folder: Path) -> None:
    (folder / "index").mkdir()
    (folder / "index" / "scann_docids.pkl").write_bytes(b"cos\nsystem\n")
    refused(folder, "index/scann_docids.pkl", "not listed")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_a_path_that_leads_out(folder: Path, name: str) -> None:
    (folder.parent / "outside").write_text("x")
    resign(folder, **{name: "0" * 64})
    refused(folder, name)


def test_a_link_that_leads_out(folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / "popular.json").rename(outside)
    (folder / "popular.json").symlink_to(outside)
    refused(folder, "popular.json", "out of")


def test_pickled_vectors(folder: Path) -> None:
    np.save(folder / "item_vectors.npy", np.array([{"a": 1}], object), allow_pickle=True)
    resign(folder)
    refused(folder, "item_vectors.npy")


def test_fewer_vectors_than_items(folder: Path) -> None:
    vectors = np.load(folder / "item_vectors.npy")
    np.save(folder / "item_vectors.npy", vectors[1:])
    resign(folder)
    refused(folder, "item_vectors.npy", "rows")


def test_vectors_that_are_not_finite(folder: Path) -> None:
    vectors = np.load(folder / "item_vectors.npy")
    vectors[3, 2] = np.nan
    np.save(folder / "item_vectors.npy", vectors)
    resign(folder)
    refused(folder, "item_vectors.npy", "finite")


def test_rules_that_lead_out_of_the_items(folder: Path) -> None:
    targets = np.load(folder / "rules_targets.npy")
    targets[0] = len(np.load(folder / "item_vectors.npy"))
    np.save(folder / "rules_targets.npy", targets)
    resign(folder)
    refused(folder, "rules_", "target outside")


def test_rules_of_other_items(folder: Path) -> None:
    for name in ("starts", "totals"):
        array = np.load(folder / f"rules_{name}.npy")
        np.save(folder / f"rules_{name}.npy", np.append(array, array[-1]))
    resign(folder)
    refused(folder, "rules_", "25 items where the version has 24")


def test_an_empty_file_of_rules(folder: Path) -> None:
    (folder / "rules_weights.npy").write_bytes(b"")
    resign(folder)
    refused(folder, "rules_weights.npy")


def test_a_blend_out_of_bounds(folder: Path) -> None:
    blend = msgspec.json.decode((folder / "blend.json").read_bytes())
    (folder / "blend.json").write_bytes(msgspec.json.encode({**blend, "rules": 2}))
    resign(folder)
    refused(folder, "blend.json", "rules")


def test_vectors_of_another_width(folder: Path) -> None:
    vectors = np.load(folder / "item_vectors.npy")
    np.save(folder / "item_vectors.npy", np.ascontiguousarray(vectors[:, 1:]))
    resign(folder)
    refused(folder, "query_tower.tflite", "15")


def test_a_tower_that_is_no_model(folder: Path) -> None:
    (folder / "query_tower.tflite").write_bytes(b"not a model")
    resign(folder)
    refused(folder, "tower")


def test_forged_counts_of_baskets(folder: Path) -> None:
    counts = folder / "bought_together" / "counts.npy"
    np.save(counts, np.ones(3, np.int32))
    resign(folder)
    refused(folder, "bought_together", "counts.npy")


def test_pickled_counts_of_baskets(folder: Path) -> None:
    np.save(folder / "bought_together" / "items.npy", np.array([{}], object), allow_pickle=True)
    resign(folder)
    refused(folder, "bought_together", "items.npy")


def test_a_version_without_counts_of_baskets_knows_of_none(folder: Path) -> None:
    shutil.rmtree(folder / "bought_together")
    path = folder / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    files = {name: digest for name, digest in manifest.files.items() if "bought" not in name}
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=files)))
    found = Retriever(load_artifact(folder)).bought_together("alpha-1", 5)
    assert found is not None
    assert found.item_ids == []
