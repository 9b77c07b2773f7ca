"""Finding images by what made them: over the index, over a running sweep, and not beyond."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from producer import Client, Sweep
from producer.cli.main import _exit_code
from producer.find import Finding
from producer.sweep_file import load_sweep
from shared.chunks import INLINE_VALUES
from shared.errors import InvalidInput, StorageError
from shared.queue import CommitGroup
from shared.records import Receipt, receipt_lines, receipts_key
from shared.sweep_index import IndexPointer, pointer_key
from tests.factories import make_sweep
from tests.producer_pool import HandWorker
from worker.finalising import Finaliser
from worker.sweeps import ClaimedSweeps


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "seedbed" / "indexes"


def study(**fields: Any) -> Sweep:
    """3 x 4 x 3 jobs in two blocks; the queue counts them in another order."""
    values: dict[str, Any] = {
        "name": "study",
        "prompt": ["a red star", 'a "dog"', "a starfish, 狗"],
        "seed": "0..3",
        "guidance_scale": [1, 7.5, 9],
        "negative_prompt": None,
    }
    return make_sweep(**(values | fields))


def finalise(client: Client) -> None:
    Finaliser(
        client.queue, client.storage, ClaimedSweeps(client.queue, client.storage)
    ).run_pending()


def found(client: Client, where: str | None) -> list[int]:
    with client.search("study", where) as finding:
        hits = list(finding.hits())
        assert finding.count() == len(hits)
        for hit in hits:
            assert hit.key == (finding.results.key_of(hit.index) if hit.state == "done" else None)
            assert hit.values == finding.results.varying(hit.index)
        return [hit.index for hit in hits]


CONDITIONS = [
    'guidance_scale >= 7 and seed in (1, 2) and prompt like "%star%"',
    "prompt = 'a \"dog\"'",
    "not (seed between 1 and 2) or index = 5",
    "state = 'done' and seed <> 0",
    "negative_prompt is null and height = 64 and num_inference_steps = 50",
    "prompt like '%狗'",
    "seed > 100",
    None,
]


def expected(sweep: Sweep, where: str | None) -> list[int]:
    """By Python, for each of CONDITIONS."""
    tests = [
        lambda job, i: job.guidance_scale >= 7 and job.seed in (1, 2) and "star" in job.prompt,
        lambda job, i: job.prompt == 'a "dog"',
        lambda job, i: job.seed not in (1, 2) or i == 5,
        lambda job, i: job.seed != 0,
        lambda job, i: True,
        lambda job, i: job.prompt.endswith("狗"),
        lambda job, i: False,
        lambda job, i: True,
    ]
    test = tests[CONDITIONS.index(where)]
    return [i for i in range(sweep.layout.total) if test(sweep.layout.job(i), i)]


def test_the_index_and_the_queue_give_the_same_answers(client: Client, worker: HandWorker) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)

    sources = {}
    for _ in range(2):
        with client.search("study") as finding:
            sources[finding.source] = [found(client, where) for where in CONDITIONS]
        finalise(client)

    assert sources["queue"] == sources["index"]
    assert sources["index"] == [expected(sweep, where) for where in CONDITIONS]


def test_a_running_sweep_is_asked_for_what_is_done_so_far(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.fail(2, "too dark")
    worker.work(sweep, jobs=9)
    results = client.results(sweep.id)

    with client.search(sweep.id) as finding:
        hits = list(finding.hits())

    assert [hit.index for hit in hits] == sorted(hit.index for hit in hits)
    assert [hit.state for hit in hits].count("dead") == 2
    made = {hit.index for hit in hits if hit.state == "done"}
    assert made == {i for i in range(36) if client.storage.exists(results.key_of(i) or "")}
    assert {hit.reason for hit in hits if hit.state == "dead"} == {"too dark"}
    with client.search(sweep.id, "reason like '%dark%'") as finding:
        assert finding.count() == 2
        assert list(finding.indices()) == []


def test_what_only_receipts_know_can_be_asked_of_a_running_sweep(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep, jobs=8)
    with client.search(sweep.id) as finding:
        indices = list(finding.indices())
    results = client.results(sweep.id)
    receipts = [
        Receipt(
            index=index,
            digest=results.digest_of(index) or "",
            key=results.key_of(index) or "",
            bytes=100 + number,
            at="2030-01-01T00:00:00.000+00:00",
            worker="w-1",
            flagged=number == 3,
            rows=1,
            seconds={"denoise": float(number)},
        )
        for number, index in enumerate(indices)
    ]
    body = receipt_lines(receipts)
    client.storage.put(receipts_key(sweep.id, "t"), body, content_type="application/x-ndjson")

    assert found(client, "flagged") == [indices[3]]
    assert found(client, "bytes >= 105 and seconds > 5") == indices[6:]
    assert found(client, f"digest = '{receipts[0].digest}'") == [indices[0]]


def test_two_checkpoints_and_fields_that_vary_together_can_be_asked_for(
    client: Client, worker: HandWorker
) -> None:
    sweep = study(negative_prompt=[None, ""], height=[64, 128])
    client.submit(sweep)
    worker.work(sweep)

    for _ in range(2):
        assert len(found(client, "negative_prompt is null and height > 64")) == 36
        assert len(found(client, "negative_prompt = ''")) == 72
        finalise(client)


def test_an_index_is_read_once_and_found_damaged_where_it_is(
    client: Client, worker: HandWorker, cache: Path
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.complete(sweep)
    client.delete(sweep.id)
    client.submit(sweep)  # prefilled from storage: its end writes an index
    finalise(client)
    assert len(found(client, None)) == 36
    pointer = IndexPointer.from_text(client.storage.get(pointer_key(sweep.id)).decode())
    (file,) = cache.iterdir()
    assert file.name == f"{pointer.parquet.sha256}.parquet"

    client.storage.put(pointer.parquet.key, b"PAR1 no", content_type="application/octet-stream")
    assert len(found(client, "seed = 1")) == 9
    file.unlink()
    with pytest.raises(StorageError, match="not what its pointer says"):
        found(client, "seed = 1")


def test_the_index_answers_when_the_queue_has_forgotten_the_sweep(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    finalise(client)
    client.delete(sweep.id)

    assert found(client, "seed = 1") == expected_of_seed_one(sweep)


def expected_of_seed_one(sweep: Sweep) -> list[int]:
    return [i for i in range(sweep.layout.total) if sweep.layout.job(i).seed == 1]


def test_hits_are_fetched_and_drawn(client: Client, worker: HandWorker, tmp_path: Path) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    finalise(client)

    with client.search("study", "seed in (1, 3) and guidance_scale > 1") as finding:
        fetched = finding.fetch(tmp_path / "hits")
        drawn = finding.grid(tmp_path / "sheet.png")

    assert fetched.written == len(list((tmp_path / "hits").glob("*.png"))) == 12
    (page,) = drawn.pages
    assert (page.images, page.places) == (12, 12)
    with Image.open(page.path) as sheet:
        assert sheet.width > 100
    with (
        client.search("study", "seed = 99") as finding,
        pytest.raises(InvalidInput, match="no image"),
    ):
        finding.grid(tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_engine_reads_nothing_but_the_index(client: Client, worker: HandWorker) -> None:
    import duckdb

    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    finalise(client)
    with client.search("study") as finding:
        connection = finding._table._connection
        for sql in (
            "SELECT * FROM read_text('/etc/hostname')",
            "SELECT * FROM read_csv('/etc/passwd')",
            "COPY (SELECT 1) TO '/tmp/seedbed-test.csv'",
            "ATTACH '/tmp/seedbed-test.db'",
            "INSTALL httpfs",
            "SET enable_external_access = true",
            "SET lock_configuration = false",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(sql)


def test_the_command_prints_fetches_and_draws(
    client: Client,
    worker: HandWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep)
    finalise(client)
    for name, value in client.settings.to_environ().items():
        monkeypatch.setenv(name, value)
    where = 'guidance_scale >= 7 and seed in (1, 2) and prompt like "%star%"'

    assert _exit_code(["find", "study", "--where", where]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 9
    assert "seed=1" in printed.out
    assert "images/" in printed.out
    assert printed.err == "8 jobs found\n"

    given = ["--fetch", str(tmp_path / "f"), "--grid", str(tmp_path / "g.png"), "--limit", "2"]
    assert _exit_code(["find", "study", "--where", where, "--json", *given]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["found"], len(answer["jobs"]), answer["source"]) == (8, 2, "index")
    assert answer["fetched"]["written"] == 8
    assert Path(answer["grid"][0]).exists()


@pytest.mark.parametrize("where", ["seed = 1; drop table jobs", "steps = 3", "upper(prompt) = 'A'"])
def test_a_condition_that_does_more_exits_2_and_writes_nothing(
    client: Client,
    worker: HandWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    sweep = study()
    client.submit(sweep)
    for name, value in client.settings.to_environ().items():
        monkeypatch.setenv(name, value)
    folder, sheet = tmp_path / "folder", tmp_path / "sheet.png"

    words = ["find", "study", "--where", where, "--fetch", str(folder), "--grid", str(sheet)]
    assert _exit_code(words) == 2

    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert not folder.exists()
    assert not sheet.exists()


def test_a_finding_closes_its_engine(client: Client, worker: HandWorker) -> None:
    sweep = study()
    client.submit(sweep)
    with client.search("study") as finding:
        assert isinstance(finding, Finding)
        assert finding.count() == 0
    with pytest.raises(InvalidInput):
        finding.count()


def test_a_long_table_of_rows_is_asked_by_its_columns(
    client: Client, worker: HandWorker, tmp_path: Path
) -> None:
    # given: rows that lie in chunks, in blocks of their own by their steps and guidance
    count = INLINE_VALUES + 300
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "num_inference_steps", "guidance_scale"])
        for row in range(count):
            writer.writerow([f"row {row}, 狗", 10 + row % 3, 1 + row % 2])
    (tmp_path / "sweep.json").write_text(
        json.dumps({"name": "study", "model": "demo", "rows": "rows.csv", "seed": "0..1"})
    )
    sweep = load_sweep(tmp_path / "sweep.json")
    submission = client.submit(sweep)
    worker.claim(1)
    done = [position for position in range(sweep.layout.total) if position % 7]
    group = CommitGroup(
        sweep_id=sweep.id,
        epoch=client.queue.status(sweep.id).epoch,
        positions=done,
        bytes=[1] * len(done),
    )
    client.queue.commit(None, [group])
    assert submission.total == 2 * count

    with client.search("study", "num_inference_steps = 11 and guidance_scale > 1") as finding:
        indices = list(finding.indices())
        titles = [hit.title for hit in finding.hits(1)]

    layout = sweep.layout
    wanted = []
    for index in range(layout.total):
        job = layout.job(index)
        if job.num_inference_steps == 11 and job.guidance_scale > 1:
            wanted += [index] if layout.position_of(index) % 7 else []
    assert indices == wanted
    assert "row" in titles[0]
