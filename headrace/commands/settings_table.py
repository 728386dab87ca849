"""Every setting with its variable, its value, its default and what it means."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from msgspec import Struct
from rich.markup import escape
from rich.table import Table

from headrace import settings as parts
from headrace import training_settings as training
from headrace.secrets import without_password
from headrace.setting_variables import shown, variable_of
from headrace.settings import Settings

_SECRETS = ("_PASSWORD", "_API_KEY")
"""How the variables end whose values are hidden."""


@dataclass(frozen=True)
class Row:
    """A setting."""

    variable: str
    value: str
    default: str
    meaning: str


def rows(settings: Settings) -> list[Row]:
    """Return every setting; a secret's value is hidden."""
    meanings = _meanings()
    return list(_rows(settings, Settings(), (), meanings))


def table(settings: Settings) -> Table:
    """Return the settings as a table; those that are not the default's stand out."""
    found = Table(box=None)
    found.add_column("variable", no_wrap=True)
    found.add_column("value", overflow="fold")
    found.add_column("meaning")
    for row in rows(settings):
        value = escape(row.value)
        if row.value == row.default:
            value += " [dim](default)[/]"
        else:
            value = f"[bold]{value}[/] [dim](default: {escape(row.default) or 'none'})[/]"
        found.add_row(row.variable, value, escape(row.meaning))
    return found


def _rows(
    value: Struct, default: Struct, path: tuple[str, ...], meanings: dict[tuple[str, str], str]
) -> Iterator[Row]:
    for field in msgspec.structs.fields(type(value)):
        own, usual = getattr(value, field.name), getattr(default, field.name)
        inner = (*path, field.name)
        if isinstance(own, Struct):
            yield from _rows(own, usual, inner, meanings)
            continue
        variable = variable_of(inner)
        secret = variable.endswith(_SECRETS) and own
        yield Row(
            variable=variable,
            value="(set)" if secret else without_password(shown(own)),
            default=shown(usual),
            meaning=meanings.get((type(value).__name__, field.name), ""),
        )


def _meanings() -> dict[tuple[str, str], str]:
    """Return the docstring of each field, by class and name; only the source has them."""
    classes = [
        struct
        for module in (parts, training)
        for struct in ast.parse(inspect.getsource(module)).body
        if isinstance(struct, ast.ClassDef)
    ]
    return {
        (struct.name, field.target.id): " ".join(str(text.value.value).split())
        for struct in classes
        for field, text in zip(struct.body, struct.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }
