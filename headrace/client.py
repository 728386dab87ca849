"""A small client of the HTTP API, for the command line: answers as plain JSON, errors in words."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, BinaryIO

import httpx
import msgspec

from headrace.errors import HeadraceError
from headrace.settings import Settings

_TIMEOUT_S = 30.0


class _Problem(msgspec.Struct):
    """What is read of a problem document (RFC 9457)."""

    detail: str


class Client:
    """A connection to the server of these settings; blocks.

    Every method raises `HeadraceError` when the server does not answer, or not with what was asked.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.url
        headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=_TIMEOUT_S)

    def __enter__(self) -> Client:
        """Return the client, which is closed on leaving."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Any:
        """Return what stands at the path."""
        return self._call("GET", path, params=params)

    def post(self, path: str, body: Any = None) -> Any:
        """Send a value as JSON and return the answer."""
        return self._call("POST", path, json=body)

    def put(self, path: str, body: Any = None) -> Any:
        """Send a value as JSON, None for no body, and return the answer."""
        return self._call("PUT", path, json=body)

    def delete(self, path: str) -> Any:
        """Delete what stands at the path and return the answer, if there is one."""
        return self._call("DELETE", path)

    def get_text(self, path: str) -> str:
        """Return the text at the path."""
        return self._send("GET", path).text

    def post_file(
        self, path: str, fields: Mapping[str, Any], part: str, name: str, file: BinaryIO
    ) -> Any:
        """Send a file as this part of a form, with fields as another, and return the answer."""
        form = {"request": msgspec.json.encode(fields).decode()}
        return self._call("POST", path, data=form, files={part: (name, file)})

    def post_lines(self, path: str, lines: bytes) -> Any:
        """Send JSON lines and return the answer."""
        headers = {"content-type": "application/x-ndjson"}
        return self._call("POST", path, content=lines, headers=headers)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        response = self._send(method, path, **arguments)
        return msgspec.json.decode(response.content) if response.content else None

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            raise HeadraceError(
                f"The server at {self._url} does not answer ({str(exc) or type(exc).__name__}). "
                "Start one with `headrace up`, or name another in HEADRACE_URL."
            ) from exc
        if response.is_success:
            return response
        raise HeadraceError(self._refusal(response))

    def _refusal(self, response: httpx.Response) -> str:
        if response.status_code == httpx.codes.UNAUTHORIZED:
            return (
                f"The server at {self._url} asks for another key than HEADRACE_API_KEY holds; "
                'for a local stack, `eval "$(headrace env)"` sets it.'
            )
        try:
            detail = msgspec.json.decode(response.content, type=_Problem).detail
        except msgspec.DecodeError:
            detail = response.reason_phrase
        if response.is_client_error:
            return detail
        return f"The server at {self._url} answers {response.status_code}: {detail}"
