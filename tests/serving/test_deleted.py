"""News of the catalogue comes by two ways, in any order; what was deleted last counts."""

from __future__ import annotations

import random

from headrace.catalog import ChangedItem, Deletions, Item
from serving.deleted import DeletedItems


def there(item_id: str, number: int) -> dict[str, ChangedItem]:
    return {item_id: ChangedItem(number, Item(item_id=item_id))}


def gone(item_id: str, number: int) -> dict[str, ChangedItem]:
    return {item_id: ChangedItem(number, None)}


def test_a_deletion_is_told_once() -> None:
    deleted = DeletedItems()
    assert deleted.hear(Deletions(3, {"a": 2, "b": 3})) == ["a", "b"]
    assert deleted.hear(Deletions(3, {"a": 2})) == []
    assert "a" in deleted
    assert "c" not in deleted
    assert deleted.heard == 3


def test_what_has_come_back_is_not_deleted_by_old_news() -> None:
    deleted = DeletedItems()
    deleted.hear(Deletions(5, {"a": 5}))
    assert [item.item_id for item in deleted.settle(6, there("a", 6))] == ["a"]
    # Another request asked before that, and is answered only now.
    assert deleted.hear(Deletions(5, {"a": 5})) == []
    assert "a" not in deleted


def test_what_is_deleted_is_not_put_in_by_old_news() -> None:
    deleted = DeletedItems()
    deleted.hear(Deletions(7, {"a": 7}))
    assert deleted.settle(6, there("a", 6)) == []
    assert "a" in deleted
    assert deleted.settle(7, gone("a", 7)) == []
    assert "a" in deleted


def test_a_version_taken_up_brings_what_it_knows_and_newer_deletions_stay() -> None:
    deleted = DeletedItems()
    deleted.hear(Deletions(9, {"old": 2, "new": 9}))
    deleted.replace(6, {"other": 4})
    assert dict(deleted.numbers) == {"other": 4, "new": 9}
    assert (deleted.settled, deleted.heard) == (6, 9)


def test_any_order_of_news_ends_as_the_catalogue_does() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        # Three items, each put in or deleted at each change.
        changes = [(rng.choice("abc"), rng.random() < 0.5) for _ in range(12)]

        def state(through: int) -> dict[str, tuple[int, bool]]:
            return {at: (n, is_in) for n, (at, is_in) in enumerate(changes[:through], 1)}  # noqa: B023

        deleted, served, answers = DeletedItems(), set("abc"), []
        for through in range(1, 13):
            # Requests ask now, and hear later, in any order.
            numbers = {at: n for at, (n, is_in) in state(through).items() if not is_in}
            answers.append(Deletions(through, numbers))
            while answers and rng.random() < 0.5:
                served -= set(deleted.hear(answers.pop(rng.randrange(len(answers)))))
            if rng.random() < 0.4:
                rows = {
                    at: ChangedItem(n, Item(item_id=at) if is_in else None)
                    for at, (n, is_in) in state(through).items()
                    if n > deleted.settled
                }
                back = {item.item_id for item in deleted.settle(through, rows)}
                served = (served | back) - set(deleted.numbers)
            if rng.random() < 0.5:
                # One is answered at once: what is deleted by now is out then.
                served -= set(deleted.hear(Deletions(through, numbers)))
                assert not served & set(numbers)
        rows = {
            at: ChangedItem(n, Item(item_id=at) if is_in else None)
            for at, (n, is_in) in state(12).items()
            if n > deleted.settled
        }
        back = {item.item_id for item in deleted.settle(12, rows)}
        served = (served | back) - set(deleted.numbers)
        for answer in answers:
            served -= set(deleted.hear(answer))
        final = {at for at, (_, is_in) in state(12).items() if not is_in}
        assert set(deleted.numbers) == final
        assert served == set("abc") - final
