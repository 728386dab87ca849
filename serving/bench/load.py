"""A client that asks as fast as it is answered, or at a given rate whatever comes of it.

Run as a process of its own: `python -m serving.bench.load`, with a `Load` as JSON on standard
input and a `Seen` on standard output. It writes bytes made beforehand, and of an answer looks at
status and length alone, so it takes little of the machine that the server is measured on. (Of the
tools made for this, those with an open loop come as no Python package, and Locust takes longer for
a request than the server does.)
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import cycle

import msgspec
import numpy as np
from msgspec import Struct

_PATIENCE_S = 10.0
"""Longest wait for answers that are still missing at the end."""
_RECEIVED = 1 << 18
LOST = "lost"
"""In place of a status: the connection ended, or no answer came."""


class Load(Struct, frozen=True, kw_only=True):
    """What is to be asked."""

    port: int
    path: str
    bodies: list[str]
    """Sent one after the other, from the beginning when they are through."""
    connections: int
    seconds: float
    rate: float = 0.0
    """Requests a second, a Poisson process; 0: the next one as soon as one is answered."""
    headers: dict[str, str] = {}
    each: bool = False
    """Whether to tell the latency of each request."""


class Latency(Struct, frozen=True):
    """Of the answers of one status."""

    count: int
    p50_ms: float
    p99_ms: float
    """From the moment for which the request was meant, whenever it was written: a server that
    keeps its clients waiting makes no request look faster than it was (no coordinated omission)."""
    written_p50_ms: float
    written_p99_ms: float
    """From the moment when it was written."""


class Seen(Struct, frozen=True, kw_only=True):
    """What came of it."""

    seconds: float
    """From the first request to the last answer."""
    asked: int
    by_status: dict[str, Latency]
    last_answer: str
    """The body of the last answer with status 200."""
    each_ms: list[float] = []
    """Of the answers of status 200 from the moment for which they were meant, if asked for."""

    @property
    def per_s(self) -> float:
        """Answers a second that hold what was asked for."""
        return self.of("200").count / self.seconds

    @property
    def asked_per_s(self) -> float:
        """Requests written a second."""
        return self.asked / self.seconds

    def of(self, status: str) -> Latency:
        """Return what was seen of one status; zeros for none."""
        return self.by_status.get(status, Latency(0, 0.0, 0.0, 0.0, 0.0))


class _Connection:
    """One request at a time, over one connection that stays."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(_PATIENCE_S)
        self.meant = 0.0
        self.written = 0.0
        self._received = b""

    def fileno(self) -> int:
        return self.socket.fileno()

    def ask(self, raw: bytes, meant: float) -> None:
        self.meant, self.written = meant, time.perf_counter()
        self.socket.sendall(raw)

    def answer(self) -> tuple[str, bytes] | None:
        """Take what has come; return status and body once they are whole."""
        data = self.socket.recv(_RECEIVED)
        if not data:
            return LOST, b""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return None
        self._received = b""
        return head[9:12].decode(), body


def run(load: Load) -> Seen:
    """Ask, and tell what came of it. Blocks until the last answer."""
    requests = cycle([_request(load, body) for body in load.bodies])
    connections = [_Connection(load.port) for _ in range(load.connections)]
    free, busy = deque(connections), set[_Connection]()
    found: dict[str, list[tuple[float, float]]] = {}
    began = time.perf_counter()
    ends = began + load.seconds
    moments = _moments(load.rate, began, ends)
    due, last, asked = next(moments), "", 0
    while busy or due < ends:
        now = time.perf_counter()
        while free and due <= now and due < ends:
            connection = free.popleft()
            busy.add(connection)
            connection.ask(next(requests), due if load.rate else time.perf_counter())
            asked += 1
            due = next(moments) if load.rate else (now if now < ends else ends)
        # Not epoll, which waits for whole milliseconds.
        wait = max(0.0, due - now) if free and due < ends else _PATIENCE_S
        ready, _, _ = select.select(busy, (), (), wait)
        if not ready and wait == _PATIENCE_S:
            found.setdefault(LOST, []).extend((_PATIENCE_S, _PATIENCE_S) for _ in busy)
            break
        for connection in ready:
            answer = connection.answer()
            if answer is None:
                continue
            at = time.perf_counter()
            status, body = answer
            found.setdefault(status, []).append((at - connection.meant, at - connection.written))
            busy.remove(connection)
            if status == "200":
                last = body.decode()
            if status == LOST:
                connection = _Connection(load.port)
            free.append(connection)
    return Seen(
        seconds=time.perf_counter() - began,
        asked=asked,
        by_status={status: _latency(times) for status, times in found.items()},
        last_answer=last,
        each_ms=[1000 * meant for meant, _ in found.get("200", ())] if load.each else [],
    )


def _moments(rate: float, began: float, ends: float) -> Iterator[float]:
    """Yield when to ask: always, or at moments of a Poisson process; the same at each call."""
    chance = random.Random(0)  # noqa: S311 - nothing secret
    at = began
    while True:
        yield at
        at = at + chance.expovariate(rate) if rate else min(time.perf_counter(), ends)


def _request(load: Load, body: str) -> bytes:
    raw = body.encode()
    headers = {"Host": "bench", "Content-Type": "application/json", **load.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {load.path} HTTP/1.1\r\n{lines}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length: ")
    return int(rest.partition(b"\r\n")[0])


def _latency(times: list[tuple[float, float]]) -> Latency:
    meant, written = 1000 * np.array(times).T
    (p50, p99), (written_p50, written_p99) = (
        np.percentile(of, (50, 99)).tolist() for of in (meant, written)
    )
    return Latency(len(times), p50, p99, written_p50, written_p99)


def main() -> None:
    """Read what to ask, ask, write what came of it."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(run(load)))


if __name__ == "__main__":
    main()
