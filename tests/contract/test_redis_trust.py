"""Redis over TLS and behind passwords: what is trusted, and what is said where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.doorbell import Doorbell, make_app
from shared.errors import InvalidSettings, QueueUnavailable, SeedbedError
from shared.queue import JobQueue
from tests.certificates import Certificates, Identity, make_certificates
from tests.redis_server import RedisServer, system_binary
from tests.s3_server import free_ports

PASSWORD = "p%s/w0rd@"
IN_URL = "p%25s%2Fw0rd%40"


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said is the same after four tries."""
    monkeypatch.setattr("shared.redis_connection.RETRIES", 0)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def ports() -> tuple[int, ...]:
    """Plain, TLS, TLS that wants a client's certificate, TLS of another host, and nobody's."""
    return tuple(free_ports(5))


@pytest.fixture(scope="module")
def servers(certificates: Certificates, ports: tuple[int, ...]) -> Iterator[None]:
    """Three servers: the second wants client certificates, the third has another's name."""
    binary = system_binary()
    if binary is None:
        pytest.skip("needs a redis-server with TLS")
    plain, tls, mutual, elsewhere, _ = ports

    def options(port: int, wanted: str, identity: Identity = certificates.server) -> dict[str, str]:
        return {
            "tls-port": str(port),
            "tls-cert-file": str(identity.certificate),
            "tls-key-file": str(identity.key),
            "tls-ca-cert-file": str(certificates.authority),
            "tls-auth-clients": wanted,
        }

    first = {**options(tls, "no"), "port": str(plain), "requirepass": PASSWORD}
    with (
        RedisServer(binary, first, password=PASSWORD),
        RedisServer(binary, options(mutual, "yes")),
        RedisServer(binary, options(elsewhere, "no", certificates.elsewhere)),
    ):
        yield


def use(url: str) -> None:
    """What a producer and a worker do first: ask the queue, and the broker."""
    queue = JobQueue.connect(url, "default")
    with closing(queue.client):
        assert queue.workers() == []
        assert queue.look().models == []
    doorbell = Doorbell(make_app(url, "default"), "default")
    with closing(doorbell):
        doorbell.check()
        assert doorbell.ring("model")
        assert not doorbell.ring("model")
    queue = JobQueue.connect(url, "default")
    with closing(queue.client):
        assert queue.client.unlink("seedbed:{default}:celery:seedbed.default.model") == 1


def queue_refusal(url: str, kind: type[SeedbedError]) -> str:
    """What is said of it by the queue."""
    queue = JobQueue.connect(url, "default")
    with closing(queue.client), pytest.raises(kind) as found:
        queue.workers()
    assert "w0rd" not in str(found.value)
    return str(found.value)


def broker_refusal(url: str, kind: type[SeedbedError]) -> str:
    """What is said of it by the doorbell."""
    with pytest.raises(kind) as found:
        Doorbell(make_app(url, "default"), "default").check()
    assert "w0rd" not in str(found.value)
    return str(found.value)


def test_one_url_takes_queue_and_broker_through_tls_with_a_private_authority(
    servers: None, ports: tuple[int, ...], certificates: Certificates
) -> None:
    use(f"rediss://:{IN_URL}@127.0.0.1:{ports[1]}/0?ssl_ca_certs={certificates.authority}")
    tls = f"ssl_ca_certs={certificates.authority}"
    use(f"rediss://default:{IN_URL}@localhost:{ports[1]}?{tls}&db=0")


def test_a_client_certificate_is_shown_where_one_is_wanted(
    servers: None, ports: tuple[int, ...], certificates: Certificates
) -> None:
    url = f"rediss://127.0.0.1:{ports[2]}/0?ssl_ca_certs={certificates.authority}"
    mine = certificates.client
    use(f"{url}&ssl_certfile={mine.certificate}&ssl_keyfile={mine.key}")
    # TLS 1.3 says so after the handshake: whether its word or the end comes first is a race
    assert "ssl_certfile=FILE&ssl_keyfile=FILE" in queue_refusal(url, SeedbedError)


def test_the_authority_may_come_from_the_environment(
    servers: None,
    ports: tuple[int, ...],
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    use(f"rediss://:{IN_URL}@127.0.0.1:{ports[1]}/0")


def test_a_certificate_nobody_here_vouches_for_is_refused_by_queue_and_broker(
    servers: None, ports: tuple[int, ...], certificates: Certificates
) -> None:
    url = f"rediss://:{IN_URL}@127.0.0.1:{ports[1]}/0"
    assert "not trusted here" in queue_refusal(url, InvalidSettings)
    assert "not trusted here" in broker_refusal(url, InvalidSettings)
    assert "ssl_ca_certs=FILE" in queue_refusal(
        f"{url}?ssl_ca_certs={certificates.stranger}", InvalidSettings
    )


def test_a_certificate_of_another_host_is_refused(
    servers: None, ports: tuple[int, ...], certificates: Certificates
) -> None:
    url = f"rediss://127.0.0.1:{ports[3]}/0?ssl_ca_certs={certificates.authority}"
    assert "not valid for '127.0.0.1'" in queue_refusal(url, InvalidSettings)


def test_tls_to_a_plain_port_and_plain_to_a_tls_port_are_told(
    servers: None, ports: tuple[int, ...], certificates: Certificates
) -> None:
    url = f"rediss://:{IN_URL}@127.0.0.1:{ports[0]}/0?ssl_ca_certs={certificates.authority}"
    silent = queue_refusal(f"{url}&socket_timeout=0.3", QueueUnavailable)
    assert "write redis://" in silent
    plain = queue_refusal(f"redis://:{IN_URL}@127.0.0.1:{ports[1]}/0", QueueUnavailable)
    assert "if it speaks TLS, write rediss://" in plain


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("", "wants a password"),
        (":wr0ng@", "check user and password"),
        (f"nobody:{IN_URL}@", "check user and password"),
    ],
)
def test_a_wrong_password_is_told_from_none(
    servers: None, ports: tuple[int, ...], user: str, words: str
) -> None:
    assert words in queue_refusal(f"redis://{user}127.0.0.1:{ports[0]}/0", InvalidSettings)


def test_the_broker_s_refusal_names_its_own_variable(servers: None, ports: tuple[int, ...]) -> None:
    said = broker_refusal(f"redis://:wr0ng@127.0.0.1:{ports[0]}/0", InvalidSettings)
    assert "check user and password in SEEDBED_BROKER_URL" in said


def test_an_absent_server_is_no_matter_of_credentials(
    servers: None, ports: tuple[int, ...]
) -> None:
    refused = queue_refusal(f"redis://127.0.0.1:{ports[4]}/0", QueueUnavailable)
    assert "nobody listens there" in refused
    assert "nobody listens there" in broker_refusal(
        f"redis://127.0.0.1:{ports[4]}/0", QueueUnavailable
    )
    assert "is not found" in queue_refusal("redis://no-such-host.invalid:6379/0", QueueUnavailable)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("ssl_ca_certs=/no/such.pem", "ssl_ca_certs=/no/such.pem, which can't be used"),
        ("ssl_ca_certs=FILE", "can't be used"),
        ("ssl_keyfile=FILE", "ssl_certfile=, which can't be used"),
        ("ssl_cert_reqs=CERT_NONE", "write required or none"),
        ("ssl_ca_cert=FILE", "unexpected keyword argument 'ssl_ca_cert'"),
    ],
)
def test_what_a_url_says_of_tls_is_checked_before_anything_is_sent(
    query: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "no.pem"
    file.write_text("no certificate")
    with pytest.raises(InvalidSettings) as found:
        JobQueue.connect(f"rediss://127.0.0.1:1/0?{query.replace('FILE', str(file))}", "default")
    assert words in str(found.value)
