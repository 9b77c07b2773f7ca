"""An HTTP proxy in front of an S3 server that answers some calls itself, wrongly on purpose."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

CLOCK_TOLERANCE_SECONDS = 900.0
"""How far off a request's date may be before S3 refuses it."""
UPSTREAM_SECONDS = 60.0
HOP_BY_HOP = ("connection", "expect", "keep-alive", "transfer-encoding")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request: what a rule decides by."""

    method: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the proxy says instead of the server.

    Attributes:
        code: S3's word for the error; "" makes an answer without a body.
        length: The Content-Length of an answer without a body.
    """

    status: int
    code: str = ""
    length: int = 0


Rule = Callable[[Call], Answer | None]


class S3Proxy:
    """Forwards to an S3 server on 127.0.0.1; as a context manager it runs inside the block.

    Like S3, and unlike some of its imitations, it refuses requests whose date is more than 15
    minutes off.
    """

    def __init__(self, target_port: int) -> None:
        self.rule: Rule | None = None
        self.refused_dates = 0
        self.answered = 0
        proxy = self

        class Handler(_Handler):
            owner = proxy
            target = target_port

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                """A connection that ends half-way is what this proxy is for."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, name="s3-proxy", daemon=True)

    def __enter__(self) -> S3Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def answering(self, rule: Rule) -> Iterator[None]:
        """Inside the block, calls for which the rule has an answer do not reach the server."""
        self.rule = rule
        try:
            yield
        finally:
            self.rule = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: S3Proxy
    target: int
    _upstream: http.client.HTTPConnection | None = None

    def log_message(self, *_: object) -> None:
        """Not to stderr."""

    def handle_expect_100(self) -> bool:
        """Only once it is clear that the body is wanted."""
        return True

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        super().finish()

    def _handle(self) -> None:
        answer = self._own_answer()
        waiting = self.headers.get("Expect", "").lower() == "100-continue"
        if answer is not None and waiting:
            self.close_connection = True  # the body never comes
            self._say(answer)
            return
        if waiting:
            self.send_response_only(100)
            self.end_headers()
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        if answer is not None:
            self._say(answer)
            return
        self._forward(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _own_answer(self) -> Answer | None:
        if self._seconds_off() > CLOCK_TOLERANCE_SECONDS:
            self.owner.refused_dates += 1
            return Answer(status=403, code="RequestTimeTooSkewed")
        rule = self.owner.rule
        answer = rule(Call(method=self.command, path=self.path)) if rule else None
        self.owner.answered += answer is not None
        return answer

    def _seconds_off(self) -> float:
        text = self.headers.get("X-Amz-Date")
        if not text:
            return 0.0
        at = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return abs(at.timestamp() - time.time())

    def _say(self, answer: Answer) -> None:
        body = f"<Error><Code>{answer.code}</Code><Message>on purpose</Message></Error>".encode()
        if self.command == "HEAD" or not answer.code:
            body = b""
        self.send_response_only(answer.status)
        self.send_header("Date", formatdate(usegmt=True))
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body) or answer.length))
        self.end_headers()
        self.wfile.write(body)

    def _forward(self, body: bytes | None) -> None:
        if self._upstream is None:
            self._upstream = http.client.HTTPConnection(
                "127.0.0.1", self.target, timeout=UPSTREAM_SECONDS
            )
        upstream = self._upstream
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP:
                upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in (*HOP_BY_HOP, "content-length"):
                self.send_header(name, value)
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        if answer.status not in (204, 304):
            self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)
