"""Signatures of versions: made with the trainer's key, checked with the public one."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from headrace.errors import ArtifactInvalid, HeadraceError, InvalidSetting
from headrace.settings import VersionSettings
from headrace.signatures import Signer, TrustedKeys, make_key, signer


def trusted(*keys: str) -> TrustedKeys:
    return TrustedKeys.of(VersionSettings(trusted_keys=", ".join(keys)))


def test_what_the_key_signed_is_taken_and_nothing_else(tmp_path: Path) -> None:
    own, other = (make_key(tmp_path / name) for name in ("own.pem", "other.pem"))
    assert own.startswith("ed25519:")
    assert stat.S_IMODE((tmp_path / "own.pem").stat().st_mode) == 0o600
    made = signer(VersionSettings(signing_key=str(tmp_path / "own.pem")))
    assert made is not None
    signature = made.sign(b"manifest")
    trusted(own).check("v", b"manifest", signature)
    trusted(other, own).check("v", b"manifest", signature)
    for keys, manifest, given, words in (
        (other, b"manifest", signature, "none of the keys"),
        (own, b"Manifest", signature, "changed after it was signed"),
        (own, b"manifest", signature[:-3], "none of the keys"),
        (own, b"manifest", b"\xff not base64", "none of the keys"),
        (own, b"manifest", None, "it is not signed"),
    ):
        with pytest.raises(ArtifactInvalid, match=words):
            trusted(keys).check("v", manifest, given)


def test_openssl_says_the_same(tmp_path: Path) -> None:
    make_key(tmp_path / "key.pem")
    (tmp_path / "manifest").write_bytes(b"manifest")
    command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", "key.pem", "-in", "manifest"]
    raw = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    import base64

    assert Signer(tmp_path / "key.pem").sign(b"manifest") == base64.b64encode(raw) + b"\n"


def test_without_keys_nothing_is_signed_or_checked() -> None:
    assert signer(VersionSettings()) is None
    trusted().check("v", b"manifest", None)
    trusted().check("v", b"manifest", b"anything")


def test_keys_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    make_key(tmp_path / "key.pem")
    with pytest.raises(HeadraceError, match="exists"):
        make_key(tmp_path / "key.pem")
    with pytest.raises(InvalidSetting, match=r"SIGNING_KEY is '.*away\.pem', which cannot be read"):
        Signer(tmp_path / "away.pem")
    (tmp_path / "text").write_text("no key")
    with pytest.raises(InvalidSetting, match="holds no private key in PEM"):
        Signer(tmp_path / "text")
    for shown in ("ed25519:", "ed25519:AAAA", "rsa:AAAA", "ed25519:???"):
        with pytest.raises(InvalidSetting, match="HEADRACE_VERSIONS_TRUSTED_KEYS has"):
            trusted(shown)
