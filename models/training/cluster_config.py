"""What TF_CONFIG says: the processes of a distributed training, and which of them this one is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from headrace.errors import InvalidSetting

VARIABLE = "TF_CONFIG"
_ADDRESS = re.compile(r"[^\s:/]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
_TYPES = ("chief", "worker")
_LIKE = (
    'like {"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


class ClusterConfig(Struct, frozen=True, kw_only=True):
    """The processes of a distributed training, seen from one of them."""

    addresses: tuple[str, ...]
    """Of all, `host:port`, the chief's first."""
    number: int
    """Which of them this process is; 0 is the chief, who takes tasks and writes versions."""

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that the others follow."""
        return self.number == 0

    @property
    def name(self) -> str:
        """The same on all of its processes, and another one for other processes."""
        return hashlib.sha256(" ".join(self.addresses).encode()).hexdigest()[:16]


def cluster_config(environ: Mapping[str, str]) -> ClusterConfig:
    """Read TF_CONFIG. Raises `InvalidSetting`, which says what is wrong with it and how it is."""
    raw = environ.get(VARIABLE, "")
    if not raw.strip():
        raise InvalidSetting(
            f"{VARIABLE} is not set. With --distributed it names the processes of the training, "
            f"and which of them this one is, {_LIKE}."
        )
    try:
        config = json.loads(raw)
    except ValueError as exc:
        raise InvalidSetting(f"{VARIABLE} is not JSON ({exc}); it must be {_LIKE}.") from exc
    cluster, task = _object(config, "cluster"), _object(config, "task")
    unknown = sorted(set(cluster) - set(_TYPES))
    if unknown:
        raise InvalidSetting(
            f"{VARIABLE} has `cluster.{unknown[0]}`; a training has a chief and workers only."
        )
    by_type = {each: _addresses(cluster, each) for each in _TYPES if each in cluster}
    if len(by_type.get("chief", ())) > 1:
        raise InvalidSetting(f"{VARIABLE} has {len(by_type['chief'])} chiefs; there is one.")
    addresses = tuple(address for each in _TYPES for address in by_type.get(each, ()))
    if len(addresses) < 2:
        raise InvalidSetting(
            f"{VARIABLE} names {len(addresses)} process; a distributed training has two or more. "
            "Name them all, or leave --distributed away."
        )
    if len(set(addresses)) < len(addresses):
        raise InvalidSetting(f"{VARIABLE} names an address twice: {', '.join(addresses)}.")
    return ClusterConfig(addresses=addresses, number=_number(task, by_type))


def _object(config: Any, name: str) -> dict[str, Any]:
    found = config.get(name) if isinstance(config, dict) else None
    if not isinstance(found, dict):
        raise InvalidSetting(f"{VARIABLE} has no `{name}`, or it is no object; it must be {_LIKE}.")
    return found


def _addresses(cluster: dict[str, Any], kind: str) -> tuple[str, ...]:
    found = cluster[kind]
    if not isinstance(found, list) or not found:
        raise InvalidSetting(f"{VARIABLE} has `cluster.{kind}` that is no list of addresses.")
    for address in found:
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            raise InvalidSetting(
                f"{VARIABLE} has {address!r} in `cluster.{kind}`; an address is host:port."
            )
    return tuple(found)


def _number(task: dict[str, Any], by_type: Mapping[str, tuple[str, ...]]) -> int:
    kind, index = task.get("type"), task.get("index")
    if not isinstance(kind, str) or kind not in by_type:
        among = ", ".join(by_type)
        raise InvalidSetting(f"{VARIABLE} has `task.type` {kind!r}; the cluster has {among}.")
    count = len(by_type[kind])
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        raise InvalidSetting(
            f"{VARIABLE} has `task.index` {index!r}; of {kind} there are 0 to {count - 1}."
        )
    return index if kind == "chief" else index + len(by_type.get("chief", ()))
