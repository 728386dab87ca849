"""Streaming evaluation: events scored against the lists that their users had been served before.

Prequential, as in Vinagre, Jorge & Gama, "Evaluation of recommender systems in streaming
environments" (2014): first the list is judged by what the user did next, then that is learnt from.
Positive events count alone. The last list before the event's timestamp is judged, if nothing but
the session had a say in it; an item counts once for a list, and not at all when the list left it
out because the user had just met it.

Users are shared out over a few shards, a slot of a cluster each. In a shard stand the lists that
its users were served last, what came of them, and the marks up to which events have been scored:
one script changes all three in one step, so each event is scored once.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.commands.core import AsyncScript

from headrace.impressions import Impression, forgotten_to
from headrace.sessions import LoggedEvent
from headrace.settings import Settings
from headrace.store import call, load_script, pieces, pipelined, text

NOT_THE_MODELS = "trending"
"""The label of lists that are no version's: trending items, and popular ones."""
POPULAR = "popularity"
"""The label of what popular items would have come to, had the same users been shown those."""
SHARDS = 8
LISTS = 4
"""Of a user, the newest ones: an event may reach a worker after lists that came later."""
ITEMS_A_LIST = 60
"""That a list is not, or no longer, scored for; what is met beyond has little to do with it."""
GAIN = 1_000_000
"""The gain of the first rank: whole numbers add up to the same in any order."""
_SLICES = 24
"""Of the window; whole ones leave it."""
_CALL = 100
"""Events or lists in one Lua call: bounds the time for which Redis does nothing else."""

_Call = tuple[list[str], bytes]
"""Keys and argument of a call of a script."""


class Score(Struct, frozen=True):
    """How lists fared in the window: of one version, or of those that are no version's."""

    events: int = 0
    """Positive events after a list."""
    hits: int = 0
    """Events whose item was among the list's first k."""
    gain: int = 0
    """Sum over the hits of 1 / log2(1 + rank), in millionths."""

    @property
    def hit_rate(self) -> float:
        """HR@k, 0 without events."""
        return self.hits / self.events if self.events else 0.0

    @property
    def ndcg(self) -> float:
        """NDCG@k with one relevant item, 0 without events."""
        return self.gain / GAIN / self.events if self.events else 0.0

    def __add__(self, other: Score) -> Score:
        return Score(self.events + other.events, self.hits + other.hits, self.gain + other.gain)


def gains(k: int) -> list[int]:
    """Return the gain of the ranks 1 to k (Järvelin & Kekäläinen, 2002), in millionths."""
    return [round(GAIN / math.log2(1 + rank)) for rank in range(1, k + 1)]


class EvaluationStore:
    """The lists, the marks and the counts in Redis."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._k = settings.evaluation.k
        self._ttl_s = settings.impressions.ttl_s
        self._window_s = settings.evaluation.window_s
        self._slice_s = math.ceil(self._window_s / _SLICES)
        training = settings.training
        self._threshold = training.positive_threshold
        self._rating = {
            "click": training.click_rating,
            "purchase": training.purchase_rating,
            "rating": -math.inf,
        }
        slots = [f"{{{shard}}}" for shard in range(SHARDS)]
        self._stems = [settings.state_key("evaluation", slot, "") for slot in slots]
        self._last = [settings.state_key("impressions", "last", slot, "") for slot in slots]
        self._keep: AsyncScript = redis.register_script(load_script("keep_lists.lua"))
        self._forget: AsyncScript = redis.register_script(load_script("forget_lists.lua"))
        self._score: AsyncScript = redis.register_script(load_script("score_events.lua"))

    def judges(self, impression: Impression) -> bool:
        """Return whether events are scored against this list."""
        asked = impression.asked
        return impression.user_id is not None and asked.k >= self._k and asked.is_unrestricted

    async def keep(self, impressions: Iterable[Impression]) -> None:
        """Keep the lists to be judged; keeping one again changes nothing.

        Raises `redis.exceptions.RedisError`.
        """
        by_shard: dict[int, list[Impression]] = defaultdict(list)
        for impression in impressions:
            if self.judges(impression):
                by_shard[_shard(impression.user_id or "")].append(impression)
        if not by_shard:
            return
        calls = [
            self._call_keep(shard, some)
            for shard, of_shard in by_shard.items()
            for some in pieces(of_shard, _CALL)
        ]
        await self._run(self._keep, calls)

    @property
    def popular_items(self) -> int:
        """How many popular items it takes to tell of any event how they would have fared."""
        return self._k + ITEMS_A_LIST

    async def score(
        self, events: Sequence[LoggedEvent], popular: Sequence[str] = ()
    ) -> dict[str, Score]:
        """Score the positive ones of these events, each partition's in order; return by label how.

        With `popular`, the items that are popular now, what these would have come to is returned,
        too, under the label `POPULAR`; it is not kept.

        An event at or before its partition's mark changes nothing, so the same batch may be scored
        again after a failure. One that was scored as another user's before they were merged is
        not scored again. Raises `redis.exceptions.RedisError`.
        """
        by_shard: dict[int, list[LoggedEvent]] = defaultdict(list)
        for logged in events:
            event = logged.event
            if event.merged is True:
                continue
            rating = getattr(event, "rating", None)
            if (self._rating[event.kind] if rating is None else rating) >= self._threshold:
                by_shard[_shard(event.user_id)].append(logged)
        if not by_shard:
            return {}
        calls = [
            each
            for shard, of_shard in by_shard.items()
            for each in self._calls_score(shard, of_shard, popular)
        ]
        answers = await self._run(self._score, calls)
        scores: dict[str, Score] = defaultdict(Score)
        for answer in answers:
            for label, *numbers in zip(*(answer[at::4] for at in range(4)), strict=True):
                scores[text(label)] += Score(*numbers)
        return dict(scores)

    async def forget(self, user_id: str, *, until: float) -> None:
        """Forget the lists that the user was served until then, in Unix seconds, and shortly after.

        The counts do not say whose they are. Raises `redis.exceptions.RedisError`.
        """
        keys = [self._lists(_shard(user_id), user_id)]
        await self._forget(keys=keys, args=[repr(forgotten_to(until))])

    async def read(self, now: float) -> dict[str, Score]:
        """Return the scores of the window that ends now, in Unix seconds, by label.

        A label is a version's name, or `NOT_THE_MODELS`. Raises `redis.exceptions.RedisError`.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:
            for stem in self._stems:
                pipeline.hgetall(f"{stem}counts")
            shards = await pipeline.execute()
        scores: dict[str, Score] = defaultdict(Score)
        for counts in shards:
            for field, value in counts.items():
                start, label, what = text(field).split("/")
                if int(start) > now - self._window_s - self._slice_s:
                    scores[label] += Score(**{what: int(value)})
        return dict(scores)

    async def _run(self, script: AsyncScript, calls: Sequence[_Call]) -> list[Any]:
        """Return the answers to the calls of a script."""

        def queue(pipeline: Pipeline) -> None:
            for keys, argument in calls:
                call(pipeline, script, keys, argument)

        return await pipelined(self._redis, queue, script)

    def _call_keep(self, shard: int, some: Sequence[Impression]) -> _Call:
        users: dict[str, int] = {}
        rows = [
            (
                users.setdefault(each.user_id or "", len(users) + 1),
                each.served_at,
                each.version or NOT_THE_MODELS,
                each.item_ids[: self._k],
                # Of what the user has just met such a list has nothing.
                () if each.asked.recommend_seen else each.session.newest.item_ids,
            )
            for each in some
        ]
        keys = [self._lists(shard, user_id) for user_id in users]
        return keys, msgspec.msgpack.encode((LISTS, self._ttl_s, rows))

    def _calls_score(
        self, shard: int, events: Sequence[LoggedEvent], popular: Sequence[str]
    ) -> Iterator[_Call]:
        """Yield the calls with these events; each names what the ones before it reach."""
        reached: dict[tuple[str, str], int] = {}
        for piece in pieces(events, _CALL):
            yield self._call_score(shard, piece, popular, reached)
            reached |= {(logged.mark, logged.topic_id): logged.offset for logged in piece}

    def _call_score(
        self,
        shard: int,
        some: Sequence[LoggedEvent],
        popular: Sequence[str],
        reached: Mapping[tuple[str, str], int],
    ) -> _Call:
        users: dict[str, int] = {}
        places: dict[tuple[str, str], int] = {}
        rows = [
            (
                users.setdefault(logged.event.user_id, len(users) + 1),
                places.setdefault((logged.mark, logged.topic_id), len(places) + 1),
                logged.offset,
                logged.event.item_id,
                logged.event.timestamp,
            )
            for logged in some
        ]
        before = [(*place, reached.get(place, -1)) for place in places]
        stem = self._stems[shard]
        keys = [f"{stem}marks", f"{stem}counts", *(self._lists(shard, user) for user in users)]
        bounds = (self._slice_s, self._window_s, self._ttl_s, ITEMS_A_LIST, gains(self._k))
        return keys, msgspec.msgpack.encode((*bounds, POPULAR, popular, before, rows))

    def _lists(self, shard: int, user_id: str) -> str:
        return f"{self._last[shard]}{user_id}"


def _shard(user_id: str) -> int:
    return zlib.crc32(user_id.encode()) % SHARDS
