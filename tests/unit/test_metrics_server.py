"""The small HTTP server of exporter and workers: probes, routes, and clients that misbehave."""

from __future__ import annotations

import gzip
import socket
import urllib.request
from collections.abc import Iterator

import pytest

from shared import metrics_server
from shared.errors import InvalidSettings
from shared.metric_families import gauge, new_registry
from shared.metrics_server import Answer, MetricsServer
from tests.scrape import ask, ask_json


class Served:
    """A server whose answers a test sets."""

    def __init__(self) -> None:
        self.sick: str | None = None
        self.asked: list[tuple[str, dict[str, str]]] = []
        registry = new_registry()
        gauge("seedbed_sweeps", registry).set(7)
        self.server = MetricsServer(
            host="127.0.0.1",
            port=0,
            registry=registry,
            healthy=lambda: self.sick,
            ready=lambda: self.sick,
            routes={"/scale/": self.route},
        )
        self.port = self.server.port

    def route(self, rest: str, query: object) -> Answer:
        if rest == "broken":
            raise RuntimeError("a bug")
        self.asked.append((rest, dict(query)))  # type: ignore[call-overload]
        return Answer(body={"rest": rest})


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.server.close()


def test_probes_say_ok_or_why_not(served: Served) -> None:
    assert ask(served.port, "/healthz") == (200, "ok\n")
    served.sick = "the loop is stuck"
    assert ask(served.port, "/healthz") == (503, "the loop is stuck\n")
    assert ask(served.port, "/readyz") == (503, "the loop is stuck\n")


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("owner%2Fname", "owner/name"),
        ("owner/name", "owner/name"),
        ("%2Fsrv%2Fa%20b", "/srv/a b"),
        ("/srv/a", "/srv/a"),
        ("a%40v1", "a@v1"),
        ("a@v1", "a@v1"),
        ("%C3%BC", "ü"),
        ("100%25", "100%"),
        ("a%3Fb", "a?b"),
    ],
)
def test_what_follows_a_route_comes_decoded_once(served: Served, path: str, rest: str) -> None:
    assert ask_json(served.port, f"/scale/{path}?x=1&x=2&y=") == {"rest": rest}
    assert served.asked == [(rest, {"x": "2", "y": ""})]


def test_metrics_are_compressed_where_they_may_be(served: Served) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{served.port}/metrics")
    request.add_header("Accept-Encoding", "gzip")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert b"seedbed_sweeps 7.0" in gzip.decompress(answer.read())


def test_nothing_can_be_written(served: Served) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{served.port}/healthz", data=b"x")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    with refused.value as answer:
        assert answer.code == 405


def test_a_bug_in_an_answer_is_told_and_the_next_question_answered(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(served.port, "/scale/broken")[0] == 500
    assert "request not answered" in caplog.text
    assert ask(served.port, "/healthz")[0] == 200


def test_a_silent_client_holds_up_nobody(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", served.port)) as silent:
        silent.settimeout(10)
        silent.sendall(b"GET /metr")
        assert ask(served.port, "/healthz")[0] == 200
        assert silent.recv(1) == b"", "it is let go"


def test_a_port_that_is_taken_or_cannot_be_is_named(served: Served) -> None:
    for port in (served.port, 70_000):
        with pytest.raises(
            InvalidSettings, match=f"metrics can't be served on 127.0.0.1 port {port}"
        ):
            MetricsServer(
                host="127.0.0.1",
                port=port,
                registry=new_registry(),
                healthy=lambda: None,
                ready=lambda: None,
            )
    with pytest.raises(InvalidSettings, match=r"no-such-host\.invalid"):
        MetricsServer(
            host="no-such-host.invalid",
            port=0,
            registry=new_registry(),
            healthy=lambda: None,
            ready=lambda: None,
        )


def test_ipv6_will_do() -> None:
    server = MetricsServer(
        host="::1", port=0, registry=new_registry(), healthy=lambda: None, ready=lambda: None
    )
    try:
        with urllib.request.urlopen(f"http://[::1]:{server.port}/readyz", timeout=10) as answer:
            assert answer.status == 200
    finally:
        server.close()
