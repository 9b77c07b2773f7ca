"""S3 over TLS with a private authority, and what is said of credentials that do not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import InvalidSettings, SeedbedError, StorageError
from shared.storage import Storage
from tests.certificates import Certificates, make_certificates
from tests.s3_server import S3Server, free_ports, rclone_server, seaweed_server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def rclone(certificates: Certificates) -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CA_BUNDLE", str(certificates.authority))
        with rclone_server(certificates.server) as server:
            yield server


@pytest.fixture(scope="module")
def seaweed(certificates: Certificates) -> Iterator[S3Server]:
    with seaweed_server(certificates.server) as server:
        yield server


@pytest.fixture(autouse=True)
def trusting(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """The private authority is known, as boto3 hears of it."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates.authority))


def refusal(server: S3Server, kind: type[SeedbedError], **values: object) -> str:
    storage = Storage.connect(server.settings(**values))
    with pytest.raises(kind) as found:
        storage.check()
    storage.close()
    assert server.secret_key not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("name", ["rclone", "seaweed"])
def test_objects_go_through_tls_with_a_private_authority(
    name: str, request: pytest.FixtureRequest
) -> None:
    server: S3Server = request.getfixturevalue(name)
    url = server.https_url or server.url
    assert url.startswith("https://")
    storage = Storage.connect(server.settings(s3_endpoint_url=url))
    storage.check()
    storage.put("a/b.txt", b"over TLS", content_type="text/plain")
    assert storage.get("a/b.txt") == b"over TLS"
    assert [found.key for found in storage.list("a/")] == ["a/b.txt"]
    storage.close()


def test_a_certificate_nobody_here_vouches_for_is_refused(
    rclone: S3Server, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bundle in (str(certificates.stranger), None):  # another's, and nobody's but the system's
        if bundle is None:
            monkeypatch.delenv("AWS_CA_BUNDLE")
        else:
            monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
        said = refusal(rclone, InvalidSettings)
        assert "is not trusted here" in said
        assert "AWS_CA_BUNDLE" in said
        with pytest.raises(StorageError, match="is not trusted here"):
            Storage.connect(rclone.settings()).get("a")


def test_a_bundle_that_can_t_be_read_is_told_before_anything_is_sent(
    rclone: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for bundle in ("/no/such.pem", str(tmp_path / "no.pem")):
        monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
        with pytest.raises(InvalidSettings, match=r"AWS_CA_BUNDLE is .*can't be used"):
            Storage.connect(rclone.settings())


def test_tls_on_one_side_only_is_told(rclone: S3Server, seaweed: S3Server) -> None:
    plain = rclone.url.replace("https://", "http://")
    assert "if it speaks TLS, write https://" in refusal(
        rclone, StorageError, s3_endpoint_url=plain
    )
    tls = seaweed.url.replace("http://", "https://")
    assert "does not speak TLS" in refusal(seaweed, InvalidSettings, s3_endpoint_url=tls)


@pytest.mark.parametrize("name", ["rclone", "seaweed"])
def test_each_fault_of_the_credentials_has_its_own_sentence(
    name: str, request: pytest.FixtureRequest
) -> None:
    server: S3Server = request.getfixturevalue(name)
    said = refusal(server, InvalidSettings, access_key="A" * 16)
    assert "does not know this access key: check AWS_ACCESS_KEY_ID" in said
    said = refusal(server, InvalidSettings, secret_key="S" * 32)
    assert "check AWS_SECRET_ACCESS_KEY (SignatureDoesNotMatch)" in said
    said = refusal(server, InvalidSettings, bucket="elsewhere")
    assert "does not exist: create it, or set SEEDBED_BUCKET" in said
    if server.outsider is not None:
        access, secret = server.outsider
        said = refusal(server, InvalidSettings, access_key=access, secret_key=secret)
        assert "lets it do too little: allow it to list, read and write" in said


def test_an_absent_server_is_no_matter_of_credentials(rclone: S3Server) -> None:
    port = free_ports(1)[0]
    said = refusal(rclone, StorageError, s3_endpoint_url=f"http://127.0.0.1:{port}")
    assert "nobody listens there" in said
    said = refusal(rclone, StorageError, s3_endpoint_url="https://no-such-host.invalid")
    assert "is not found" in said
