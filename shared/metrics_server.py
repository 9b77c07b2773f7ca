"""The small HTTP server of exporter and workers: /metrics, /healthz, /readyz, and what is added."""

from __future__ import annotations

import json
import logging
import socket
import socketserver
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from threading import Thread
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from shared.errors import InvalidSettings

DEFAULT_HOST = "127.0.0.1"
POOL_PORT = 9640
"""The exporter's, unless it is told another."""

CLIENT_SECONDS = 10.0
"""A client that does not say what it wants for so long is let go."""

END_SECONDS = 0.1
"""How soon it sees that it is closed."""

Check = Callable[[], str | None]
"""None while all is well, else why it is not."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One HTTP answer; ``body`` is told as JSON."""

    status: HTTPStatus = HTTPStatus.OK
    body: object


Route = Callable[[str, Mapping[str, str]], Answer]
"""From the rest of the path, decoded, and the query, the last value of each name."""


class MetricsServer:
    """Serves from threads of its own, until it is closed.

    Args:
        host: To listen on.
        port: 0 is any free one; ``port`` tells which.
        registry: What /metrics tells.
        healthy: For /healthz.
        ready: For /readyz.
        routes: Beginning of a path, such as ``/scale/``, to who answers.

    Raises:
        InvalidSettings: It can't listen there.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        registry: CollectorRegistry,
        healthy: Check,
        ready: Check,
        routes: Mapping[str, Route] | None = None,
    ) -> None:
        self._metrics = make_wsgi_app(registry)
        self._checks = {"/healthz": healthy, "/readyz": ready}
        self._routes = routes or {}
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
        except (OSError, OverflowError) as exc:
            raise InvalidSettings(
                f"metrics can't be served on {host} port {port}: {exc}; choose another port or host"
            ) from exc
        self._server.set_app(self._app)
        self.port: int = self._server.server_address[1]
        self._thread = Thread(
            target=self._server.serve_forever, args=(END_SECONDS,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # WSGI hands the decoded bytes over as latin-1
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _send(start_response, HTTPStatus.METHOD_NOT_ALLOWED, "GET is all there is\n")
        try:
            if path == "/metrics":
                return self._metrics(environ, start_response)  # type: ignore[no-any-return]
            if path in self._checks:
                fault = self._checks[path]()
                if fault is None:
                    return _send(start_response, HTTPStatus.OK, "ok\n")
                return _send(start_response, HTTPStatus.SERVICE_UNAVAILABLE, f"{fault}\n")
            for prefix, route in self._routes.items():
                if path.startswith(prefix):
                    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
                    last = {name: values[-1] for name, values in query.items()}
                    answer = route(path.removeprefix(prefix), last)
                    return _send(start_response, answer.status, answer.body)
        except Exception:
            logger.exception("request not answered", extra={"path": path})
            return _send(
                start_response, HTTPStatus.INTERNAL_SERVER_ERROR, "this is a bug in seedbed\n"
            )
        known = ", ".join(["/metrics", *self._checks, *(f"{name}..." for name in self._routes)])
        return _send(start_response, HTTPStatus.NOT_FOUND, f"nothing here: try {known}\n")


def _send(start_response: Any, status: HTTPStatus, body: object) -> list[bytes]:
    kind = "text/plain; charset=utf-8"
    if isinstance(body, str):
        data = body.encode()
    else:
        kind, data = "application/json", (json.dumps(body) + "\n").encode()
    headers = [("Content-Type", kind), ("Content-Length", str(len(data)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [data]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread a request; none of them keeps the process."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind, without the look-up of our own name that the library makes, which may hang."""
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody hung up: no news."""
        logger.debug("request ended early", extra={"client": client_address}, exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Probes and scrapes come every few seconds: no news."""
