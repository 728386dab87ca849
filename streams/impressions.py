"""What becomes of a batch of impressions: lists to be found by id, and to be judged by events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.dead_letters import DeadLetters, Record, Wrong, users_of
from headrace.erasures import Erasures
from headrace.errors import InvalidImpression
from headrace.evaluation import EvaluationStore
from headrace.impressions import Impression, ImpressionStore, parse_impression, settled_s
from headrace.topics import IMPRESSIONS
from streams.agents import bury
from streams.failure import Patience
from streams.progress import Progress
from streams.turns import Turn

Kept = tuple[Impression, bytes]
"""An impression, and its record's value."""


class ImpressionsAgent:
    """Keeps what was served, but for what was served to users who were erased since."""

    def __init__(
        self,
        topic_ids: Mapping[str, str],
        impressions: ImpressionStore,
        evaluations: Mapping[str, EvaluationStore],
        erasures: Erasures,
        dead_letters: DeadLetters,
        progress: Progress,
        patience: Patience,
    ) -> None:
        """`evaluations`: by model, where its lists are kept to be judged."""
        self._topic_ids = topic_ids
        self._impressions = impressions
        self._evaluations = evaluations
        self._erasures = erasures
        self._dead_letters = dead_letters
        self._progress = progress
        self._patience = patience
        self.in_hand = Turn()
        """Held while a batch is kept."""

    async def __call__(self, records: Sequence[Record]) -> None:
        """Do with a batch what is to be done; after that it may be committed.

        Every step may be repeated: after a failure half-way the whole batch is delivered again.
        """
        async with self.in_hand:
            kept, wrong, erased = self._sorted(records)
            await bury(wrong, self._dead_letters, self._patience)
            if kept:
                await self._patience.wait_out(
                    lambda: self._keep(kept), "impressions cannot be stored"
                )
        self._progress.impressions += len(kept)
        self._progress.buried(wrong)
        self._progress.erased(erased)
        self._progress.done(records)

    async def _keep(self, kept: Sequence[Kept]) -> None:
        # First: what is found can be judged.
        for store in {*self._evaluations.values()}:
            await store.keep(
                impression
                for impression, _ in kept
                if self._evaluations.get(impression.model_id) is store
            )
        await self._impressions.keep(kept)

    def _sorted(self, records: Sequence[Record]) -> tuple[list[Kept], list[Wrong], list[Record]]:
        """Return the impressions, what is none, and what is of users who were erased after it."""
        kept: list[Kept] = []
        wrong: list[Wrong] = []
        erased: list[Record] = []
        for record in records:
            try:
                impression = parse_impression(record.value)
            except InvalidImpression as error:
                users = users_of(record.key, record.value)
                if any(self._is_erased(user_id, record, record.timestamp) for user_id in users):
                    erased.append(record)
                else:
                    wrong.append((record, error))
                continue
            user_id = impression.user_id
            if user_id is not None and self._is_erased(user_id, record, impression.served_at):
                erased.append(record)
            else:
                kept.append((impression, record.value or b""))
        return kept, wrong, erased

    def _is_erased(self, user_id: str, record: Record, served_at: float) -> bool:
        # An erasure says nothing of this topic's offsets: a server may hold a list back for a
        # while, so that it comes after an erasure of what it was made of. Its time tells.
        return bool(self._erasures) and self._erasures.covers(
            user_id,
            IMPRESSIONS,
            self._topic_ids[record.topic],
            record.partition,
            record.offset,
            written_at=settled_s(served_at),
        )
