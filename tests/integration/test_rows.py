"""Sweeps over long rows, on a real Redis and S3, with one worker in this process."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from producer.sweep_file import load_sweep
from shared.chunks import CHUNK_ROWS, INLINE_VALUES, chunk_key, pack_chunk
from shared.errors import InvalidSettings, StorageError
from shared.queue import CommitGroup
from shared.sweep import Sweep
from tests.pool import Pool
from worker.process import WorkerProcess

ODD = [
    "C# code # poster",
    "{json: 1}",
    "$5, 50% off \\ __x__ ${y}",
    "(a:1.2) [b] <lora:c:0.5>",
    "月亮" * 60,
    "🦊 👩‍👩‍👧 e\u0301",
    "two\nlines, \"quotes\" and 'more'",
    "  spaces around\t",
    "null",
    "0123456",
]


@pytest.fixture
def worker(pool: Pool) -> Iterator[WorkerProcess]:
    """A loaded worker that serves when it is told to, not by doorbells."""
    pool.forget()
    with pool.hand_worker() as process:
        yield process


def serve(worker: WorkerProcess, pool: Pool) -> int:
    return worker.serve(pool.key)


def rows_sweep(pool: Pool, folder: Path, rows: list[dict[str, object]], **fields: object) -> Sweep:
    path = folder / "jobs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    sweep = folder / "sweep.json"
    values = {"model": pool.model, "rows": "jobs.csv", "num_inference_steps": 1, "height": 64}
    sweep.write_text(json.dumps(values | {"width": 64} | fields), encoding="utf-8")
    return load_sweep(sweep)


def origin(pool: Pool, key: str) -> dict[str, object]:
    with Image.open(io.BytesIO(pool.storage.get(key))) as image:
        return json.loads(image.text["seedbed"])["job"]


def test_odd_prompts_reach_the_images_byte_for_byte(
    pool: Pool, worker: WorkerProcess, tmp_path: Path
) -> None:
    rows = [{"prompt": text, "seed": number} for number, text in enumerate(ODD)]
    sweep = rows_sweep(pool, tmp_path, rows, name="odd")
    pool.client.submit(sweep)

    serve(worker, pool)

    made = {receipt["index"]: origin(pool, str(receipt["key"])) for receipt in pool.receipts(sweep)}
    assert [made[number]["prompt"] for number in range(len(ODD))] == ODD


def test_a_worker_renders_rows_that_are_kept_in_chunks(
    pool: Pool, worker: WorkerProcess, tmp_path: Path
) -> None:
    # given: two groups, taking turns row by row, of which most jobs are done already
    count = INLINE_VALUES + 404
    rows = [
        {"prompt": f"star {number}", "guidance_scale": 1 + 3 * (number % 2)}
        for number in range(count)
    ]
    sweep = rows_sweep(pool, tmp_path, rows, name="long", seed=7)
    client = pool.client
    client.submit(sweep)
    assert len(sweep.layout.blocks) == 2
    stored = {found.key for found in pool.storage.list("inputs/")}
    (table,) = sweep.manifest.tables
    assert stored >= {chunk_key(digest) for digest in table.digests}
    assert len(table.chunks) == -(-count // CHUNK_ROWS)
    layout = client.layout(sweep.id)
    wanted = [0, 1, 999, 1000, 3001, count - 1]

    # when: a few are left
    for position in range(count):
        assert sweep.layout.index_of(position) == layout.index_of(position)
    _commit_all_but(pool, sweep, [layout.position_of(index) for index in wanted])
    serve(worker, pool)

    # then: each image is of its own row
    receipts = {receipt["index"]: receipt for receipt in pool.receipts(sweep)}
    assert sorted(receipts) == wanted
    for index in wanted:
        job = origin(pool, str(receipts[index]["key"]))
        assert job["prompt"] == f"star {index}"
        assert job["guidance_scale"] == 1 + 3 * (index % 2)


def test_a_storage_outage_gives_the_claim_back_and_goes_on_later(
    pool: Pool, worker: WorkerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"moon {number}"} for number in range(INLINE_VALUES + 1)]
    sweep = rows_sweep(pool, tmp_path, rows, name="outage")
    pool.client.submit(sweep)
    _commit_all_but(pool, sweep, [INLINE_VALUES])
    chunks = worker._sweeps._chunks
    body, calls = chunks.body, []

    def failing(digest: str) -> bytes:
        calls.append(digest)
        if len(calls) < 3:
            assert pool.client.status(sweep.id).leased == 1
            raise StorageError("nobody answers")
        assert pool.client.status(sweep.id).state == "running"
        return body(digest)

    monkeypatch.setattr(chunks, "body", failing)

    assert serve(worker, pool) == 1

    assert len(calls) >= 3
    assert pool.client.status(sweep.id).dead == 0


@pytest.mark.parametrize("harm", ["other", "broken", "gone"])
def test_a_chunk_that_is_not_what_the_manifest_names_pauses_its_sweep(
    pool: Pool, worker: WorkerProcess, tmp_path: Path, harm: str
) -> None:
    rows = [{"prompt": f"{harm} sun {number}"} for number in range(INLINE_VALUES + 1)]
    sweep = rows_sweep(pool, tmp_path, rows, name=f"harmed-{harm}")
    pool.client.submit(sweep)
    key = chunk_key(sweep.manifest.tables[0].chunks[0])
    if harm == "gone":
        pool.storage.delete(key)
    else:
        other = pack_chunk([["another"]])[1]
        body = other if harm == "other" else other[:-3]
        pool.storage.put(key, body, content_type="application/zlib")

    assert serve(worker, pool) == 0

    status = pool.client.status(sweep.id)
    assert (status.state, status.leased, status.dead) == ("paused", 0, 0)


def test_without_credentials_long_rows_are_refused_before_anything_is_queued(
    pool: Pool, tmp_path: Path
) -> None:
    rows = [{"prompt": f"sea {number}"} for number in range(INLINE_VALUES + 1)]
    sweep = rows_sweep(pool, tmp_path, rows, name="poor")
    client = pool.client
    client.storage.has_credentials = False

    with pytest.raises(InvalidSettings, match="no credentials"):
        client.submit(sweep)

    assert sweep.id not in {status.id for status in client.sweeps()}


def _commit_all_but(pool: Pool, sweep: Sweep, left: list[int]) -> None:
    """Count every other job as done, so that a test need not render them."""
    queue = pool.client.queue
    positions = tuple(sorted(set(range(sweep.manifest.total)) - set(left)))
    group = CommitGroup(
        sweep_id=sweep.id,
        epoch=queue.status(sweep.id).epoch,
        positions=positions,
        bytes=(1,) * len(positions),
        reused=True,
    )
    queue.commit(None, [group])
