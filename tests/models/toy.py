"""A toy stream whose answer is obvious: who met item n of a world meets item n + 1 next."""

from __future__ import annotations

import numpy as np

from headrace.catalog import Item
from headrace.events import KINDS, EventColumns
from headrace.sessions import Session
from headrace.training_settings import TrainingSettings

WORLDS = ("alpha", "beta")
RING = 12
"""Items of a world. Who met item n meets item n + 1 next, round the ring, in the same world."""

TOY = TrainingSettings(
    width=16,
    session_length=6,
    dropout=0.1,
    id_dropout=0.3,
    future=1,
    min_steps=400,
    epochs=6,
    batch_size=16,
    learning_rate=0.01,
    validation_events=200,
)


def item_id(world: str, number: int) -> str:
    return f"{world}-{number % RING}"


def toy_columns(users: int = 60, events: int = 9) -> EventColumns:
    """Users walk round their world's ring from where chance puts them, all at the same pace."""
    rng = np.random.default_rng(7)
    item_ids = tuple(item_id(world, number) for world in WORLDS for number in range(RING))
    worlds, starts = rng.integers(0, len(WORLDS), users), rng.integers(0, RING, users)
    step, user = np.divmod(np.arange(users * events), users)
    return EventColumns(
        user=user.astype(np.int32),
        item=(worlds[user] * RING + (starts[user] + step) % RING).astype(np.int32),
        timestamp=1_700_000_000.0 + 60.0 * step + user / users,
        kind=np.full(users * events, KINDS.index("rating"), np.int8),
        rating=rng.choice([4.0, 5.0], users * events).astype(np.float32),
        user_ids=tuple(f"user-{number}" for number in range(users)),
        item_ids=item_ids,
        through={"ratings": {"0": users * events}},
    )


def toy_items() -> list[Item]:
    return [
        Item(item_id=item_id(world, number), categories=(world,))
        for world in WORLDS
        for number in range(RING)
    ]


def walk(world: str, *numbers: int) -> Session:
    """The session of someone who met these items of a world, a minute apart."""
    return Session(
        item_ids=tuple(item_id(world, number) for number in numbers),
        timestamps=tuple(1_700_000_000.0 + 60.0 * step for step in range(len(numbers))),
        kinds=("rating",) * len(numbers),
        ratings=(5.0,) * len(numbers),
    )
