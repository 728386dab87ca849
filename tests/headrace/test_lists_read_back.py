"""Lists that were served, as columns: of known users, each once, whoever was erased left out."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from archive_tools import archive, drop
from impression_tools import impression
from kafka_tools import send_raw

from headrace.erasures import Erasure, Erasures
from headrace.impressions import Impression
from headrace.log import end_offsets
from headrace.records import Batch, Records
from headrace.served_lists import ListBuilder, ServedLists, read_served_lists
from headrace.settings import Settings
from headrace.topics import ERASURES, IMPRESSIONS, ensure_topics, topic_ids
from headrace.versions import ListsSpan

NOW = 1_704_060_026.0


def batch_of(values: Sequence[bytes | None]) -> Batch:
    count = len(values)
    records = Records(
        values=list(values),
        partition=np.zeros(count, np.int32),
        offset=np.arange(count),
        time=np.zeros(count, np.int64),
    )
    return Batch(IMPRESSIONS, "topic", records)


def plain(lists: ServedLists) -> list[tuple[str, float, list[str]]]:
    return [
        (
            lists.user_ids[lists.user[n]],
            float(lists.served_at[n]),
            [lists.item_ids[code] for code in lists.item[lists.start[n] : lists.start[n + 1]]],
        )
        for n in range(len(lists))
    ]


def encoded(each: Impression) -> bytes:
    return msgspec.json.encode(each)


def test_lists_of_users_come_in_time_each_once_in_whatever_order_they_arrive() -> None:
    ann, bob = impression("ann", NOW + 1, ["tea", "cup"]), impression("bob", NOW, ["pot"])
    other = msgspec.structs.replace(impression("ann", NOW, ["tea"]), model_id="books")
    wrong = [b"\xff", b"{}", None, b'{"id": 5}', b"[1]", encoded(ann).replace(b'"tea"', b"null")]
    spaced = encoded(bob).replace(b",", b",\n ")
    values = [
        encoded(ann), spaced, encoded(ann), encoded(other),
        encoded(impression(None, NOW, ["tea"])), encoded(impression("ann", NOW, [])), *wrong,
    ]  # fmt: skip
    expected = [("bob", NOW, ["pot"]), ("ann", NOW + 1, ["tea", "cup"])]
    found = []
    for seed in range(4):
        random.Random(seed).shuffle(values)
        builder = ListBuilder(["default", "items"])
        for at in range(0, len(values), 5):
            builder.add(batch_of(values[at : at + 5]))
        builder.add(batch_of([]))
        found.append(builder.build())
        assert plain(found[-1]) == expected
    assert {each.item_ids for each in found} == {("pot", "tea", "cup")}
    builder = ListBuilder(["default"])
    builder.add(batch_of([encoded(ann), encoded(bob)]))
    assert plain(builder.build(begin=NOW, end=NOW + 1)) == expected[:1]
    assert len(ListBuilder(["default"]).build()) == 0


def test_what_an_erased_user_was_served_until_shortly_after_counts_no_more() -> None:
    lists = [impression("ann", NOW + at, ["tea"]) for at in (0, 9, 11)]
    erasure = Erasure(user_id="ann", at=NOW, topic_ids={"clicks": "c"}, through={})
    builder = ListBuilder(["default"], Erasures([erasure]))
    builder.add(batch_of([encoded(each) for each in lists]))
    assert [at for _, at, _ in plain(builder.build())] == [NOW + 11]


@pytest.mark.brokers("embedded", "apache")
def test_archive_and_topic_are_one_log_of_lists(
    settings: Settings, request: pytest.FixtureRequest
) -> None:
    ensure_topics(settings)

    def send(lists: Sequence[Impression]) -> None:
        records = [((each.user_id or "").encode(), encoded(each)) for each in lists]
        send_raw(settings, IMPRESSIONS, records)

    def span() -> ListsSpan:
        ends = end_offsets(settings, (IMPRESSIONS,))[IMPRESSIONS]
        return ListsSpan(topic_id=topic_ids(settings, (IMPRESSIONS,))[IMPRESSIONS], through=ends)

    old = [impression(f"u{n}", NOW + n, [f"i{n}", "tea"]) for n in range(8)]
    send(old)
    since = span()
    archive(settings, IMPRESSIONS)
    if request.node.callspec.params["kafka"] == "apache":
        # The embedded broker drops nothing.
        drop(settings, IMPRESSIONS, {int(each): end for each, end in since.through.items()})
    new = [impression(f"u{n}", NOW + n, [f"i{n}", "tea"]) for n in range(8, 12)]
    send([*new, old[0]])
    everything = [(each.user_id, each.served_at, list(each.item_ids)) for each in (*old, *new)]

    told: list[float] = []
    found = read_served_lists(settings, span(), ["default"], told.append)
    assert plain(found) == everything
    assert told[-1] == 1.0
    onward = read_served_lists(settings, span(), ["default"], since=since, begin=NOW + 1)
    assert plain(onward) == everything[8:]
    # Offsets ascend with time within each partition; where the first of the later ones stand.
    later = read_served_lists(settings, span(), ["default"], open_after=NOW + 5.0)
    again = msgspec.structs.replace(since, through={**span().through, **later.open_from})
    assert (
        plain(read_served_lists(settings, span(), ["default"], since=again, begin=NOW + 6))
        == (everything[6:])
    )
    assert plain(found.only(found.served_at > NOW + 9)) == everything[10:]
    anew = msgspec.structs.replace(since, topic_id="of-before")
    assert len(read_served_lists(settings, span(), ["default"], since=anew)) == 12

    erasure = Erasure(user_id="u9", at=NOW + 100, topic_ids={}, through={})
    send_raw(settings, ERASURES, [(b"u9", msgspec.json.encode(erasure))])
    kept = read_served_lists(settings, span(), ["default"])
    assert plain(kept) == [each for each in everything if each[0] != "u9"]
