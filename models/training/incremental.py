"""Going on from a live version: when that can be done, and what is counted on from it.

The towers begin with the version's weights and are fitted to the new events and a sample of the
old ones (`headrace.log_sample`), so a training costs what is new and not all history. New items get
rows of their own after the version's. What is counted (rules, baskets) is counted on: the version's
counts, and what the events that were read say with the new ones more than without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from headrace.artifact_store import ArtifactStore
from headrace.errors import HeadraceError
from headrace.events import EventColumns
from headrace.log import Offsets
from headrace.log_sample import NewEvents
from headrace.settings import Settings
from headrace.signatures import TrustedKeys
from headrace.versions import Check, Manifest
from models.retrieval.artifact import Artifact, load_artifact
from models.retrieval.bought_together import BoughtTogether
from models.retrieval.rules import Rules, count_rules, counted_on
from models.training.bought_together import bought_since, count_bought_together
from models.training.dataset import Histories, among
from models.training.job_messages import Job
from models.training.parameters import Parameters
from models.training.weights import Weights, load_weights

_SHAPING = (
    "width",
    "session_length",
    "blocks",
    "heads",
    "temperature",
    "repeats",
    "positive_threshold",
    "click_rating",
    "purchase_rating",
    "basket_s",
    "session_gap_s",
)
"""Parameters that weights and counts were made with and do not fit without."""


@dataclass(frozen=True)
class Base:
    """The version that an incremental training goes on from."""

    artifact: Artifact
    weights: Weights


def base_of(
    settings: Settings,
    store: ArtifactStore,
    job: Job,
    parameters: Parameters,
    erasures: str = "",
) -> Base | str | None:
    """Return the version that this job goes on from, or in words why it is none that is live.

    None where nothing is to be gone on from. `erasures`: the digest of those there are. What a
    version from before one of them has learnt of the user would be carried on, so that only a
    request that names the mode goes on from it.
    """
    request = job.request
    if request.mode == "full":
        return None
    if job.kind == "ranking":
        return "a second stage is trained on all events each time"
    if job.data is not None or request.from_ is not None or request.to is not None:
        return "the events are those of a file, or of a part of the log"
    if job.base is None:
        return "there is no live version to go on from"
    check = partial(TrustedKeys.of(settings.versions).check, job.base)
    try:
        manifest = store.manifest(job.model_id, job.base)
        if manifest is None:
            return f"version {job.base} is not there"
        why = unfit(manifest, job.kind, parameters, job.through, job.topic_ids)
        if why is None and request.mode is None and manifest.data.erasures != erasures:
            why = f"a user was erased since version {job.base} was trained"
        return why or load_base(store.fetch(job.model_id, job.base, check), check)
    except HeadraceError as exc:
        return f"version {job.base} cannot be read: {exc}"


def nothing_new(job: Job, asked: str, erasures: str = "", *, goes_on: bool = False) -> bool:
    """Return whether the last success knows the log to its end already, asked for the same.

    An incremental version's fingerprint is of its base's and of what was read. So it would not tell
    where the last success has one, whatever is live since, nor where this training would: then
    `goes_on`. `asked`: `made_with` of the request; `erasures`: see `base_of`.
    """
    last = job.last
    return (
        last is not None
        and last.made_with == asked
        and (goes_on or last.mode == "incremental")
        and last.data.whole
        and last.data.erasures == erasures
        and job.data is None
        and (job.request.from_, job.request.to) == (None, None)
        and (last.data.through, last.data.topic_ids) == (job.through, job.topic_ids)
    )


def load_base(folder: Path, check: Check = lambda *_: None) -> Base | str:
    """Return the version in this folder, or in words why no training can go on from it.

    `check` is asked of its signature first. Raises `ArtifactInvalid` for one that is not whole.
    """
    weights = load_weights(folder)
    if weights is None:
        return f"version {folder.name} holds no weights to go on from"
    return Base(load_artifact(folder, check), weights)


def unfit(
    manifest: Manifest,
    kind: str,
    parameters: Parameters,
    through: Offsets,
    topic_ids: Mapping[str, str],
) -> str | None:
    """Return in words why this version is nothing to go on from, None when it is."""
    version = manifest.version
    if manifest.kind != kind:
        return f"version {version} is of the kind {manifest.kind}"
    if not manifest.data.through:
        return f"version {version} was not trained on the log"
    if not manifest.data.whole:
        return f"version {version} was trained on a part of the log"
    if manifest.data.through == through:
        return f"nothing is new since version {version}"
    known = manifest.data.topic_ids
    if others := sorted(known.keys() - topic_ids.keys()):
        return f"version {version} was trained on other topics, too: {', '.join(others)}"
    if anew := sorted(topic for topic in known if topic_ids[topic] != known[topic]):
        return f"topics were made anew since version {version}: {', '.join(anew)}"
    for topic, by_partition in manifest.data.through.items():
        for partition, offset in by_partition.items():
            if through.get(topic, {}).get(partition, 0) < offset:
                return f"version {version} knows more of partition {partition} of {topic}"
    now = msgspec.to_builtins(parameters)
    for name in _SHAPING:
        then = manifest.parameters.get(name)
        if then != now[name]:
            return f"{name} is {now[name]} where version {version} was made with {then}"
    return None


@dataclass(frozen=True)
class Counted:
    """What has been counted up to the base version, and on which events that were read again."""

    base: Base
    past: EventColumns
    """Of the events read, those that the base was trained on."""
    past_histories: Histories

    def rules(self, data: Histories, items: int) -> Rules:
        """Return the rules of the base and of what these histories hold beyond the past.

        `items`: with the unknown one.
        """
        return counted_on(
            self.base.artifact.rules,
            _all_rules(self.past_histories, items),
            _all_rules(data, items),
        )

    def bought_together(self, columns: EventColumns, basket_s: float) -> BoughtTogether:
        """Return the counts of the base and of what these events hold beyond the past."""
        items = len(columns.item_ids)
        past = replace(self.past, item_ids=columns.item_ids)
        before, after = (
            count_bought_together(log, basket_s, kept=items) for log in (past, columns)
        )
        return bought_since(self.base.artifact.bought_together, before, after)


def onward(
    base: Base, new: NewEvents, of: Callable[[EventColumns], Histories]
) -> tuple[NewEvents, Counted]:
    """Return the new events with the base's codes of items, and what has been counted.

    `of`: makes histories of columns.
    """
    columns = with_items(new.columns, base.artifact.item_ids)
    past = among(columns, ~new.is_new)
    return replace(new, columns=columns), Counted(base, past, of(past))


def slower(parameters: Parameters) -> Parameters:
    """Return the parameters with the learning rate of a training that goes on."""
    rate = parameters.learning_rate * parameters.incremental_rate
    return msgspec.structs.replace(parameters, learning_rate=rate)


def with_items(columns: EventColumns, item_ids: list[str]) -> EventColumns:
    """Return the columns with codes in which these items come first, in this order."""
    code = {item_id: number for number, item_id in enumerate(item_ids)}
    for item_id in columns.item_ids:
        code.setdefault(item_id, len(code))
    codes = np.array([code[item_id] for item_id in columns.item_ids], np.int32)
    return replace(columns, item=codes[columns.item], item_ids=tuple(code))


def _all_rules(data: Histories, items: int) -> Rules:
    return count_rules(data.item - 1, data.first, items - 1, per_item=items)
