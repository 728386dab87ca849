"""The product's own model on the protocols: pipeline, export and retriever of any retraining.

How it goes from lesson to lesson is its mode. `protocol`: as the protocol has it, from the weights
of the lesson before where that comes with its past. `full`: a new model each time, on all events so
far. `incremental`: the first in full, each further one from the version of the lesson before, as a
training task goes on from a live version.

The towers alone are measured on the fitted model, all items scored at once; the product is measured
on the exported version, loaded as a server loads it and asked session by session.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.errors import ArtifactInvalid
from headrace.events import EventColumns
from headrace.log_sample import new_of, sample_size
from headrace.versions import Manifest, TrainingData
from models.retrieval.artifact import load_artifact
from models.retrieval.retriever import Retriever
from models.training.course import Course, course_by_time, course_onward
from models.training.dataset import Histories, histories
from models.training.evaluation import item_vectors, session_queries
from models.training.framework import keras, tf
from models.training.incremental import load_base, onward
from models.training.parameters import Parameters
from models.training.pipeline import features_of, fit_course
from models.training.quality.model import Lesson, Lists, Live, Point, ProtocolMode
from models.training.quality.queries import Queries, join
from models.training.quality.served import Served
from models.training.session_model import SessionModel
from models.training.version import write_version


class ProductModel:
    """Fits, exports and serves a version for each lesson, going on from the one before."""

    def __init__(
        self,
        parameters: Parameters,
        seed: int,
        *,
        catalogue: Sequence[Item] = (),
        mode: ProtocolMode = "protocol",
    ) -> None:
        self._parameters = msgspec.structs.replace(parameters, seed=seed)
        self._catalogue = catalogue
        self._mode = mode
        self._seconds: list[float] = []
        self._cpu_seconds: list[float] = []
        self._learned = 0
        self._model: SessionModel | None = None
        self._shares: list[float] = []
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-quality-")
        keras.utils.set_random_seed(seed)

    @property
    def parameters(self) -> dict[str, Any]:
        """With what it was trained, whatever its seed."""
        found: dict[str, Any] = msgspec.to_builtins(self._parameters)
        del found["seed"]
        return found

    @property
    def chosen(self) -> dict[str, Any]:
        """By lesson, the share that rules were given, and the seconds that it took.

        From the events in memory to the exported version; `cpu_seconds` are those of all cores
        together, which other work on the machine hardly changes.
        """
        return {
            "rules_shares": self._shares,
            "seconds": self._seconds,
            "cpu_seconds": self._cpu_seconds,
        }

    @property
    def retriever(self) -> Retriever:
        """The version of the last lesson, as a server has it."""
        return self._retriever

    @property
    def chosen_on(self) -> str:
        """What was chosen, and on what."""
        return "epoch and share of the rules, by NDCG@10 on the validation part of each lesson"

    def fit(self, lesson: Lesson, tell: Callable[[Point], None]) -> None:
        """Learn a lesson, and load the version that was made of it."""
        began, before = time.perf_counter(), sum(self._seconds)
        cpu_began = time.process_time()

        def progress(step: str, fraction: float, **figures: float) -> None:
            if "epoch" in figures:
                seconds = before + time.perf_counter() - began
                epoch, epochs = int(figures.pop("epoch")), int(figures.pop("epochs"))
                tell(Point(seconds, epoch, epochs, figures, lesson.number))

        self._items = lesson.items
        course, log = self._course(lesson)
        features = features_of(lesson.log.item_ids[: course.items - 1], self._catalogue)
        fitted = fit_course(course, features, self._parameters, progress, model=self._warm(lesson))
        self._model, self._vectors = fitted.model, item_vectors(fitted.model)
        self._shares.append(fitted.blend.rules)
        log = replace(log, item_ids=log.item_ids[: lesson.items])
        version = self._version(lesson.number)
        write_version(fitted, course, log, self._parameters, version, _manifest(lesson))
        self._retriever = Retriever(load_artifact(version))
        self._served = Served(self._retriever, lesson.log.item_ids, seen_stay=lesson.seen_stay)
        self._learned = len(lesson.log)
        self._seconds.append(time.perf_counter() - began)
        self._cpu_seconds.append(time.process_time() - cpu_began)

    def towers(self, queries: Queries) -> NDArray[np.float32]:
        """Return `[n, items]`: the dot products of sessions and items."""
        if self._model is None:
            raise ValueError("A model answers after its first lesson.")
        data, positions = _histories_of(queries, self._items, self._parameters)
        length = self._parameters.session_length
        found = session_queries(self._model, self._vectors, data, positions, length)
        items = self._vectors[1 : self._items + 1]
        scores: NDArray[np.float32] = tf.matmul(found, items, transpose_b=True).numpy()
        return scores

    def product(self, queries: Queries, k: int, live: Live | None = None) -> Lists:
        """Return the lists as they are served."""
        return self._served.lists(queries, k, live)

    def _course(self, lesson: Lesson) -> tuple[Course, EventColumns]:
        """Return what this lesson fits to and chooses by, and its log."""
        if self._mode == "incremental" and lesson.number:
            return self._course_onward(lesson)
        if lesson.validation is None:
            course = course_by_time(lesson.log, self._parameters)
            return replace(course, items=lesson.items + 1), lesson.log
        known = _joined(lesson.past, lesson.log)
        return self._judged(lesson, lesson.validation, known), lesson.log

    def _course_onward(self, lesson: Lesson) -> tuple[Course, EventColumns]:
        """Return the same for going on from the version of the lesson before."""
        base = load_base(self._version(lesson.number - 1))
        if isinstance(base, str):
            raise ArtifactInvalid(base)
        log = _joined(lesson.past, lesson.log)
        log = replace(log, item_ids=log.item_ids[: lesson.items])
        since = self._learned if lesson.past is None else len(lesson.past)
        parameters = self._parameters
        new = new_of(
            log,
            since,
            sample_size(
                len(log) - since, parameters.incremental_sample, parameters.incremental_least
            ),
            np.random.default_rng([parameters.seed, lesson.number]),
        )
        if lesson.validation is None:
            return course_onward(base, new, parameters)
        new, counted = onward(base, new, lambda columns: histories(columns, parameters))
        course = self._judged(lesson, lesson.validation, new.columns)
        return replace(course, counted=counted), new.columns

    def _judged(self, lesson: Lesson, validation: Queries, known: EventColumns) -> Course:
        """Return the course of a lesson that says what to choose by."""
        everything = _joined(known, lesson.held_back)
        judged, positions = _histories_of(validation, lesson.items, self._parameters)
        return Course(
            known=histories(known, self._parameters),
            judged=judged,
            positions=positions,
            # As in the test, rules do not learn from what is to be predicted.
            split=len(judged),
            everything=histories(everything, self._parameters),
            items=len(known.item_ids) + 1,
            unseen=not lesson.seen_stay,
        )

    def _warm(self, lesson: Lesson) -> SessionModel | None:
        """Return the model to go on with: a lesson that comes with its past builds on the last."""
        warm = self._mode == "protocol" and lesson.past is not None
        return self._model if warm else None

    def _version(self, number: int) -> Path:
        return Path(self._folder.name) / f"version-{number}"


def _joined(*logs: EventColumns | None) -> EventColumns:
    """Return those that there are as one."""
    there = tuple(log for log in logs if log is not None)
    return join(there) if len(there) > 1 else there[0]


def _histories_of(
    queries: Queries, items: int, parameters: Parameters
) -> tuple[Histories, NDArray[np.int64]]:
    """Return each query as a user's history, and where the targets stand."""
    log, positions = queries.as_log(items)
    return histories(log, parameters), positions


def _manifest(lesson: Lesson) -> Manifest:
    """Return the manifest of a version that nobody but this process loads."""
    return Manifest(
        model_id="quality",
        version="quality",
        created_at=0.0,
        files={},
        data=TrainingData(
            through={},
            events=len(lesson.log),
            users=len(lesson.log.user_ids),
            items=lesson.items,
            fingerprint="",
            from_timestamp=0.0,
            to_timestamp=0.0,
        ),
        parameters={},
        metrics={},
        packages={},
    )
