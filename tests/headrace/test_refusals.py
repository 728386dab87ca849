"""What an import refuses is told by kind: the field and the rule, with a count and an example."""

from __future__ import annotations

import errno
import json
import os
from io import FileIO
from pathlib import Path

import pytest

from headrace.commands import import_events
from headrace.errors import HeadraceError, InvalidEvent
from headrace.events import parse_event
from headrace.importing.refusals import Refusals, Refused, RefusedFile, open_refusals
from headrace.importing.run import ImportOptions
from headrace.settings import Settings

NOW = 1_704_060_026.0
BASE = {"event_id": "e", "user_id": "u", "item_id": "i", "timestamp": NOW}


def refuse(refusals: Refusals, row: int, **fields: object) -> None:
    data = {**BASE, "type": "rating", "rating": 3, **fields}
    with pytest.raises(InvalidEvent) as caught:
        parse_event(json.dumps(data).encode(), None, received_at=NOW)
    refusals.add([Refused("f.csv", row, caught.value, data)])


def test_reasons_that_differ_in_their_values_alone_are_one() -> None:
    refusals = Refusals()
    for row in range(1, 8):
        refuse(refusals, row, timestamp=NOW + 1_000 * row)
    refuse(refusals, 8, rating=1_001)
    refuse(refusals, 9, rating=-1_001)
    refuse(refusals, 10, rating="5")
    refuse(refusals, 11, type="view")
    refuse(refusals, 12, type="view 2")
    told = {reason.kind: (reason.count, reason.first[0]) for reason in refusals.reasons}
    assert told == {
        "timestamp: … is more than … seconds past the record's own time, …; send Unix seconds, "
        "not milliseconds": (7, ("f.csv", 1)),
        "rating: Expected `float` <= …": (1, ("f.csv", 8)),
        "rating: Expected `float` >= …": (1, ("f.csv", 9)),
        "rating: Expected `float`, got `str`": (1, ("f.csv", 10)),
        "type: Invalid value …; it is one of click, purchase, rating": (2, ("f.csv", 11)),
    }
    first = refusals.reasons[0]
    assert first.example.startswith(f"timestamp: {NOW + 1_000:.15g} is more than 300 seconds")
    assert [row for _, row in first.first] == [1, 2, 3, 4, 5]
    assert refusals.count == 12


@pytest.mark.parametrize(
    "reasons",
    [
        ("-5 is too small", "5 is too small", "1e-7 is too small", "nan is too small"),
        ("no column 'a'", 'no column "b"', r"no column 'it\'s'", "no column '5'"),
        ("the record's 5 and don't fit", "the record's 6 and don't fit"),
        ("the record is 70,123 bytes long", "the record is 99,000 bytes long"),
    ],
)
def test_whatever_the_value_looks_like_it_makes_no_kind(reasons: tuple[str, ...]) -> None:
    refusals = Refusals()
    for row, reason in enumerate(reasons):
        refusals.add([Refused("f", row, InvalidEvent(f"categories[{row}]", reason), None)])
    [told] = refusals.reasons
    assert (told.count, told.example) == (len(reasons), f"categories[0]: {reasons[0]}")


def test_other_fields_and_other_rules_are_other_kinds_up_to_a_number(tmp_path: Path) -> None:
    file = tmp_path / "refused.jsonl"
    refusals = Refusals(RefusedFile(file, append=False))
    for row in range(60):
        name = "".join(chr(ord("a") + int(digit)) for digit in str(row))
        refusals.add([Refused("f", row, InvalidEvent(name, "is required"), {})])
    assert len(refusals.reasons) == 51
    assert refusals.reasons[0].kind == "other reasons"
    assert refusals.reasons[0].count == 10
    assert len(file.read_bytes().splitlines()) == 60


ROW = Refused("f", 1, InvalidEvent("price", "is required"), {})


def test_the_file_stays_as_it_was_when_an_import_cannot_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Settings) -> None:
        raise HeadraceError("Kafka is away.")

    monkeypatch.setattr("headrace.importing.run.ensure_topics", away)
    file, refused = tmp_path / "clicks.csv", tmp_path / "refused.jsonl"
    file.write_text("user_id,item_id,timestamp,colour\n")
    refused.write_text("of before\n")
    for dry_run, told in (False, "Kafka is away"), (True, "Column colour: is not a field"):
        options = ImportOptions([file], "click", dry_run=dry_run)
        with pytest.raises(HeadraceError, match=told):
            import_events.run(options, Settings(), refused)
        assert refused.read_text() == "of before\n"


def test_the_file_begins_anew_unless_it_is_added_to(tmp_path: Path) -> None:
    file = tmp_path / "refused.jsonl"
    file.write_text("of before\n")
    with open_refusals(file, [], append=True) as refusals:
        refusals.add([ROW])
    assert len(file.read_text().splitlines()) == 2
    with open_refusals(file, [], append=False) as refusals:
        refusals.begin()
    assert file.read_text() == ""


def test_rows_that_cannot_be_written_are_neither_counted_nor_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "refused.jsonl"

    class Full(FileIO):
        def write(self, data: object) -> int:
            if os.fstat(self.fileno()).st_size > 100:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(memoryview(data)[:60])  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", lambda path, mode="rb", buffering=0: Full(path, mode))
    with open_refusals(file, [], append=False) as refusals:
        refusals.add([ROW])
        written = file.read_bytes()
        assert written.endswith(b"}\n")
        with pytest.raises(HeadraceError, match=r"refused\.jsonl cannot be written: No space left"):
            refusals.add([ROW, ROW])
        assert (refusals.count, file.read_bytes()) == (1, written)


def test_a_file_that_cannot_be_closed_is_told_unless_something_else_went_wrong_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(FileIO):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(Path, "open", lambda path, mode="rb", buffering=0: Broken(path, mode))
    file = tmp_path / "refused.jsonl"
    cure = "refused.jsonl cannot be written: .*quota.*name another file with --refused"
    with (
        pytest.raises(HeadraceError, match=cure),
        open_refusals(file, [], append=False) as refusals,
    ):
        refusals.begin()

    def broken_off() -> None:
        with open_refusals(file, [], append=False) as refusals:
            refusals.begin()
            raise HeadraceError("Kafka is away.")

    with pytest.raises(HeadraceError, match="Kafka"):
        broken_off()
