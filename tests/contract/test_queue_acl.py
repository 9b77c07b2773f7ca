"""The rights in docs/security.md, on the oldest Redis we support and on the distribution's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.errors import QueueError, QueueRefused, SeedbedError
from shared.queue import JobQueue, JobRef
from shared.settings import Settings
from tests.acl_lines import PASSWORDS, acl_lines
from tests.queue_play import MODEL, PIN, make_block, make_record
from tests.redis_server import RedisServer


@pytest.fixture
def server(redis_server: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """The same server program with the page's users, and one who may do anything."""
    lines = [*acl_lines("test"), "user admin on >admin ~* &* +@all", "user idle on >idle"]
    (tmp_path / "users.acl").write_text("\n".join(lines) + "\n")
    options = {"aclfile": str(tmp_path / "users.acl")}
    with RedisServer(redis_server.binary, options, user="admin", password="admin") as running:
        yield running


def connect(server: RedisServer, user: str, password: str, pool: str = "test") -> JobQueue:
    url = server.url_of(user, password)
    Settings(redis_url=url).check()
    return JobQueue.connect(url, pool)


def test_each_user_does_its_part_and_is_refused_nothing_it_needs(server: RedisServer) -> None:
    producer = connect(server, "seedbed-producer", PASSWORDS["seedbed-producer"])
    worker = connect(server, "seedbed-worker", PASSWORDS["seedbed-worker"])
    with closing(producer.client), closing(worker.client), server.client() as admin:
        producer.submit(make_record("s", make_block(8)))
        worker.announce("w", {"name": "w"}, ttl_seconds=60)
        claim = worker.claim(token="t", model=MODEL, pin=PIN, max_jobs=4, lease_seconds=30)
        assert claim is not None
        refs = [JobRef("s", position) for position in claim.shares[0].positions]
        worker.begin("t", refs, gpu_seconds=60)
        worker.renew("t", lease_seconds=30, phase="gpu")
        worker.fail("t", refs[0], reason="r", worker="w", permanent=True)
        assert worker.release("t") == 3
        assert worker.reap() == 0
        worker.refuse("s", "manifest: no")
        assert producer.status("s").refused == "manifest: no"
        assert [failure.reason for failure in producer.failures("s")] == ["r"]
        assert producer.resume("s") == "running"
        assert producer.retry("s") == 1
        producer.cancel("s")
        producer.delete("s")
        # by CLIENT SETINFO the library introduces itself, to no end; only 7.2 and later know it
        assert [item for item in admin.acl_log() if item["object"] != "client"] == []


def test_a_missing_right_is_told_from_a_wrong_password(server: RedisServer) -> None:
    def said(user: str, password: str, pool: str = "test") -> str:
        queue = connect(server, user, password, pool)
        with closing(queue.client), pytest.raises(SeedbedError) as found:
            queue.look()
        assert isinstance(found.value, QueueRefused)
        assert isinstance(found.value, QueueError)
        assert found.value.exit_code == 2
        return str(found.value)

    password = PASSWORDS["seedbed-worker"]
    assert "check user and password" in said("seedbed-worker", "wrong")
    assert "check user and password" in said("nobody", "x")
    assert "docs/security.md" in said("idle", "idle")
    assert "check SEEDBED_POOL" in said("seedbed-worker", password, pool="other")


def test_a_right_that_only_a_script_misses_is_told_too(server: RedisServer) -> None:
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "seedbed-worker", "-zrangebylex", "-zadd")
    worker = connect(server, "seedbed-worker", PASSWORDS["seedbed-worker"])
    producer = connect(server, "seedbed-producer", PASSWORDS["seedbed-producer"])
    with closing(worker.client), closing(producer.client):
        producer.submit(make_record("s", make_block(8)))
        with pytest.raises(QueueRefused, match=r"docs/security\.md"):
            worker.claim(token="t", model=MODEL, pin=PIN, max_jobs=4, lease_seconds=30)
        assert producer.status("s").state == "running"
