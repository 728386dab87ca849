"""An S3 server of the tests' own, and versions of a few bytes to keep there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import httpx
import msgspec
import pytest
from moto.server import ThreadedMotoServer

from headrace.versions import Manifest, TrainingData

BUCKET = "versions"


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a server with an empty bucket; yield its address, which the environment names, too."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    for name, value in (
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ):
        monkeypatch.setenv(name, value)
    try:
        # Servers of one process share what they hold.
        httpx.post(f"{url}/moto-api/reset").raise_for_status()
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield url
    finally:
        server.stop()


def small_version(local: Path, model_id: str, version: str, content: bytes = b"1") -> Path:
    """Write a version that has a manifest, but is none that could be loaded."""
    folder = local / model_id / version
    (folder / "index").mkdir(parents=True)
    files = {"items.json": content, "index/settings.json": b"{}"}
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    data = TrainingData(
        through={}, events=1, users=1, items=1, fingerprint="", from_timestamp=0, to_timestamp=0
    )
    manifest = Manifest(
        model_id=model_id,
        version=version,
        created_at=0.0,
        files={name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()},
        data=data,
        parameters={},
        metrics={},
        packages={},
    )
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return folder
