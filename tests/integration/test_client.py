"""The Python API on a real Redis and a real bucket; the worker is played by hand."""

from __future__ import annotations

import pytest

from producer import Client, Sweep
from shared.doorbell import broker_prefix, doorbell_queue
from shared.errors import (
    InvalidInput,
    InvalidSettings,
    QueueUnavailable,
    StorageError,
    UnknownSweep,
    WaitTimeout,
)
from shared.records import manifest_key
from shared.settings import Settings
from tests.factories import make_pin, make_sweep
from tests.producer_pool import MODEL_KEY, HandWorker

DOORBELL = broker_prefix("default") + doorbell_queue("default", MODEL_KEY)


def sweep_of(jobs: int, **fields: object) -> Sweep:
    return make_sweep(name="study", seed=range(jobs), **fields)


def flush(client: Client) -> None:
    client.queue.client.flushall()


def test_submit_queues_the_jobs_and_stores_the_manifest(client: Client) -> None:
    sweep = sweep_of(40, guidance_scale=[1, 4])

    submission = client.submit(sweep)

    assert (submission.outcome, submission.total) == ("created", 80)
    assert client.status(sweep.id).pending == 80
    assert client.storage.get(manifest_key(sweep.id)).decode() == sweep.manifest.text
    assert client.layout(sweep.id).manifest == sweep.manifest


def test_submit_of_a_sweep_under_way_changes_nothing(client: Client, worker: HandWorker) -> None:
    sweep = sweep_of(8)
    client.submit(sweep)
    worker.work(sweep, 3)

    again = client.submit(sweep)

    assert again.outcome == "unchanged"
    assert client.status(sweep.id).done == 3


def test_submit_rings_each_models_doorbell_once(client: Client) -> None:
    sweep = sweep_of(4)
    client.submit(sweep)
    client.submit(sweep)
    assert client.queue.client.llen(DOORBELL) == 1


def test_a_finished_sweep_is_done_at_once(client: Client, worker: HandWorker) -> None:
    sweep = sweep_of(4)
    client.submit(sweep)
    worker.complete(sweep)

    submission = client.submit(sweep)

    assert (submission.outcome, submission.state, submission.missing) == ("done", "done", 0)


def test_a_finished_sweep_is_reopened_where_images_are_gone(
    client: Client, worker: HandWorker
) -> None:
    # given a finished sweep that lost two of its images
    sweep = sweep_of(6, guidance_scale=[1, 4])
    client.submit(sweep)
    worker.complete(sweep)
    stored = list(client.storage.list("images/"))
    for found in stored[:2]:
        client.storage.delete(found.key)

    # when it is submitted again
    submission = client.submit(sweep)

    # then those two are rendered again and nothing else
    assert (submission.outcome, submission.missing, submission.state) == ("repaired", 2, "running")
    assert client.status(sweep.id).pending == 2
    assert worker.work(sweep) == 2
    assert {found.key for found in client.storage.list("images/")} == {s.key for s in stored}


def test_a_complete_sweep_that_redis_lost_is_done_without_a_worker(
    client: Client, worker: HandWorker
) -> None:
    sweep = sweep_of(30, guidance_scale=[1, 4])
    client.submit(sweep)
    worker.complete(sweep)
    flush(client)

    submission = client.submit(sweep)

    assert (submission.outcome, submission.reused) == ("created", 60)
    assert client.status(sweep.id).done == 60
    assert worker.claim(1) is None


def test_a_part_of_a_sweep_is_taken_from_storage_if_a_worker_has_the_same_weights(
    client: Client, worker: HandWorker
) -> None:
    sweep = sweep_of(10)
    client.submit(sweep)
    worker.work(sweep, 7)
    flush(client)
    worker.announce()

    assert client.submit(sweep).reused == 7
    assert worker.work(sweep) == 3


@pytest.mark.parametrize("somebody_is_there", [True, False])
def test_a_part_of_a_sweep_is_never_mixed_with_other_weights(
    client: Client, worker: HandWorker, somebody_is_there: bool
) -> None:
    sweep = sweep_of(10)
    client.submit(sweep)
    worker.work(sweep, 7)
    flush(client)
    if somebody_is_there:
        HandWorker(client, make_pin(weights="sha256:others")).announce()

    assert client.submit(sweep).reused == 0


def test_a_cancelled_sweep_starts_again_from_what_storage_holds(
    client: Client, worker: HandWorker
) -> None:
    sweep = sweep_of(10)
    client.submit(sweep)
    worker.announce()
    worker.work(sweep, 4)
    assert client.cancel(sweep.id) == "cancelled"

    submission = client.submit(sweep)

    assert (submission.outcome, submission.reused) == ("restarted", 4)
    assert client.status(sweep.id).pending == 6


def test_a_sweep_without_reuse_takes_nothing_from_storage(
    client: Client, worker: HandWorker
) -> None:
    sweep = sweep_of(4, reuse=False)
    client.submit(sweep)
    worker.complete(sweep)
    flush(client)
    assert client.submit(sweep).reused == 0


def test_a_pin_of_another_version_is_not_trusted(client: Client, worker: HandWorker) -> None:
    sweep = sweep_of(4)
    client.submit(sweep)
    worker.complete(sweep)
    flush(client)
    client.storage.put(
        f"sweeps/{sweep.id}/pins/{MODEL_KEY}.json", b'{"weights":1}', content_type="text/plain"
    )
    assert client.submit(sweep).reused == 0


def test_a_storage_that_is_down_leaves_the_queue_alone(settings: Settings) -> None:
    with Client(settings.with_values(s3_endpoint_url="http://127.0.0.1:9")) as client:
        with pytest.raises(StorageError, match="nobody answers"):
            client.submit(sweep_of(4))
        assert client.sweeps() == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"bucket": "no-such-bucket"}, "does not exist"),
        ({"secret_key": "wrong"}, "does not accept the secret"),
    ],
)
def test_wrong_storage_settings_leave_the_queue_alone(
    settings: Settings, wrong: dict[str, str], words: str
) -> None:
    with Client(settings.with_values(**wrong)) as client:
        with pytest.raises(InvalidSettings, match=words):
            client.submit(sweep_of(4))
        assert client.sweeps() == []


def test_a_redis_that_is_down_leaves_storage_alone(settings: Settings) -> None:
    with Client(settings.with_values(redis_url="redis://127.0.0.1:9/0")) as client:
        with pytest.raises(QueueUnavailable):
            client.submit(sweep_of(4))
        assert list(client.storage.list()) == []


def test_a_producer_without_credentials_submits_all_the_same(
    settings: Settings,
    client: Client,
    worker: HandWorker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: object,
) -> None:
    finished = make_sweep(name="finished")
    client.submit(finished)
    worker.complete(finished)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/none")
    with Client(settings.with_values(access_key=None, secret_key=None)) as stranger:
        assert stranger.submit(sweep_of(4)).outcome == "created"
        again = stranger.submit(finished)
        assert (again.outcome, again.checked) == ("done", False)


def test_another_sweep_of_the_same_id_is_refused_and_keeps_its_manifest(client: Client) -> None:
    # given a sweep whose id is taken, which takes 48 equal bits of a digest
    sweep, other = sweep_of(4), sweep_of(5)
    client.submit(sweep)
    other.manifest.__dict__["digest"] = sweep.manifest.digest[:12] + "0" * 52

    with pytest.raises(InvalidInput, match="another sweep"):
        client.submit(other)

    assert client.storage.get(manifest_key(sweep.id)).decode() == sweep.manifest.text


def test_sweeps_are_found_by_id_beginning_and_name(client: Client) -> None:
    sweep = sweep_of(4)
    client.submit(sweep)
    client.submit(make_sweep(name="study-two"))
    assert client.find(sweep.id) == sweep.id
    assert client.find(sweep.id[:9]) == sweep.id
    assert client.find("study") == sweep.id
    with pytest.raises(InvalidInput, match="write more of the id"):
        client.find("stu")
    with pytest.raises(UnknownSweep, match="seedbed ls"):
        client.find("nobody")


def test_two_sweeps_of_one_name_are_told_apart_by_their_ids(client: Client) -> None:
    client.submit(sweep_of(4))
    client.submit(sweep_of(5))
    with pytest.raises(InvalidInput, match=r"'study' can be study-\w+, study-\w+"):
        client.status("study")


def test_pause_holds_jobs_back_and_resume_rings(client: Client, worker: HandWorker) -> None:
    sweep = sweep_of(4)
    client.submit(sweep)
    assert client.pause("study") == "paused"
    assert worker.claim(1) is None
    client.queue.client.delete(DOORBELL)
    assert client.resume("study") == "running"
    assert client.queue.client.llen(DOORBELL) == 1


def test_delete_forgets_the_sweep_and_keeps_its_images(client: Client, worker: HandWorker) -> None:
    sweep = sweep_of(4)
    client.submit(sweep)
    worker.complete(sweep)
    assert client.delete("study") == sweep.id
    assert client.sweeps() == []
    assert len(list(client.storage.list("images/"))) == 4


def test_a_malformed_sweep_can_be_deleted(client: Client) -> None:
    sweep = sweep_of(4)
    client.submit(sweep)
    client.queue.client.hdel(client.queue.keys.sweep(sweep.id), "state", "total")
    assert client.delete(sweep.id) == sweep.id
    assert client.submit(sweep).outcome == "created"


def test_failures_and_retry_speak_of_the_users_indices(client: Client, worker: HandWorker) -> None:
    # given a sweep whose blocks are not in the user's order
    sweep = make_sweep(name="study", guidance_scale=[4, 1, 7], seed=range(2))
    client.submit(sweep)
    worker.fail(6, "no such pipeline")
    worker.fail(6, "no such pipeline")

    # when its failures are listed
    failures = client.failures(sweep.id)

    # then each index is that of the job that failed, and can be revived by it
    assert sorted(failure.index for failure in failures) == list(range(6))
    assert all(failure.dead for failure in failures)
    assert client.retry(sweep.id, indices=[2, 3]) == 2
    (share,) = worker.claim(6).shares  # type: ignore[union-attr]
    assert {sweep.layout.index_of(position) for position in share.positions} == {2, 3}


def test_retry_refuses_an_index_outside_the_sweep(client: Client) -> None:
    client.submit(sweep_of(4))
    with pytest.raises(InvalidInput, match=r"index 4 .* 0 to 3"):
        client.retry("study", indices=[4])


def test_wait_returns_when_the_sweep_is_done(client: Client, worker: HandWorker) -> None:
    sweep = sweep_of(4)
    client.submit(sweep)
    worker.complete(sweep)
    assert client.wait("study", timeout_seconds=5).done == 4


def test_wait_gives_up_in_time_and_says_how_far_it_was(client: Client, worker: HandWorker) -> None:
    sweep = sweep_of(4)
    client.submit(sweep)
    worker.work(sweep, 1)
    with pytest.raises(WaitTimeout, match="1 of 4 images"):
        client.wait("study", timeout_seconds=0.2)


def test_a_client_without_redis_says_how_to_get_one() -> None:
    with pytest.raises(InvalidSettings, match="seedbed up"):
        Client(Settings())
