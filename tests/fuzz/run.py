"""One target under atheris: `python tests/fuzz/run.py TARGET FOLDER SECONDS`; `make fuzz` runs all.

What was found interesting stays in FOLDER/TARGET for the next run; what makes a target fail is
written to FOLDER/crash-…, and is run again by `python tests/fuzz/run.py TARGET FILE`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["headrace", "serving", "models.retrieval"]):
    from fuzz_targets import TARGETS

_MAX_LENGTH = 4_096
_SLOW_S = 10
"""An input that takes longer than this is a finding."""


def main(name: str, place: Path, seconds: int) -> None:
    """Fuzz the target, or run it on the file at the place."""
    target, seeds = TARGETS[name]
    if place.is_file():
        target(place.read_bytes())
        return
    corpus = place / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = {
        "max_total_time": seconds,
        "max_len": _MAX_LENGTH,
        "timeout": _SLOW_S,
        "artifact_prefix": f"{place}/",
        "verbosity": 0,
        "print_final_stats": 1,
    }
    arguments = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: run.py TARGET FOLDER-OR-FILE [SECONDS]; targets: {', '.join(TARGETS)}")
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 60)
