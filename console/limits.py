"""The limits of a request's fields, as the server's own OpenAPI document has them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from console.connection import Server
from headrace_client import HeadraceError, Unreachable


@dataclass(frozen=True)
class Limit:
    """What one field may be."""

    kind: str
    """`integer`, `number`, `string`, `boolean`, `array`, `object`, or `enum`."""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    longest: int | None = None
    among: Sequence[str] = ()
    pattern: str | None = None
    entries: int | None = None
    """How many values an array or an object has at the most."""
    each: Sequence[Limit] = ()
    """What each of these values may be, one of them."""
    names: Limit | None = None
    """What an object's names may be."""
    named: Mapping[str, Limit] = field(default_factory=dict)
    """What an object's values of these names may be."""
    by_kind: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What a text may be, by the kind of training that it is for."""

    @property
    def words(self) -> str:
        """What it may be, for people."""
        if self.among:
            return f"one of {', '.join(self.among)}"
        if self.kind in ("integer", "number"):
            return self._number_words
        return f"at most {self.longest:,} characters" if self.longest is not None else "text"

    @property
    def _number_words(self) -> str:
        number = "a whole number" if self.kind == "integer" else "a number"
        if self.least is not None and self.most is not None:
            return f"{number} from {_plain(self.least)} to {_plain(self.most)}"
        bounds = (
            ("above {}", self.above),
            ("of {} or more", self.least),
            ("below {}", self.below),
            ("of {} or less", self.most),
        )
        told = [words.format(_plain(bound)) for words, bound in bounds if bound is not None]
        return " ".join((number, " and ".join(told))).strip()

    def read(self, typed: str) -> Any:
        """Return the value that was typed. Raises `ValueError` with what it may be."""
        words = typed.strip()
        if self.kind in ("integer", "number"):
            return self._number(words)
        if self.longest is not None and len(words) > self.longest:
            raise ValueError(f"It has {len(words):,} characters; it may be {self.words}.")
        if self.among and words not in self.among:
            raise ValueError(f"{words!r} is not allowed: it may be {self.words}.")
        if self.pattern is not None and re.search(self.pattern, words) is None:
            raise ValueError(f"{words[:40]!r} has a character that is not allowed there.")
        return words

    def count(self, number: int) -> None:
        """Check how many values there are. Raises `ValueError`."""
        if self.entries is not None and number > self.entries:
            raise ValueError(f"There are {number:,}; there may be {self.entries:,} at the most.")

    def _number(self, words: str) -> float:
        try:
            value = int(words) if self.kind == "integer" else float(words)
        except ValueError:
            raise ValueError(f"{words[:40]!r} is not {self.words}.") from None
        outside = (
            (self.least is not None and value < self.least)
            or (self.most is not None and value > self.most)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )
        # What is no number at all fails both comparisons, and JSON has no infinity.
        endless = value != value or value in (float("inf"), float("-inf"))
        if endless or outside:
            raise ValueError(f"{words[:40]} is out of range: it must be {self.words}.")
        return value


async def read_limits(server: Server, schema: str) -> Mapping[str, Limit]:
    """Return the limits of a type's fields, by name. Raises `HeadraceError`."""
    try:
        async with server.http() as http:
            answer = await http.get(f"{server.url}/openapi.json")
            answer.raise_for_status()
            fields = answer.json()["components"]["schemas"][schema]["properties"]
    except httpx.TransportError as error:
        raise Unreachable(f"/openapi.json cannot be read: {error}", not_sent=True) from error
    except (httpx.HTTPError, KeyError, ValueError, TypeError) as error:
        raise HeadraceError(
            f"What may be typed here cannot be read from the server's /openapi.json: {error!r}."
        ) from error
    return {name: _limit(described) for name, described in fields.items()}


def _limit(described: Mapping[str, Any]) -> Limit:
    """Return the first of what a field may be, apart from null."""
    return next(iter(_limits(described)), Limit("object"))


def _limits(described: Mapping[str, Any]) -> Sequence[Limit]:
    choices: list[dict[str, Any]] = described.get("anyOf", [described])
    return [_one(each) for each in choices if each.get("type") != "null"]


def _one(found: Mapping[str, Any]) -> Limit:
    of_each = found.get("items", found.get("additionalProperties"))
    names = found.get("propertyNames")
    return Limit(
        kind="enum" if "enum" in found else str(found.get("type", "object")),
        least=found.get("minimum"),
        most=found.get("maximum"),
        above=found.get("exclusiveMinimum"),
        below=found.get("exclusiveMaximum"),
        longest=found.get("maxLength"),
        among=tuple(map(str, found.get("enum", found.get("x-among", ())))),
        pattern=found.get("pattern"),
        entries=found.get("maxItems", found.get("maxProperties")),
        each=_limits(of_each) if isinstance(of_each, dict) else (),
        names=_one(names) if isinstance(names, dict) else None,
        named={name: _limit(of) for name, of in found.get("properties", {}).items()},
        by_kind=found.get("x-by-kind", {}),
    )


def _plain(value: float) -> str:
    return f"{value:,}" if value == int(value) else f"{value:g}"
