"""Tasks: the trainings that were asked for, visible from start to end."""

from __future__ import annotations

from typing import Any, Literal, Union

import msgspec
from msgspec import UNSET, Struct, UnsetType

from headrace.training_kinds import KINDS, Kind
from headrace.training_requests import TrainingRequest

Status = Literal["QUEUED", "RUNNING", "SUCCEEDED", "REJECTED", "FAILED", "CANCELLED"]
OPEN: tuple[Status, ...] = ("QUEUED", "RUNNING")
_NOT_PARAMS = frozenset({"model_id", "kind", "idempotency_key", "reason", "requested_by"})
"""Fields of a request that a task has itself."""


class Task(Struct, frozen=True, kw_only=True):
    """One training, from the asking to its end. Times are Unix seconds."""

    id: str
    model_id: str
    object: str = "task"
    kind: Kind = "retrieval"
    status: Status = "QUEUED"
    progress: float = 0.0
    """From 0 to 1."""
    step: str = "queued"
    queue_position: Union[int, UnsetType] = UNSET
    """From 1 on, while it is queued."""
    created_at: float
    started_at: float | None = None
    updated_at: float
    finished_at: float | None = None
    requested_by: str = ""
    reason: str = ""
    params: dict[str, Any] = {}
    """What was asked for, by the fields of the request."""
    data: dict[str, Any] = {}
    """What it trains on: `offsets`, and once they are read `events` and `fingerprint`."""
    metrics: dict[str, float] = {}
    version: str | None = None
    error: str | None = None
    """What happened, in words, and what to do."""

    @property
    def request(self) -> TrainingRequest:
        """What was asked for."""
        fields = {name: value for name, value in self.params.items() if name != "data"}
        return msgspec.convert(
            {**fields, "model_id": self.model_id, "kind": self.kind}, TrainingRequest
        )


def new_task(request: TrainingRequest, model_id: str, task_id: str, *, now: float) -> Task:
    """Return the task of a request that is queued; its kind is to be known by now."""
    asked: dict[str, Any] = msgspec.to_builtins(request)
    return Task(
        id=task_id,
        model_id=model_id,
        kind=request.kind or KINDS[0],
        created_at=now,
        updated_at=now,
        requested_by=request.requested_by,
        reason=request.reason,
        params={name: value for name, value in asked.items() if name not in _NOT_PARAMS},
    )
