"""The index of a sweep that is through: whole, in order, named last, whoever dies writing it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow.parquet as pq
import pytest

from producer import Client, Sweep
from shared.records import Receipt, receipt_lines, receipts_key
from shared.sweep_index import COLUMNS, IndexPointer, pointer_key
from tests.factories import make_sweep
from tests.pool import eventually
from tests.producer_pool import HandWorker
from worker.finalising import Finaliser
from worker.sweeps import ClaimedSweeps


def make_finaliser(client: Client, **options: Any) -> Finaliser:
    return Finaliser(
        client.queue, client.storage, ClaimedSweeps(client.queue, client.storage), **options
    )


def study(**fields: Any) -> Sweep:
    """2 x 3 x 2 jobs in two blocks: guidance off and on, so that positions are not indices."""
    values: dict[str, Any] = {"name": "study", "prompt": ["a cat", 'a "dog", 狗'], "seed": "0..2"}
    return make_sweep(**(values | {"guidance_scale": [1, 4.5]} | fields))


def pointer_of(client: Client, sweep: Sweep) -> IndexPointer:
    return IndexPointer.from_text(client.storage.get(pointer_key(sweep.id)).decode())


def read_index(client: Client, sweep: Sweep) -> tuple[IndexPointer, list[dict[str, Any]]]:
    """The pointer and the Parquet's rows; fails where a file is not what the pointer says."""
    pointer = pointer_of(client, sweep)
    for file in (pointer.parquet, pointer.jsonl):
        body = client.storage.get(file.key)
        assert (len(body), hashlib.sha256(body).hexdigest()) == (file.bytes, file.sha256)
    table = pq.read_table(io.BytesIO(client.storage.get(pointer.parquet.key)))
    assert tuple(table.column_names) == pointer.columns == tuple(COLUMNS)
    rows = table.to_pylist()
    assert len(rows) == pointer.rows == pointer.done + pointer.dead
    lines = client.storage.get(pointer.jsonl.key).decode().splitlines()
    for line, row in zip(map(json.loads, lines), rows, strict=True):
        assert line == {name: row[name] for name in line}
        assert set(row) - set(line) == set(pointer.fixed)
    return pointer, rows


def put_receipts(client: Client, sweep: Sweep, worker: HandWorker, indices: range) -> None:
    """One file of receipts, as a worker writes it."""
    results = client.results(sweep.id)
    lines = []
    for index in indices:
        place = results.address_of(index)
        assert place is not None
        lines.append(
            Receipt(
                index=index,
                digest=place.digest,
                key=place.key,
                bytes=7,
                at="2030-01-01T00:00:00.000+00:00",
                worker="w-1",
                rows=4,
                flagged=index == 3,
                seconds={"denoise": 2.0, "encode": 0.25},
            )
        )
    client.storage.put(
        receipts_key(sweep.id, f"t{indices.start}"),
        receipt_lines(lines),
        content_type="application/x-ndjson",
    )


def test_the_index_has_every_image_in_the_user_s_order_with_all_that_made_it(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    put_receipts(client, sweep, worker, range(6, 12))
    put_receipts(client, sweep, worker, range(6))

    assert make_finaliser(client).run_pending() == 1

    assert client.status(sweep.id).state == "done"
    pointer, rows = read_index(client, sweep)
    assert [row["index"] for row in rows] == list(range(12))
    results = client.results(sweep.id)
    for row in rows:
        job = results.job_of(row["index"])
        assert {name: row[name] for name in ("prompt", "seed", "guidance_scale", "height")} == {
            "prompt": job.prompt,
            "seed": job.seed,
            "guidance_scale": job.guidance_scale,
            "height": 64,
        }
        assert (row["key"], row["digest"]) == (
            results.key_of(row["index"]),
            results.digest_of(row["index"]),
        )
        assert row["bytes"] == client.storage.size(row["key"])
        assert (row["state"], row["reason"], row["worker"]) == ("done", None, "w-1")
        assert (row["seconds"], row["reused"]) == (0.75, False)
        assert row["flagged"] is (row["index"] == 3)
    assert {row["receipt"] for row in rows[:6]} == {f"sweeps/{sweep.id}/receipts/t0.jsonl"}
    assert pointer.fixed["num_inference_steps"] == 50
    assert (pointer.number, pointer.total, pointer.cancelled) == (1, 12, False)


def test_jobs_that_died_are_in_the_index_with_their_reason(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.fail(2, "no such scheduler, 狗")
    worker.work(sweep)

    make_finaliser(client).run_pending()

    pointer, rows = read_index(client, sweep)
    dead = [row for row in rows if row["state"] == "dead"]
    assert (len(rows), pointer.done, pointer.dead) == (12, 10, 2)
    assert {row["reason"] for row in dead} == {"no such scheduler, 狗"}
    assert {(row["key"], row["worker"]) for row in dead} == {(None, "hand")}
    assert all(row["prompt"] for row in dead)


def test_retry_reopens_the_sweep_and_its_end_writes_the_next_version(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.fail(2, "unlucky")
    worker.work(sweep)
    make_finaliser(client).run_pending()
    first = pointer_of(client, sweep)

    client.retry(sweep.id)
    worker.work(sweep)
    make_finaliser(client).run_pending()

    pointer, rows = read_index(client, sweep)
    assert (first.number, pointer.number) == (1, 2)
    assert {row["state"] for row in rows} == {"done"}
    assert client.storage.size(first.parquet.key) == first.parquet.bytes  # versions stay


def test_a_cancelled_sweep_gets_an_index_of_what_was_made_and_stays_cancelled(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep, jobs=5)
    client.cancel(sweep.id)

    assert make_finaliser(client).run_pending() == 1

    pointer, rows = read_index(client, sweep)
    assert client.status(sweep.id).state == "cancelled"
    assert (pointer.cancelled, pointer.done, pointer.total) == (True, 5, 12)
    assert [row["index"] for row in rows] == sorted(row["index"] for row in rows)
    assert make_finaliser(client).run_pending() == 0


def test_a_cancelled_sweep_of_which_nothing_was_made_has_an_empty_index(client: Client) -> None:
    sweep = study()
    client.submit(sweep)
    client.cancel(sweep.id)

    make_finaliser(client).run_pending()

    assert read_index(client, sweep)[1] == []


def test_images_that_a_cancelled_sweep_has_lost_have_no_row(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep, jobs=5)
    client.cancel(sweep.id)
    lost = next(i for i in range(12) if client.storage.exists(client.results(sweep.id).key_of(i)))
    client.storage.delete(client.results(sweep.id).key_of(lost))

    make_finaliser(client).run_pending()

    pointer, rows = read_index(client, sweep)
    assert (pointer.missing, pointer.done) == (1, 4)
    assert lost not in {row["index"] for row in rows}


def test_a_large_sweep_is_compared_by_listing_and_comes_to_the_same_index(
    client: Client, worker: HandWorker
) -> None:
    sweep = study(seed="0..9", negative_prompt=[None, "rain"])  # twins share a key at guidance 1
    client.submit(sweep)
    worker.work(sweep)
    put_receipts(client, sweep, worker, range(20))
    item = client.queue.finalise(token="a", lease_seconds=60)
    assert item is not None
    indexes = []
    for looked_up in (4096, 0):
        client.queue.release("a" if looked_up else "b")
        finaliser = make_finaliser(client, looked_up=looked_up, lease_seconds=60)
        finish, finaliser._queue.finish = finaliser._queue.finish, lambda *given: None
        finaliser.run_pending()
        finaliser._queue.finish = finish
        indexes.append(read_index(client, sweep)[1])
        tokens = client.queue.client.zrange(f"{client.queue.keys.base}:leases", 0, -1)
        for token in tokens:
            client.queue.release(token.decode())

    assert indexes[0] == indexes[1]
    assert len(indexes[0]) == 80


def test_a_listing_finds_what_is_gone_and_the_sweep_is_reopened(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    results = client.results(sweep.id)
    for index in (2, 7):
        client.storage.delete(results.key_of(index))

    make_finaliser(client, looked_up=0).run_pending()

    status = client.status(sweep.id)
    assert (status.state, status.pending) == ("running", 2)
    assert not client.storage.exists(pointer_key(sweep.id))
    worker.work(sweep)
    make_finaliser(client, looked_up=0).run_pending()
    assert len(read_index(client, sweep)[1]) == 12


def test_a_large_sweep_is_finalised_in_the_background(client: Client, worker: HandWorker) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    finaliser = make_finaliser(client, inline_jobs=0)

    finaliser.run_pending()
    finaliser.join(30)

    assert client.status(sweep.id).state == "done"
    assert len(read_index(client, sweep)[1]) == 12


class Killed(BaseException):
    """The process is gone: no handler of ours runs any more calls."""


class Mortal:
    """Passes calls on to a client until the nth, which kills; a dead process calls nothing."""

    def __init__(self, inner: Any, life: list[int], *, after: bool) -> None:
        self._inner = inner
        self._life = life
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or name in ("keys", "client"):
            return found

        def call(*args: Any, **given: Any) -> Any:
            if self._life[0] <= 0:
                raise Killed
            self._life[0] -= 1
            if self._life[0] == 0 and not self._after:
                raise Killed
            result = found(*args, **given)
            if self._life[0] == 0:
                raise Killed
            return result

        return call


@pytest.mark.parametrize("cancelled", [False, True], ids=["complete", "cancelled"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_finaliser_may_die_at_any_call_and_the_pointer_names_a_whole_index(
    client: Client, worker: HandWorker, after: bool, cancelled: bool
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep, jobs=6 if cancelled else None)
    if cancelled:
        client.cancel(sweep.id)
    put_receipts(client, sweep, worker, range(12))
    expire = expire_leases(client)
    deaths = 0
    for calls in range(1, 100):
        life = [calls]
        doomed = Finaliser(
            Mortal(client.queue, life, after=after),  # type: ignore[arg-type]
            Mortal(client.storage, life, after=after),  # type: ignore[arg-type]
            ClaimedSweeps(client.queue, client.storage),
            lease_seconds=600,
        )
        try:
            doomed.run_pending()
        except Killed:
            deaths += 1
        if client.storage.exists(pointer_key(sweep.id)):
            assert len(read_index(client, sweep)[1]) == (6 if cancelled else 12)
        if life[0] > 0:
            break
        expire()
    assert deaths > 10

    make_finaliser(client).run_pending()

    status = client.status(sweep.id)
    assert status.state == ("cancelled" if cancelled else "done")
    assert len(read_index(client, sweep)[1]) == (6 if cancelled else 12)


def expire_leases(client: Client) -> Callable[[], None]:
    """Lets the time of every lease be over, as a dead worker's is after a while."""
    leases = f"{client.queue.keys.base}:leases"

    def expire() -> None:
        for token in client.queue.client.zrange(leases, 0, -1):
            client.queue.client.zadd(leases, {token: 1}, xx=True)
        client.queue.reap(100)

    return expire


def test_a_finaliser_that_lost_its_lease_leaves_the_pointer_alone(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    slow = make_finaliser(client)
    put_file = slow._storage.put_file

    def stall(key: str, *args: Any, **given: Any) -> None:
        slow._storage.put_file = put_file  # type: ignore[method-assign]
        put_file(key, *args, **given)
        expire_leases(client)()
        other = make_finaliser(client)
        assert other.run_pending() == 1
        seen.append(pointer_of(client, sweep))

    seen: list[IndexPointer] = []
    slow._storage.put_file = stall  # type: ignore[method-assign]
    slow.run_pending()

    assert pointer_of(client, sweep) == seen[0]
    assert client.status(sweep.id).state == "done"


def test_the_code_on_the_reader_s_page_runs(
    client: Client,
    worker: HandWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = study(prompt=["a star", "a cat"], guidance_scale=[1, 7.5])
    client.submit(sweep)
    worker.work(sweep)
    make_finaliser(client).run_pending()
    pointer = pointer_of(client, sweep)
    (tmp_path / "index.json").write_bytes(client.storage.get(pointer_key(sweep.id)))
    client.storage.get_file(pointer.parquet.key, tmp_path / "index.parquet")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "index.md").read_text(encoding="utf-8")

    exec(page.split("```python\n")[1].split("```")[0], {})

    assert capsys.readouterr().out == "12 3\n"


def test_a_finaliser_that_is_closed_gives_its_sweep_to_the_next(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    closing = make_finaliser(client, inline_jobs=0)
    sizes, entered, go_on = client.storage.sizes, Event(), Event()

    def slow(keys: Any) -> Any:
        entered.set()
        assert go_on.wait(10)
        return sizes(keys)

    client.storage.sizes = slow  # type: ignore[method-assign]
    closing.run_pending()
    assert entered.wait(10)
    closing._stopping.set()
    go_on.set()
    closing.close()
    client.storage.sizes = sizes  # type: ignore[method-assign]

    assert not client.storage.exists(pointer_key(sweep.id))
    assert make_finaliser(client).run_pending() == 1
    assert len(read_index(client, sweep)[1]) == 12


def test_a_lease_is_renewed_while_the_index_is_written(client: Client, worker: HandWorker) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    finaliser = make_finaliser(client, lease_seconds=0.4)
    put_file = client.storage.put_file

    def slow(key: str, *args: Any, **given: Any) -> None:
        deadline = time.monotonic() + 1.0  # two and a half leases
        while time.monotonic() < deadline:
            client.queue.reap(10)
            time.sleep(0.05)
        put_file(key, *args, **given)

    client.storage.put_file = slow  # type: ignore[method-assign]
    finaliser.run_pending()
    client.storage.put_file = put_file  # type: ignore[method-assign]

    assert client.status(sweep.id).state == "done"
    assert pointer_of(client, sweep).number == 1


def test_storage_that_is_down_puts_the_index_off(client: Client, worker: HandWorker) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    down = type(client.storage).connect(
        client.settings.with_values(s3_endpoint_url="http://127.0.0.1:9")
    )
    sweeps = ClaimedSweeps(client.queue, client.storage)

    assert Finaliser(client.queue, down, sweeps).run_pending() == 0

    assert client.status(sweep.id).state == "finalising"
    assert make_finaliser(client).run_pending() == 1
    assert len(read_index(client, sweep)[1]) == 12


DYING_FINALISER = """
import os, signal, sys
from shared.queue import JobQueue
from shared.settings import Settings
from shared.storage import Storage
from worker.finalising import Finaliser
from worker.sweeps import ClaimedSweeps

settings = Settings.resolve({}, os.environ)
queue = JobQueue.connect(settings.redis_url, settings.pool)
storage = Storage.connect(settings)
method, part = sys.argv[1:]
call = getattr(storage, method)

def die(key, *args, **given):
    if part in key:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(key, *args, **given)

setattr(storage, method, die)
Finaliser(queue, storage, ClaimedSweeps(queue, storage), lease_seconds=1.0).run_pending()
"""


@pytest.mark.parametrize(
    ("method", "part"),
    [
        ("get", "/receipts/"),
        ("put_file", ".parquet"),
        ("put_file", ".jsonl"),
        ("put", "index.json"),
    ],
)
def test_a_finaliser_process_that_is_killed_is_followed_by_another(
    client: Client, worker: HandWorker, method: str, part: str
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    put_receipts(client, sweep, worker, range(12))
    killed = subprocess.run(
        [sys.executable, "-c", DYING_FINALISER, method, part],
        env={**os.environ, **client.settings.to_environ()},
        cwd=Path(__file__).parents[2],
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not client.storage.exists(pointer_key(sweep.id))

    finaliser = make_finaliser(client)
    eventually(finaliser.run_pending, seconds=20, what="the lease is over")

    assert client.status(sweep.id).state == "done"
    assert len(read_index(client, sweep)[1]) == 12
