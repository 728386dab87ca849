"""The fingerprint of what a training learns from: equal data, equal fingerprints."""

from __future__ import annotations

import hashlib

import msgspec

from headrace.events import EventColumns
from headrace.training_requests import TrainingRequest
from headrace.training_settings import TrainingSettings


def fingerprint(columns: EventColumns) -> str:
    """Return the sha256 of the columns."""
    digest = hashlib.sha256(msgspec.msgpack.encode([columns.user_ids, columns.item_ids]))
    for column in (
        columns.user,
        columns.item,
        columns.timestamp,
        columns.kind,
        columns.rating,
    ):
        digest.update(column.tobytes())
    return digest.hexdigest()


def fingerprint_onward(base: str, read: str) -> str:
    """Return the fingerprint of the events of a base version and of those read since."""
    return hashlib.sha256(f"{base} {read}".encode()).hexdigest()


def made_with(request: TrainingRequest, parameters: TrainingSettings) -> str:
    """Return a digest of all but the data that a version depends on."""
    asked = [request.kind, request.algorithm, request.mode, request.with_feedback]
    return hashlib.sha256(msgspec.json.encode([asked, parameters])).hexdigest()
