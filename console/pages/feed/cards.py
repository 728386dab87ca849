"""What the cards of a list show: which moved since the list before, and why they stand there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from console import formats
from headrace_client import Interaction, Item
from headrace_client.types import Recommendation

_REASONS = 2
_VERBS = {"click": "opened", "purchase": "bought", "rating": "rated"}


def cards_of(
    recommendations: Sequence[Recommendation],
    items: Mapping[str, Item],
    before: Mapping[str, int],
    interactions: Mapping[str, Interaction],
    *,
    by_model: bool,
) -> list[dict[str, Any]]:
    """Return the cards of a list, best first.

    `before`: the places, from 1, in the list that was shown before; `interactions`: the user's own,
    which say what a reason was, so that of others nothing is said; `by_model`: scores are a
    model's, other ones estimate no chance. A card's `share` is of the best score of the list.
    """
    best = max((each.score for each in recommendations), default=0.0)
    return [
        {
            "id": each.id,
            "place": place,
            "title": title_of(items.get(each.id), each.id),
            "categories": list(items[each.id].categories) if each.id in items else [],
            "share": each.score / best if by_model and best > 0 else 0.0,
            "score": formats.share(each.score) if by_model else "",
            "cold": each.cold,
            "rated": interactions[each.id].rating if each.id in interactions else None,
            **_moved(place, before.get(each.id), is_first=not before),
            "because": [
                {
                    "title": title_of(items.get(reason.id), reason.id),
                    "verb": verb_of(interactions[reason.id]),
                    "effect": f"{formats.points(reason.effect)} points",
                    "for": reason.effect >= 0,
                }
                for reason in each.because[:_REASONS]
                if reason.id in interactions
            ],
        }
        for place, each in enumerate(recommendations, 1)
    ]


def places_of(recommendations: Sequence[Recommendation]) -> dict[str, int]:
    """Return by item its place in a list, from 1."""
    return {each.id: place for place, each in enumerate(recommendations, 1)}


def moved(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """Return how many items of a list stand where they did not stand before."""
    return sum(before.get(item_id) != place for item_id, place in after.items())


def title_of(item: Item | None, item_id: str) -> str:
    """Return what an item is called."""
    return item.title if item is not None and item.title else item_id


def verb_of(interaction: Interaction) -> str:
    """Return what the user did with an item, as a word: `opened`, `rated 4.5`."""
    verb = _VERBS[interaction.event]
    if interaction.event == "rating" and interaction.rating is not None:
        return f"{verb} {interaction.rating:g}"
    return verb


def _moved(place: int, before: int | None, *, is_first: bool) -> dict[str, Any]:
    if is_first or before == place:
        return {"move": "", "moved": ""}
    if before is None:
        return {"move": "new", "moved": "new"}
    steps = abs(before - place)
    if before > place:
        return {"move": "up", "moved": f"up {steps}"}
    return {"move": "down", "moved": f"down {steps}"}
