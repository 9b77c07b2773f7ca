"""A pod's deletion cost follows its worker's work, told to an API server over TLS."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from shared.errors import InvalidSettings
from tests.pool import eventually
from worker.deletion_cost import ANNOTATION, IDLE_LOOKS, PodDeletionCost

POD = "seedbed-worker-5c9d-x7k2p"


@dataclass
class ApiServer:
    """Answers as Kubernetes' does to a PATCH of a pod, and refuses while told to."""

    account: Path
    environ: dict[str, str] = field(default_factory=dict)
    refuses: bool = False
    asked: list[tuple[str, str, str, Any]] = field(default_factory=list)

    @property
    def costs(self) -> list[str]:
        return [body["metadata"]["annotations"][ANNOTATION] for *_, body in self.asked]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs openssl for a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.crt"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=api"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [program, *words, *names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("seedbed")
    server = ApiServer(account=tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = 403 if server.refuses else 200
            kind, token = self.headers["Content-Type"], self.headers["Authorization"]
            server.asked.append((self.path, kind, token, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    http.socket = tls.wrap_socket(http.socket, server_side=True)
    server.environ = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(http.server_address[1]),
        "POD_NAME": POD,
    }
    thread = Thread(target=http.serve_forever, args=(0.05,))
    thread.start()
    yield server
    http.shutdown()
    http.server_close()
    thread.join()


def cost_of(api: ApiServer, busy: Event) -> PodDeletionCost:
    return PodDeletionCost.of_this_pod(
        api.environ, busy=busy.is_set, account=api.account, look_seconds=0.01
    )


def test_it_costs_more_to_end_a_pod_that_has_work_and_only_changes_are_told(api: ApiServer) -> None:
    busy = Event()
    cost = cost_of(api, busy)
    cost.start()
    eventually(lambda: api.costs == ["0"], seconds=10, what="idle is told")
    (api.account / "token").write_text("second\n")
    busy.set()
    eventually(lambda: api.costs == ["0", "100"], seconds=10, what="busy is told")
    busy.clear()
    eventually(lambda: api.costs == ["0", "100", "0"], seconds=10, what="idle is told again")
    cost.stop()
    assert {path for path, *_ in api.asked} == {f"/api/v1/namespaces/seedbed/pods/{POD}"}
    assert {kind for _, kind, *_ in api.asked} == {"application/merge-patch+json"}
    assert [token for _, _, token, _ in api.asked] == [
        "Bearer first",
        "Bearer second",
        "Bearer second",
    ]


def test_a_gap_between_two_batches_is_no_news(api: ApiServer) -> None:
    busy = Event()
    cost = cost_of(api, busy)
    busy.set()
    cost.look()
    busy.clear()
    for _ in range(IDLE_LOOKS - 1):
        cost.look()
    busy.set()
    cost.look()
    assert api.costs == ["100"]


def test_what_the_api_server_refuses_is_tried_again(api: ApiServer) -> None:
    api.refuses = True
    cost = cost_of(api, Event())
    cost.look()
    cost.look()
    api.refuses = False
    cost.look()
    cost.look()
    assert api.costs == ["0", "0", "0"]


def test_a_server_that_another_authority_signed_for_is_not_told_the_token(
    api: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    for name in ("token", "namespace"):
        shutil.copy(api.account / name, other)
    authority = Path(ssl.get_default_verify_paths().openssl_cafile)
    if not authority.exists():
        pytest.skip("this machine has no certificate authorities")
    shutil.copy(authority, other / "ca.crt")
    cost = PodDeletionCost.of_this_pod(api.environ, busy=lambda: False, account=other)
    cost.look()
    assert api.asked == []


def test_outside_of_a_pod_it_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="--pod-deletion-cost is for a pod"):
        PodDeletionCost.of_this_pod({}, busy=lambda: False)
    environ = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
        "POD_NAME": POD,
    }
    with pytest.raises(InvalidSettings, match="automountServiceAccountToken"):
        PodDeletionCost.of_this_pod(environ, busy=lambda: False, account=tmp_path / "none")
