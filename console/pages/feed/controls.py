"""Whose feed it is, and within which limits: what the page's address keeps, and what is offered."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from console import formats
from console.visit import Visit
from console.widgets.address import Address, Query
from console.widgets.html import Tag, box, button, text
from console.widgets.parts import Field
from headrace_client.types import KnownUser

_K = {"6": "6 cards", "12": "12 cards", "24": "24 cards"}
_ALL = "All categories"
_VISITOR = "visitor-"
_MET_USERS, _OFFERED_USERS = 100, 5
_LOOK_S = 5.0
"""Pause between looks at what there is to offer, for as long as that may be too little."""
_OFTEN = 12
"""Looks, a minute of them; then one a minute, so that the calls shown are those of the reader."""


@dataclass(frozen=True)
class Limits:
    """Of the lists that are asked for."""

    k: int = 12
    category: str = ""
    """Empty: of all categories."""
    diversity: float = 0.0
    seen: bool = False

    @classmethod
    def of(cls, query: Query) -> Limits:
        """Return what an address says; what it says wrongly is as if it said nothing."""
        k, diversity = query.get("cards", ""), 0.0
        with contextlib.suppress(ValueError):
            diversity = float(query.get("diversity", 0))
        return cls(
            k=int(k) if k in _K else cls.k,
            category=query.get("category", ""),
            diversity=diversity if 0 <= diversity <= 1 else cls.diversity,
            seen=query.get("seen") == "true",
        )

    def query(self) -> dict[str, str]:
        """Return what an address says of them: what is as always is empty."""
        return {
            "cards": "" if self.k == Limits.k else str(self.k),
            "category": self.category,
            "diversity": f"{self.diversity:g}" if self.diversity else "",
            "seen": "true" if self.seen else "",
        }


class Controls:
    """The part of the page in which both are chosen."""

    def __init__(
        self, visit: Visit, on_user: Callable[[str], None], on_limits: Callable[[], None]
    ) -> None:
        """`on_user` is given who is to be; `on_limits` is told that the limits are others."""
        self._visit = visit
        self._on_user = on_user
        self._on_limits = on_limits
        self._address = Address(visit.query)
        self.limits = Limits.of(visit.query)
        self._categories: dict[str, int] = {}
        self._users: list[KnownUser] = []
        self._has_all_categories = self._has_all_users = False
        self._due, self._looks = 0, 0
        with Tag("section", "panel controls", aria_label="Whose feed, and within which limits"):
            self._draw_users()
            self._draw_limits()
        visit.every(_LOOK_S, self._offer)

    def show_user(self, user_id: str) -> None:
        """Show whose feed it is, and what follows from acting in it."""
        self._who.set(user_id)
        known = not user_id.startswith(_VISITOR)
        self._counts.set_text(
            f"What you do here counts as what user {user_id} has done: in their session, in what "
            "is trending and in trainings. No single event can be taken back."
        )
        self._counts.set_visibility(known and self._visit.allows("events"))

    def _draw_users(self) -> None:
        with Tag("form", "who").on("submit.prevent", self._enter, []):
            self._who = Field("User", hint="Any user id of your data")
            Tag("button", "button main", "Be this user", type="submit")
            button("New visitor", lambda: self._on_user(new_visitor()))
        self._counts = text("", "counts", tag="p")
        self._counts.set_visibility(False)
        self._known = Tag("div", "known-users", role="group", aria_label="Users of your data")
        self._known.set_visibility(False)

    def _draw_limits(self) -> None:
        limits = self.limits
        with box("limits"):
            Field(
                "Show", kind="select", options=_K, value=str(limits.k),
                on_change=lambda value: self._limit(k=int(value)),
            )  # fmt: skip
            self._category = Field(
                "Category", kind="select", options=self._category_names(), value=limits.category,
                on_change=lambda value: self._limit(category=value),
            )  # fmt: skip
            Field(
                "Diversity", kind="range", value=limits.diversity, least=0, most=1, step=0.1,
                on_change=lambda value: self._limit(diversity=float(value)),
            )  # fmt: skip
            Field(
                "Seen items too", kind="checkbox", value=limits.seen,
                on_change=lambda value: self._limit(seen=bool(value)),
            )  # fmt: skip

    def _enter(self) -> None:
        if self._who.value.strip():
            self._on_user(self._who.value.strip())

    def _limit(self, **chosen: int | str | float | bool) -> None:
        self.limits = replace(self.limits, **chosen)  # type: ignore[arg-type]
        self._address.note(self.limits.query())
        self._on_limits()

    # What is offered

    async def _offer(self) -> None:
        """Offer what there is by now, where that may have been too little."""
        if self._due:
            self._due -= 1
            return
        await self._offer_categories()
        await self._offer_users()
        self._looks += 1
        if self._looks >= _OFTEN:
            self._due = _OFTEN - 1

    async def _offer_categories(self) -> None:
        """Offer those of the catalogue, until it grows no more: it may be on its way in."""
        if self._has_all_categories:
            return
        found = (await self._visit.api.items(limit=1)).categories
        self._has_all_categories = bool(found) and found == self._categories
        self._categories = found
        self._category.set_options(self._category_names())

    def _category_names(self) -> dict[str, str]:
        """Return what categories are called; the one that was chosen is always there."""
        names = {
            name: f"{name} ({formats.count(self._categories[name])})"
            for name in sorted(self._categories)
        }
        chosen = self.limits.category
        return {"": _ALL, **({chosen: chosen} if chosen else {}), **names}

    async def _offer_users(self) -> None:
        """Offer some who have met much and some who have met little, until there are enough."""
        if self._has_all_users:
            return
        met = (await self._visit.api.users(limit=_MET_USERS)).users
        found = [each for each in met if not each.user_id.startswith(_VISITOR)]
        self._has_all_users = len(found) >= _OFFERED_USERS
        if found == self._users:
            return
        self._users = found
        self._known.clear()
        with self._known:
            text("Or one of your data, with how many items the session dictionary holds:", "muted")
            for each in spread(found, _OFFERED_USERS):
                self._offer_user(each)
        self._known.set_visibility(True)

    def _offer_user(self, user: KnownUser) -> None:
        items = f"{formats.count(user.interactions)} item{'s' if user.interactions != 1 else ''}"
        button(
            f"{user.user_id} ({items})",
            partial(self._on_user, user.user_id),
            kind="small",
            label=f"Be user {user.user_id}, whose session has {items}",
        )


def spread(users: list[KnownUser], wanted: int) -> list[KnownUser]:
    """Return so many of the users, from the longest session to the shortest, evenly apart."""
    longest_first = sorted(users, key=lambda each: -each.interactions)
    last = len(longest_first) - 1
    places = {round(place * last / (wanted - 1)) for place in range(wanted)} if users else set()
    return [longest_first[place] for place in sorted(places)]


def new_visitor() -> str:
    """Return an id that no user has."""
    return f"{_VISITOR}{secrets.token_hex(3)}"
