"""Is the pool as it should be? Each check is a line with its remedy."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from producer.model_folder import check_model_folder, is_local
from shared.errors import SeedbedError, StorageError
from shared.fields import DEMO_MODEL
from shared.lanes import model_key
from shared.worker_options import split_model

if TYPE_CHECKING:
    from producer.client import Client

OLDEST_REDIS = (6, 2)
WORKER_CONNECTIONS = 13
"""What a worker under load was seen to hold, its Celery consumer included; an idle one holds 5."""
PING_SECONDS = 2.0
"""How long Celery's workers get to answer."""
PROBE = b"seedbed doctor was here\n"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report.

    Attributes:
        check: What was looked at.
        level: ``fail`` keeps the pool from working; ``warn`` will hurt some day.
        text: What was found, with the remedy where there is need of one.
    """

    check: str
    level: Literal["ok", "warn", "fail"]
    text: str


def examine(client: Client, *, model: str | None = None) -> Iterator[Finding]:
    """Check Redis, the broker, the bucket, workers and the model; findings come as they are made.

    Args:
        model: What is to be served; None looks at what the workers serve.
    """
    yield from _guarded("redis", lambda: _redis(client))
    yield from _guarded("broker", lambda: _broker(client))
    yield from _guarded("storage", lambda: _storage(client))
    yield from _guarded("workers", lambda: _workers(client))
    yield from _guarded("model", lambda: _model(client, model))


def _guarded(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """An error that stops a check is its finding."""
    try:
        yield from look()
    except SeedbedError as exc:
        yield Finding(check=check, level="fail", text=str(exc))


def _redis(client: Client) -> Iterator[Finding]:
    from shared.redis_connection import translated_errors

    with translated_errors():
        facts: Any = client.queue.client.info()
    version = str(facts.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        yield Finding(
            check="redis",
            level="fail",
            text=f"version {version}: the queue's scripts need 6.2 or later",
        )
    else:
        yield Finding(check="redis", level="ok", text=f"version {version} answers")
    yield _persistence(facts)
    yield _eviction(facts)
    if "maxclients" in facts:
        yield _connections(facts, workers=len(client.workers()))


def _broker(client: Client) -> Iterator[Finding]:
    client.doorbell.check()
    yield Finding(check="broker", level="ok", text="takes messages for the workers")


def _persistence(facts: dict[str, Any]) -> Finding:
    if not facts.get("aof_enabled"):
        return Finding(
            check="redis persistence",
            level="warn",
            text="no append-only file: a crash forgets submitted sweeps (storage keeps the "
            "images); set 'appendonly yes' and 'appendfsync everysec'",
        )
    if facts.get("aof_last_write_status") == "err":
        return Finding(
            check="redis persistence",
            level="fail",
            text="the append-only file can't be written: make room on Redis' disk",
        )
    return Finding(check="redis persistence", level="ok", text="append-only file is on")


def _eviction(facts: dict[str, Any]) -> Finding:
    policy = facts.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        return Finding(check="redis eviction", level="ok", text="noeviction")
    return Finding(
        check="redis eviction",
        level="fail" if facts.get("maxmemory") else "warn",
        text=f"policy {policy} may drop parts of the queue: set 'maxmemory-policy noeviction'",
    )


def _connections(facts: Mapping[str, Any], *, workers: int) -> Finding:
    """Whether one worker more finds room, beside what is connected and what those here may hold."""
    most, connected = int(facts["maxclients"]), int(facts["connected_clients"])
    carried = most // WORKER_CONNECTIONS
    text = (
        f"{connected:,} open of maxclients {most:,}; a worker holds about {WORKER_CONNECTIONS}: "
        f"room for {carried:,} in all, {workers:,} here"
    )
    if workers < carried and connected + WORKER_CONNECTIONS <= most:
        return Finding(check="redis connections", level="ok", text=text)
    return Finding(
        check="redis connections",
        level="warn",
        text=f"{text}; one more may be refused: raise maxclients, and Redis' limit of open files",
    )


def _storage(client: Client) -> Iterator[Finding]:
    storage = client.storage
    storage.check()
    key = f"sweeps/doctor-{secrets.token_hex(6)}/probe.txt"
    storage.put(key, PROBE, content_type="text/plain")
    try:
        if storage.size(key) != len(PROBE):
            raise StorageError(f"{storage.uri(key)} was stored, but HEAD tells another size")
        if storage.get(key) != PROBE:
            raise StorageError(f"{storage.uri(key)} was stored, but comes back changed")
    finally:
        storage.delete(key)
    if storage.exists(key):
        raise StorageError(f"{storage.uri(key)} was deleted, but is still there")
    yield Finding(
        check="storage", level="ok", text=f"{storage.uri('')} takes put, head, get and delete"
    )


def _workers(client: Client) -> Iterator[Finding]:
    known = client.workers()
    if not known:
        yield Finding(
            check="workers",
            level="warn",
            text="there is none: start one with 'seedbed worker --model MODEL'",
        )
        return
    answering = client.doorbell.answering(PING_SECONDS)
    for worker in known:
        name = str(worker.get("name", worker["id"]))
        if name in answering:
            yield Finding(check="workers", level="ok", text=f"{name} answers, {_describe(worker)}")
        else:
            yield Finding(
                check="workers",
                level="warn",
                text=f"{name} is in the pool but does not answer Celery's ping within "
                f"{PING_SECONDS:g} s: check that it has the same SEEDBED_BROKER_URL",
            )


def _describe(worker: Mapping[str, Any]) -> str:
    """Device, batch size and attention, as the worker announced them."""
    if "batch_size" not in worker:
        return "loading its model"
    return (
        f"{worker.get('device')}, batches of {worker['batch_size']}, "
        f"attention {worker.get('attention')}"
    )


def _model(client: Client, model: str | None) -> Iterator[Finding]:
    served = {
        str(name): str(key)
        for worker in client.workers()
        for name, key in zip(worker.get("models", ()), worker.get("model_keys", ()), strict=False)
    }
    if model is None:
        listed = ", ".join(sorted(served))
        yield Finding(
            check="model",
            level="ok" if served else "warn",
            text=f"served: {listed}" if served else "no worker serves any; name one with --model",
        )
        return
    name, revision = split_model(model)
    if is_local(name):
        check_model_folder(name)
    if model_key(name, revision, None) in served.values() or name in served:
        yield Finding(check="model", level="ok", text=f"{model} is served")
    elif is_local(name) or name == DEMO_MODEL:
        yield Finding(
            check="model",
            level="warn",
            text=f"{model} can be loaded here, but no worker serves it: "
            f"start one with 'seedbed worker --model {model}'",
        )
    else:
        yield Finding(
            check="model",
            level="warn",
            text=f"no worker serves {model}: start one with 'seedbed worker --model {model}'",
        )
