"""Which environment variable is which setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

PREFIX = "HEADRACE_"


def variable_of(path: tuple[str, ...]) -> str:
    """Return the environment variable of the setting at this path."""
    return PREFIX + "_".join(path).upper()


def variables(settings: type[Struct]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the variable and the path of each setting."""
    for field in msgspec.structs.fields(settings):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            for inner in msgspec.structs.fields(field.type):
                path = (field.name, inner.name)
                yield variable_of(path), path
        else:
            yield variable_of((field.name,)), (field.name,)


def shown(value: Any) -> str:
    """Return a value as a variable holds it."""
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else str(value)


def value_at(raw: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return what stands at a path."""
    value: Any = raw
    for part in path:
        value = value[part]
    return value
