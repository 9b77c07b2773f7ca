"""A worker whose clock is wrong stores and finds images all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import StorageError
from shared.settings import Settings
from shared.storage import Storage
from tests.faults.s3_proxy import Answer, S3Proxy
from tests.s3_server import rclone_server
from tests.wrong_clock import wrong_clock

HOUR = 3600

USES_STORAGE = """
import logging, os
from shared.settings import Settings
from shared.storage import Storage
logging.basicConfig()
storage = Storage.connect(Settings.resolve({}, os.environ))
assert not storage.exists("images/first-of-all")  # a HEAD: its refusal has no body
storage.put("images/a", b"body", content_type="image/png")
assert storage.get("images/a") == b"body"
assert [found.key for found in storage.list("images/")] == ["images/a"]
storage.delete("images/a")
storage.check()
"""


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[S3Proxy, Settings]]:
    """S3 that refuses requests whose date is 15 minutes off, as AWS does."""
    with rclone_server() as server, S3Proxy(int(server.url.rpartition(":")[2])) as proxy:
        yield proxy, server.settings(s3_endpoint_url=f"http://127.0.0.1:{proxy.port}")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can set one process' clock")
@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_requests_are_dated_by_the_server_where_our_clock_is_wrong(
    proxied: tuple[S3Proxy, Settings], seconds: int
) -> None:
    proxy, settings = proxied
    before = proxy.refused_dates
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        **settings.to_environ(),
        **wrong_clock(seconds),
    }
    command = [sys.executable, "-c", USES_STORAGE]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert proxy.refused_dates == before + 1, "the first refusal is learnt from"
    assert "this machine's clock is wrong" in done.stderr


def test_credentials_that_are_refused_are_not_taken_for_a_wrong_clock(
    proxied: tuple[S3Proxy, Settings],
) -> None:
    proxy, settings = proxied
    storage = Storage.connect(settings)
    with (
        proxy.answering(lambda call: Answer(status=403, code="InvalidAccessKeyId")),
        pytest.raises(StorageError, match="says InvalidAccessKeyId"),
    ):
        storage.put("images/a", b"body", content_type="image/png")
    storage.put("images/a", b"body", content_type="image/png")
    storage.close()


def test_a_server_that_finds_the_clock_wrong_and_gives_no_better_date_is_told_of(
    proxied: tuple[S3Proxy, Settings],
) -> None:
    proxy, settings = proxied
    storage = Storage.connect(settings)
    with (
        proxy.answering(lambda call: Answer(status=403, code="RequestTimeTooSkewed")),
        pytest.raises(StorageError, match=r"finds this machine's clock wrong.*set the clock"),
    ):
        storage.get("images/a")
    storage.close()
