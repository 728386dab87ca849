"""The thousand swaps, which `make chaos` runs; `make test` does not collect this file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from swapping import check_swaps

from headrace.settings import Settings


@pytest.mark.timeout(1_200)
async def test_a_thousand_swaps_leave_memory_as_it_was(
    settings: Settings, add_version: Callable[[str], Path], tmp_path: Path
) -> None:
    await check_swaps(settings, add_version, tmp_path, swaps=1_000, warm=200)
