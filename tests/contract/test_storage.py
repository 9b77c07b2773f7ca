"""What Storage promises, on each S3 server it is tested with."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from shared.errors import InvalidInput, InvalidSettings, ObjectMissing, StorageError
from shared.settings import Settings
from shared.storage import Storage, StoredObject
from shared.storage_client import MAX_ATTEMPTS
from tests.faults.s3_proxy import Answer, S3Proxy
from tests.s3_server import BUCKET, S3Server, free_ports, rclone_server, seaweed_server

SERVERS = {"rclone": rclone_server, "seaweedfs": seaweed_server}
PNG = "image/png"
numbers = itertools.count()


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    with SERVERS[request.param]() as running:
        yield running


@pytest.fixture
def storage(server: S3Server) -> Storage:
    """Under a prefix that no other test has."""
    return Storage.connect(server.settings(prefix=f"test-{next(numbers)}/in a folder"))


def put(storage: Storage, key: str, body: bytes = b"body") -> None:
    storage.put(key, body, content_type=PNG)


def keys(storage: Storage, prefix: str = "") -> list[str]:
    return [item.key for item in storage.list(prefix)]


# Objects go in and come out.


def test_an_object_is_believed_in_only_if_it_begins_as_it_should(storage: Storage) -> None:
    put(storage, "a.png", b"\x89PNG and more")
    put(storage, "page.html", b"<html>all is well</html>")
    put(storage, "empty.png", b"")
    put(storage, "short.png", b"\x89P")
    wanted = ["a.png", "page.html", "empty.png", "short.png", "missing.png"]
    assert storage.holding(wanted, first=b"\x89PNG") == {"a.png": 13}
    assert storage.holding(["missing.png"], first=b"\x89PNG") == {}


@pytest.mark.parametrize("length", [0, 4711])
def test_a_head_that_lies_does_not_make_an_object(server: S3Server, length: int) -> None:
    port = int(server.url.rpartition(":")[2])
    with S3Proxy(port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        lied_to = Storage.connect(server.settings(s3_endpoint_url=url))
        put(lied_to, "lies/a.png", b"\x89PNG and more")
        with proxy.answering(
            lambda call: Answer(status=200, length=length) if call.method == "HEAD" else None
        ):
            found = lied_to.holding(["lies/a.png", "lies/b.png"], first=b"\x89PNG")
        lied_to.close()
    assert found == {"lies/a.png": 13}


@pytest.mark.parametrize("size", [0, 1, 65_536, 5_000_001])
def test_bytes_come_out_as_they_went_in(storage: Storage, size: int) -> None:
    body = os.urandom(size)
    put(storage, "images/ab/abcd.png", body)
    assert storage.get("images/ab/abcd.png") == body
    assert storage.size("images/ab/abcd.png") == size


@pytest.mark.parametrize("size", [0, 1, 6_000_000, 12_500_001])
def test_files_come_out_as_they_went_in_also_in_parts(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    parts = TransferConfig(multipart_threshold=2**23, multipart_chunksize=5 * 2**20)
    monkeypatch.setattr("shared.storage.TRANSFER", parts)
    body = os.urandom(size)
    (tmp_path / "in").write_bytes(body)
    for _ in range(2):  # the second replaces the first
        storage.put_file("index/a.parquet", tmp_path / "in", content_type="x-test/file")
    storage.get_file("index/a.parquet", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == body
    assert storage.size("index/a.parquet") == size
    assert keys(storage) == ["index/a.parquet"]


def test_a_file_that_is_not_there_is_told_apart_from_a_failure(
    storage: Storage, tmp_path: Path
) -> None:
    with pytest.raises(ObjectMissing):
        storage.get_file("no-such-key", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_second_put_replaces_the_first(storage: Storage) -> None:
    put(storage, "key", b"first, and longer")
    put(storage, "key", b"second")
    assert storage.get("key") == b"second"
    assert list(storage.list()) == [StoredObject(key="key", size=6)]


def test_an_object_that_is_not_there_is_told_apart_from_a_failure(storage: Storage) -> None:
    assert not storage.exists("absent")
    assert storage.size("absent") is None
    with pytest.raises(ObjectMissing, match="'absent'") as caught:
        storage.get("absent")
    assert caught.value.key == "absent"


def test_a_folder_is_not_an_object(storage: Storage) -> None:
    put(storage, "folder/key")
    assert not storage.exists("folder")
    with pytest.raises(ObjectMissing):
        storage.get("folder")


def test_deleting_is_repeatable(storage: Storage) -> None:
    put(storage, "folder/key")
    storage.delete("folder/key")
    storage.delete("folder/key")
    assert not storage.exists("folder/key")
    assert keys(storage) == []


@pytest.mark.parametrize(
    "key",
    [
        "sp ace/x.png",
        "ä月/smile😀.png",
        "e\N{COMBINING ACUTE ACCENT}",
        "plus+and&amp?q=1#f",
        "per%20cent",
        "star*quote'\"",
        "a=b,c;d@e!$:f",
        "(x)[y]{z}~^|",
        "dot.",
        "-dash",
        ".hidden/.file",
        "trailing ",
        "x" * 200,
    ],
)
def test_any_name_is_stored_found_and_listed(storage: Storage, key: str) -> None:
    put(storage, key, key.encode())
    assert storage.get(key) == key.encode()
    assert storage.exists_many([key, "other"]) == {key}
    assert keys(storage) == [key]
    storage.delete(key)
    assert keys(storage) == []


def test_metadata_and_content_type_go_with_the_object(server: S3Server, storage: Storage) -> None:
    storage.put("key", b"", content_type=PNG, metadata={"digest": "abc"})
    answer = storage._client.head_object(Bucket=BUCKET, Key=storage._full("key"))
    assert answer["ContentType"] == PNG
    assert {name.lower(): value for name, value in answer["Metadata"].items()} == {"digest": "abc"}


# Listings.


def test_a_listing_has_every_object_once_in_order_over_many_pages(storage: Storage) -> None:
    names = [f"many/{number:05}" for number in range(1_050)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda name: put(storage, name, name[-2:].encode()), names))
    assert keys(storage, "many/") == names
    assert keys(storage, "many/000") == names[:100]
    assert storage.exists_many(names[::7]) == set(names[::7])


def test_a_listing_keeps_to_its_prefix(server: S3Server) -> None:
    inside = Storage.connect(server.settings(prefix=f"/test-{next(numbers)}/"))
    beside = Storage.connect(server.settings(prefix=inside.uri("").split("/")[3] + "-beside"))
    put(inside, "a/1")
    put(inside, "ab/2")
    put(beside, "a/3")
    assert keys(inside) == ["a/1", "ab/2"]
    assert keys(inside, "a/") == ["a/1"]
    assert keys(inside, "a") == ["a/1", "ab/2"]
    assert keys(inside, "nothing/here") == []


def test_without_a_prefix_keys_are_the_buckets_own(server: S3Server) -> None:
    storage = Storage.connect(server.settings())
    put(storage, "at-the-top")
    assert storage.uri("at-the-top") == f"s3://{BUCKET}/at-the-top"
    assert "at-the-top" in keys(storage)
    prefixed = Storage.connect(server.settings(prefix="a/b"))
    assert prefixed.uri("c.png") == f"s3://{BUCKET}/a/b/c.png"


def test_looking_up_nothing_asks_nothing() -> None:
    storage = Storage.connect(nowhere())
    assert storage.exists_many([]) == set()


# What is seen while an object is being stored.


def test_a_reader_never_sees_a_torn_object(storage: Storage) -> None:
    bodies = [bytes([number]) * 300_000 for number in range(8)]
    put(storage, "key", bodies[0])
    done = threading.Event()

    def read() -> list[int]:
        torn = []
        while not done.is_set():
            body = storage.get("key")
            if body not in bodies:
                torn.append(len(body))
        return torn

    with ThreadPoolExecutor(9) as threads:
        reader = threads.submit(read)
        writes = [threads.submit(put, storage, "key", bodies[n % 8]) for n in range(48)]
        for write in writes:
            write.result()
        done.set()
        assert reader.result() == []


def test_half_a_put_is_not_visible_and_spoils_nothing(server: S3Server, storage: Storage) -> None:
    put(storage, "there", b"whole")
    for key in ("new", "there"):
        with half_put(server, storage._full(key)):
            assert keys(storage) == ["there"]
            assert storage.get("there") == b"whole"
        assert not storage.exists("new")
        assert storage.get("there") == b"whole"


def test_a_server_killed_during_a_put_comes_back_without_half_an_object() -> None:
    with rclone_server() as server:
        storage = Storage.connect(server.settings())
        with half_put(server, "half"):
            server.process.kill()
            server.process.wait()
        assert not (server.folder / "half").exists()
        with pytest.raises(StorageError, match="nobody answers"):
            put(storage, "half")


def test_a_body_damaged_on_its_way_is_refused(storage: Storage) -> None:
    other = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    with pytest.raises(ClientError, match="BadDigest"):
        storage._client.put_object(
            Bucket=BUCKET, Key=storage._full("key"), Body=b"body", ContentMD5=other
        )
    assert not storage.exists("key")


# Keys that could leave the prefix.


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "..",
        "../a",
        "a/../../b",
        "a/./b",
        "a\\b",
        "a\nb",
        "a\0b",
        "\x7f",
    ],
)
def test_a_key_that_could_leave_the_prefix_is_refused(storage: Storage, key: str) -> None:
    for act in (storage.get, storage.exists, storage.delete, lambda key: put(storage, key)):
        with pytest.raises(InvalidInput, match="object key"):
            act(key)


def test_a_key_longer_than_s3_allows_is_refused(storage: Storage) -> None:
    with pytest.raises(InvalidInput, match="the limit is 1024"):
        put(storage, "/".join(["x" * 99] * 11))
    with pytest.raises(InvalidInput, match="not valid Unicode"):
        put(storage, "\ud800")


# Settings that can't be right, and services that are down.


def test_check_is_content_with_right_settings(server: S3Server) -> None:
    Storage.connect(server.settings()).check()
    Storage.connect(server.settings(prefix="nothing/there/yet")).check()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bucket": "not-there"}, "'not-there'.* does not exist: .*SEEDBED_BUCKET"),
        ({"bucket": "Not Allowed!"}, "'Not Allowed!'.* name S3 does not allow"),
        ({"access_key": "nobodys-key"}, "does not know this access key.*AWS_ACCESS_KEY_ID"),
        ({"secret_key": "nobodys-secret"}, "does not accept the secret.*AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_check_names_the_setting_that_is_wrong(
    server: S3Server, wrong: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidSettings, match=message) as caught:
        Storage.connect(server.settings(**wrong)).check()
    assert_fit_to_show(str(caught.value), server)


def test_every_call_fails_as_storage_when_the_bucket_is_gone(server: S3Server) -> None:
    storage = Storage.connect(server.settings(bucket="not-there"))
    here = Path(__file__)
    for act in (
        lambda: storage.get("key"),
        lambda: put(storage, "key"),
        lambda: storage.put_file("key", here, content_type=PNG),
        lambda: storage.get_file("key", Path(os.devnull)),
        lambda: keys(storage),
    ):
        with pytest.raises(StorageError) as caught:
            act()
        assert_fit_to_show(str(caught.value), server)


def nowhere(**values: object) -> Settings:
    """A port that nobody listens on."""
    return Settings(
        s3_endpoint_url=f"http://127.0.0.1:{free_ports(1)[0]}",
        access_key="a-key",
        secret_key="a-secret",
    ).with_values(**values)


def test_a_server_that_is_down_is_no_wrong_setting() -> None:
    settings = nowhere()
    storage = Storage.connect(settings)
    calls: list[Callable[[], object]] = [
        storage.check,
        lambda: put(storage, "key"),
        lambda: storage.put_file("key", Path(__file__), content_type=PNG),
        lambda: storage.get("key"),
        lambda: storage.size("key"),
        lambda: storage.exists_many(["a", "b"]),
        lambda: keys(storage),
        lambda: storage.delete("key"),
    ]
    for call in calls:
        with pytest.raises(StorageError, match=r"nobody answers at http://127\.0\.0\.1") as caught:
            call()
        assert not isinstance(caught.value, ObjectMissing)
        assert "a-secret" not in str(caught.value)


def test_no_credentials_at_all_says_how_to_give_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_aws(monkeypatch, tmp_path)
    storage = Storage.connect(nowhere(access_key=None, secret_key=None))
    with pytest.raises(InvalidSettings, match=r"no credentials .*set AWS_ACCESS_KEY_ID"):
        storage.check()
    with pytest.raises(StorageError, match="credentials"):
        put(storage, "key")


def test_half_of_the_credentials_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_aws(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "only-this")
    with pytest.raises(InvalidSettings, match=r"AWS_SECRET_ACCESS_KEY|secret_key"):
        Storage.connect(nowhere(access_key=None, secret_key=None)).check()


def test_a_profile_that_is_nowhere_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_aws(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(InvalidSettings, match="AWS_PROFILE"):
        Storage.connect(nowhere(access_key=None, secret_key=None)).check()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"s3_endpoint_url": "http://"}, "SEEDBED_S3_ENDPOINT_URL"),
        ({"s3_endpoint_url": "http://me:hidden@bad host/"}, "SEEDBED_S3_ENDPOINT_URL"),
        ({"s3_region": "not a region!"}, "SEEDBED_S3_REGION"),
    ],
)
def test_what_cannot_be_an_endpoint_or_region_is_refused(
    values: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidSettings, match=message) as caught:
        Storage.connect(nowhere(**values)).check()
    assert "hidden" not in str(caught.value)


def test_a_web_server_that_is_not_s3_is_refused() -> None:
    page = b"<html><body>hello</body></html>"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(page)
    for answer in (head + page, head.replace(b"%d" % len(page), b"0"), b"-ERR not http\r\n"):
        with answering(lambda answer=answer: answer) as url:  # type: ignore[misc]
            storage = Storage.connect(nowhere(s3_endpoint_url=url))
            with pytest.raises((InvalidSettings, StorageError), match=r"127\.0\.0\.1"):
                storage.check()


def test_https_to_a_server_without_tls_is_refused() -> None:
    with answering(lambda: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as url:
        storage = Storage.connect(nowhere(s3_endpoint_url=url.replace("http:", "https:")))
        with pytest.raises(InvalidSettings, match="does not speak TLS"):
            storage.check()


@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (400, "ExpiredToken", InvalidSettings, "session is over"),
        (400, "IllegalLocationConstraintException", InvalidSettings, "SEEDBED_S3_REGION"),
        (403, "RequestTimeTooSkewed", InvalidSettings, "clock"),
        (500, "InternalError", StorageError, "says InternalError"),
        (503, "SlowDown", StorageError, "says SlowDown"),
    ],
)
def test_other_refusals_say_whose_they_are(
    status: int, code: str, error: type[Exception], message: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>"
    answer = (
        f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    )
    with answering(lambda: answer.encode()) as url, pytest.raises(error, match=message):
        Storage.connect(nowhere(s3_endpoint_url=url)).check()


def test_a_body_that_breaks_off_is_read_again() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nabcdef"
    answers = iter([whole[:-3], whole[:-1], whole])
    with answering(lambda: next(answers)) as url:
        assert Storage.connect(nowhere(s3_endpoint_url=url)).get("key") == b"abcdef"
    with answering(lambda: whole[:-3]) as url, pytest.raises(StorageError, match="cannot read"):
        Storage.connect(nowhere(s3_endpoint_url=url)).get("key")
    assert MAX_ATTEMPTS == 3


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, server: S3Server
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_ports(1)[0]}")
    Storage.connect(server.settings()).check()


# Helpers.


def without_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials from anywhere in the AWS chain."""
    for name in tuple(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def assert_fit_to_show(message: str, server: S3Server) -> None:
    assert "\n" not in message
    assert server.url in message
    assert server.secret_key not in message
    assert server.access_key not in message


@contextmanager
def half_put(server: S3Server, key: str) -> Iterator[None]:
    """A PUT of which half has arrived; its connection breaks on leaving."""
    url = f"{server.url}/{BUCKET}/{key.replace(' ', '%20')}"
    request = AWSRequest("PUT", url, headers={"Content-Length": "2000000"})
    request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    S3SigV4Auth(Credentials(server.access_key, server.secret_key), "s3", "us-east-1").add_auth(
        request
    )
    parts = urlsplit(url)
    lines = [f"PUT {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    with socket.create_connection((str(parts.hostname), int(parts.port or 80))) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + b"y" * 1_000_000)
        # The server must have begun: rclone's own temporary file shows it, SeaweedFS has no sign.
        deadline = time.monotonic() + (5.0 if server.name == "rclone" else 0.5)
        while time.monotonic() < deadline and not list(server.folder.rglob(".rclone_temp_put_*")):
            time.sleep(0.02)
        yield


@contextmanager
def answering(answer: Callable[[], bytes]) -> Iterator[str]:
    """A server that gives each connection ``answer()`` and hangs up; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer())
                        connection.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
