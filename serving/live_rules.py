"""Keeps the rules of a loaded version level with what users did since its training."""

from __future__ import annotations

import asyncio

from headrace.topics import Place
from headrace.transitions import Positions, TransitionStore
from headrace.versions import TrainingData
from models.retrieval.retriever import Retriever

_ROUNDS = 20
"""Reads of some hundred transitions in one `catch_up`; then other things have their turn."""


class RulesFollower:
    """Brings transitions to one version, from the offsets on up to which it was trained.

    Each event is in the version's own rules or among what is brought, never in both; in neither
    only when its transition was trimmed away before it was read.
    """

    def __init__(self, transitions: TransitionStore, retriever: Retriever) -> None:
        self._transitions = transitions
        self._retriever = retriever
        self._positions = trained_through(retriever.manifest.data)

    async def catch_up(self) -> None:
        """Bring what is new, or as much of it as one turn allows. Raises `RedisError`."""
        if not self._retriever.has_rules:
            return
        for _ in range(_ROUNDS):
            positions, transitions = await self._transitions.read_after(self._positions)
            if not transitions:
                return
            await asyncio.to_thread(self._retriever.learn, transitions)
            self._positions = positions


def trained_through(data: TrainingData) -> Positions:
    """Return the last offset of each topic's partition that is in the version's own rules.

    Offsets mean nothing without the id of their topic: a topic made anew, or one that the training
    does not know, is new from its beginning.
    """
    return {
        Place(topic, data.topic_ids[topic], int(partition)): end - 1
        for topic, ends in data.through.items()
        if topic in data.topic_ids
        for partition, end in ends.items()
    }
