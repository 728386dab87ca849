"""Signatures of model versions: who holds the trainer's key has made this manifest, nobody else.

Ed25519 (RFC 8032) over the bytes of `manifest.json`, which has the sha256 of every other file. The
signature, 64 bytes as base64, lies beside it in `manifest.sig`.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from headrace.errors import ArtifactInvalid, HeadraceError, InvalidSetting
from headrace.setting_variables import variable_of
from headrace.settings import VersionSettings
from headrace.versions import SIGNATURE

_PREFIX = "ed25519:"
_SIGNING_KEY = variable_of(("versions", "signing_key"))
_TRUSTED_KEYS = variable_of(("versions", "trusted_keys"))


def make_key(path: Path) -> str:
    """Write a new private key to a file that its owner alone may read; return the public key.

    Raises `HeadraceError` when the file exists or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except OSError as exc:
        raise HeadraceError(f"The key cannot be written to {path}: {exc.strerror}.") from exc
    return _shown(key.public_key())


class Signer:
    """Signs with the private key of a file."""

    def __init__(self, path: Path) -> None:
        """Read the key. Raises `InvalidSetting` when the file holds none."""
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as exc:
            raise InvalidSetting(
                f"{_SIGNING_KEY} is {str(path)!r}, which cannot be read: {exc.strerror}."
            ) from exc
        except (TypeError, ValueError) as exc:
            raise InvalidSetting(
                f"{_SIGNING_KEY} is {str(path)!r}, which holds no private key in PEM; "
                "`headrace models key FILE` makes one."
            ) from exc
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidSetting(f"{_SIGNING_KEY} is {str(path)!r}, which is no Ed25519 key.")
        self._key = key

    def sign(self, manifest: bytes) -> bytes:
        """Return what `manifest.sig` holds for these bytes."""
        return base64.b64encode(self._key.sign(manifest)) + b"\n"


def signer(settings: VersionSettings) -> Signer | None:
    """Return the signer of the settings, None when versions are not signed."""
    return Signer(Path(settings.signing_key)) if settings.signing_key else None


class TrustedKeys:
    """Public keys, one of which must have signed a version; when there are none, any is taken."""

    def __init__(self, keys: Sequence[Ed25519PublicKey]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def of(cls, settings: VersionSettings) -> TrustedKeys:
        """Read the keys of the settings. Raises `InvalidSetting` for one that is none."""
        names = (name.strip() for name in settings.trusted_keys.split(","))
        return cls([_public_key(name) for name in names if name])

    def check(self, version: str, manifest: bytes, signature: bytes | None) -> None:
        """Raise `ArtifactInvalid` unless one of the keys signed the manifest, or there are none.

        `signature`: what `manifest.sig` holds, None when there is no such file.
        """
        if not self._keys:
            return
        if signature is None:
            raise ArtifactInvalid(
                f"Version {version}: it is not signed, and {_TRUSTED_KEYS} names who must have "
                "signed it; set HEADRACE_VERSIONS_SIGNING_KEY at the trainer and train again."
            )
        if not any(_signed_by(key, manifest, signature) for key in self._keys):
            raise ArtifactInvalid(
                f"Version {version}: {SIGNATURE} is of none of the keys in {_TRUSTED_KEYS}, or "
                "the manifest was changed after it was signed; train again, or trust its key."
            )


def _signed_by(key: Ed25519PublicKey, manifest: bytes, signature: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature.strip(), validate=True), manifest)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _public_key(shown: str) -> Ed25519PublicKey:
    try:
        if not shown.startswith(_PREFIX):
            raise ValueError(f"it does not begin with {_PREFIX}")
        raw = base64.b64decode(shown.removeprefix(_PREFIX), validate=True)
        return Ed25519PublicKey.from_public_bytes(raw)
    except (binascii.Error, ValueError) as exc:
        raise InvalidSetting(
            f"{_TRUSTED_KEYS} has {shown!r}, which is no public key as `headrace models key` "
            f"prints it ({exc})."
        ) from exc


def _shown(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return _PREFIX + base64.b64encode(raw).decode()
