"""Where settings come from: `HEADRACE_*` variables over an optional TOML file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace.errors import InvalidSetting
from headrace.model_settings import parse_models, parse_table
from headrace.secrets import without_password
from headrace.setting_addresses import check_addresses
from headrace.setting_variables import PREFIX, value_at, variable_of, variables
from headrace.settings import Settings

CONFIG_VARIABLE = "HEADRACE_CONFIG"
KAFKA_JARS_VARIABLE = "HEADRACE_KAFKA_JARS"
_NO_SETTINGS = frozenset({CONFIG_VARIABLE, KAFKA_JARS_VARIABLE, "HEADRACE_BENCH_DATA"})
"""Variables that say where files are; a command reads each by itself."""

_PROFILES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "strict": {"retrain": {"min_interval": "24h"}},
}
"""By profile, the defaults that differ, by table and name."""


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from variables and the file that `HEADRACE_CONFIG` names, if any.

    Raises `InvalidSetting`, naming the variable or the file's key, its value and what it must be.
    """
    raw = _read_file(environ.get(CONFIG_VARIABLE, ""))
    known = dict(variables(Settings))
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in _NO_SETTINGS:
            continue
        if variable not in known:
            raise InvalidSetting(f"{variable} is not a setting{_suggestion(variable, known)}")
        _put(raw, known[variable], value)
    settings = _convert(_with_profile(raw))
    check_addresses(settings)
    return settings


def _with_profile(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with those of their profile that are not given."""
    merged = dict(raw)
    for name, own in _PROFILES.get(str(raw.get("profile")), {}).items():
        given = raw.get(name, {})
        # What is no table is refused as such.
        merged[name] = {**own, **given} if isinstance(given, dict) else given
    return merged


def _read_file(path: str) -> dict[str, Any]:
    if not path:
        return {}
    try:
        return dict(msgspec.toml.decode(Path(path).read_bytes(), type=dict[str, Any]))
    except OSError as exc:
        raise InvalidSetting(
            f"{CONFIG_VARIABLE} is {path!r}, which cannot be read: {exc.strerror}."
        ) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidSetting(f"{path} is not valid TOML: {exc}.") from exc


def _convert(raw: dict[str, Any]) -> Settings:
    models = parse_models(raw.get("models", {}))
    raw = {**raw, "models": {}}
    retrain = raw.get("retrain")
    # What is no table is refused as such.
    if isinstance(retrain, dict) and "request" in retrain:
        request = parse_table(
            retrain["request"],
            "HEADRACE_RETRAIN_REQUEST",
            "[retrain.request]",
            '{"mode": "full"}',
        )
        raw["retrain"] = {**retrain, "request": request}
    try:
        return msgspec.structs.replace(msgspec.convert(raw, Settings, strict=False), models=models)
    except msgspec.ValidationError as exc:
        reason, _, where = str(exc).partition(" - at `$")
        if reason.startswith("Object contains unknown field"):
            unknown = reason.split("`")[1]
            path = (*_path(where), unknown)
            raise InvalidSetting(
                f"{'.'.join(path)} in the file is not a setting{_suggestion_in_file(path)}"
            ) from exc
        path = _path(where)
        value = value_at(raw, path)
        if path == ("redis",):
            value = without_password(str(value))
        raise InvalidSetting(f"{variable_of(path)} has value {value!r}. {reason}.") from exc


def _path(where: str) -> tuple[str, ...]:
    return tuple(part for part in where.strip("`.").split(".") if part)


def _suggestion(variable: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(variable, known, n=1)
    return f"; did you mean {close[0]}?" if close else "; `headrace settings` lists them all."


def _suggestion_in_file(path: tuple[str, ...]) -> str:
    known = dict(variables(Settings))
    name = variable_of(path).replace(PREFIX * 2, PREFIX)
    close = difflib.get_close_matches(name, known, n=1)
    if not close:
        return "; `headrace settings` lists them all."
    *table, field = known[close[0]]
    where = f"`{field}` under `[{table[0]}]`" if table else f"`{field}`, before any table"
    return f"; did you mean {where}?"


def _put(raw: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    for part in path[:-1]:
        table = raw.setdefault(part, {})
        if not isinstance(table, dict):
            raise InvalidSetting(
                f"{part} has value {table!r} in the file. It is a table: write [{part}]."
            )
        raw = table
    raw[path[-1]] = value
