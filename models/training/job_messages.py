"""What a training's process is told, and what it tells."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from headrace.log import Offsets
from headrace.task_reader import Success
from headrace.training_data import DataFile
from headrace.training_kinds import KINDS, Kind
from headrace.training_requests import TrainingRequest
from headrace.versions import ListsSpan


class Job(Struct, frozen=True, kw_only=True):
    """What the training's process is told, on the first line of its standard input."""

    model_id: str
    version: str
    created_at: float
    """Of the task, in Unix seconds."""
    request: TrainingRequest = TrainingRequest()
    through: Offsets = {}
    topic_ids: dict[str, str] = {}
    """Of the topics that the offsets are of."""
    lists: ListsSpan | None = None
    """The served lists to learn from, too."""
    data: DataFile | None = None
    """A file to train on instead of the topics."""
    work: str = ""
    """A folder for what the next attempt at the same task goes on from; it has the same `version`,
    `through` and `topic_ids`."""
    base: str | None = None
    """The live version, if there is one: what an incremental training goes on from."""
    distributed: bool = False
    """Whether the processes that TF_CONFIG names run this job together."""
    last: Success | None = None
    """The model's last success, unless it is to be trained anew from the same."""

    @property
    def kind(self) -> Kind:
        """What is trained."""
        return self.request.kind or KINDS[0]


class Report(Struct, frozen=True, kw_only=True):
    """A line of the training's standard output."""

    step: str
    fraction: float
    figures: dict[str, float] = {}
    data: dict[str, Any] = {}
    """What is known of the data by now."""
    unchanged: bool = False
    """Whether there was nothing to train: the last success was made from the same."""
    error: str | None = None
    """Says why the training gave up, in words for whoever asked for it."""
    is_away: bool = False
    """Whether it gave up for something that is away for now: another attempt may go on."""
