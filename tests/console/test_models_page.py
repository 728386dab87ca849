"""Models in a real browser: trained, watched, activated, rolled back, pinned, deleted."""

from __future__ import annotations

import asyncio
import os
import re
import signal

import pytest
from browser import PATIENCE_MS, Visitor
from parts import eventually
from playwright.async_api import expect
from system import KEY, TRAINED_WITHIN_S, System, train_once_more

from console.connection import TIMEOUT_S
from headrace_client import AsyncClient

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(280)]
expect.set_options(timeout=PATIENCE_MS)


async def test_a_training_is_watched_to_its_end_activated_and_rolled_back(
    system: System,
    visitor: Visitor,
) -> None:
    page = visitor.page
    await visitor.go("/models")
    first = await page.locator(".version.is-live h3").inner_text()
    tasks, versions = page.locator(".task"), page.locator(".version")
    await expect(tasks).not_to_have_count(0)
    trained, made = await tasks.count(), await versions.count()
    await versions.first.get_by_text("Data, parameters and what changed").click()
    newest = await versions.first.locator("h3").inner_text()
    unfolded = versions.filter(has=page.locator("h3", has_text=newest))
    await page.get_by_label("Epochs").fill("0")
    await expect(page.get_by_text("0 is out of range: it must be a whole number")).to_be_visible()
    await expect(page.get_by_role("button", name="Train …")).to_be_disabled()
    await page.get_by_label("Epochs").fill("3")
    await page.get_by_label("Seed").fill("7")
    await page.get_by_label("Mode", exact=True).select_option("full")
    await page.get_by_role("button", name="Train …").dblclick()
    await page.get_by_role("button", name="Train", exact=True).click()

    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(tasks).to_have_count(trained + 1)
    task = tasks.first
    await expect(task.locator("[data-status=RUNNING], [data-status=SUCCEEDED]")).to_be_visible()
    await task.get_by_role("button", name="Log").click()
    # It says what the training does, and nothing of a GPU where there is none.
    log = page.locator("dialog .log")
    await expect(log).to_contain_text("models.training.job: fit", timeout=1_000 * TRAINED_WITHIN_S)
    await expect(log).to_contain_text("loss")
    await expect(log).not_to_contain_text("cuInit")
    await page.keyboard.press("Escape")
    await expect(page.locator("dialog")).to_have_count(0)
    ended = task.locator("[data-status=SUCCEEDED], [data-status=REJECTED]")
    await expect(ended).to_be_visible(timeout=1_000 * TRAINED_WITHIN_S)
    await expect(versions).to_have_count(made + 1)
    second = await page.locator(".version h3").first.inner_text()
    assert second != first
    await expect(page.locator(".version").first).to_contain_text("NDCG@10")
    # No difference is made of numbers that are measured on different events.
    figures = page.locator(".version").first.locator(".version-figures")
    await expect(figures.get_by_text("on its own hold-out")).to_have_count(2)
    await expect(figures.locator(".effect")).to_have_count(0)

    live = page.locator(".version.is-live h3")
    # What the gate lets through goes live by itself.
    accepted = await task.locator("[data-status=SUCCEEDED]").count()
    await expect(live).to_have_text(second if accepted else first)
    for name in (first, second):
        if await live.inner_text() != name:
            await page.get_by_role("button", name=f"Activate {name}").click()
            await page.get_by_role("button", name="Activate", exact=True).click()
            await expect(live).to_have_text(name)
    back, dialog = page.get_by_role("button", name="Roll back"), page.get_by_role("dialog")
    await page.get_by_role("button", name=f"Delete {first}").click()
    await expect(dialog).to_contain_text("A rollback leads to it now")
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_have_count(0)
    await back.dblclick()
    await dialog.get_by_role("button", name="Roll back").dblclick()
    await expect(live).to_have_text(first)
    await expect(dialog).to_have_count(0)
    async with AsyncClient(system.settings.url, KEY) as api:

        async def is_live() -> str | None:
            models = (await api.models()).models
            return next(each.live.version for each in models if each.live is not None)

        assert await is_live() == first
        # Rolled back by somebody else while it is asked, it would lead forth again.
        await back.click()
        await expect(dialog).to_contain_text(f"{second}, which was live before")
        await api.roll_back(system.settings.model_id)
        await dialog.get_by_role("button", name="Roll back").click()
        told = f"By now a rollback leads to {first}, not to {second}."
        await expect(page.get_by_role("alert").locator(".toast.bad")).to_contain_text(told)
        await page.get_by_role("button", name="Close this message").click()
        await expect(page.locator(".toast.bad")).to_have_count(0)
        assert await is_live() == second

        await api.pin(system.settings.model_id, second)
        await expect(page.locator(".live-head .badge")).to_have_text("pinned")
        # Drawn anew by now: what is clicked is what stays.
        await expect(page.locator(".version .badge", has_text="pinned")).to_be_visible()
        await page.get_by_role("button", name=f"Activate {first}").click()
        await expect(dialog).to_contain_text(f"{second} is pinned: the pin moves along")
        await dialog.get_by_role("button", name="Activate").click()
        await expect(live).to_have_text(first)
        await api.unpin(system.settings.model_id)
    # Drawn anew by now, what was unfolded still is.
    await expect(unfolded.locator("details[open]")).to_be_visible()
    await expect(page.locator("details[open]")).to_have_count(1)


async def test_each_field_of_a_training_is_checked_as_it_is_typed(
    system: System, visitor: Visitor
) -> None:
    page = visitor.page
    await visitor.go("/models")
    train = page.get_by_role("button", name="Train …")
    for label, wrong, told, right in (
        ("Model to train", "No Model", "has a character that is not allowed", ""),
        ("Events from", "1950-01-01", "'1950-01-01' is no time from 1970 on", "1700000000"),
        ("Events before", "2020-01-01T00:00Z", "It is not after the time", "2999-01-01T00:00Z"),
        ("Other parameters", "dropuot=0.1", "did you mean dropout?", "dropout=0.1"),
        ("Other parameters", "dropout=2", "a number of 0 or more and below 1", "dropout=0.1"),
    ):
        await page.get_by_label(label).fill(wrong)
        await expect(page.get_by_text(told)).to_be_visible()
        await expect(train).to_be_disabled()
        await page.get_by_label(label).fill(right)
        await expect(page.get_by_text(told)).to_have_count(0)
        await expect(train).to_be_enabled()
    # What is left to the server is the kind that the model has.
    await expect(page.get_by_label("Kind", exact=True)).to_have_value("")
    await page.get_by_label("Learn from what users did").check()
    await page.get_by_label("Kind", exact=True).select_option("ranking")
    await expect(page.get_by_text("Kind ranking learns from lists")).to_be_visible()
    await expect(train).to_be_disabled()
    algorithm = page.get_by_label("Algorithm")
    await expect(algorithm.get_by_role("option")).to_have_text(["the usual one", "mlp"])
    await page.get_by_label("Kind", exact=True).select_option("retrieval")
    await algorithm.select_option("transformer")
    await page.get_by_label("Reason").fill("checked as typed")
    await train.click()
    await page.get_by_role("button", name="Train", exact=True).click()
    await expect(page.get_by_text("The training is in the queue.")).to_be_visible()
    # The next training is another one.
    for label in ("Reason", "Events from", "Other parameters", "Algorithm", "Kind"):
        await expect(page.get_by_label(label, exact=True)).to_have_value("")
    await expect(page.get_by_label("Learn from what users did")).not_to_be_checked()
    # While it waits another model's is asked for.
    await expect(train).to_be_disabled()
    await page.get_by_label("Model to train").fill("items")
    await page.get_by_label("Kind", exact=True).select_option("items")
    await train.click()
    await expect(page.get_by_role("dialog")).to_contain_text("Train items?")
    await page.get_by_role("button", name="Train", exact=True).click()
    async with AsyncClient(system.settings.url, KEY) as api:

        async def are_both_there() -> bool:
            return [each.model_id for each in (await api.tasks()).tasks[:2]] == [
                "items",
                system.settings.model_id,
            ]

        await eventually(are_both_there, "both trainings are asked for")
        other, task = (await api.tasks()).tasks[:2]
        for each in (other, task):
            await api.cancel(each.id)
        assert other.kind == "items"
        assert (task.params["params"], task.params["with_feedback"]) == ({"dropout": 0.1}, True)
        assert (task.params["from"], task.params["algorithm"]) == (1_700_000_000, "transformer")


async def test_a_version_is_pinned_another_one_too_and_what_is_not_live_deleted(
    system: System, visitor: Visitor
) -> None:
    page, model_id = visitor.page, system.settings.model_id
    async with AsyncClient(system.settings.url, KEY) as api:

        async def versions() -> list[str]:
            return [each["version"] for each in (await api.versions(model_id)).versions]

        while len(names := await versions()) < 2:
            await asyncio.to_thread(train_once_more, system.settings)
        await visitor.go("/models")
        dialog, live = page.get_by_role("dialog"), page.locator(".version.is-live h3")
        # Pinned, a version is put live; another one pinned after it takes its place.
        for name in names[:2]:
            await page.get_by_role("button", name=f"Pin {name}").click()
            await expect(dialog).to_contain_text("stays so, whatever is trained")
            # The second one takes the pin from the first.
            moves = dialog.get_by_text("the pin moves along")
            await expect(moves).to_have_count(int(name == names[1]))
            await expect(dialog).to_contain_text("Unpin ends that, and leaves it live.")
            await dialog.get_by_role("button", name="Pin", exact=True).click()
            await expect(live).to_have_text(name)
            await expect(page.locator(".live-head .badge")).to_have_text("pinned")
            await expect(page.get_by_role("button", name=f"Pin {name}")).to_have_count(0)
        await page.get_by_role("button", name="Unpin").click()
        await expect(dialog).to_contain_text(f"Unpin {names[1]}?")
        await dialog.get_by_role("button", name="Unpin").click()
        await expect(page.locator(".live-head .badge")).to_have_count(0)

        # Drawn anew by now: what is clicked is what stays.
        await expect(page.locator(".version .badge", has_text="pinned")).to_have_count(0)
        assert await page.get_by_role("button", name=f"Delete {names[1]}").count() == 0
        await page.get_by_role("button", name=f"Delete {names[0]}").click()
        await expect(dialog).to_contain_text("This cannot be undone.")
        await dialog.get_by_role("button", name="Delete", exact=True).click()
        await expect(page.locator(".version h3", has_text=names[0])).to_have_count(0)
        assert await versions() == names[1:]


async def test_a_log_is_closed_at_once_while_the_server_is_slow(
    system: System, visitor: Visitor
) -> None:
    page = visitor.page
    await visitor.go("/models")
    log = page.locator(".task").first.get_by_role("button", name="Log")
    await expect(log).to_be_visible()
    dialog = page.get_by_role("dialog")
    os.kill(system.server.pid, signal.SIGSTOP)
    try:
        await log.click()
        await dialog.get_by_role("button", name="Close").click()
        # Before the server is given up.
        await expect(dialog).to_have_count(0, timeout=500 * TIMEOUT_S)
    finally:
        os.kill(system.server.pid, signal.SIGCONT)


async def test_a_model_that_is_deleted_meanwhile_says_so(system: System, visitor: Visitor) -> None:
    page, other = visitor.page, "other-shop"
    train = page.get_by_role("region", name="Train", exact=True)
    versions = page.get_by_role("region", name="Versions")
    async with AsyncClient(system.settings.url, KEY) as api:
        await api.create_model(other)
        await visitor.go("/models")
        choice = page.get_by_label("Model", exact=True)
        await expect(page.locator(".live-head")).to_be_visible()
        os.kill(system.server.pid, signal.SIGSTOP)
        try:
            await choice.select_option(other)
            # Until it is there, nothing acts on the one before.
            await expect(page.locator(".live-head, .version")).to_have_count(0)
        finally:
            os.kill(system.server.pid, signal.SIGCONT)
        await expect(versions).to_contain_text("The first training makes one.")
        # A link or a reload shows the same model.
        await expect(page).to_have_url(re.compile(rf"/models\?model={other}$"))
        await page.reload()
        await expect(choice).to_have_value(other)
        await expect(versions).to_contain_text("The first training makes one.")
        await expect(train).to_be_visible()
        await api.delete_model(other)
        await expect(page.get_by_text(f"Model {other} was deleted")).to_be_visible()
        await expect(versions).to_be_hidden()
        await expect(train).to_be_hidden()
    await choice.select_option(system.settings.model_id)
    await expect(page.locator(".version.is-live")).to_be_visible()
    await expect(train).to_be_visible()


async def test_a_training_is_cancelled(system: System, visitor: Visitor) -> None:
    page = visitor.page
    await visitor.go("/models")
    await expect(page.locator(".task")).not_to_have_count(0)
    trained = await page.locator(".task").count()
    await page.get_by_label("Epochs").fill("1000")
    await page.get_by_label("Mode", exact=True).select_option("full")
    await page.get_by_label("Reason").fill("to be cancelled")
    await page.get_by_role("button", name="Train …").click()
    await page.get_by_role("button", name="Train", exact=True).click()
    await expect(page.locator(".task")).to_have_count(trained + 1)
    task = page.locator(".task").first
    await expect(task).to_contain_text("to be cancelled")
    # Another one would be refused: that is said before it is asked for.
    train = page.get_by_role("button", name="Train …")
    told = page.get_by_text(re.compile(f"A training of {system.settings.model_id} (waits|runs): "))
    await expect(told).to_be_visible()
    await expect(train).to_be_disabled()
    await task.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_contain_text("no version goes live")
    await page.get_by_role("button", name="Cancel the training").click()
    await expect(task.locator("[data-status=CANCELLED]")).to_be_visible()
    await expect(task.get_by_role("button", name="Cancel")).to_be_hidden()
    await expect(train).to_be_enabled()
    async with AsyncClient(system.settings.url, KEY) as api:
        assert (await api.tasks()).tasks[0].status == "CANCELLED"
