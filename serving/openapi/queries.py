"""Which parameters a query may have, as the document says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.routing import BaseRoute

from serving.guard import ACCESS_TOKEN
from serving.openapi.operations import operation_of
from serving.queries import QueryNames
from serving.routing import Guarded


def names_by_route(routes: Sequence[BaseRoute]) -> Mapping[tuple[str, str], QueryNames]:
    """Return, by method and path, the names a route's query may have."""
    names: dict[tuple[str, str], QueryNames] = {}
    for route in routes:
        if not isinstance(route, Guarded):
            continue
        for method in route.methods or ():
            operation = operation_of("GET" if method == "HEAD" else method, route.path)
            known = {
                each["name"]: each["schema"]["type"] == "array"
                for each in (operation.parameters if operation else ())
                if each["in"] == "query"
            }
            names[method, route.path] = known | ({ACCESS_TOKEN: False} if route.streams else {})
    return names
