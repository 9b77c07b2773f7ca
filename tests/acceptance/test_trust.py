"""A pool through TLS, with the rights in docs/security.md, among strangers who write to Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoPermissionError

from producer.doctor import examine
from shared.errors import InvalidManifest, QueueRefused, SeedbedError
from shared.keys import Keys
from shared.manifest import parse_manifest
from shared.queue import BlockSpec, JobQueue, SweepRecord
from shared.settings import Settings
from shared.storage import Storage
from tests.acl_lines import PASSWORDS, acl_lines
from tests.certificates import Certificates, make_certificates
from tests.hostile_manifests import hostile_manifests
from tests.pool import Pool, WorkerHandle, eventually
from tests.random_model import save_random_model
from tests.redis_server import RedisServer, system_binary
from tests.s3_server import free_ports, rclone_server

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

ADMIN = "admin"
PREFIX = "team/a"
MOST_GROWTH_KB = 700_000
"""Of a worker's memory, over every hostile manifest there is."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pool(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Redis with TLS and the page's users, S3 with TLS, and one worker that is ready."""
    binary = system_binary()
    if binary is None:
        pytest.skip("needs a redis-server with TLS")
    folder = tmp_path_factory.mktemp("trust")
    lines = [*acl_lines("acceptance"), f"user {ADMIN} on >{ADMIN} ~* &* +@all"]
    (folder / "users.acl").write_text("\n".join(lines) + "\n")
    port = free_ports(1)[0]
    options = {
        "aclfile": str(folder / "users.acl"),
        "tls-port": str(port),
        "tls-cert-file": str(certificates.server.certificate),
        "tls-key-file": str(certificates.server.key),
        "tls-ca-cert-file": str(certificates.authority),
        "tls-auth-clients": "no",
    }

    def url(user: str) -> str:
        query = f"ssl_ca_certs={certificates.authority}"
        return f"rediss://{user}:{PASSWORDS[user]}@127.0.0.1:{port}/0?{query}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_CA_BUNDLE", str(certificates.authority))
        with (
            RedisServer(binary, options, user=ADMIN, password=ADMIN) as server,
            rclone_server(certificates.server) as s3,
        ):
            settings = s3.settings(
                redis_url=url("seedbed-producer"), pool="acceptance", owner="t", prefix=PREFIX
            )
            found = Pool(
                folder=folder,
                settings=settings,
                model=str(save_random_model(folder / "model")),
                redis=server,
                settings_of_workers=settings.with_values(redis_url=url("seedbed-worker")),
                environ={"AWS_CA_BUNDLE": str(certificates.authority)},
            )
            found.start_workers(1)
            try:
                yield found
            finally:
                for worker in found.living():
                    worker.kill()
                found.client.close()
                found.storage.close()


@pytest.fixture
def worker(pool: Pool) -> WorkerHandle:
    return pool.workers[0]


@pytest.fixture
def admin(pool: Pool) -> Iterator[redis.Redis]:
    with pool.redis.client() as client:
        yield client


def test_a_sweep_runs_through_tls_with_the_rights_in_the_docs_and_needs_no_others(
    pool: Pool, admin: redis.Redis
) -> None:
    client = pool.client
    sweep = pool.sweep(name="trusted", seed="0..3")
    client.submit(sweep)
    pool.wait_ended(sweep)
    pool.audit(sweep)
    other = pool.sweep(name="other", seed="0..999")
    client.submit(other)
    client.pause(other.id)
    client.resume(other.id)
    client.cancel(other.id)
    client.retry(other.id)
    assert {found.id for found in client.sweeps()} >= {sweep.id, other.id}
    assert client.failures(sweep.id) == []
    eventually(lambda: client.status(other.id).leased == 0, seconds=30, what="nothing leased")
    client.delete(other.id)
    findings = list(examine(client, model=pool.model))
    assert [finding for finding in findings if finding.level != "ok"] == []
    assert admin.acl_log() == []


@pytest.mark.parametrize("user", PASSWORDS)
def test_nothing_else_is_let_through(pool: Pool, admin: redis.Redis, user: str) -> None:
    admin.set("seedbed:{other}:manifest:x", "another pool's")
    settings = pool.settings if user == "seedbed-producer" else pool.worker_settings
    assert settings is not None
    assert settings.redis_url is not None
    with redis.Redis.from_url(settings.redis_url) as client:
        for command in (
            ("FLUSHALL",),
            ("FLUSHDB",),
            ("CONFIG", "GET", "*"),
            ("KEYS", "*"),
            ("SCAN", "0"),
            ("MONITOR",),
            ("SHUTDOWN", "NOSAVE"),
            ("CLIENT", "KILL", "TYPE", "normal"),
            ("ACL", "LIST"),
            ("GET", "seedbed:{other}:manifest:x"),
            ("SET", "seedbed:{acceptance", "x"),
            ("DEL", "anything"),
            ("PUBLISH", "seedbed:{other}:celery:/0.celery.pidbox", "x"),
            ("EVAL", "return redis.call('GET', KEYS[1])", "1", "seedbed:{other}:manifest:x"),
        ):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)
        with pytest.raises(redis.exceptions.ResponseError):
            client.eval("return redis.call('GET', 'seedbed:{other}:manifest:x')", 0)
    foreign = JobQueue.connect(settings.redis_url, "other")
    with closing(foreign.client), pytest.raises(QueueRefused, match="SEEDBED_POOL"):
        foreign.workers()
    with closing(foreign.client), pytest.raises(QueueRefused, match=r"docs/security\.md"):
        foreign.look()
    admin.acl_log_reset()


def test_celery_s_remote_control_ends_no_worker(pool: Pool, worker: WorkerHandle) -> None:
    control = pool.client.doorbell._app.control
    for command in ("shutdown", "pool_shrink", "pool_restart", "time_limit"):
        control.broadcast(command)
    assert pool.client.doorbell.answering(5.0)
    sweep = pool.sweep(name="after remote control", seed=[100], guidance_scale=4, prompt="x")
    pool.client.submit(sweep)
    pool.wait_ended(sweep)
    assert worker.process.poll() is None


def peak_kb(worker: WorkerHandle) -> int:
    """The most memory the process has had so far."""
    text = Path(f"/proc/{worker.process.pid}/status").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def put(queue: JobQueue, sweep_id: str, block: BlockSpec, manifest: bytes) -> None:
    """Enter a sweep ahead of all others, past everything that a producer looks at."""
    record = SweepRecord(
        id=sweep_id,
        digest=hashlib.sha256(manifest).hexdigest(),
        manifest="",
        blocks=(block,),
        owner="stranger",
        priority=100,
    )
    queue.submit(record)
    queue.client.set(Keys("acceptance").manifest(sweep_id), manifest)


def id_of(manifest: bytes, otherwise: str) -> str:
    """The id that it claims to have, where it can be read so far."""
    try:
        return parse_manifest(manifest.decode()).sweep_id
    except (SeedbedError, UnicodeDecodeError):
        return otherwise


def test_no_hostile_manifest_takes_a_worker_down_or_out_of_its_bucket(
    pool: Pool, worker: WorkerHandle, admin: redis.Redis
) -> None:
    client, queue = pool.client, pool.client.queue
    good = pool.sweep(name="good", seed="200..203", prompt="x", guidance_scale=4)
    (spec,) = good.layout.blocks
    block = BlockSpec(model=spec.model, lane=spec.lane, recipe=spec.recipe, size=10, cost=spec.cost)
    before, stored = peak_kb(worker), {found.key for found in pool.storage.list()}
    hostile = hostile_manifests(good.manifest.text)
    ids = {}
    for number, (name, manifest) in enumerate(hostile.items()):
        ids[name] = f"stranger-{number}"
        if name.startswith("10^9 rows"):
            ids[name] = id_of(manifest, ids[name])
        put(queue, ids[name], block, manifest)
    # Other things that lie where a manifest should, and blocks that are not the manifest's own.
    keys = Keys("acceptance")
    for name in ("none", "a list"):
        ids[name] = f"stranger-{name.replace(' ', '-')}"
        put(queue, ids[name], block, b"")
        queue.client.delete(keys.manifest(ids[name]))
        if name == "a list":
            admin.rpush(keys.manifest(ids[name]), "x")
    for name, changed in (
        ("of another lane", {"lane": "0" * 16}),
        ("of another recipe", {"recipe": "0" * 16}),
        ("with more jobs", {"size": 1_000_000}),
    ):
        text = pool.sweep(name=name, prompt="x", guidance_scale=4, seed="0..1").manifest.text
        values = {"lane": block.lane, "recipe": block.recipe, "size": 2} | changed
        ids[name] = id_of(text.encode(), "")
        put(
            queue,
            ids[name],
            BlockSpec(model=block.model, cost=block.cost, **values),  # type: ignore[arg-type]
            text.encode(),
        )
    client.submit(good)

    pool.wait_ended(good)
    eventually(
        lambda: all(client.status(sweep_id).refused for sweep_id in ids.values()),
        seconds=120,
        what="every hostile sweep refused",
    )

    assert worker.process.poll() is None
    for name, sweep_id in ids.items():
        status = client.status(sweep_id)
        assert (name, status.state, status.leased) == (name, "paused", 0)
        assert (name, status.done) == (name, 0) or name == "with more jobs"
        assert status.refused.startswith(("manifest: ", "chunk "))
        assert "\n" not in status.refused
        assert sweep_id in worker.text
    assert "Traceback" not in worker.text
    assert peak_kb(worker) - before < MOST_GROWTH_KB
    new = {found.key for found in pool.storage.list()} - stored
    mine = (f"sweeps/{good.id}/", f"sweeps/{ids['with more jobs']}/", "images/")
    assert [key for key in new if not key.startswith(mine)] == []
    elsewhere = {
        found.key
        for found in _bucket(pool.settings).list()
        if not found.key.startswith(f"{PREFIX}/")
    }
    assert elsewhere == set()
    assert admin.acl_log() == []


def test_a_refused_sweep_that_is_resumed_is_refused_again(pool: Pool) -> None:
    client, sweep_id = pool.client, "stranger-again"
    (spec,) = pool.sweep(name="again", seed="0..3", prompt="x", guidance_scale=4).layout.blocks
    block = BlockSpec(model=spec.model, lane=spec.lane, recipe=spec.recipe, size=4, cost=spec.cost)
    put(client.queue, sweep_id, block, b"{}")
    eventually(lambda: client.status(sweep_id).refused, seconds=30, what="refused")
    with pytest.raises(InvalidManifest):
        client.resume(sweep_id)
    assert client.status(sweep_id).refused
    assert client.queue.resume(sweep_id) == "running"
    eventually(lambda: client.status(sweep_id).refused, seconds=30, what="refused again")
    client.delete(sweep_id)


def test_a_drain_ends_the_worker_in_time(worker: WorkerHandle) -> None:
    assert worker.terminate() == 0


def _bucket(settings: Settings) -> Storage:
    return Storage.connect(settings.with_values(prefix=""))
