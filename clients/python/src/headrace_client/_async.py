"""The client for asyncio. `_sync.py` is made of this module by `make clients`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec
from tenacity import AsyncRetrying

from headrace_client.errors import (
    Ended,
    HeadraceError,
    Invalid,
    TooManyRequests,
    Unavailable,
    Unreadable,
    from_end,
    from_response,
    from_transport,
)
from headrace_client.retries import Retries
from headrace_client.sending import (
    NDJSON,
    Chunk,
    Event,
    EventOutcome,
    answer_of,
    chunks,
)
from headrace_client.sse import Parser, unheeded
from headrace_client.types import (
    DeadLetter,
    DeadLetterList,
    EventsAnswer,
    Figures,
    FoundItems,
    HiddenItems,
    Item,
    ItemBody,
    ItemList,
    ItemMap,
    ItemPopularity,
    ItemsAccepted,
    KeyInfo,
    LiveVersion,
    MergeAnswer,
    MergeRequest,
    Model,
    ModelList,
    Ready,
    RecommendationAnswer,
    RecommendationRequest,
    ReplayList,
    ReplayRequest,
    ReplayTask,
    ResendRequest,
    ResentLetter,
    ServedList,
    Task,
    TaskList,
    TokenAnswer,
    TokenRequest,
    TopicList,
    TrainingRequest,
    UserInteractions,
    UserList,
    VersionList,
)

_T = TypeVar("_T")
_LIST, _END = "recommendations", "end"
"""What events of a stream are called: what others bring is of a later version."""
_OF_MODEL = "/v1/models/{model_id}"
OF_MODEL = frozenset(
    {
        "/v1/events",
        "/v1/recommendations",
        "/v1/trending",
        "/v1/items/{item_id}/similar",
        "/v1/items/{item_id}/bought-together",
        "/v1/items/{item_id}/popularity",
        "/v1/users",
        "/v1/users/{user_id}/interactions",
        "/v1/users/{user_id}/hidden",
        "/v1/users/{user_id}/hidden/{item_id}",
        "/v1/users/{user_id}/recommendations/stream",
    }
)
"""What a model other than the server's own is asked under `/v1/models/{model_id}`."""
_JSON = "application/json"
_SILENCE_S = 60.0
"""A stream without a sign of life for so long is opened anew; heartbeats come more often."""
_RETRY_S = 2.0
"""Pause before a stream is opened again, where the server has named none."""


class Update(msgspec.Struct, frozen=True):
    """A list that came over a stream, and the id under which the stream can be resumed."""

    id: str
    answer: RecommendationAnswer


class AsyncClient:
    """Calls one server, and repeats what failed for a moment and may be done twice.

    Every method raises `Unreachable` when there is no answer, the `Refused` that stands for an
    answer other than what was asked for, and `Unreadable` for one that is none of Headrace's. One
    client serves many calls at once.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        timeout_s: float = 10.0,
        retries: Retries | None = None,
        http: httpx.AsyncClient | None = None,
        model_id: str | None = None,
    ) -> None:
        """`url`: the server's, `https://shop.example:8080`; `key`: an API key or a user's token.

        `timeout_s` bounds each wait for the server, `retries` says what is repeated. `http`: a
        client of httpx with proxies, certificates or limits of your own, which is closed with this.
        `model_id`: whom events, recommendations and sessions are of, if not the server's own model.
        """
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._url = httpx.URL(url.rstrip("/"))
        self._headers = headers
        self._timeout_s = timeout_s
        self._retries = retries or Retries()
        self._http = http or httpx.AsyncClient()
        self._model_id = model_id

    async def __aenter__(self) -> AsyncClient:
        """Return the client, which is closed on leaving."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # Events

    async def send_events(self, events: Iterable[Event]) -> EventsAnswer:
        """Send events, any number of them; return what became of each, in their order.

        Events that Kafka has not acknowledged are sent again under the same `event_id`, so that
        each counts once; what is still not is `unknown` in the answer. Invalid ones are `invalid`,
        and stop no other. A call that fails raises when none was accepted before; else the rest is
        `unknown`, with what it would have raised as the reason.
        """
        outcomes: list[EventOutcome] = []
        failure: HeadraceError | None = None
        for chunk in chunks(events):
            if failure is None:
                try:
                    await self._send_chunk(chunk)
                except HeadraceError as error:
                    if not answer_of([*outcomes, *chunk.outcomes]).accepted:
                        raise
                    failure = error
            if failure is not None:
                chunk.give_up(failure)
            outcomes += chunk.outcomes
        return answer_of(outcomes)

    async def send_event(self, event: Event) -> EventOutcome:
        """Send one event; return what became of it."""
        return (await self.send_events([event])).events[0]

    async def _send_chunk(self, chunk: Chunk) -> None:
        async def send() -> None:
            try:
                answer = await self._call(
                    "POST", "/v1/events", EventsAnswer, content=chunk.body, media=NDJSON
                )
            except Invalid as error:
                chunk.refuse(error)
            else:
                chunk.take(answer)

        again = self._retries.options_until(lambda _: chunk.settled)
        await AsyncRetrying(**again)(send)

    # Recommendations

    async def recommend(self, request: RecommendationRequest) -> RecommendationAnswer:
        """Recommend items to a user, or for the session that the request holds.

        Raises `Stale`, with the answer that there is, when `after` was not seen in time.
        """
        return await self._call("POST", "/v1/recommendations", RecommendationAnswer, body=request)

    async def stream(
        self,
        user_id: str,
        *,
        k: int = 10,
        recommend_seen: bool = False,
        category: str | None = None,
        diversity: float = 0.0,
        explain: bool = False,
        stability: int | None = None,
        last_id: str = "",
        on_state: Callable[[HeadraceError | None], object] = unheeded,
    ) -> AsyncIterator[Update]:
        """Yield a list at once, and a new one whenever the user's session changes.

        It goes on for ever: broken off, it is opened again after a pause, and what the client has
        already does not come twice. `category` and `diversity` limit the lists, `explain` has them
        say why, as in a request. `last_id`: the id of the `Update` that you have, from before.
        `on_state` is told why it is broken off or could not be opened, and None once it is open.
        Raises `Refused` when the server takes no such stream, as when its key was revoked, and
        `Unreadable` for what is none of Headrace's lists.
        """
        parser = Parser(last_id)
        params = {"k": str(k), "recommend_seen": str(recommend_seen).lower()}
        if category is not None:
            params["category"] = category
        if diversity:
            params["diversity"] = str(diversity)
        if explain:
            params["explain"] = "true"
        if stability is not None:
            params["stability"] = str(stability)
        while True:
            pause_s = 0.0
            try:
                async with self._http.stream(
                    "GET",
                    self._at("/v1/users/{user_id}/recommendations/stream", {"user_id": user_id}),
                    params=params,
                    headers={**self._headers, "last-event-id": parser.last_id},
                    timeout=httpx.Timeout(self._timeout_s, read=_SILENCE_S),
                ) as response:
                    if not response.is_success:
                        await response.aread()
                        raise from_response(response)
                    on_state(None)
                    async for piece in response.aiter_bytes():
                        for event in parser.feed(piece):
                            if event.name == _END:
                                raise from_end(event.data)
                            if event.name == _LIST:
                                answer = msgspec.json.decode(event.data, type=RecommendationAnswer)
                                yield Update(event.id, answer)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Unreadable(
                    f"The server at {self._url} sends over a stream what is no list: {error}."
                ) from error
            except Ended as error:
                # Opened again, it is refused, unless its caller has been let in anew.
                on_state(error)
            except (TooManyRequests, Unavailable) as error:
                pause_s = error.retry_after_s or 0.0
                on_state(error)
            except httpx.TransportError as error:
                # The server or the network; a stream is there to outlive both.
                on_state(from_transport(error, self._url))
            parser.restart()
            await asyncio.sleep(max(pause_s, parser.retry_s or _RETRY_S))

    async def served(self, recommendation_id: str) -> ServedList:
        """Return what was recommended under this id, and why. Raises `NotFound`."""
        return await self._call(
            "GET",
            "/v1/recommendations/{recommendation_id}",
            ServedList,
            {"recommendation_id": recommendation_id},
        )

    async def trending(self, *, k: int = 10, category: str | None = None) -> ItemList:
        """Return what is trending, of a category if one is named, with shares of all events."""
        params = {"k": str(k)}
        if category is not None:
            params["category"] = category
        return await self._call("GET", "/v1/trending", ItemList, params=params)

    async def similar(self, item_id: str, *, k: int = 10) -> ItemList:
        """Return the items most like one."""
        return await self._call(
            "GET", "/v1/items/{item_id}/similar", ItemList, {"item_id": item_id}, {"k": str(k)}
        )

    async def bought_together(self, item_id: str, *, k: int = 10) -> ItemList:
        """Return the items that are bought together with one."""
        return await self._call(
            "GET",
            "/v1/items/{item_id}/bought-together",
            ItemList,
            {"item_id": item_id},
            {"k": str(k)},
        )

    async def popularity(self, item_id: str, *, step: str = "day") -> ItemPopularity:
        """Return how often an item was met, by `hour` or by `day`."""
        return await self._call(
            "GET",
            "/v1/items/{item_id}/popularity",
            ItemPopularity,
            {"item_id": item_id},
            {"step": step},
        )

    # Users

    async def users(self, *, limit: int = 10) -> UserList:
        """Return some users whose sessions are held, to try things out with."""
        return await self._call("GET", "/v1/users", UserList, params={"limit": str(limit)})

    async def interactions(self, user_id: str) -> UserInteractions:
        """Return the user's session dictionary."""
        return await self._call(
            "GET", "/v1/users/{user_id}/interactions", UserInteractions, {"user_id": user_id}
        )

    async def hidden(self, user_id: str) -> HiddenItems:
        """Return what the user has hidden, and when."""
        return await self._call(
            "GET", "/v1/users/{user_id}/hidden", HiddenItems, {"user_id": user_id}
        )

    async def hide(self, user_id: str, item_id: str) -> None:
        """Never show the user this item again."""
        names = {"user_id": user_id, "item_id": item_id}
        await self._send("PUT", "/v1/users/{user_id}/hidden/{item_id}", names)

    async def unhide(self, user_id: str, item_id: str) -> None:
        """Let the user be shown this item again."""
        names = {"user_id": user_id, "item_id": item_id}
        await self._send("DELETE", "/v1/users/{user_id}/hidden/{item_id}", names)

    async def create_token(self, user_id: str, request: TokenRequest | None = None) -> TokenAnswer:
        """Make a token for one user, to give to a browser or an app."""
        return await self._call(
            "POST",
            "/v1/users/{user_id}/token",
            TokenAnswer,
            {"user_id": user_id},
            body=request or TokenRequest(),
        )

    async def merge(self, user_id: str, request: MergeRequest) -> MergeAnswer:
        """Have a user take over what an anonymous one did, of whom nothing is left then.

        Raises `Stale` when workers have not come to all events in time: ask again.
        """
        return await self._call(
            "POST", "/v1/users/{user_id}/merge", MergeAnswer, {"user_id": user_id}, body=request
        )

    async def erase(self, user_id: str) -> None:
        """Erase the user, with all events up to now."""
        await self._send("DELETE", "/v1/users/{user_id}", {"user_id": user_id})

    # Items

    async def item(self, item_id: str) -> Item:
        """Return an item of the catalogue. Raises `NotFound`."""
        return await self._call("GET", "/v1/items/{item_id}", Item, {"item_id": item_id})

    async def items(
        self,
        query: str | None = None,
        *,
        category: str | None = None,
        ids: Sequence[str] = (),
        limit: int = 50,
        offset: int = 0,
    ) -> FoundItems:
        """Return what a search of the catalogue finds; with `ids`, those items instead."""
        asked: dict[str, str | Sequence[str] | None] = {
            "query": query, "category": category, "id": ids, "limit": str(limit),
            "offset": str(offset),
        }  # fmt: skip
        params = {name: value for name, value in asked.items() if value}
        return await self._call("GET", "/v1/items", FoundItems, params=params)

    async def put_item(self, item_id: str, body: ItemBody) -> ItemsAccepted:
        """Add or replace an item."""
        return await self._call(
            "PUT", "/v1/items/{item_id}", ItemsAccepted, {"item_id": item_id}, body=body
        )

    async def put_items(self, items: Iterable[Item]) -> ItemsAccepted:
        """Add or replace up to 5,000 items, all of them or none."""
        return await self._call("POST", "/v1/items", ItemsAccepted, body=list(items))

    async def delete_item(self, item_id: str) -> ItemsAccepted:
        """Delete an item; no answer names it from then on."""
        return await self._call(
            "DELETE", "/v1/items/{item_id}", ItemsAccepted, {"item_id": item_id}
        )

    # Models

    async def models(self) -> ModelList:
        """Return the models, each with its live version."""
        return await self._call("GET", "/v1/models", ModelList)

    async def versions(self, model_id: str) -> VersionList:
        """Return the model's versions, newest first."""
        return await self._call(
            "GET", "/v1/models/{model_id}/versions", VersionList, {"model_id": model_id}
        )

    async def item_map(self, model_id: str, *, limit: int = 2_000) -> ItemMap:
        """Return where the live version's items lie, in two dimensions. Raises `NotFound`."""
        return await self._call(
            "GET",
            "/v1/models/{model_id}/map",
            ItemMap,
            {"model_id": model_id},
            {"limit": str(limit)},
        )

    async def create_model(self, model_id: str) -> Model:
        """Let a model be trained, again if it was deleted."""
        return await self._call("PUT", "/v1/models/{model_id}", Model, {"model_id": model_id})

    async def delete_model(self, model_id: str) -> None:
        """Delete a model with all its versions."""
        await self._send("DELETE", "/v1/models/{model_id}", {"model_id": model_id})

    async def delete_version(self, model_id: str, version: str) -> None:
        """Delete a version that is not live."""
        names = {"model_id": model_id, "version": version}
        await self._send("DELETE", "/v1/models/{model_id}/versions/{version}", names)

    async def pin(self, model_id: str, version: str) -> Model:
        """Put a version live, and let no training put another one in its place."""
        return await self._call(
            "PUT",
            "/v1/models/{model_id}/versions/{version}/pin",
            Model,
            {"model_id": model_id, "version": version},
        )

    async def unpin(self, model_id: str) -> None:
        """Let new versions go live by themselves again."""
        await self._send("DELETE", "/v1/models/{model_id}/pin", {"model_id": model_id})

    async def activate(self, model_id: str, version: str) -> LiveVersion:
        """Put a version live."""
        return await self._call(
            "POST",
            "/v1/models/{model_id}/versions/{version}/activate",
            LiveVersion,
            {"model_id": model_id, "version": version},
        )

    async def roll_back(self, model_id: str, *, to: str | None = None) -> LiveVersion:
        """Put the version live again that was live before. It is never asked for twice.

        `to`: the one that is meant; where a rollback leads elsewhere by now, `Conflict` is raised.
        """
        return await self._call(
            "POST",
            "/v1/models/{model_id}/rollback",
            LiveVersion,
            {"model_id": model_id},
            {} if to is None else {"to": to},
            safe=False,
        )

    async def train(self, model_id: str, request: TrainingRequest | None = None) -> Task:
        """Ask for a training; without an `idempotency_key` of yours it gets one."""
        asked = request or TrainingRequest()
        if asked.idempotency_key is None:
            asked = msgspec.structs.replace(asked, idempotency_key=uuid.uuid4().hex)
        return await self._call(
            "POST", "/v1/models/{model_id}/train", Task, {"model_id": model_id}, body=asked
        )

    async def tasks(
        self, *, kind: str | None = None, status: str | None = None, limit: int = 100
    ) -> TaskList:
        """Return the newest trainings, of a kind and in a status if one is named, newest first."""
        asked = {"kind": kind, "status": status, "limit": str(limit)}
        params = {name: value for name, value in asked.items() if value is not None}
        return await self._call("GET", "/v1/tasks", TaskList, params=params)

    async def task(self, task_id: str) -> Task:
        """Return one training. Raises `NotFound`."""
        return await self._call("GET", "/v1/tasks/{task_id}", Task, {"task_id": task_id})

    async def cancel(self, task_id: str) -> Task:
        """Cancel a training; it may still be RUNNING for a moment."""
        return await self._call("DELETE", "/v1/tasks/{task_id}", Task, {"task_id": task_id})

    async def task_log(self, task_id: str) -> str:
        """Return the end of a training's log."""
        raw = await self._send("GET", "/v1/tasks/{task_id}/log", {"task_id": task_id})
        return raw.decode(errors="replace")

    # The server

    async def key(self) -> KeyInfo:
        """Return what the key of this client is for. Raises `Unauthorized` for a wrong one."""
        return await self._call("GET", "/v1/key", KeyInfo)

    async def figures(self, *, window: str = "1h") -> Figures:
        """Return events, lag, requests, latency and quality over the last hour, or day (`1d`)."""
        return await self._call("GET", "/v1/figures", Figures, params={"window": window})

    async def ready(self) -> Ready:
        """Return whether the server is ready. Raises `Unavailable` when it is not."""
        return await self._call("GET", "/readyz", Ready)

    # Kafka

    async def topics(self) -> TopicList:
        """Return the topics: how far each partition goes, how far workers are, how fast both are.

        A reading takes a second or so.
        """
        return await self._call("GET", "/v1/topics", TopicList)

    async def dead_letters(
        self,
        *,
        reason: str | None = None,
        topic: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> DeadLetterList:
        """Return the newest dead letters, newest first. `cursor`: of the page before."""
        asked = {"reason": reason, "topic": topic, "limit": str(limit), "cursor": cursor}
        params = {name: value for name, value in asked.items() if value is not None}
        return await self._call("GET", "/v1/dead-letters", DeadLetterList, params=params)

    async def dead_letter(self, letter_id: str) -> DeadLetter:
        """Return one dead letter. Raises `NotFound`."""
        return await self._call(
            "GET", "/v1/dead-letters/{letter_id}", DeadLetter, {"letter_id": letter_id}
        )

    async def resend(self, letter_id: str, request: ResendRequest | None = None) -> ResentLetter:
        """Send a dead letter again, mended.

        Raises `Invalid` when no worker would take it, and `Conflict` when it was sent again.
        """
        return await self._call(
            "POST",
            "/v1/dead-letters/{letter_id}/resend",
            ResentLetter,
            {"letter_id": letter_id},
            body=request or ResendRequest(),
            safe=False,
        )

    # Replays

    async def replays(self) -> ReplayList:
        """Return the newest replays and promotions, newest first."""
        return await self._call("GET", "/v1/replays", ReplayList)

    async def replay(self, replay_id: str) -> ReplayTask:
        """Return one replay. Raises `NotFound`."""
        return await self._call(
            "GET", "/v1/replays/{replay_id}", ReplayTask, {"replay_id": replay_id}
        )

    async def start_replay(self, request: ReplayRequest | None = None) -> ReplayTask:
        """Ask for a replay. Raises `Conflict` while one into the same state has not ended."""
        return await self._call(
            "POST", "/v1/replays", ReplayTask, body=request or ReplayRequest(), safe=False
        )

    async def cancel_replay(self, replay_id: str) -> ReplayTask:
        """Cancel a replay; it may still be RUNNING for a moment."""
        return await self._call(
            "DELETE", "/v1/replays/{replay_id}", ReplayTask, {"replay_id": replay_id}
        )

    async def resume_replay(self, replay_id: str) -> ReplayTask:
        """Go on with a replay that was cancelled or has failed."""
        return await self._call(
            "POST",
            "/v1/replays/{replay_id}/resume",
            ReplayTask,
            {"replay_id": replay_id},
            safe=False,
        )

    async def promote_replay(self, replay_id: str) -> ReplayTask:
        """Make the shadow of a replay the live state; return the promotion."""
        return await self._call(
            "POST",
            "/v1/replays/{replay_id}/promote",
            ReplayTask,
            {"replay_id": replay_id},
            safe=False,
        )

    # How calls are made

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[_T],
        names: Mapping[str, str] | None = None,
        params: Mapping[str, str | Sequence[str]] | None = None,
        *,
        body: object = None,
        content: bytes | None = None,
        media: str = _JSON,
        safe: bool = True,
    ) -> _T:
        """Return the answer to a call, as its type; `safe`: it may be done twice."""
        raw = await self._send(
            method, path, names, params, body=body, content=content, media=media, safe=safe
        )
        try:
            return msgspec.json.decode(raw, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreadable(
                f"The server at {self._url} answers {method} {path} with what is no "
                f"{answer.__name__}: {error}."
            ) from error

    async def _send(
        self,
        method: str,
        path: str,
        names: Mapping[str, str] | None = None,
        params: Mapping[str, str | Sequence[str]] | None = None,
        *,
        body: object = None,
        content: bytes | None = None,
        media: str = _JSON,
        safe: bool = True,
    ) -> bytes:
        """Return the bytes of the answer to a call."""
        url = self._at(path, names or {})
        sent = content if body is None else msgspec.json.encode(body)
        headers = self._headers if sent is None else {**self._headers, "content-type": media}

        async def once() -> bytes:
            try:
                response = await self._http.request(
                    method,
                    url,
                    params=params,
                    content=sent,
                    headers=headers,
                    timeout=self._timeout_s,
                )
            except httpx.TransportError as error:
                raise from_transport(error, self._url) from error
            if not response.is_success:
                raise from_response(response)
            return response.content

        return await AsyncRetrying(**self._retries.options(safe=safe))(once)

    def _at(self, path: str, names: Mapping[str, str]) -> str:
        """Return the address of a path, with the names in their places."""
        if self._model_id is not None and path in OF_MODEL:
            path, names = _OF_MODEL + path[3:], {**names, "model_id": self._model_id}
        quoted = {name: _segment(value) for name, value in names.items()}
        return f"{self._url}{path.format(**quoted)}"


def _segment(name: str) -> str:
    """Return a name as a part of a path; dots alone would be taken for steps up in it."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")
