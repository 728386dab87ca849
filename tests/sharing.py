"""How tests are shared out among processes: by file, the files that take longest first.

What a module or a folder sets up for its tests is set up once so, and no process is left alone with
a long file at the end.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import Producer

TOGETHER = ("tests/console/",)
"""Folders whose files share what is dear to set up."""
LONGEST_FIRST = (
    "tests/console/",
    "tests/streams/test_worker.py",
    "tests/test_end_to_end.py",
    "tests/test_replay_command.py",
    "tests/streams/test_bench.py",
    "tests/test_dead_letters_command.py",
    "tests/models/test_job.py",
    "tests/models/test_distributed.py",
    "tests/chaos/",
    "tests/models/test_trainer.py",
    "tests/test_promote.py",
    "tests/test_import.py",
    "tests/serving/test_contract.py",
    "tests/models/test_checkpoints.py",
    "tests/test_archive_command.py",
)


class ByFile(LoadScopeScheduling):
    """Gives a process the tests of a file, or of a folder of `TOGETHER`."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return next(filter(file.startswith, TOGETHER), file)


def keep_order(config: pytest.Config) -> None:
    """Keep the order of the tests, which is not that of their number."""
    config.option.loadscopereorder = False


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Share tests out so, whatever `--dist` says."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; each file's tests keep their order."""
    items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    ranks = (at for at, name in enumerate(LONGEST_FIRST) if nodeid.startswith(name))
    return next(ranks, len(LONGEST_FIRST))
