"""Versions are swapped while clients ask; `make chaos` does it a thousand times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from swapping import check_swaps

from headrace.settings import Settings


async def test_no_request_fails_and_every_answer_is_of_one_version(
    settings: Settings, add_version: Callable[[str], Path], tmp_path: Path
) -> None:
    await check_swaps(settings, add_version, tmp_path, swaps=30, warm=10)
