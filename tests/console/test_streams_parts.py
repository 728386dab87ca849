"""What Streams is made of, apart from any browser."""

from __future__ import annotations

import msgspec
import pytest
from nicegui import ElementFilter
from nicegui.testing import user_simulation
from nicegui.testing.user_interaction import UserInteraction
from parts import eventually
from parts_tools import AWAY, buttons, can_click, is_said, opened_visit

from console.pages.streams import letters
from console.pages.streams.questions import (
    before_cancel,
    before_promotion,
    before_resume,
    promotable,
)
from console.pages.streams.replays import Replays
from console.pages.streams.topics import partition_rows, topic_row
from console.visit import Visit
from console.widgets.parts import Field
from headrace_client import Unreachable
from headrace_client.types import (
    DeadLetter,
    Model,
    ModelList,
    PartitionInfo,
    ReplayList,
    ReplayRequest,
    ReplayTask,
    ResendRequest,
    ResentLetter,
    TopicInfo,
)


@pytest.mark.parametrize(
    ("lag", "is_known", "words"),
    [(None, True, "not read by workers"), (None, False, "not known"), (7, True, "7")],
)
def test_a_lag_that_is_not_known_is_not_said_to_be_none(
    lag: int | None, is_known: bool, words: str
) -> None:
    partition = PartitionInfo(
        partition=0, begin=0, end=9, newest=None, position=None, lag=lag, rate_in=0.0, rate_out=None
    )
    topic = TopicInfo(
        topic="clicks", name="clicks", id="a", records=9, newest=None, lag=lag, rate_in=0.0,
        rate_out=None, partitions=[partition],
    )  # fmt: skip
    assert topic_row(topic, is_known)[1] == words
    [row] = partition_rows(topic, is_known).values()
    assert (row[5], row[1]) == (words if lag is None else "none done", words)


def replay(name: str, **fields: object) -> ReplayTask:
    """Return a replay into a shadow that has ended well, but for these fields."""
    usual = {
        "id": name, "model_id": "shop", "into": "shadow", "status": "SUCCEEDED", "total": 9,
        "created_at": 0.0, "started_at": 0.0, "updated_at": 0.0,
    }  # fmt: skip
    return msgspec.convert({**usual, **fields}, ReplayTask)


@pytest.mark.parametrize(
    ("fields", "resume", "cancel"),
    [
        ({}, "goes on into shadow where it was left", "Resume goes on where it was left"),
        ({"total": None}, "had not begun; it begins to fill shadow, or goes on", "was left"),
        ({"total": None, "status": "QUEUED"}, "begins to fill shadow", "Resume asks for it again"),
        (
            {"total": None, "anew": True},
            "once what an earlier replay left there is del",
            "was left",
        ),
        ({"anew": True}, "goes on into shadow where it was left", "where it was left"),
        ({"into": None}, "begins again, into the live state", "begins again, and what was applied"),
        ({"dry_run": True}, "begins again; nothing is written", "counts from the beginning"),
        ({"action": "promote"}, "shadow becomes the live state", "Resume asks for it again"),
    ],
)
def test_what_comes_of_cancelling_and_resuming_is_said_of_each_kind_of_replay(
    fields: dict[str, object], resume: str, cancel: str
) -> None:
    asked = replay("a", **fields)
    question = before_resume(asked)
    assert resume in question.consequence
    assert cancel in before_cancel(asked).undo
    # What deletes is warned of, as when the replay was asked for.
    deletes = asked.anew and asked.total is None
    assert ("What is deleted cannot be brought back." in question.undo) == deletes
    assert question.danger == (deletes or asked.action == "promote")


def test_a_shadow_is_promoted_from_the_replay_that_filled_it_last() -> None:
    first, other = replay("first"), replay("other", into="other")
    assert promotable([other, first]) == {"other", "first"}
    refused, dry = replay("a", status="FAILED", total=None), replay("b", dry_run=True)
    waits = replay("c", action="promote", status="CANCELLED", started_at=None, total=None)
    assert promotable([refused, dry, waits, first]) == {"first"}
    assert promotable([replay("later"), first]) == {"later"}
    assert promotable([replay("broken", status="CANCELLED"), first]) == set()
    assert promotable([replay("live", action="promote", total=None), first]) == set()


class Faint:
    """Stands for the API of a server that does not answer the next so many deeds."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def models(self) -> ModelList:
        return ModelList(models=[])

    async def replays(self) -> ReplayList:
        return ReplayList(replays=[replay("dry", dry_run=True)])

    async def start_replay(self, request: ReplayRequest) -> ReplayTask:
        if not request.dry_run:
            self._fail()
        return replay("dry", dry_run=request.dry_run)

    async def resend(self, letter_id: str, _: ResendRequest) -> ResentLetter:
        self._fail()
        return ResentLetter(
            id=letter_id,
            topic="ratings",
            key="ann",
            value="",
            sent=False,
            token=None,
            refused=None,
        )

    async def close(self) -> None: ...

    def _fail(self) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise Unreachable("", not_sent=True)


def faint_visit(failures: int) -> Visit:
    """Return a visit to that server."""
    visit = opened_visit()
    visit.api = Faint(failures)  # type: ignore[assignment]
    return visit


async def test_a_replay_that_could_not_be_asked_for_needs_no_other_dry_run() -> None:
    async with user_simulation(lambda: Replays(faint_visit(1))) as user:
        await user.open("/")
        with user:

            async def click(words: str) -> None:
                await eventually(lambda: can_click(words), f"{words} can be clicked")
                UserInteraction(user, set(buttons(words)), None).click()

            async def is_answered() -> bool:
                return not buttons("Replay")

            await click("Dry run")
            for told, again in (("do it again.", True), ("The replay is queued.", False)):
                await click("Replay …")
                await click("Replay")
                await eventually(lambda told=told: is_said(told), told)
                await eventually(is_answered, "the question is gone")
                assert await can_click("Replay …") == again


async def test_of_several_models_with_topics_the_one_is_named_whose_log_is_replayed() -> None:
    asked: list[ReplayRequest] = []

    class Two(Faint):
        async def models(self) -> ModelList:
            own = [
                Model(id=each, live=None, topics=[f"{each}-clicks"]) for each in ("shop", "books")
            ]
            return ModelList(models=[*own, Model(id="gone", live=None, deleted=True)])

        async def start_replay(self, request: ReplayRequest) -> ReplayTask:
            asked.append(request)
            return await super().start_replay(request)

    def page() -> None:
        visit = opened_visit()
        visit.api = Two(0)  # type: ignore[assignment]
        Replays(visit)

    async with user_simulation(page) as user:
        await user.open("/")
        with user:
            [model] = [each for each in ElementFilter(kind=Field) if each.props["label"] == "Model"]

            async def are_offered() -> bool:
                return [each["value"] for each in model.props["options"]] == ["", "shop", "books"]

            await eventually(are_offered, "the models are offered")
            assert model.visible
            UserInteraction(user, {model}, None).trigger("change", "books")
            UserInteraction(user, set(buttons("Dry run")), None).click()
            await eventually(lambda: can_click("Replay …"), "it is counted")
            assert [each.model_id for each in asked] == ["books"]
            UserInteraction(user, set(buttons("Replay …")), None).click()
            await eventually(lambda: is_said("replayed into shadow of model books."), "it is said")
    promotion = before_promotion(replay("a", model_id="books")).consequence
    assert "all sessions and counts there are of model books." in promotion


async def test_a_letter_that_could_not_be_checked_is_checked_again_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(letters, "AGAIN_S", 0.5)
    letter = DeadLetter(
        id="0/1", buried_at=0.0, topic="ratings", partition=0, offset=1, field="", reason="",
        resent=False, key=None, key_base64=None, value="{}", value_base64=None,
    )  # fmt: skip

    def page() -> None:
        visit = faint_visit(1)
        visit.run(letters.Mender(visit, letter, None, lambda _, __: None).ask())

    async with user_simulation(page) as user:
        await user.open("/")
        with user:
            told = f"The server at http://127.0.0.1:9 does not answer. {AWAY} It is asked again"
            await eventually(lambda: is_said(told), "why there is no answer is said")
            assert not await can_click("Send again")
            await eventually(lambda: is_said("A worker would take it"), "it is checked again")
            assert await can_click("Send again")
