"""Trains the second stage: a multilayer perceptron that reorders what retrieval found.

It learns from lists as they would have been served: a retrieval model is fitted to the older
events and asked before each of the newer ones; the candidates that it finds, with the one that came
next among them, are an example. Had it been fitted to those events, too, its scores would say more
than they do when serving. The newest events, held out, say what the second stage gains.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.errors import TooFewEvents
from headrace.events import EventColumns
from headrace.transitions import Transition
from headrace.versions import Manifest, Verdict
from models.retrieval import artifact as layout
from models.retrieval.artifact import load_artifact
from models.retrieval.calibration import Calibration
from models.retrieval.ranker import (
    CANDIDATES,
    FEATURES,
    ITEM_FIGURES,
    RANKER,
    RANKER_CALIBRATION,
    ItemFigures,
    log_softmax,
)
from models.retrieval.recommendations import ListRequest
from models.retrieval.retriever import Retriever
from models.retrieval.rules import STEPS
from models.training.bootstrap import paired_difference
from models.training.calibration import fit_calibration
from models.training.course import course_by_time
from models.training.dataset import before, positives
from models.training.enough import check_events
from models.training.evaluation import K, held_out, spaced
from models.training.export import appear, fresh_folder, package_versions
from models.training.framework import keras, tf, tfrs
from models.training.gate import Gate
from models.training.kinds import RETRIEVAL
from models.training.metrics import Ranks, hr, ndcg
from models.training.parameters import Parameters
from models.training.pipeline import Origin, Progress, features_of, fit_course
from models.training.quality.queries import histories
from models.training.quality.served import session_of
from models.training.version import PACKAGES, training_data, write_version

_LEARNT, _JUDGED = 10_000, 5_000
"""Lists that it learns from, and that it is judged on, at the most."""
_LEAST_LISTS = 50
_UNITS = 32
_EPOCHS = 10
_BATCH = 64
_RATE = 0.003
_LEAST_DEVIATION = 1e-3
_LATE_SHARE = 0.1
"""Of the events, the newest ones, that say how popular an item is of late."""

_ORIGIN = Origin("ranking")


@dataclass(frozen=True)
class Examples:
    """q lists of candidates, best first; shorter ones are padded."""

    features: NDArray[np.float32]
    """`[q, CANDIDATES, FEATURES]`"""
    there: NDArray[np.bool_]
    """`[q, CANDIDATES]`: whether a candidate stands there."""
    wanted: NDArray[np.int64]
    """`[q]`: the place of the item that came next; -1 where retrieval did not find it."""
    came_true: NDArray[np.bool_]
    """`[q, CANDIDATES]`: whether the candidate was among the user's next 10 events, positive."""
    users: NDArray[np.int32]
    """`[q]`: whose the lists are."""


class RankingModel(tfrs.Model):  # type: ignore[misc]
    """What is added to a candidate's log score: nothing to begin with, so retrieval's order."""

    def __init__(self, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
        """`mean`, `deviation`: `[FEATURES]`, of the features."""
        super().__init__()
        self._mean, self._deviation = tf.constant(mean), tf.constant(deviation)
        self.task = tfrs.tasks.Ranking(
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
        )
        self.hidden = [keras.layers.Dense(_UNITS, activation="relu") for _ in range(2)]
        self.out = keras.layers.Dense(1, kernel_initializer="zeros")

    def call(self, features: Any) -> Any:
        """Return `[..., CANDIDATES]` logits of `[..., CANDIDATES, FEATURES]`."""
        x = (features - self._mean) / self._deviation
        for layer in self.hidden:
            x = layer(x)
        return features[..., 0] + self.out(x)[..., 0]

    def compute_loss(self, inputs: Any, training: bool = False) -> Any:
        """Return the mean cross-entropy of the item that came next among the candidates."""
        features, there, wanted = inputs
        logits = tf.where(there, self(features), -1e9)
        loss = self.task(labels=tf.one_hot(wanted, CANDIDATES), predictions=logits)
        return loss / tf.cast(tf.shape(wanted)[0], tf.float32)


def train_ranking(
    columns: EventColumns,
    items: Sequence[Item],
    parameters: Parameters,
    artifacts: Path,
    model_id: str,
    version: str,
    progress: Progress,
    origin: Origin = _ORIGIN,
) -> Manifest:
    """Train a version of the kind `ranking` and write it to `<artifacts>/<model_id>/<version>/`.

    Its figures are `ndcg_at_10` and `hr_at_10` with the second stage, and `without_…` those without
    it, on the same held-out events. Raises what `pipeline.train` raises.
    """
    check_events(columns, parameters)
    keras.utils.set_random_seed(parameters.seed)
    progress("prepare", 0.0, events=len(columns), items=len(columns.item_ids))

    # 1. Retrieval, fitted to the older events.
    judged_from = int(len(columns) * parameters.train_split_ratio)
    known = int(judged_from * parameters.train_split_ratio)
    retriever = _retriever(before(columns, known), items, parameters, progress)

    # 2. What it finds before each of the newer ones.
    progress("ask for lists", 0.6)
    # Of what came before all lists: later figures would know what is asked for.
    figures = item_figures(before(columns, known))
    lists = _Lists(columns, parameters, retriever, ItemFigures.of(list(columns.item_ids), figures))
    learnt = lists.between(known, judged_from, _LEARNT)
    judged = lists.between(judged_from, len(columns), _JUDGED)

    # 3. Learn to reorder the lists, and what that gains.
    model = fit_ranking(learnt, parameters.seed)
    progress("evaluate", 0.85)
    logits = _logits(model, judged)
    metrics = {**_figures(logits, judged), "events": float(len(judged.wanted))}
    retrieved = judged.features[..., 0]
    metrics |= {f"without_{name}": each for name, each in _figures(retrieved, judged).items()}
    calibration = _calibrated(logits, judged)
    gate = origin.gate
    since = float(columns.timestamp[judged_from - 1])
    verdict = None if gate is None else _verdict(gate, logits, judged, metrics, since)

    # 4. Export.
    manifest = Manifest(
        model_id=model_id,
        version=version,
        created_at=origin.clock(),
        files={},
        kind="ranking",
        data=training_data(columns, origin.topic_ids, since),
        verdict=verdict,
        parameters=msgspec.to_builtins(parameters),
        metrics=metrics,
        packages=package_versions(PACKAGES),
        notes=origin.notes,
    )
    figures = item_figures(columns)
    folder = artifacts / model_id / version
    partial = fresh_folder(folder.with_name(f".{folder.name}.partial"))
    _write(model, calibration, columns.item_ids, figures, partial)
    manifest = msgspec.structs.replace(manifest, files=layout.file_digests(partial))
    appear(partial, folder, manifest, origin.signer)
    progress("done", 1.0, **manifest.metrics)
    return manifest


def item_figures(columns: EventColumns) -> NDArray[np.float32]:
    """Return `[items, 2]`: log of 1 + an item's events, and of what it has of late beyond that."""
    items = len(columns.item_ids)
    late = max(1, int(len(columns) * _LATE_SHARE))
    all_of, late_of = (
        np.log1p(np.bincount(item, minlength=items))
        for item in (columns.item, columns.item[-late:])
    )
    return np.stack([all_of, late_of - all_of], axis=1).astype(np.float32)


def fit_ranking(examples: Examples, seed: int) -> RankingModel:
    """Fit a model to the lists that hold what came next. Raises `TooFewEvents`."""
    found = np.flatnonzero(examples.wanted >= 0)
    if len(found) < _LEAST_LISTS:
        raise TooFewEvents(
            f"Retrieval finds what came next in {len(found)} lists; a second stage needs "
            f"{_LEAST_LISTS}. Send more events, or train a version of the kind retrieval first."
        )
    there = examples.features[examples.there]
    deviation = there.std(axis=0)
    # What never varied must not say much of a list in which it does.
    deviation = np.where(deviation < _LEAST_DEVIATION, 1.0, deviation).astype(np.float32)
    model = RankingModel(there.mean(axis=0), deviation)
    model.compile(optimizer=keras.optimizers.Adam(_RATE))
    data = (examples.features[found], examples.there[found], examples.wanted[found])
    batches = tf.data.Dataset.from_tensor_slices(data)
    batches = batches.shuffle(len(found), seed=seed).batch(_BATCH)
    model.fit(batches, epochs=_EPOCHS, verbose=0)
    return model


class _Lists:
    """Asks a retriever for lists, in time, its rules learning as they do when serving."""

    def __init__(
        self,
        columns: EventColumns,
        parameters: Parameters,
        retriever: Retriever,
        figures: ItemFigures,
    ) -> None:
        self._columns = columns
        self._retriever = retriever
        self._figures = figures
        self._repeats = parameters.repeats
        self._data = histories(columns)
        self._judged = RETRIEVAL.histories(columns, parameters)
        self._positive = positives(columns, parameters)[self._data.event]
        self._row_of = np.empty(len(columns), np.int64)
        self._row_of[self._data.event] = np.arange(len(columns))

    def between(self, begin: int, end: int, at_most: int) -> Examples:
        """Return the lists before events from `begin` to `end`, evenly spaced; in order."""
        # An item that its user has met is asked for where it may be recommended.
        wanted = self._judged
        if self._repeats:
            wanted = replace(wanted, is_new=wanted.is_target)
        positions = held_out(wanted, begin)
        positions = positions[wanted.event[positions] < end]
        positions = positions[self._data.first[positions] < positions]
        rows = spaced(positions, at_most)
        queries = self._data.queries(rows)
        q = len(rows)
        examples = Examples(
            np.zeros((q, CANDIDATES, FEATURES), np.float32),
            np.zeros((q, CANDIDATES), np.bool_),
            np.full(q, -1),
            np.zeros((q, CANDIDATES), np.bool_),
            self._data.log.user[rows],
        )
        learnt = begin
        item_ids = self._columns.item_ids
        for number, row in enumerate(rows.tolist()):
            event = int(self._data.event[row])
            self._learn(learnt, event)
            learnt = event
            session = session_of(queries, number, item_ids)
            met = [item_ids[at] for at in queries.item[queries.start[number] : row].tolist()]
            met = [] if self._repeats else met
            [found] = self._retriever.candidates_many([ListRequest(session, CANDIDATES, met)])
            if found is None or not found.items.item_ids:
                continue
            n = len(found.items.item_ids)
            place = {item_id: at for at, item_id in enumerate(found.items.item_ids)}
            examples.features[number, :n] = self._figures.features(found)
            examples.there[number, :n] = True
            examples.wanted[number] = place.get(item_ids[queries.target[number]], -1)
            for item_id in self._coming(row):
                if item_id in place:
                    examples.came_true[number, place[item_id]] = True
        self._learn(learnt, end)
        return examples

    def _coming(self, row: int) -> list[str]:
        rows = np.arange(row, min(row + K, len(self._data)))
        rows = rows[(self._data.first[rows] == self._data.first[row]) & self._positive[rows]]
        return [self._columns.item_ids[at] for at in self._data.log.item[rows].tolist()]

    def _learn(self, begin: int, end: int) -> None:
        """Let the rules learn the events from `begin` to `end`."""
        transitions = []
        for row in self._row_of[begin:end].tolist():
            since = max(int(self._data.first[row]), row - STEPS)
            previous = self._data.log.item[since:row][::-1].tolist()
            names = tuple(self._columns.item_ids[at] for at in previous)
            item_id = self._columns.item_ids[int(self._data.log.item[row])]
            transitions.append(Transition("clicks", "", 0, row, item_id, names))
        self._retriever.learn(transitions)


def _retriever(
    columns: EventColumns, items: Sequence[Item], parameters: Parameters, progress: Progress
) -> Retriever:
    def told(step: str, fraction: float, **figures: float) -> None:
        progress(f"retrieval: {step}", 0.6 * fraction, **figures)

    course = course_by_time(columns, parameters)
    fitted = fit_course(course, features_of(columns.item_ids, items), parameters, told)
    manifest = Manifest(
        model_id="retrieval",
        version="retrieval",
        created_at=0.0,
        files={},
        data=training_data(columns, {}),
        parameters={},
        metrics={},
        packages={},
    )
    with tempfile.TemporaryDirectory(prefix="headrace-ranking-") as folder:
        version = Path(folder) / "version"
        write_version(fitted, course, columns, parameters, version, manifest)
        return Retriever(load_artifact(version))


def _logits(model: RankingModel, examples: Examples) -> NDArray[np.float32]:
    parts = np.array_split(examples.features, max(1, len(examples.wanted) // 256))
    return np.concatenate([model(part).numpy() for part in parts])


def _verdict(
    gate: Gate,
    logits: NDArray[np.float32],
    judged: Examples,
    metrics: Mapping[str, float],
    since: float,
) -> Verdict:
    """Return whether the second stage may go live: it must not make retrieval's order worse."""
    with_it, without = (_ranks(scores, judged) for scores in (logits, judged.features[..., 0]))
    after, before_it = (
        np.where(ranks <= K, 1 / np.log2(1.0 + ranks), 0.0) for ranks in (with_it, without)
    )
    difference = paired_difference(after, before_it, judged.users)
    tolerance = gate.settings.tolerance
    accepted = not (difference.share < -tolerance and difference.high < 0)
    return Verdict(
        accepted=accepted,
        reason=f"NDCG@10 is {metrics['ndcg_at_10']:.4f} with the second stage and "
        f"{metrics['without_ndcg_at_10']:.4f} without it: "
        + (f"not worse by more than {tolerance:.1%}." if accepted else "worse, not by chance."),
        against="retrieval",
        live=gate.serving,
        events=len(judged.wanted),
        users=len(np.unique(judged.users)),
        since=since,
        ndcg_at_10=metrics["ndcg_at_10"],
        baseline_ndcg_at_10=metrics["without_ndcg_at_10"],
        hr_at_10=metrics["hr_at_10"],
        baseline_hr_at_10=metrics["without_hr_at_10"],
        difference=difference.share,
        low=difference.low,
        high=difference.high,
        tolerance=tolerance,
    )


def _figures(logits: NDArray[np.float32], examples: Examples) -> dict[str, float]:
    ranks = _ranks(logits, examples)
    return {"ndcg_at_10": ndcg(ranks, K), "hr_at_10": hr(ranks, K)}


def _ranks(logits: NDArray[np.float32], examples: Examples) -> Ranks:
    """Equal scores count against the list, and an item that was not found is a miss."""
    logits = np.where(examples.there, logits, -np.inf)
    row = np.arange(len(logits))
    own = logits[row, np.maximum(examples.wanted, 0)]
    rank = (logits >= own[:, None]).sum(axis=1)
    return np.where(examples.wanted >= 0, rank, CANDIDATES + 1)


def _calibrated(logits: NDArray[np.float32], examples: Examples) -> Calibration:
    """Return what the second stage's scores of the best ten of each list are worth."""
    scores: list[NDArray[np.float64]] = [np.zeros(0)]
    true: list[NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    for row in range(len(logits)):
        n = int(examples.there[row].sum())
        if n:
            of_list = log_softmax(logits[row, :n])
            best = np.argsort(-of_list)[:K]
            scores.append(of_list[best])
            true.append(examples.came_true[row, best])
    return fit_calibration(np.concatenate(scores).astype(np.float32), np.concatenate(true))


def _write(
    model: RankingModel,
    calibration: Calibration,
    item_ids: Sequence[str],
    figures: NDArray[np.float32],
    folder: Path,
) -> None:
    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([CANDIDATES, FEATURES], tf.float32, "features")]
    )
    def rank(features: Any) -> Any:
        return model(features)

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [rank.get_concrete_function()], model
    )
    (folder / RANKER).write_bytes(converter.convert())
    np.save(folder / ITEM_FIGURES, figures, allow_pickle=False)
    (folder / layout.ITEMS).write_bytes(msgspec.json.encode(item_ids))
    (folder / RANKER_CALIBRATION).write_bytes(msgspec.json.encode(calibration))
