"""Topics as they stand."""

from __future__ import annotations

from msgspec import Struct


class PartitionInfo(Struct, frozen=True):
    """A partition as it stands, and how fast it moves."""

    partition: int
    begin: int
    """Its first record's offset."""
    end: int
    """The offset after its last record."""
    newest: float | None
    """The newest record's own time, in Unix seconds."""
    position: int | None
    """The offset of the next record that workers will do; None: none was done, or that is not
    known, or they do not read the topic."""
    lag: int | None
    """Records that workers have still to do; None: that is not known, or not theirs to do."""
    rate_in: float
    """Records that came, a second."""
    rate_out: float | None
    """Records that workers did, a second."""


class TopicInfo(Struct, frozen=True, kw_only=True):
    """A topic: what it comes to over its partitions, and each of them."""

    topic: str
    """Without the prefix."""
    name: str
    """As the broker names it."""
    id: str | None
    """None: there is no such topic."""
    records: int
    """That it holds, or held before compaction."""
    newest: float | None
    lag: int | None
    rate_in: float
    rate_out: float | None
    partitions: list[PartitionInfo]


class TopicList(Struct, frozen=True):
    """Answer of `GET /v1/topics`."""

    at: float
    """Unix seconds."""
    over_s: float
    """Seconds over which rates were measured."""
    unknown: str
    """Why it is not known how far workers are; else empty."""
    topics: list[TopicInfo]
