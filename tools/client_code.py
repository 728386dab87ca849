"""Makes what of the Python client is made: its types of the OpenAPI document, and its client for
threads of the one for asyncio. `make clients` runs it; a test sees when that was forgotten.
"""

from __future__ import annotations

import keyword
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from serving.app import ROUTES
from serving.openapi.document import document

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clients" / "python" / "src" / "headrace_client"
_NAMES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
}
_WIDTH = 100
_TYPES = '''\
"""What requests hold and answers show, made of the OpenAPI document by `make clients`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field
'''
_SYNC = (
    ("The client for asyncio. `_sync.py` is made of this module", "The client for threads, made"),
    ("by `make clients`", "of `_async.py` by `make clients`"),
    (r"\basync def\b", "def"),
    (r"\basync (for|with)\b", r"\1"),
    (r"\bawait ", ""),
    ("AsyncRetrying", "Retrying"),
    ("AsyncIterator", "Iterator"),
    ("AsyncClient", "Client"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("aiter_bytes", "iter_bytes"),
    ("aread", "read"),
    ("aclose", "close"),
    (r"asyncio\.sleep", "time.sleep"),
    ("import asyncio\n", "import time\n"),
)


def types_code() -> str:
    """Return `types.py`."""
    schemas: dict[str, Any] = document(ROUTES)["components"]["schemas"]
    return _formatted("\n\n".join([_TYPES, *(_struct(*each) for each in sorted(schemas.items()))]))


def sync_code() -> str:
    """Return `_sync.py`."""
    code = (PACKAGE / "_async.py").read_text()
    for pattern, replacement in _SYNC:
        code, count = re.subn(pattern, replacement, code)
        if not count:
            raise ValueError(f"_async.py has nothing left that is like {pattern!r}")
    return _formatted(code)


def _struct(name: str, schema: dict[str, Any]) -> str:
    options = "frozen=True, kw_only=True, omit_defaults=True"
    required = set(schema.get("required", ()))
    fields: list[str] = []
    renamed: dict[str, str] = {}
    for field, of in schema["properties"].items():
        if field in required and len(of.get("enum", ())) == 1:
            options += f', tag_field="{field}", tag="{of["enum"][0]}"'
            continue
        default = "" if field in required else f" = {_default(of)}"
        attribute = f"{field}_" if keyword.iskeyword(field) else field
        renamed |= {attribute: field} if attribute != field else {}
        absent = field not in required and "default" not in of
        fields.append(f"    {attribute}: {_type(of)}{' | None' * absent}{default}")
        described = (each.get("description") for each in (of, *of.get("anyOf", ())))
        if (said := next(filter(None, described), None)) is not None:
            fields.append(_docstring(said))
    options += f", rename={renamed!r}" if renamed else ""
    what = schema.get("description", name)
    return "\n".join((f"class {name}(Struct, {options}):", _docstring(what), "", *fields))


def _docstring(text: str) -> str:
    return textwrap.fill(f'"""{text}"""', _WIDTH, initial_indent="    ", subsequent_indent="    ")


def _default(schema: dict[str, Any]) -> str:
    default = msgspec.json.decode(msgspec.json.encode(schema.get("default")))
    mutable = isinstance(default, (list, dict)) and default
    return f"field(default_factory=lambda: {default!r})" if mutable else repr(default)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "enum" in schema:
        return f"Literal[{', '.join(map(repr, schema['enum']))}]"
    kind = schema.get("type")
    if kind == "array":
        return f"list[{_type(schema.get('items', {}))}]"
    if kind == "object":
        values = schema.get("additionalProperties", {})
        return f"dict[str, {_type(values) if isinstance(values, dict) else 'Any'}]"
    return _NAMES.get(kind, "Any") if kind else "Any"


def _formatted(code: str) -> str:
    """Return code in the order and the layout that the linter asks for."""
    for command in (("check", "--select", "I,E501", "--fix-only"), ("format",)):
        options = ("--config", str(ROOT / "pyproject.toml"), "--quiet", "-")
        code = subprocess.run(  # noqa: S603 - of this project's own arguments
            [sys.executable, "-m", "ruff", *command, *options],
            input=code,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return code


def main() -> None:
    """Write both modules."""
    (PACKAGE / "types.py").write_text(types_code())
    (PACKAGE / "_sync.py").write_text(sync_code())


if __name__ == "__main__":
    main()
