"""The deleted items: what no answer of this server may name."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.catalog import ChangedItem, Deletions, Item


class DeletedItems:
    """The items that the catalogue has deleted, as far as this server has heard.

    News reaches a server by two ways, and in any order: requests hear of deletions, the follower
    goes through all changes. Each carries the number of its change, and the newest one counts.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.heard = 0
        """The change up to which deletions are known."""
        self.settled = 0
        """The change up to which all changes have been gone through."""

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._numbers

    @property
    def numbers(self) -> Mapping[str, int]:
        """By deleted item's id, the number of its deletion."""
        return self._numbers

    def hear(self, deletions: Deletions) -> list[str]:
        """Take note of deletions; return those that were not known."""
        new = {
            item_id: number
            for item_id, number in deletions.numbers.items()
            # What has been settled may have come back since.
            if number > max(self.settled, self._numbers.get(item_id, 0))
        }
        self._numbers |= new
        self.heard = max(self.heard, deletions.sequence)
        return list(new)

    def settle(self, through: int, changes: Mapping[str, ChangedItem]) -> list[Item]:
        """Take note of the next changes, up to `through`; return the items that are there."""
        there: list[Item] = []
        for item_id, changed in changes.items():
            deleted = self._numbers.get(item_id, 0)
            if changed.item is None:
                self._numbers[item_id] = max(deleted, changed.number)
            elif deleted <= changed.number:
                self._numbers.pop(item_id, None)
                there.append(changed.item)
        self.settled = through
        return there

    def replace(self, through: int, numbers: Mapping[str, int]) -> None:
        """Take these for all that is deleted up to change `through`; what is newer stays."""
        newer = {at: number for at, number in self._numbers.items() if number > through}
        self._numbers = {**numbers, **newer}
        self.settled = through
