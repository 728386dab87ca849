"""The client's code against the API: nothing of it is missing, and what is made is up to date."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace_client._async import OF_MODEL
from serving.app import ROUTES
from serving.openapi.document import document

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import client_code  # noqa: E402

DOCUMENT = document(ROUTES)
STALE = "is not what it would be made of; run `make clients` and commit it"


@pytest.mark.parametrize(
    ("module", "made"),
    [("types.py", client_code.types_code), ("_sync.py", client_code.sync_code)],
)
def test_what_is_made_is_up_to_date(module: str, made: Any) -> None:
    assert (client_code.PACKAGE / module).read_text() == made(), f"{module} {STALE}"


def test_the_client_has_every_call_and_no_other() -> None:
    calls = set(_calls())
    calls |= {(method, _of_model(path)) for method, path in calls if path in OF_MODEL}
    described = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    assert calls == described, "_async.py lacks, or has too many of, these calls"


def test_each_call_takes_what_the_api_takes_and_gives_what_it_gives() -> None:
    for (method, path), call in _calls().items():
        operation = DOCUMENT["paths"][path][method.lower()]
        source = ast.unparse(call)
        success = next(each for status, each in operation["responses"].items() if status < "300")
        for content in success.get("content", {}).values():
            name = content["schema"].get("$ref", "str").rpartition("/")[2]
            assert name in source, f"{method} {path} answers with {name}"
        for parameter in operation["parameters"]:
            name = parameter["name"]
            assert name.lower() in source, f"{method} {path} takes {name}"
        assert ("body=" in source or "content=" in source) == ("requestBody" in operation)


def test_a_model_is_asked_for_the_same() -> None:
    for path in OF_MODEL:
        operations = DOCUMENT["paths"][path]
        for method, operation in DOCUMENT["paths"][_of_model(path)].items():
            named = [each for each in operation["parameters"] if each["name"] != "model_id"]
            assert named == operations[method]["parameters"], path


def _of_model(path: str) -> str:
    return "/v1/models/{model_id}" + path.removeprefix("/v1")


def _calls() -> dict[tuple[str, str], ast.AST]:
    """Return the methods of the client that make each call, by the call's method and path."""
    tree = ast.parse((client_code.PACKAGE / "_async.py").read_text())
    found: dict[tuple[str, str], ast.AST] = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        texts = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        methods = [text for text in texts if text in ("GET", "POST", "PUT", "DELETE")]
        paths = [text for text in texts if text.startswith(("/v1/", "/readyz"))]
        found |= dict.fromkeys(zip(methods, paths, strict=True), function)
    return found
