"""A typed client of Headrace: `Client` for threads, `AsyncClient` for asyncio.

with Client("http://127.0.0.1:8080", key) as client:
    client.send_event(click("42", "21253"))
    client.recommend(RecommendationRequest(user_id="42", k=10))
"""

from headrace_client._async import AsyncClient
from headrace_client._sync import Client, Update
from headrace_client.async_batcher import AsyncBatcher
from headrace_client.batcher import Batcher
from headrace_client.errors import (
    Conflict,
    Ended,
    Forbidden,
    HeadraceError,
    Invalid,
    NotFound,
    Refused,
    ServerFault,
    Stale,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
    Unreadable,
)
from headrace_client.known_types import make_types_known
from headrace_client.retries import Retries
from headrace_client.sending import Event, EventOutcome, click, tokens
from headrace_client.types import (
    AcceptedEvent,
    Click,
    EventsAnswer,
    Interaction,
    Item,
    ItemBody,
    MergeRequest,
    Purchase,
    Rating,
    RecommendationAnswer,
    RecommendationRequest,
    RefusedEvent,
    TokenRequest,
    TrainingRequest,
    UnknownEvent,
)

__all__ = [
    "AcceptedEvent",
    "AsyncBatcher",
    "AsyncClient",
    "Batcher",
    "Click",
    "Client",
    "Conflict",
    "Ended",
    "Event",
    "EventOutcome",
    "EventsAnswer",
    "Forbidden",
    "HeadraceError",
    "Interaction",
    "Invalid",
    "Item",
    "ItemBody",
    "MergeRequest",
    "NotFound",
    "Purchase",
    "Rating",
    "RecommendationAnswer",
    "RecommendationRequest",
    "Refused",
    "RefusedEvent",
    "Retries",
    "ServerFault",
    "Stale",
    "TokenRequest",
    "TooLarge",
    "TooManyRequests",
    "TrainingRequest",
    "Unauthorized",
    "Unavailable",
    "UnknownEvent",
    "Unreachable",
    "Unreadable",
    "Update",
    "click",
    "tokens",
]

make_types_known()
