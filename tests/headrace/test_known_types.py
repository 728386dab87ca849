from __future__ import annotations

import subprocess
import sys

import pytest

KINDS = """
import msgspec
import {module}

def below(kind):
    for each in kind.__subclasses__():
        yield each
        yield from below(each)

kinds = {{f"{{kind.__module__}}.{{kind.__qualname__}}": kind for kind in below(msgspec.Struct)}}
"""
DECODED = """
for name, kind in kinds.items():
    try:
        msgspec.json.Decoder(kind)
    except TypeError:
        continue
    print(name)
"""
RACE = """
import sys
import threading

{before}
sys.setswitchinterval(1e-6)

def decode(kind, start):
    # Each field is looked up, whatever its type makes of the value.
    raw = msgspec.json.encode(dict.fromkeys(kind.__struct_encode_fields__))
    start.wait()
    try:
        msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        pass

for name in sys.stdin.read().split():
    start = threading.Barrier(4)
    threads = [threading.Thread(target=decode, args=(kinds[name], start)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


@pytest.mark.parametrize(
    ("module", "before"),
    [
        ("serving.app", "from headrace.known_types import make_types_known; make_types_known()"),
        ("headrace_client", ""),
    ],
)
def test_threads_may_decode_a_type_for_the_first_time_at_once(module: str, before: str) -> None:
    names = run(KINDS.format(module=module) + DECODED)
    assert len(names.split()) > 50
    run(KINDS.format(module=module) + RACE.format(before=before), names)


def run(program: str, told: str = "") -> str:
    ended = subprocess.run(
        [sys.executable, "-c", program], input=told, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
