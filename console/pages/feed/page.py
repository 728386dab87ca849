"""The page: the live list of somebody within some limits, and their session."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from console import formats
from console.errors import is_final
from console.pages.feed.cards import cards_of, moved, places_of, title_of, verb_of
from console.pages.feed.controls import Controls, new_visitor
from console.titles import Titles
from console.visit import Page, Visit
from console.widgets.calls import calls_panel
from console.widgets.html import Tag, box, button, details, text
from console.widgets.parts import Moment
from console.widgets.shared import AGAIN_S, Panel, attempt, confirmed, no_data
from headrace_client import (
    AcceptedEvent,
    Click,
    HeadraceError,
    Purchase,
    Rating,
    RecommendationAnswer,
    Update,
)
from headrace_client.types import Interaction, Recommendation, UserInteractions

_SHOWN_INTERACTIONS = 50
_KEPT_LISTS = 50
"""Far more than come while an act is on its way."""
_SCORES = (
    "A score is the estimated chance to be among the user's next ten events, and positive; bars "
    "compare with the best of the list."
)


class FeedList(Element, component="feed_list.js"):
    """The cards; tells what was done with them, and how fast the list answered."""

    def __init__(self, *, may_act: bool) -> None:
        super().__init__()
        self._props.update(cards=[], list="", answered=[], may=may_act)

    def show(
        self, cards: list[dict[str, Any]], list_id: str, answered: Mapping[int, str | None]
    ) -> None:
        """Show a list. `answered`: by serial number of an act, the first list that knows it."""
        rows = [{"serial": serial, "list": knowing} for serial, knowing in answered.items()]
        self._props.update(cards=cards, list=list_id, answered=rows)


@dataclass(frozen=True)
class _Shown:
    """A list that was shown."""

    answer: RecommendationAnswer
    moved: int
    """How many of its cards stood elsewhere in the list before, or not in it."""


class Feed:
    """The state of one open feed."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._titles = Titles(visit.api)
        self._user_id = ""
        self._following: asyncio.Task[None] | None = None
        self._answer: RecommendationAnswer | None = None
        self._before: dict[str, int] = {}
        self._lists: deque[_Shown] = deque(maxlen=_KEPT_LISTS)
        """The lists there have been, the newest last."""
        self._interactions: Mapping[str, Interaction] = {}
        """Of the session as it was read last, and what was taken since."""
        self._sent: dict[int, tuple[str, Interaction]] = {}
        """By act, what is on its way: nobody has taken it yet."""
        self._acts: dict[int, tuple[str, str]] = {}
        """By serial number of an act, what was done with what, until its delay is told."""
        self._pending: dict[int, AcceptedEvent] = {}
        """Acts that no list shown knows yet."""
        self._answered: dict[int, str | None] = {}
        """By act, the first list that knows it, until its delay is told; None: there is none."""
        self._limited = False
        """Whether the next list is the first one within other limits."""
        self._unfolded: set[str] = set()
        """What of the session is unfolded."""

    # What is drawn

    def draw(self) -> None:
        """Draw the page, and become whoever the tab showed before, or a new visitor."""
        with box("feed-grid"):
            with box("feed-main"):
                self._controls = Controls(self._visit, self._become, self._limit)
                self._panel = Panel(self._visit, "Recommendations", classes="feed-panel")
                with self._panel.tools:
                    self._model = text("", "muted")
                self._panel.body.clear()
                with self._panel.body:
                    self._delay = Tag("p", "delay", "", role="status", aria_live="polite")
                    self._message = text("", "message", tag="p")
                    self._message.set_visibility(False)
                    self._scores = text(_SCORES, "muted note", tag="p")
                    self._scores.set_visibility(False)
                    self._list = FeedList(may_act=self._visit.allows("events"))
                    self._list.on("act", self._act)
                    self._list.on("delay", self._tell_delay)
            with box("feed-side"):
                self._session = Panel(
                    self._visit,
                    "Session dictionary",
                    note="What the system holds of this user, newest first.",
                )
                if self._visit.allows("erase"):
                    with self._session.tools:
                        button("Forget me", self._forget, kind="danger quiet small")
                calls_panel(self._visit)
        self._visit.run(self._come())

    # Whose feed

    async def _come(self) -> None:
        """Be whom this tab was before, else a new visitor."""
        self._become(self._visit.session.visitors.get(self._visit.tab) or new_visitor())

    def _become(self, user_id: str) -> None:
        self._user_id = user_id
        self._visit.session.note_visitor(self._visit.tab, user_id)
        self._controls.show_user(user_id)
        self._begin()

    def _begin(self) -> None:
        """Begin with nothing: what was shown is of another user, or of one who is forgotten."""
        self._before, self._answer, self._interactions = {}, None, {}
        self._lists.clear()
        self._answered |= dict.fromkeys(self._pending)
        self._pending.clear()
        self._sent.clear()
        self._list.show([], "", self._answered)
        self._message.set_visibility(False)
        self._delay.set_text(
            "Open, rate or buy something: the list answers."
            if self._visit.allows("events")
            else "The list changes when an event of this user arrives."
        )
        self._delay.attribute("data-ms", None)
        self._session.reset()
        self._restart()

    def _limit(self) -> None:
        self._limited = True
        self._restart()

    def _restart(self) -> None:
        self._panel.tell(None)
        if self._following is not None:
            self._following.cancel()
        self._following = self._visit.run(self._follow())

    # The live list

    async def _follow(self) -> None:
        """Show each list that the stream brings, for as long as user and limits are these."""
        limits = self._controls.limits
        while True:
            try:
                stream = self._visit.api.stream(
                    self._user_id,
                    k=limits.k,
                    recommend_seen=limits.seen,
                    category=limits.category or None,
                    diversity=limits.diversity,
                    explain=True,
                    on_state=self._tell_state,
                )
                # It is a generator, though its type does not say so.
                async with contextlib.aclosing(cast("AsyncGenerator[Update]", stream)) as updates:
                    async for update in updates:
                        await self._take(update.answer)
            except Exception as error:  # noqa: BLE001 - it is logged, and told in the panel
                self._panel.tell(self._visit.trouble(error))
                if is_final(error):
                    # Whether there is a session, it says itself.
                    self._load_session()
                    return
            await asyncio.sleep(AGAIN_S)

    def _tell_state(self, error: HeadraceError | None) -> None:
        """Say why no lists come; what is shown stays."""
        self._panel.tell(None if error is None else self._visit.trouble(error))

    async def _take(self, answer: RecommendationAnswer) -> None:
        """Show a list that came over the stream, and then the session that it was made from."""
        self._panel.tell(None)
        rows = answer.recommendations
        await self._titles.find([*(each.id for each in rows), *_reasons(rows)])
        places = places_of(answer.recommendations)
        if self._answer is not None:
            self._before = places_of(self._answer.recommendations)
        changed = moved(self._before, places) if self._before else 0
        self._lists.append(_Shown(answer, changed))
        if changed and not self._acts:
            self._tell_change(answer, changed)
        self._limited = False
        self._answer = answer
        for serial in [each for each, event in self._pending.items() if _knows(answer, event)]:
            del self._pending[serial]
            self._answered[serial] = answer.id
        self._show()
        self._load_session()

    def _tell_change(self, answer: RecommendationAnswer, changed: int) -> None:
        """Say why cards moved where nothing that was done here moved them."""
        model = None if self._answer is None else self._answer.model
        if self._limited:
            why = "With the limits as they are now"
        elif answer.model is not None and answer.model != model:
            why = f"With version {answer.model.version}"
        else:
            why = "With what came in since"
        self._delay.set_text(f"{why}, {_cards(changed)} moved.")
        self._delay.attribute("data-ms", None)

    def _show(self) -> None:
        answer = self._answer
        if answer is None:
            return
        cards = cards_of(
            answer.recommendations,
            self._titles.known,
            self._before,
            {**self._interactions, **dict(self._sent.values())},
            by_model=answer.model is not None,
        )
        self._list.show(cards, answer.id, self._answered)
        self._scores.set_visibility(answer.model is not None)
        self._message.set_text(answer.message or "")
        self._message.set_visibility(bool(answer.message))
        self._model.set_text(f"model {answer.model.version}" if answer.model else "without a model")

    def _load_session(self) -> None:
        self._session.load(self._read_session, self._draw_session)

    # Acting

    async def _act(self, event: GenericEventArguments) -> None:
        serial, item_id, kind = event.args["serial"], event.args["item"], event.args["kind"]
        self._acts[serial] = (kind, item_id)
        sent = _event(kind, self._user_id, item_id, event.args["rating"], self._answer)
        # A list may name it as a reason before the session is read anew, or it is known as taken.
        self._sent[serial] = (
            item_id,
            Interaction(timestamp=sent.timestamp, rating=event.args["rating"], event=kind),
        )
        try:
            outcome = await self._visit.api.send_event(sent)
        except HeadraceError as error:
            self._give_up(serial, self._visit.failure(error).words)
            return
        if not isinstance(outcome, AcceptedEvent):
            self._give_up(serial, outcome.reason)
            return
        if serial in self._sent:
            self._interactions = {**self._interactions, **dict([self._sent.pop(serial)])}
        if sent.user_id != self._user_id:
            # No list of this one knows it.
            self._answer_act(serial, None)
            return
        # A list may have been faster than the answer, and others may have come after it.
        knowing = next((each.answer for each in self._lists if _knows(each.answer, outcome)), None)
        if knowing is not None:
            self._answer_act(serial, knowing.id)
        else:
            self._pending[serial] = outcome

    def _give_up(self, serial: int, why: str) -> None:
        self._sent.pop(serial, None)
        self._visit.toast(why, "bad")
        self._answer_act(serial, None)

    def _answer_act(self, serial: int, list_id: str | None) -> None:
        self._answered[serial] = list_id
        self._show()

    def _tell_delay(self, event: GenericEventArguments) -> None:
        list_id = self._answered.pop(event.args["serial"], None)
        kind, item_id = self._acts.pop(event.args["serial"], ("", ""))
        if event.args["ms"] is None or not kind:
            return
        title = title_of(self._titles.known.get(item_id), item_id)
        changed = next((each.moved for each in self._lists if each.answer.id == list_id), 0)
        verb = {"click": "opening", "rating": "rating", "purchase": "buying"}[kind]
        delay = formats.milliseconds(event.args["ms"])
        known = f"{delay} after {verb} “{title}” the list knew it"
        self._delay.set_text(f"{known}; {_cards(changed)} moved.")
        self._delay.attribute("data-ms", round(event.args["ms"], 1))

    # The session

    async def _read_session(self) -> UserInteractions:
        found = await self._visit.api.interactions(self._user_id)
        self._interactions = found.interactions
        newest = sorted(found.interactions, key=lambda each: -found.interactions[each].timestamp)
        await self._titles.find(newest[:_SHOWN_INTERACTIONS])
        # What was done with the items of the list is known now.
        self._show()
        return found

    def _draw_session(self, found: UserInteractions) -> None:
        if not found.interactions:
            no_data(
                "Open, rate or buy something, and it stands here."
                if self._visit.allows("events")
                else "An event of this user stands here once it has arrived."
            )
            return
        newest = sorted(found.interactions.items(), key=lambda each: -each[1].timestamp)
        with Tag("ol", "interactions", tabindex="0", aria_label="Interactions"):
            for item_id, each in newest[:_SHOWN_INTERACTIONS]:
                with Tag("li"):
                    text(title_of(self._titles.known.get(item_id), item_id), "name")
                    text(verb_of(each), f"badge {each.event}")
                    Moment(each.timestamp)
        rest = len(newest) - _SHOWN_INTERACTIONS
        older = f", {rest} older ones among them that are not shown" if rest > 0 else ""
        items = f"{formats.count(len(newest))} item{'' if len(newest) == 1 else 's'}"
        text(
            f"{items} from {formats.events(found.applied)}{older}",
            "muted",
            tag="p",
        )
        marks = "Marks: how far each topic's partition has been applied"
        with details(marks, "marks", self._unfolded):
            text(", ".join(f"{name} {at}" for name, at in sorted(found.marks.items())), "mono")

    async def _erase(self, user_id: str) -> bool:
        await self._visit.api.erase(user_id)
        return True

    async def _forget(self) -> None:
        user_id = self._user_id
        if not await confirmed(
            self._visit,
            "Forget this user?",
            f"The session dictionary, the lists served and all events of {user_id} up to now are "
            "erased, and no training will read them.",
            "Forget",
            danger=True,
        ):
            return
        done = await attempt(self._visit, self._erase(user_id), lambda _: "Forgotten.")
        if done and self._user_id == user_id:
            self._begin()


def _cards(count: int) -> str:
    return f"{count or 'no'} card{'s' if count > 1 else ''}"


def _event(
    kind: str, user_id: str, item_id: str, rating: float | None, of: RecommendationAnswer | None
) -> Any:
    common: dict[str, Any] = {
        "event_id": uuid.uuid4().hex,
        "user_id": user_id,
        "item_id": item_id,
        "timestamp": time.time(),
        "recommendation_id": of.id if of is not None else None,
    }
    if kind == "rating":
        return Rating(**common, rating=float(rating or 0))
    return Purchase(**common) if kind == "purchase" else Click(**common)


def _reasons(rows: Iterable[Recommendation]) -> Iterable[str]:
    """Return the items that the cards of a list are there for."""
    return (reason.id for each in rows for reason in each.because)


def _knows(answer: RecommendationAnswer, event: AcceptedEvent) -> bool:
    """Return whether the session that a list was made from has the event in it."""
    return answer.session.marks.get(f"{event.topic}/{event.partition}", -1) >= event.offset


def _build(visit: Visit) -> None:
    Feed(visit).draw()


PAGE = Page("/feed", "Feed", "recommend", _build)
