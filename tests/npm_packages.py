"""The npm packages that `make clients` installs: for the TypeScript client, and to check with."""

from __future__ import annotations

from pathlib import Path

import pytest

TYPESCRIPT = Path(__file__).resolve().parents[1] / "clients" / "typescript"


def npm_package(name: str) -> Path:
    """Return the folder of an installed package."""
    folder = TYPESCRIPT / "node_modules" / name
    if not folder.is_dir():
        pytest.fail(f"{name} is not installed; `make clients` does it, and needs Node.js and npm.")
    return folder
