"""Files of events in a folder and in a real S3 server: kept by a server, fetched by a trainer."""

from __future__ import annotations

import io
from pathlib import Path

import boto3
import pytest
from object_store import BUCKET, s3_server

from headrace.errors import DataUnavailable, HeadraceError, StoreUnavailable
from headrace.settings import Settings, VersionSettings
from headrace.training_data import DataFile, DataSchema, read_data
from headrace.uploads import Uploads

NAME = "0" * 32 + ".csv"
CONTENT = b"user,item\nu,i\n"


def at(address: str, cache: Path) -> Uploads:
    return Uploads(Settings(artifacts=address, versions=VersionSettings(cache=str(cache))))


@pytest.fixture(params=["folder", "s3"])
def address(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> object:
    if request.param == "folder":
        yield str(tmp_path / "artifacts")
        return
    with s3_server(monkeypatch):
        yield f"s3://{BUCKET}/shop"


def test_what_a_server_keeps_a_trainer_elsewhere_reads(address: str, tmp_path: Path) -> None:
    server, trainer = at(address, tmp_path / "server"), at(address, tmp_path / "trainer")
    size, sha256 = server.keep(io.BytesIO(CONTENT), NAME)
    data = DataFile(name=NAME, bytes=size, sha256=sha256, schema=DataSchema())
    assert size == len(CONTENT)
    with trainer.fetched(data):
        pass
    # As two processes of a training do that is distributed.
    with trainer.fetched(data) as path:
        with trainer.fetched(data) as other_path:
            assert other_path.read_bytes() == CONTENT
        assert path.read_bytes() == CONTENT
        assert path.name == other_path.name == NAME
    if address.startswith("s3"):
        # What was fetched was there for the reading alone.
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    other = DataFile(name=NAME, bytes=size, sha256="0" * 64, schema=DataSchema())
    with pytest.raises(DataUnavailable, match="not as it was sent"), trainer.fetched(other):
        pass
    trainer.remove(NAME)
    trainer.remove(NAME)
    with pytest.raises(DataUnavailable, match=f"{NAME} is gone"), trainer.fetched(data):
        pass


def test_a_store_that_is_away_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(monkeypatch):
        uploads = at(f"s3://{BUCKET}/shop", tmp_path)
        boto3.client("s3").delete_bucket(Bucket=BUCKET)
        with pytest.raises(StoreUnavailable, match="artifacts at s3://versions/shop"):
            uploads.keep(io.BytesIO(CONTENT), NAME)
    assert list((tmp_path / ".uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        ("user_id,item_id\n".encode("utf-16"), "The file of events is UTF-16; send it as UTF-8."),
        (b"1,1,2\n", "send it with a header"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_to_who_sends_it(
    tmp_path: Path, content: bytes, cure: str
) -> None:
    path = tmp_path / "aside.csv"
    path.write_bytes(content)
    with pytest.raises(HeadraceError) as told:
        list(read_data(path, DataSchema(type="click"), Settings(), received_at=0.0))
    assert cure in str(told.value)
