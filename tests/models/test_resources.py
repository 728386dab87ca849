"""A training makes way for all else on the machine, with each of its threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Libraries that a training has imported by then have begun threads of their own.
_MAKING_WAY = """
import json, os, sys, threading
import numpy
from models.training.resources import give_way

numpy.ones((600, 600)) @ numpy.ones((600, 600))
waiting = threading.Event()
threading.Thread(target=waiting.wait, daemon=True).start()
give_way(int(sys.argv[1]))
threading.Thread(target=waiting.wait, daemon=True).start()
names = os.listdir("/proc/self/task")
print(json.dumps([[os.getpriority(0, int(n)), os.sched_getscheduler(int(n))] for n in names]))
"""


@pytest.mark.parametrize(
    ("niceness", "policy"), [(19, os.SCHED_IDLE), (5, os.SCHED_OTHER), (0, os.SCHED_OTHER)]
)
def test_every_thread_of_a_training_makes_way(niceness: int, policy: int) -> None:
    command = (sys.executable, "-c", _MAKING_WAY, str(niceness))
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    threads = json.loads(ended.stdout)
    assert len(threads) >= 3
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert {tuple(each) for each in threads} == {(min(19, own + niceness), policy)}
