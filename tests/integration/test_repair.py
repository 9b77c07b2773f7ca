"""Repair makes the queue say what storage holds, whatever was lost on either side, and no more."""

from __future__ import annotations

import json

import pytest

from producer import Client, Sweep
from producer.repair import Repaired, Repairer
from shared.errors import InvalidInput, UnknownSweep
from shared.records import manifest_key, pin_key
from tests.command_line import Call
from tests.factories import make_sweep
from tests.producer_pool import MODEL_KEY, HandWorker
from tests.queue_play import snapshot


def study(**fields: object) -> Sweep:
    """Two blocks, whose positions are not in the user's order."""
    return make_sweep(**{"name": "study", "guidance_scale": [4, 1], "seed": range(8)} | fields)


def key_of(client: Client, index: int) -> str:
    key = client.results("study").key_of(index)
    assert key is not None
    return key


def damage(client: Client, *indices: int) -> None:
    for index in indices:
        key = key_of(client, index)
        body = bytearray(client.storage.get(key))
        body[-20] ^= 1
        client.storage.put(key, bytes(body), content_type="image/png")


def lose(client: Client, *indices: int) -> None:
    for index in indices:
        client.storage.delete(key_of(client, index))


def counts(found: Repaired) -> dict[str, int]:
    names = ("uncounted", "missing", "damaged", "unreadable", "left")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def lost_keys(client: Client, *names: str) -> None:
    base = client.queue.keys.base
    assert client.queue.client.delete(*[f"{base}:{name}" for name in names]) == len(names)


def test_a_sound_sweep_is_left_as_it_is(client: Client, worker: HandWorker) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep, 5)
    worker.claim(2)
    before = snapshot(client.queue)

    found = client.repair("study")

    assert found.sound
    assert (found.stored, found.total, found.state) == (5, 16, "running")
    assert snapshot(client.queue) == before


@pytest.mark.parametrize("ended", [True, False])
def test_missing_and_damaged_images_are_made_again(
    client: Client, worker: HandWorker, ended: bool
) -> None:
    sweep = study()
    client.submit(sweep)
    if ended:
        worker.complete(sweep)
    else:
        worker.work(sweep, 10)
    done = client.status("study").done
    made = [i for i in range(16) if client.storage.exists(key_of(client, i))]
    lose(client, *made[:2])
    damage(client, *made[2:5])

    found = client.repair("study")

    assert counts(found) == {"missing": 2, "damaged": 3}
    assert {(p.index, p.kind) for p in found.problems} == {
        *((index, "missing") for index in made[:2]),
        *((index, "damaged") for index in made[2:5]),
    }
    status = client.status("study")
    assert (status.state, status.done, status.pending) == ("running", done - 5, 16 - done + 5)
    assert client.queue.census(sweep.id).whole
    assert not client.storage.exists(key_of(client, made[2])), "it would be taken for the image"
    worker.complete(sweep)
    assert client.repair("study").sound
    assert client.status("study").state == "done"


def test_stored_images_that_are_not_counted_are_counted_also_of_dead_jobs(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.complete(sweep)
    client.delete(sweep.id)
    client.queue.submit(client_record(sweep))
    worker.fail(4, "no")

    found = client.repair("study")

    assert counts(found) == {"uncounted": 16}
    status = client.status("study")
    assert (status.done, status.dead, status.state) == (16, 0, "finalising")
    worker.finish()
    assert client.repair("study").sound


def client_record(sweep: Sweep) -> object:
    from producer.submission import make_record

    return make_record(sweep, "tester")


@pytest.mark.parametrize("done", [16, 7])
def test_a_sweep_that_redis_has_lost_is_entered_again_pinned_to_what_rendered_it(
    client: Client, worker: HandWorker, done: int
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep, done)
    client.queue.client.flushall()

    check = client.repair("study", check=True)
    assert (check.lost, check.state, counts(check)) == (True, "unknown", {"uncounted": done})
    with pytest.raises(UnknownSweep):
        client.status("study")
    found = client.repair("study")

    assert (found.lost, counts(found)) == (True, {"uncounted": done})
    status = client.status("study")
    assert (status.done, status.pending, status.owner) == (done, 16 - done, "tester")
    assert status.pins == {MODEL_KEY: worker.pin.to_text()}
    worker.complete(sweep)
    assert client.status("study").state == "done"
    assert client.repair("study").sound


@pytest.mark.parametrize("part", ["retry:{}:0", "bits:{}:0", "cursors:{}", "manifest:{}"])
def test_a_sweep_of_which_redis_has_lost_a_part_is_made_whole(
    client: Client, worker: HandWorker, part: str
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.work(sweep, 3)
    claim = worker.claim(4)
    assert claim is not None
    client.queue.release(claim.token)
    client.pause("study")
    block = claim.shares[0].block
    lost_keys(client, part.format(sweep.id).replace(":0", f":{block}" if "retry" in part else ":0"))

    found = client.repair(sweep.id)

    assert (found.torn, counts(found)) == (True, {"uncounted": 3})
    status = client.status("study")
    assert (status.state, status.done, status.pending) == ("paused", 3, 13)
    assert client.queue.census(sweep.id).whole
    assert client.repair("study").sound
    client.resume("study")
    worker.complete(sweep)
    assert client.status("study").state == "done"


def test_what_a_worker_holds_is_left_to_it(client: Client, worker: HandWorker) -> None:
    sweep = study()
    client.submit(sweep)
    claim = worker.claim(2)
    assert claim is not None
    (share,) = claim.shares
    client.storage.put(
        pin_key(sweep.id, MODEL_KEY), worker.pin.to_text().encode(), content_type="text/plain"
    )
    stored, damaged = (key_of(client, sweep.layout.index_of(p)) for p in share.positions)
    worker._store("unused", share, sweep.layout)  # and commits them
    client.queue.repair(sweep.id, missing=share.positions)
    held = worker.claim(2)
    assert held is not None
    assert held.shares[0].positions == share.positions
    client.storage.put(damaged, b"half an im", content_type="image/png")

    found = client.repair("study")

    assert counts(found) == {"left": 1}
    assert client.status("study").leased == 2
    assert client.storage.exists(damaged)
    assert client.storage.exists(stored)


def test_a_check_changes_nothing_and_a_quick_look_reads_no_image(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.complete(sweep)
    lose(client, 3)
    damage(client, 4)
    before = snapshot(client.queue), list(client.storage.list())

    assert counts(client.repair("study", check=True)) == {"missing": 1, "damaged": 1}
    assert counts(client.repair("study", check=True, read=False)) == {"missing": 1}

    assert (snapshot(client.queue), list(client.storage.list())) == before


def test_repair_in_slices_comes_to_the_same(client: Client, worker: HandWorker) -> None:
    sweep = study(seed=range(20))
    client.submit(sweep)
    worker.complete(sweep)
    lose(client, 0, 9, 21, 39)
    damage(client, 1, 20, 38)
    seen: list[tuple[int, int]] = []
    repairer = Repairer(client.queue, client.storage, "tester")

    found = repairer.repair(
        sweep.id, slice_positions=8, progress=lambda done, total: seen.append((done, total))
    )

    assert counts(found) == {"missing": 4, "damaged": 3}
    assert client.status("study").pending == 7
    assert seen[-1] == (40, 40)


def test_repair_puts_the_manifest_and_the_pins_back_beside_the_images(
    client: Client, worker: HandWorker
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.complete(sweep)
    records = (manifest_key(sweep.id), pin_key(sweep.id, MODEL_KEY))
    before = [client.storage.get(key) for key in records]
    for key in records:
        client.storage.delete(key)
    assert client.repair("study").sound
    assert [client.storage.get(key) for key in records] == before


def test_images_of_a_sweep_that_reuses_none_are_not_counted(
    client: Client, worker: HandWorker
) -> None:
    sweep = study(reuse=False)
    client.submit(sweep)
    worker.complete(sweep)
    client.queue.client.flushall()
    found = client.repair("study")
    assert (found.lost, counts(found)) == (True, {})
    assert client.status("study").pending == 16


def test_a_cancelled_or_unknown_sweep_is_refused_with_the_remedy(
    client: Client, seedbed: Call
) -> None:
    client.submit(study())
    client.cancel("study")
    with pytest.raises(InvalidInput, match="submit it again"):
        client.repair("study")
    for name in ("study", "nobody"):
        answer = seedbed("repair", name)
        assert (answer.code, answer.is_one_sentence) == (2, True), answer.err


def test_the_command_tells_what_it_found_and_did(
    client: Client, worker: HandWorker, seedbed: Call
) -> None:
    sweep = study()
    client.submit(sweep)
    worker.complete(sweep)
    lose(client, 3)
    damage(client, 4, 5)

    answer = seedbed("repair", "study", "--check")
    assert answer.code == 1
    assert answer.out.splitlines() == [
        f"{sweep.id}: 13 of 16 images are stored and whole",
        "  1 counted as done but not in storage: to be rendered again",
        "  2 damaged: to be rendered again",
    ]
    assert "nothing was changed" in answer.err
    answer = seedbed("repair", "study", "--json")
    values = json.loads(answer.out)
    assert (answer.code, values["missing"], values["damaged"], values["state"]) == (
        *(0, 1, 2),
        "running",
    )
    assert {problem["index"] for problem in values["problems"]} == {3, 4, 5}
    worker.complete(sweep)
    answer = seedbed("repair", "study")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[1] == "  nothing to mend"
