"""`headrace import`: foreign files into the topics, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import headrace, start_headrace
from kafka_tools import read_topic

from headrace.errors import HeadraceError
from headrace.events import parse_event
from headrace.local import launch
from headrace.local.binaries import broker_command, find_broker
from headrace.local.ports import claim_port
from headrace.settings import Settings
from headrace.topics import ensure_topics

NOW = 1_704_060_026


def values(settings: Settings, topic: str) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in read_topic(settings, topic)]


def said(table: str) -> list[list[str]]:
    """The lines of an output, without their layout."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines() if line.strip()]


def run(settings: Settings, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return headrace("import", *map(str, arguments), **settings.environ())


def test_movielens_ratings_take_one_line(settings: Settings, tmp_path: Path) -> None:
    # The first lines of u.data look like this: user, item, rating, timestamp, with tabs.
    file = tmp_path / "u.data"
    file.write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t377\t1\t878887116\n")
    ended = run(
        settings, file, "--kind=rating", "--delimiter=tab",
        "--columns=user_id,item_id,rating,timestamp",
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert said(ended.stdout) == [
        ["3 rows accepted, 0 refused."],
        ["topic", "rows"],
        ["ratings", "3"],
    ]
    records = read_topic(settings, "ratings")
    events = [parse_event(record.value, "rating", received_at=time.time()) for record in records]
    assert sorted((e.user_id, e.item_id, e.timestamp, e.rating) for e in events) == [  # type: ignore[union-attr]
        ("186", "302", 891717742.0, 3.0),
        ("196", "242", 881250949.0, 3.0),
        ("196", "377", 878887116.0, 1.0),
    ]
    assert [record.key for record in records] == [event.user_id.encode() for event in events]
    assert len({event.event_id for event in events}) == 3


def test_a_csv_of_items(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "movies.csv"
    file.write_text(
        "movieId,title,genres,price,year,imdb\n"
        '1,"Toy, ""Story""",Animation| Comedy,9.99,1995,0114709\n'
        '2,"Two\nlines",,,n/a,\n3,Bär,Drama,,,x\n',
        encoding="utf-8-sig",
    )
    ended = run(
        settings, file, "--kind=item", "--map=item_id=movieId", "--map=categories=genres",
        "--map=attributes.year=year", "--map=attributes.imdb=imdb", "--set=attributes.source=ml",
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    records = {record.key: json.loads(record.value) for record in read_topic(settings, "items")}
    assert records == {
        # A number is one, unless JSON has no such number: a leading zero is part of an id.
        b"1": {
            "item_id": "1",
            "title": 'Toy, "Story"',
            "categories": ["Animation", "Comedy"],
            "price": 9.99,
            "attributes": {"year": 1995, "imdb": "0114709", "source": "ml"},
        },
        # What is empty is absent.
        b"2": {
            "item_id": "2",
            "title": "Two\nlines",
            "attributes": {"year": "n/a", "source": "ml"},
        },
        b"3": {
            "item_id": "3",
            "title": "Bär",
            "categories": ["Drama"],
            "attributes": {"imdb": "x", "source": "ml"},
        },
    }


def test_parquet_with_its_own_types(settings: Settings, tmp_path: Path) -> None:
    at = datetime(2024, 1, 1, 0, 0, 26, 500_000, tzinfo=timezone.utc)
    table = pa.table(
        {
            "user": pa.array([1, 2, None], pa.int64()),
            "item": pa.array([10.0, 11.5, 12.0]),
            "at": pa.array([at, at, at], pa.timestamp("ns", "Europe/Zurich")),
            "price": pa.array([Decimal("1.50")] * 3, pa.decimal128(10, 2)),
            "quantity": pa.array([2.0, float("nan"), 1.0]),
            "tags": pa.array([{"shop": "b"}] * 3, pa.struct({"shop": pa.string()})),
            "other": pa.array([0, 0, 0]),
        }
    )
    file = tmp_path / "sales.parquet"
    pq.write_table(table, file)
    ended = run(
        settings, file, "--kind=purchase", "--map=user_id=user", "--map=item_id=item",
        "--map=timestamp=at", "--map=context=tags", "--leave-out=other",
    )  # fmt: skip
    assert ended.returncode == 1
    assert ["item_id: Expected `str`, got `float`", "1", "2"] in said(ended.stdout)
    assert ["user_id: is required", "1", "3"] in said(ended.stdout)
    [event] = values(settings, "purchases")
    del event["event_id"]
    assert event == {
        "user_id": "1",
        "item_id": "10",
        "timestamp": 1704067226.5,
        "price": 1.5,
        "quantity": 2,
        "context": {"shop": "b"},
    }


def test_parquet_with_times_beyond_all_years_is_refused_by_row(
    settings: Settings, tmp_path: Path
) -> None:
    times = pa.array([NOW * 1000, 2**62]).view(pa.timestamp("ms"))
    file, refused = tmp_path / "clicks.parquet", tmp_path / "refused.jsonl"
    pq.write_table(
        pa.table({"user_id": ["a", "b"], "item_id": ["i"] * 2, "timestamp": times}), file
    )
    ended = run(settings, file, "--kind=click", "--dry-run", "--refused", refused)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.startswith("1 rows would be accepted, 1 refused.")
    [row] = map(json.loads, refused.open())
    assert (row["row"], row["field"]) == (2, "timestamp")
    assert row["data"] == f"user_id: b, item_id: i, timestamp: {2**62}"


def test_json_lines_of_every_kind(settings: Settings, tmp_path: Path) -> None:
    base = {"user_id": "ann", "item_id": 7, "timestamp": NOW}
    rows = [
        {**base, "type": "click", "event_id": "mine"},
        {**base, "type": "rating", "rating": 4},
        {**base, "type": "purchase", "context": {"shop": 1}},
        {"type": "item", "item_id": "7", "title": "Seven", "categories": ["a"]},
        {**base, "type": "view"},
        base,
        {**base, "type": "click", "colour": "red"},
    ]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n[1]\nno JSON\n")
    refused = tmp_path / "refused.jsonl"
    ended = run(settings, file, "--refused", refused)
    assert ended.returncode == 1
    assert ended.stdout.startswith("4 rows accepted, 5 refused.\n")
    assert values(settings, "clicks") == [
        {"event_id": "mine", "user_id": "ann", "item_id": "7", "timestamp": NOW}
    ]
    assert [event["rating"] for event in values(settings, "ratings")] == [4.0]
    assert [event["context"] for event in values(settings, "purchases")] == [{"shop": 1}]
    assert [item["title"] for item in values(settings, "items")] == ["Seven"]
    written = [json.loads(line) for line in refused.read_text().splitlines()]
    assert [(row["row"], row["field"]) for row in written] == [
        (5, "type"), (6, "type"), (7, "colour"), (9, ""), (10, ""),
    ]  # fmt: skip
    assert "--map context.colour=colour" in written[2]["reason"]
    assert written[2]["data"] == rows[6]
    assert written[4]["data"] == "no JSON"


def test_what_a_row_says_itself_is_not_set_be_it_nothing_or_false(
    settings: Settings, tmp_path: Path
) -> None:
    base = {"user_id": "ann", "item_id": "tea", "timestamp": NOW}
    rows: list[dict[str, Any]] = [
        {**base, "rating": 0, "context": {"mobile": False, "shop": ""}},
        {**base, "rating": None, "context": {"mobile": None}},
        {**base, "context": "at home"},
        base,
    ]
    file, refused = tmp_path / "ratings.jsonl", tmp_path / "refused.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    given = ("--set=rating=5", "--set=context.mobile=yes", "--set=context.shop=b")
    ended = run(settings, file, "--kind=rating", "--refused", refused, *given)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert [(each["rating"], each["context"]) for each in values(settings, "ratings")] == [
        (0, {"mobile": False, "shop": ""}),
        (5, {"mobile": "yes", "shop": "b"}),
        (5, {"mobile": "yes", "shop": "b"}),
    ]
    [row] = map(json.loads, refused.open())
    assert (row["row"], row["field"]) == (3, "context")


def test_what_is_no_row_is_named_with_its_line_and_the_rest_goes(
    settings: Settings, tmp_path: Path
) -> None:
    good = f"ann,tea,{NOW}\n".encode()
    lines = [
        b"user_id,item_id,timestamp\n", good,
        b"ann,tea\n",
        b'ann,"tea"x,1\n',
        b"ann,\xff,1\n",
        b"ann,tea,yesterday\n",
        b"ann,tea," + str(NOW * 1000).encode() + b"\n",
        b"a" * 300_000 + b"\n",
        b"\n",
        b"ann,\x1b[31mred,1\n",
        b"bob,tea,1\n",
    ]  # fmt: skip
    file, refused = tmp_path / "clicks.csv", tmp_path / "refused.jsonl"
    file.write_bytes(b"".join(lines))
    ended = run(settings, file, "--kind=click", "--refused", refused)
    assert ended.returncode == 1
    assert ended.stdout.startswith("2 rows accepted, 7 refused.\n")
    assert "\x1b" not in ended.stdout
    found = {row["row"]: row["reason"] for row in map(json.loads, refused.open())}
    assert list(found) == [3, 4, 5, 6, 7, 8, 10]
    for row, reason in {
        3: "2 cells, where there are 3 columns", 4: "not CSV", 5: "not text", 6: "--time-unit iso",
        7: "not milliseconds", 8: "the line is longer", 10: "not allowed",
    }.items():  # fmt: skip
        assert reason in found[row]
    assert sorted(event["user_id"] for event in values(settings, "clicks")) == ["ann", "bob"]


def test_the_same_rows_again_have_the_same_ids_whatever_the_file(
    settings: Settings, tmp_path: Path
) -> None:
    rows = [
        ("ann", "tea", 4.5, NOW),
        ("ann", "tea", 4.5, NOW),
        ("ann", "tea", 4.5, NOW + 1),
        ("ann", "tea", 2.0, NOW),
        ("bob", "tea", 4.5, NOW),
    ]
    csv = tmp_path / "one.csv"
    csv.write_text("u,i,r,t\n" + "".join(f"{u},{i},{r:g},{t * 1000}\n" for u, i, r, t in rows))
    names = ("u", "i", "r", "t")
    parquet = tmp_path / "two.parquet"
    columns = {n: [row[k] for row in rows] for k, n in enumerate(names)}
    columns["device"] = ["phone", "tablet", None, None, None]
    pq.write_table(pa.table(columns), parquet)
    mapped = [
        f"--map={f}={c}"
        for f, c in zip(("user_id", "item_id", "rating", "timestamp"), names, strict=True)
    ]
    assert run(settings, csv, "--kind=rating", "--time-unit=ms", *mapped).returncode == 0
    ended = run(settings, parquet, "--kind=rating", *mapped, "--map=context.device=device")
    assert ended.returncode == 0
    events = values(settings, "ratings")
    assert len(events) == 10
    # Four events: a row that stands twice is the same event.
    assert len({event["event_id"] for event in events}) == 4

    assert (
        run(settings, csv, "--kind=rating", "--time-unit=ms", *mapped, "--ids-by-row").returncode
        == 0
    )
    assert len({event["event_id"] for event in values(settings, "ratings")}) == 9


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_files(suffix: str, settings: Settings, tmp_path: Path) -> None:
    at = datetime.fromtimestamp(NOW, timezone.utc)
    raw = f"user_id\titem_id\ttimestamp\nann\ttea\t{at:%FT%TZ}\n"
    compress = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    }
    file = tmp_path / f"clicks.tsv{suffix}"
    file.write_bytes(compress[suffix](raw.encode()))
    ended = run(settings, file, "--kind=click", "--time-unit=iso")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [event["timestamp"] for event in values(settings, "clicks")] == [NOW]


def test_a_file_that_ends_in_damage_is_named_and_what_was_whole_has_arrived(
    settings: Settings, tmp_path: Path
) -> None:
    rows = "user_id,item_id,timestamp\n" + "".join(
        f"u{number * 7919 % 100_003},i{number * 104_729 % 1_000_003},{NOW}\n"
        for number in range(9_000)
    )
    file = tmp_path / "clicks.csv.gz"
    whole = gzip.compress(rows.encode())
    file.write_bytes(whole[: len(whole) * 3 // 4])
    ended = run(settings, file, "--kind=click")
    assert ended.returncode == 1
    assert f"{file} cannot be read" in ended.stderr
    arrived = re.search(r"([\d,]+) rows are acknowledged, all before row (\d+)", ended.stderr)
    assert arrived
    count = int(arrived[1].replace(",", ""))
    assert count == len(values(settings, "clicks")) == int(arrived[2]) - 2
    assert count >= 2_000


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["f.csv"], "nothing says what its rows are; give --kind"),
        (
            ["f.csv", "--kind=click"],
            "Column colour: is not a field; keep it with `--map con",
        ),
        (["f.csv", "--kind=click", "--map=user=u"], "'user' is not a field; there are event_id,"),
        (["f.csv", "--kind=click", "--map=user_id=u"], "There is no column 'u'; there are user_id"),
        (["f.csv", "--kind=click", "--map=user_id"], "--map 'user_id' is not FIELD="),
        (["f.csv", "--delimiter=ab", "--kind=click"], "--delimiter 'ab' is not one character"),
        (["f.csv", "--encoding=klingon", "--kind=click"], "'klingon' is not an encoding"),
        (["f.dat", "--kind=click"], "tells no format; give --format"),
        (["none.csv", "--kind=click"], "none.csv cannot be read: No such file or directory"),
        (["f.csv", "--format=parquet", "--kind=click"], "is not a Parquet file"),
        (
            ["f.csv", "--kind=click", "--leave-out=colour", "--refused=no/where"],
            "no/where cannot be written: No such file or directory. Make room, or name another",
        ),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_sent(
    arguments: list[str],
    cure: str,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.csv").write_text(f"user_id,item_id,timestamp,colour\nann,tea,{NOW},red\n")
    Path("f.dat").write_text("x")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    ended = run(settings, *arguments)
    assert ended.returncode == 1
    assert cure in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_dry_run_checks_everything_and_needs_no_kafka(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "clicks.csv"
    file.write_text(f"user_id,item_id,timestamp\nann,tea,{NOW}\nann,tea,x\n")
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    ended = run(away, file, "--kind=click", "--dry-run")
    assert ended.returncode == 1
    assert ended.stdout.startswith("1 rows would be accepted, 1 refused.")


def test_refused_rows_that_cannot_be_written_are_no_fault_of_kafkas(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "ragged.csv"
    file.write_text(f"user_id,item_id,timestamp\nann,tea,{NOW}\nann,tea\n")
    ended = run(settings, file, "--kind=click", "--dry-run", "--refused=/dev/full")
    assert (ended.returncode, ended.stderr) == (
        1,
        "headrace: /dev/full cannot be written: No space left on device. Make room, or name "
        "another file with --refused.\n",
    )


@pytest.mark.parametrize("damaged", [0, 1])
def test_who_goes_on_as_told_keeps_the_rows_refused_before(
    damaged: int, settings: Settings, tmp_path: Path
) -> None:
    header, good = "user_id,item_id,timestamp\n", f"ann,tea,{NOW}\n"
    rows = (header + "ann,tea\n" + good * 4_500 + "bob,tea\n", header + "eve,tea\n")
    files = [tmp_path / "first.csv.gz", tmp_path / "second.csv.gz"]
    whole = [gzip.compress(each.encode(), compresslevel=0) for each in rows]
    for number, file in enumerate(files):
        data = whole[number]
        # Nothing can be read of the second one, so that it is gone on with at row 1.
        file.write_bytes(data[: len(data) * 3 // 4] if number == damaged else data)
    refused = tmp_path / "refused.jsonl"
    options = ["--kind=click", f"--refused={refused}"]
    ended = run(settings, *files, *options)
    assert ended.returncode == 1
    advice = re.search(r"`(--from-row [^`]+)`", ended.stderr)
    assert advice, ended.stderr
    files[damaged].write_bytes(whole[damaged])
    assert run(settings, *options, *advice[1].split()).returncode == 1
    found = [json.loads(line) for line in refused.read_text().splitlines()]
    told = [(Path(row["file"]).name, row["data"]) for row in found]
    first, second = (file.name for file in files)
    assert told == [(first, "ann,tea"), (first, "bob,tea"), (second, "eve,tea")]


def test_what_would_not_be_read_or_would_be_overwritten_is_told(
    settings: Settings, tmp_path: Path
) -> None:
    rows = b"user_id,item_id,timestamp\nann,tea,1704060026\n"
    file, link = tmp_path / "clicks.csv", tmp_path / "link"
    file.write_bytes(rows)
    link.symlink_to(file)
    for refused in (file, link):
        ended = run(settings, file, "--kind", "click", "--refused", refused, "--dry-run")
        assert (ended.returncode, "is a file that is imported" in ended.stderr) == (1, True)
        assert file.read_bytes() == rows
    wide = tmp_path / "wide.csv"
    wide.write_bytes(rows.decode().encode("utf-16"))
    assert "add --encoding utf-16" in run(settings, wide, "--kind", "click", "--dry-run").stderr
    assert "is a folder" in run(settings, tmp_path, "--kind", "click", "--dry-run").stderr
    (tmp_path / "empty.jsonl").touch()
    assert "no row to read" in run(settings, tmp_path / "empty.jsonl", "--dry-run").stdout
    marked = tmp_path / "marked.jsonl"
    event = {"type": "click", "user_id": "ann", "item_id": "tea", "timestamp": 1704060026}
    marked.write_bytes(b"\xef\xbb\xbf" + json.dumps(event).encode())
    assert run(settings, marked, "--dry-run").stdout.startswith("1 rows would be accepted, 0")


def test_a_kafka_that_is_away_is_named(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "clicks.csv"
    file.write_text(f"user_id,item_id,timestamp\nann,tea,{NOW}\n")
    ended = run(msgspec.structs.replace(settings, kafka="127.0.0.1:9"), file, "--kind=click")
    assert ended.returncode == 1
    assert re.match(r"headrace: Kafka at 127\.0\.0\.1:9 .*HEADRACE_KAFKA", ended.stderr)
    assert ended.stderr.count("\n") == 1


def test_broken_off_in_the_middle_it_says_how_to_go_on_and_nothing_is_lost(
    settings: Settings, tmp_path: Path
) -> None:
    lines = [f"u{number},i{number % 90},{NOW}\n" for number in range(9_000)]
    file, pipe = tmp_path / "clicks.csv", tmp_path / "pipe.csv"
    file.write_text("".join(lines))
    os.mkfifo(pipe)
    options = ("--kind=click", "--columns=user_id,item_id,timestamp")
    with own_broker(settings, tmp_path) as (own, broker):
        importing = start_headrace("import", str(pipe), *options, **own.environ())
        try:
            with pipe.open("w") as writing:
                writing.writelines(lines[:5_000])
                writing.flush()
                deadline = time.monotonic() + 60
                while len(read_topic(own, "clicks")) < 4_000:
                    assert time.monotonic() < deadline
                broker.send_signal(signal.SIGSTOP)
                writing.writelines(lines[5_000:])
            _, error = importing.communicate(timeout=60)
        finally:
            importing.kill()
            broker.send_signal(signal.SIGCONT)
        assert importing.returncode == 1
        found = re.search(r"([\d,]+) rows are acknowledged, all before row (\d+)", error)
        assert found, error
        assert error.startswith(f"headrace: Kafka at {own.kafka} does not acknowledge")
        assert error.count("\n") == 1
        from_row = int(found[2])
        assert int(found[1].replace(",", "")) == from_row - 1 == 4_000

        ended = headrace("import", str(file), *options, f"--from-row={from_row}", **own.environ())
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith("5,000 rows accepted, 0 refused.")
        arrived = [event["user_id"] for event in values(own, "clicks")]
        assert set(arrived) == {f"u{number}" for number in range(9_000)}
        assert len({event["event_id"] for event in values(own, "clicks")}) == 9_000


@contextmanager
def own_broker(
    settings: Settings, folder: Path
) -> Iterator[tuple[Settings, subprocess.Popen[bytes]]]:
    """A broker of the test's own, with its topics."""
    port = claim_port(0, host="127.0.0.1", use="the test's own broker", option="")
    launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
    # The launcher becomes the broker.
    command = (*launcher, *broker_command(find_broker(os.environ), port))
    broker = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={}, cwd=folder
    )
    own = msgspec.structs.replace(settings, kafka=f"127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                ensure_topics(own)
                break
            except HeadraceError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield own, broker
    finally:
        broker.kill()
        broker.wait()
