"""The limits of a request's fields, as the server's own OpenAPI document has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from console.connection import Server


@dataclass(frozen=True)
class Limit:
    """What one field may be."""

    kind: str
    """`integer`, `number`, `string`, `boolean`, or `enum`."""
    least: float | None = None
    most: float | None = None
    longest: int | None = None
    among: Sequence[str] = ()

    @property
    def words(self) -> str:
        """What it may be, for people."""
        if self.among:
            return f"one of {', '.join(self.among)}"
        if self.kind in ("integer", "number"):
            number = "a whole number" if self.kind == "integer" else "a number"
            if self.least is not None and self.most is not None:
                return f"{number} from {self.least:,g} to {_plain(self.most)}"
            return number if self.least is None else f"{number} of {self.least:,g} or more"
        return f"at most {self.longest:,} characters" if self.longest is not None else "text"

    def read(self, typed: str) -> Any:
        """Return the value that was typed. Raises `ValueError` with what it may be."""
        words = typed.strip()
        if self.kind in ("integer", "number"):
            return self._number(words)
        if self.longest is not None and len(words) > self.longest:
            raise ValueError(f"It has {len(words):,} characters; it may be {self.words}.")
        if self.among and words not in self.among:
            raise ValueError(f"{words!r} is not allowed: it may be {self.words}.")
        return words

    def _number(self, words: str) -> float:
        try:
            value = int(words) if self.kind == "integer" else float(words)
        except ValueError:
            raise ValueError(f"{words[:40]!r} is not {self.words}.") from None
        below = self.least is not None and value < self.least
        # What is no number at all fails both comparisons.
        if value != value or below or (self.most is not None and value > self.most):
            raise ValueError(f"{words[:40]} is out of range: it must be {self.words}.")
        return value


async def read_limits(server: Server, schema: str) -> Mapping[str, Limit]:
    """Return the limits of a type's fields, by name. Raises `httpx.HTTPError`, `ValueError`."""
    async with server.http() as http:
        answer = await http.get(f"{server.url}/openapi.json")
        answer.raise_for_status()
        document = answer.json()
    fields = document["components"]["schemas"][schema]["properties"]
    return {name: _limit(field) for name, field in fields.items()}


def _limit(field: Mapping[str, Any]) -> Limit:
    choices: list[dict[str, Any]] = field.get("anyOf", [field])
    found = next((each for each in choices if each.get("type") != "null"), {})
    return Limit(
        "enum" if "enum" in found else str(found.get("type", "object")),
        found.get("minimum"),
        found.get("maximum"),
        found.get("maxLength"),
        tuple(map(str, found.get("enum", ()))),
    )


def _plain(value: float) -> str:
    return f"{value:,}" if value == int(value) else f"{value:g}"
