"""The page: topics for whoever watches, dead letters and replays for whoever may change things."""

from __future__ import annotations

from console.pages.streams.letters import Letters
from console.pages.streams.replays import Replays
from console.pages.streams.topics import TopicTables
from console.visit import Page, Visit
from console.widgets.address import Address
from console.widgets.html import box, text


def _build(visit: Visit) -> None:
    with box("stack"):
        address = Address(visit.query)
        tables = TopicTables(visit, address)
        if visit.allows("admin"):
            tables.tell_names(Letters(visit, address.guard).offer_topics)
            Replays(visit)
        else:
            text("Dead letters and replays need a key with the scope admin.", "muted", tag="p")


PAGE = Page("/streams", "Streams", "train", _build)
