"""Fetching gives every image once, whole and under its name, however often it is interrupted."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.fetch import PARTS, Fetched, fetch
from producer.results import SweepResults
from shared.errors import InvalidSettings, InvalidSweep, StorageError, UnknownSweep
from shared.records import manifest_key, pin_key
from shared.storage import Storage
from tests.results import PIN, make_image, make_results, store_images
from tests.s3_server import S3Server, rclone_server


@pytest.fixture
def storage(server: S3Server, request: pytest.FixtureRequest) -> Storage:
    return Storage.connect(server.settings(prefix=request.node.name))


@pytest.fixture
def results(storage: Storage) -> SweepResults:
    made = make_results(storage=storage, seed="0..23", guidance_scale=[1.0, 7.5])
    store_images(made, range(made.total))
    return made


def replace_object(results: SweepResults, index: int, body: bytes) -> None:
    key = results.key_of(index)
    assert key is not None
    results.storage.put(key, body, content_type="image/png")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def counts(found: Fetched) -> tuple[int, int, int, int]:
    return found.written, found.skipped, found.missing, found.damaged


def test_every_image_comes_whole_and_under_its_name(results: SweepResults, tmp_path: Path) -> None:
    seen: list[int] = []
    found = fetch(
        results, range(48), tmp_path / "deep" / "out", progress=lambda now: seen.append(now.total)
    )
    assert counts(found) == (48, 0, 0, 0)
    assert seen == list(range(1, 49))
    names = files(found.folder)
    assert names[3] == "000003_seed=1_guidance_scale=7.5.png"
    assert len(names) == 48
    for index, name in enumerate(names):
        assert (found.folder / name).read_bytes() == make_image(results, index)
    assert found.bytes == sum((found.folder / name).stat().st_size for name in names)
    assert not (found.folder / PARTS).exists()


def test_a_second_fetch_downloads_nothing(results: SweepResults, tmp_path: Path) -> None:
    fetch(results, range(48), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert counts(fetch(results, range(48), tmp_path)) == (0, 48, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_only_the_images_asked_for_are_fetched(results: SweepResults, tmp_path: Path) -> None:
    found = fetch(results, iter([5, 7]), tmp_path, name="{seed:03}/{guidance_scale}")
    assert counts(found) == (2, 0, 0, 0)
    assert files(tmp_path) == ["002/7.5.png", "003/7.5.png"]


def test_a_file_that_was_cut_or_swapped_is_fetched_again(
    results: SweepResults, tmp_path: Path
) -> None:
    fetch(results, range(48), tmp_path)
    cut, swapped, empty = sorted(tmp_path.iterdir())[:3]
    cut.write_bytes(cut.read_bytes()[:-20])
    swapped.write_bytes(make_image(results, 9))
    empty.write_bytes(b"")
    assert counts(fetch(results, range(48), tmp_path)) == (3, 45, 0, 0)
    assert swapped.read_bytes() == make_image(results, 1)


def test_missing_and_damaged_objects_are_reported_and_not_written(
    results: SweepResults, tmp_path: Path
) -> None:
    images = [make_image(results, index) for index in range(5)]
    results.storage.delete(str(results.key_of(0)))
    replace_object(results, 1, images[1][:200])
    flipped = bytearray(images[2])
    flipped[-40] ^= 1
    replace_object(results, 2, bytes(flipped))
    replace_object(results, 3, images[4])
    replace_object(results, 4, images[4] + b"more")
    found = fetch(results, range(7), tmp_path)
    assert counts(found) == (2, 0, 1, 4)
    reasons = {problem.index: problem.reason for problem in found.problems}
    assert reasons[0] == "is not in storage"
    assert reasons[1] == "is cut off after 200 bytes"
    assert reasons[2].startswith("is damaged near byte ")
    assert reasons[3].startswith("is another job's image (")
    assert reasons[4] == "goes on after its end"
    assert [name[:6] for name in files(tmp_path)] == ["000005", "000006"]


def test_an_object_that_breaks_off_does_not_stop_the_others(
    server: S3Server, storage: Storage, results: SweepResults, tmp_path: Path
) -> None:
    # cut behind the server's back: the first time it promises the old size
    uri = storage.uri(str(results.key_of(1)))
    path = server.folder / uri.removeprefix("s3://seedbed/")
    path.write_bytes(path.read_bytes()[:200])
    assert counts(fetch(results, range(48), tmp_path)) == (47, 0, 0, 1)


def test_an_object_that_cannot_be_read_does_not_stop_the_others(
    results: SweepResults, tmp_path: Path
) -> None:
    get, broken = results.storage.get, results.key_of(1)

    def failing_get(key: str) -> bytes:
        if key == broken:
            raise StorageError(f"cannot read {key}: the disk says InternalError")
        return get(key)

    results.storage.get = failing_get  # type: ignore[method-assign]
    found = fetch(results, range(48), tmp_path)
    assert counts(found) == (47, 0, 0, 1)
    (problem,) = found.problems
    assert (problem.index, problem.title) == (1, "#1 seed=0, guidance_scale=7.5")
    assert problem.reason.endswith("InternalError")


def test_an_image_whose_weights_nobody_has_shown_is_missing(
    storage: Storage, tmp_path: Path
) -> None:
    found = fetch(make_results(storage=storage, pin=None), range(1), tmp_path)
    assert counts(found) == (0, 0, 1, 0)
    assert found.problems[0].reason == "has no worker yet that claimed from its model"


def test_an_interrupted_fetch_goes_on_where_it_stopped(
    results: SweepResults, tmp_path: Path
) -> None:
    def stop_at_ten(now: Fetched) -> None:
        if now.total == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(results, range(48), tmp_path, progress=stop_at_ten)
    whole = files(tmp_path)
    assert 10 <= len(whole) < 48
    found = fetch(results, range(48), tmp_path)
    assert counts(found) == (48 - len(whole), len(whole), 0, 0)
    assert not (tmp_path / PARTS).exists()


def test_threads_end_with_the_fetch(results: SweepResults, tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="stop"):
        fetch(
            results,
            range(48),
            tmp_path,
            progress=lambda _: (_ for _ in ()).throw(RuntimeError("stop")),
        )
    assert threading.active_count() == before


SCRIPT = """
import sys
from pathlib import Path
from producer.fetch import fetch
from shared.settings import Settings
from shared.storage import Storage
from tests.results import make_results

url, access_key, secret_key, prefix, folder = sys.argv[1:]
storage = Storage.connect(Settings(
    s3_endpoint_url=url, access_key=access_key, secret_key=secret_key, prefix=prefix))
results = make_results(storage=storage, seed="0..23", guidance_scale=[1.0, 7.5])
fetch(results, (index % 48 for index in range(10**6)), Path(folder), name="{index}",
      progress=lambda now: print(now.total, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_leaves_whole_files_only(
    server: S3Server,
    results: SweepResults,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    number: signal.Signals,
) -> None:
    arguments = [server.url, server.access_key, server.secret_key, request.node.name, str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(number)
        asked = time.monotonic()
        process.stdout.read()
        process.wait(30)
    assert time.monotonic() - asked < 10
    whole = [name for name in files(tmp_path) if not name.startswith(PARTS)]
    assert len(whole) >= 5
    for name in whole:
        index = int(name.removesuffix(".png"))
        assert (tmp_path / name).read_bytes() == make_image(results, index)


def test_half_written_files_of_a_dead_fetch_are_cleared_and_live_ones_left(
    results: SweepResults, tmp_path: Path
) -> None:
    parts = tmp_path / PARTS
    parts.mkdir()
    for name in ("old", "new"):
        (parts / name).write_bytes(b"half")
    os.utime(parts / "old", (0, 0))
    fetch(results, range(2), tmp_path)
    assert files(parts) == ["new"]


def test_downloads_run_side_by_side(results: SweepResults, tmp_path: Path) -> None:
    get, under_way, most = results.storage.get, [], []

    def slow_get(key: str) -> bytes:
        under_way.append(key)
        most.append(len(under_way))
        time.sleep(0.02)
        under_way.remove(key)
        return get(key)

    results.storage.get = slow_get  # type: ignore[method-assign]
    fetch(results, range(48), tmp_path, workers=8)
    assert 4 <= max(most) <= 8


def test_indices_are_read_as_the_download_goes_on(results: SweepResults, tmp_path: Path) -> None:
    ahead = 0

    def indices() -> Iterator[int]:
        nonlocal ahead
        for index in range(48):
            ahead += 1
            yield index

    furthest: list[int] = []
    fetch(
        results,
        indices(),
        tmp_path,
        workers=2,
        progress=lambda now: furthest.append(ahead - now.total),
    )
    assert max(furthest) <= 4


def test_a_bad_template_is_refused_before_anything_is_made(
    results: SweepResults, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSweep, match="same name"):
        fetch(results, range(48), tmp_path / "out", name="{seed}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/deeper", "/proc/seedbed"])
def test_a_folder_that_cannot_be_one_is_named(
    results: SweepResults, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(InvalidSettings, match=r"cannot write to '.*(file|proc).*name another"):
        fetch(results, range(48), tmp_path / place)


def test_a_folder_in_a_files_place_is_named(results: SweepResults, tmp_path: Path) -> None:
    (tmp_path / "0.png").mkdir()
    with pytest.raises(InvalidSettings, match="in the way"):
        fetch(results, range(1), tmp_path, name="{index}")


def test_a_full_disk_is_said_in_one_sentence(
    results: SweepResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if data:
            write_bytes(self, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InvalidSettings, match="the disk is full; make room and fetch again"):
        fetch(results, range(48), tmp_path)
    assert files(tmp_path) == []


def test_storage_that_went_down_is_an_error_and_not_a_missing_image(tmp_path: Path) -> None:
    with rclone_server() as server:
        storage = Storage.connect(server.settings())
        results = make_results(storage=storage, seed="0..7")
        store_images(results, range(8))
        fetch(results, range(4), tmp_path)
    with pytest.raises(StorageError, match="nobody answers"):
        fetch(results, range(8), tmp_path)
    assert len(files(tmp_path)) == 4


def test_results_are_read_from_storage_alone(storage: Storage, tmp_path: Path) -> None:
    made = make_results(storage=storage, seed="0..3")
    store_images(made, range(4))
    sweep_id, model = made.manifest.sweep_id, made.layout.blocks[0].model
    storage.put(
        manifest_key(sweep_id), made.manifest.text.encode(), content_type="application/json"
    )
    storage.put(pin_key(sweep_id, model), PIN.to_text().encode(), content_type="application/json")
    opened = SweepResults.open(None, storage, sweep_id)
    assert opened.manifest == made.manifest
    assert counts(fetch(opened, range(4), tmp_path)) == (4, 0, 0, 0)


@pytest.mark.parametrize("sweep_id", ["sweep-000000000000", "../x", "", "a/b"])
def test_a_sweep_that_nobody_knows_is_named(storage: Storage, sweep_id: str) -> None:
    with pytest.raises(UnknownSweep):
        SweepResults.open(None, storage, sweep_id)
