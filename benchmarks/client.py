"""One keep-alive HTTP connection, for what wrk cannot do: single requests on an idle system, large bodies, checked TLS."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from benchmarks import paths
from benchmarks.load import Post


class Client:
    """`with Client("https://localhost:8443", root, headers) as client: client.post(path, body)`.

    `root`: PEM file of the only root that is trusted; None for plain HTTP.
    """

    def __init__(self, url: str, root: Path | None = None, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        host, port = str(parts.hostname), parts.port
        self._headers = dict(headers or {})
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(host, port, timeout=60, context=ssl.create_default_context(cafile=str(root)))
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str) -> tuple[int, bytes]:
        """(status, body)."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """(status, body) of a POST of JSON."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, path, body, {"Content-Type": "application/json", **self._headers})
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def lines(post: Post, count: int) -> list[bytes]:
    """The first `count` bodies of what wrk would send."""
    with (paths.work() / post.bodies).open("rb") as file:
        return [line for line, _ in zip(file, range(count), strict=False)]
