"""In place of `models.training.job`: trains nothing, and does what its model's name says.

It lives by the same rules: it makes way, ends with its trainer, and without word from it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec

from headrace.local.launch import die_with_parent
from headrace.settings_source import load_settings
from models.training.job_messages import Job, Report
from models.training.lifeline import end_without_word


def report(step: str, fraction: float, error: str | None = None) -> None:
    line = msgspec.json.encode(Report(step=step, fraction=fraction, error=error)).decode()
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    die_with_parent(os.getppid())
    settings = load_settings(os.environ)
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    end_without_word(sys.stdin.fileno(), settings.trainer.lease_s)
    sys.stderr.write(f"password {settings.api_key}, process {os.getpid()}\n")
    sys.stderr.flush()
    checkpoint = Path(job.work) / "fit.npz"
    before = checkpoint.read_text() if checkpoint.exists() else ""
    checkpoint.write_text(f"{before}{job.version} {job.through}\n")
    report("fit", 0.5)
    if before and job.model_id == "hangs-once":
        report("failed", 1.0, f"{checkpoint.read_text()}")
        return
    if job.model_id == "grows":
        held = bytearray(300_000_000)
        for at in range(0, len(held), 4096):
            held[at] = 1
    if job.model_id == "crashes" and (not before or not job.distributed):
        # As TensorFlow does in the chief when it loses a machine.
        sys.exit("UnavailableError: Connection reset by peer")
    if job.model_id != "fails":
        time.sleep(600)
    report("failed", 1.0, "it was to fail")


if __name__ == "__main__":
    main()
