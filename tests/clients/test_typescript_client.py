"""The TypeScript client: made of the OpenAPI document, compiled, and run against a server."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from client_parts import KEY
from npm_packages import TYPESCRIPT, npm_package

from serving.app import ROUTES
from serving.openapi.document import document


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, made and compiled."""
    folder = tmp_path_factory.mktemp("typescript")
    for name in ("src", "test", "package.json", "tsconfig.json"):
        source = TYPESCRIPT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    (folder / "node_modules").symlink_to(npm_package("typescript").parent)
    (folder / "openapi.json").write_bytes(msgspec.json.encode(document(ROUTES)))
    for script in ("generate", "build"):
        run = _npm(script, folder)
        assert run.returncode == 0, run.stdout
    return folder


def test_it_does_what_it_says_against_a_server(built: Path, url: str) -> None:
    run = _npm("test", built, HEADRACE_URL=url, HEADRACE_API_KEY=KEY)
    assert run.returncode == 0, run.stdout
    assert "# pass 8" in run.stdout


def test_a_call_that_the_api_has_not_does_not_compile(built: Path) -> None:
    wrong = built / "src" / "wrong.ts"
    wrong.write_text(
        'import { createClient } from "./index.js";\n'
        'void createClient({ url: "" }).GET("/v1/nothing");\n'
        'void createClient({ url: "" }).POST("/v1/recommendations", { body: { k: "ten" } });\n'
    )
    run = _npm("build", built)
    wrong.unlink()
    assert run.returncode != 0
    assert "wrong.ts(2," in run.stdout
    assert "wrong.ts(3," in run.stdout


def _npm(script: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["npm", "run", "--silent", script],
        cwd=folder,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
