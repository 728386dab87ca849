"""`headrace up` with stand-ins for Headrace's own processes: `stand_in_stack.py DATA [ROLE...]`."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from pathlib import Path

from rich.console import Console

from headrace.errors import HeadraceError
from headrace.local.parts import Part
from headrace.local.stack import Plan, StackOptions, default_parts
from headrace.local.up import run_up

STAND_INS = str(Path(__file__).with_name("stand_ins.py"))


def stand_in_parts(plan: Plan) -> list[Part]:
    """The parts of a stack, with Headrace's own processes replaced."""
    return [
        part
        if part.name in ("broker", "redis")
        else dataclasses.replace(part, command=(sys.executable, STAND_INS, part.name))
        for part in default_parts(plan)
    ]


def main(data: str) -> None:
    options = StackOptions(data=Path(data), port=0, kafka_port=0, redis_port=0)
    try:
        asyncio.run(run_up(options, os.environ, Console(), parts=stand_in_parts))
    except HeadraceError as exc:
        print(f"headrace: {exc}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
