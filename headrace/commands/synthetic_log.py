"""A made-up log of events, the same at each call, a piece at a time: what a benchmark reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.records import Batch, Records

USERS, ITEMS, PARTITIONS = 100_000, 50_000, 8
DUPLICATES, MALFORMED = 0.02, 0.001
SHARES = {"clicks": 0.6, "ratings": 0.3, "purchases": 0.1}
_PIECE = 65_536
_START_MS = 1_700_000_000_000
_APART_MS = 100
_UNORDERED_MS = 60_000
"""Each event is up to a minute older than its record."""

_DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda value: value[:-9],
    lambda value: value.replace(b'"user_id":"', b'"user_id":"\xff'),
    lambda value: value.replace(b'"timestamp":', b'"timestamp":"soon","was":'),
    lambda value: value.replace(b'"item_id"', b'"item"'),
)


def synthetic_log(events: int, seed: int = 0) -> Iterator[Batch]:
    """Yield records of one topic at a time, until there were `events` of all topics.

    Users and items are drawn by Zipf's law, users with exponent 0.5, items with 1. Of the records
    2 % repeat the id of an earlier one, 0.1 % are malformed, and a quarter have a context.
    """
    user_chances, item_chances = zipf(USERS, 0.5), zipf(ITEMS, 1.0)
    for start in range(0, events, _PIECE):
        rng = np.random.default_rng((seed, start))
        number = np.arange(start, min(start + _PIECE, events))
        count = len(number)
        identity = np.where(rng.random(count) < DUPLICATES, rng.integers(0, number + 1), number)
        fields = {
            "id": _mixed(identity, seed),
            "user": np.searchsorted(user_chances, rng.random(count)),
            "item": np.searchsorted(item_chances, rng.random(count)),
            "ms": _START_MS + _APART_MS * number - rng.integers(0, _UNORDERED_MS, count),
            "stars": rng.integers(1, 6, count),
            "slot": np.where(rng.random(count) < 0.25, rng.integers(0, 20, count), -1),
            "malformed": rng.random(count) < MALFORMED,
        }
        topic_of = np.searchsorted(np.cumsum(list(SHARES.values())), rng.random(count))
        for code, topic in enumerate(SHARES):
            rows = np.flatnonzero(topic_of == code)
            chosen = {name: all_[rows] for name, all_ in fields.items()}
            yield Batch(topic, "made-up", _records(topic, chosen, number[rows]))


def zipf(count: int, exponent: float) -> NDArray[np.float64]:
    """Return the cumulated chances of `count` numbers that are drawn by Zipf's law: `[count]`."""
    chances = np.cumsum(np.arange(1, count + 1) ** -exponent)
    return np.asarray(chances / chances[-1])


def _mixed(number: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Return numbers that look random, another for each (Steele et al., 2014, SplitMix64)."""
    mixed = number.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _records(topic: str, fields: dict[str, NDArray[Any]], number: NDArray[np.int64]) -> Records:
    return Records(
        values=_values(topic, fields),
        partition=(fields["user"] % PARTITIONS).astype(np.int32),
        # A log has them without gaps; to what reads it only their order means something.
        offset=number,
        time=_START_MS + _APART_MS * number,
    )


def _values(topic: str, fields: dict[str, NDArray[Any]]) -> list[bytes]:
    second, ms = np.divmod(fields["ms"], 1000)
    parts: list[Any] = [
        *('{"event_id":"', _text(fields["id"])),
        *('","user_id":"user-', _text(fields["user"])),
        *('","item_id":"item-', _text(fields["item"])),
        *('","timestamp":', _text(second), ".", pc.utf8_lpad(_text(ms), 3, "0")),
    ]
    if topic == "ratings":
        parts += [',"rating":', _text(fields["stars"])]
    if topic == "purchases":
        parts += [',"quantity":1,"currency":"EUR","price":', _text(fields["stars"]), ".99"]
    slot = fields["slot"]
    context = pc.binary_join_element_wise(',"context":{"page":"home","slot":', _text(slot), "}", "")
    parts += [pc.if_else(pa.array(slot >= 0), context, ""), "}"]
    joined = pc.binary_join_element_wise(*parts, "")
    values: list[bytes] = joined.cast(pa.binary()).to_pylist()
    for nth, row in enumerate(np.flatnonzero(fields["malformed"]).tolist()):
        values[row] = _DAMAGES[nth % len(_DAMAGES)](values[row])
    return values


def _text(numbers: NDArray[Any]) -> pa.StringArray:
    return pa.array(numbers).cast(pa.string())
