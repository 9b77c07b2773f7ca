"""The command line on a real pool: what it prints, how it exits; mistakes write nothing."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from producer import Client
from shared.settings import Settings
from tests.command_line import Call
from tests.factories import make_sweep
from tests.producer_pool import HandWorker

ROOT = Path(__file__).resolve().parents[2]


def nothing_written(client: Client) -> bool:
    return client.queue.client.dbsize() == 0 and list(client.storage.list()) == []


ONE_JOB = ("--name", "study", "--model", "demo", "-p", "a red circle")
SWEEP = (*ONE_JOB, "--seed", "0..3")


def test_submit_prints_the_id_on_stdout_and_prose_on_stderr(seedbed: Call, client: Client) -> None:
    answer = seedbed("submit", *SWEEP)
    (status,) = client.sweeps()
    assert (answer.code, answer.out) == (0, f"{status.id}\n")
    assert answer.err == "queued 4 images\n"


def test_submit_twice_says_that_it_is_under_way(seedbed: Call) -> None:
    seedbed("submit", *SWEEP)
    answer = seedbed("submit", *SWEEP, "--json")
    assert json.loads(answer.out)["outcome"] == "unchanged"


def test_options_override_the_file_and_come_after_its_axes(seedbed: Call, client: Client) -> None:
    Path("s.yaml").write_text("name: study\nmodel: demo\nprompt: a\nseed: 0..7\n")
    answer = seedbed("submit", "s.yaml", "--guidance-scale", "1,4", "--seed", "3,5")
    axes = client.layout(answer.out.strip()).manifest.axes
    assert [(axis.fields, tuple(axis.columns[0])) for axis in axes] == [
        (("seed",), (3, 5)),
        (("guidance_scale",), (1.0, 4.0)),
    ]


def test_the_order_of_options_is_the_order_of_axes(seedbed: Call, client: Client) -> None:
    answer = seedbed(
        *("submit", "--model", "demo", "--seed", "0..1", "-p", "a, b", "-p", "-c"),
        *("--scheduler", "null,DDIMScheduler", "--no-negative-prompt", "--negative-prompt", "x,y"),
    )
    manifest = client.layout(answer.out.strip()).manifest
    assert manifest.fields_by_axis == ("seed", "prompt", "scheduler", "negative_prompt")
    assert manifest.axes[1].columns[0] == ("a, b", "-c")
    assert manifest.axes[2].columns[0] == (None, "DDIMScheduler")
    assert manifest.axes[3].columns[0] == (None, "x,y")


def test_a_sweep_comes_in_by_standard_input(settings: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "producer.cli.main", "submit", "-"],
        input=b'{"model": "demo", "prompt": "a", "seed": "0..9"}',
        cwd=ROOT,
        env={**os.environ, **settings.to_environ()},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"queued 10 images\n")


def test_repeated_values_are_dropped_and_told(seedbed: Call) -> None:
    answer = seedbed("submit", *SWEEP, "--guidance-scale", "4,4.0")
    assert "note: guidance_scale: 1 repeated value dropped" in answer.err


def test_status_counts_and_lists_failures(
    seedbed: Call, client: Client, worker: HandWorker
) -> None:
    sweep = make_sweep(name="study", seed="0..7")
    client.submit(sweep)
    worker.work(sweep, 3)
    worker.fail(2, "the \x1b[31mpipeline\nbroke")

    answer = seedbed("status", "study")

    assert "done       3 of 8" in answer.out
    assert "failed     2" in answer.out
    assert r"after 0 tries: the \x1b[31mpipeline\nbroke" in answer.err
    facts = json.loads(seedbed("status", "study", "--json").out)
    assert (facts["done"], facts["dead"], facts["pending"]) == (3, 2, 3)
    assert {failure["reason"] for failure in facts["failures"]} == {"the \x1b[31mpipeline\nbroke"}


def test_status_and_watch_say_why_a_sweep_waits_and_what_the_pool_serves(
    seedbed: Call, client: Client, worker: HandWorker
) -> None:
    sweep = make_sweep(name="study", model=["demo", "owner/other"], vae=[None, "owner/vae"])
    client.submit(sweep)
    (line,) = [line for line in seedbed("status", "study").out.splitlines() if "demo' with" in line]
    assert line == (
        "waiting    no worker is ready in the pool, and the sweep needs model 'demo' with vae "
        "'owner/vae': start one with 'seedbed worker --model demo --vae=owner/vae', "
        "or wait for one that is starting"
    )

    worker.announce()
    worker.work(sweep)

    waiting = [
        "no worker serves model 'demo' with vae 'owner/vae', and none may load vae 'owner/vae' "
        "(the pool serves demo): start one with 'seedbed worker --model demo --vae=owner/vae'",
        "no worker serves model 'owner/other' (the pool serves demo): "
        "start one with 'seedbed worker --model owner/other'",
        "no worker serves model 'owner/other' with vae 'owner/vae' (the pool serves demo): "
        "start one with 'seedbed worker --model owner/other --vae=owner/vae'",
    ]
    said = seedbed("status", "study").out.splitlines()
    assert [line for line in said if line.startswith("waiting")] == [
        f"waiting    {text}" for text in waiting
    ]
    assert json.loads(seedbed("status", "study", "--json").out)["waiting"] == waiting
    watched = seedbed("watch", "study", "--timeout", "0")
    assert (watched.code, watched.err.splitlines()[1:-1]) == (
        3, [f"waiting: {text}" for text in waiting]
    )  # fmt: skip
    assert seedbed("pause", "study").code == 0
    assert "waiting" not in seedbed("status", "study").out


def test_ls_lists_the_newest_first(seedbed: Call) -> None:
    assert seedbed("ls").out == ""
    first = seedbed("submit", *SWEEP).out.strip()
    second = seedbed("submit", *SWEEP, "--name", "other").out.strip()
    assert [line.split()[0] for line in seedbed("ls").out.splitlines()] == ["SWEEP", second, first]
    assert [found["id"] for found in json.loads(seedbed("ls", "--json").out)] == [second, first]


def test_a_sweep_is_paused_resumed_cancelled_and_deleted(seedbed: Call, client: Client) -> None:
    sweep_id = seedbed("submit", *SWEEP).out.strip()
    assert seedbed("pause", "study").err == f"{sweep_id}: paused\n"
    assert json.loads(seedbed("resume", "study", "--json").out)["state"] == "running"
    assert seedbed("cancel", "study").err == f"{sweep_id}: cancelled\n"
    assert seedbed("delete", "study").code == 0
    assert client.sweeps() == []


def test_retry_revives_the_given_jobs(seedbed: Call, client: Client, worker: HandWorker) -> None:
    client.submit(make_sweep(name="study", seed="0..3"))
    worker.fail(4, "no")
    assert json.loads(seedbed("retry", "study", "--index", "2", "--json").out)["revived"] == 1
    assert seedbed("retry", "study").err.endswith("3 jobs revived\n")


def test_retry_takes_lists_and_ranges_of_indices(
    seedbed: Call, client: Client, worker: HandWorker
) -> None:
    client.submit(make_sweep(name="study", seed="0..9"))
    worker.fail(10, "no")
    arguments = ("--index", "1,3..7..2", "--index", "9", "--index", "3")
    assert seedbed("retry", "study", *arguments).err.endswith("5 jobs revived\n")
    assert {job.index for job in client.dead_jobs("study")} == {0, 2, 4, 6, 8}
    for wrong, words in (("x", "'x' is no index"), ("7..3", "'7..3' is an empty range")):
        answer = seedbed("retry", "study", "--index", wrong)
        assert (answer.code, answer.out) == (2, "")
        assert words in answer.err
    answer = seedbed("retry", "study", "--index", "0..10")
    assert (answer.code, answer.is_one_sentence) == (2, True)
    assert "index 10 is not in sweep" in answer.err
    assert client.status("study").dead == 5


def test_failures_lists_the_dead_with_the_command_that_renders_each_alone(
    seedbed: Call, client: Client, worker: HandWorker
) -> None:
    sweep = make_sweep(name="study", prompt=["a red circle", "it's -- a star"], seed="0..3")
    client.submit(sweep)
    assert seedbed("failures", "study").err.endswith("no job was given up\n")
    worker.fail(6, "the \x1b[31mpipeline\nbroke")

    found = json.loads(seedbed("failures", "study", "--json").out)

    assert (found["sweep_id"], found["dead"]) == (sweep.id, 6)
    assert [job["index"] for job in found["jobs"]] == sorted(job["index"] for job in found["jobs"])
    for entry in found["jobs"]:
        assert (entry["worker"], entry["attempts"]) == ("hand", 0)
        assert shlex.split(entry["command"]) == entry["arguments"]
        # the command makes a sweep of just this job
        submitted = seedbed("plan", *entry["arguments"][2:], "--json")
        assert json.loads(submitted.out)["jobs"] == 1
        options = entry["arguments"]
        job = sweep.layout.job(entry["index"])
        assert options[options.index("-p") + 1] == job.prompt
    answer = seedbed("failures", "study", "--limit", "2")
    assert answer.out.count("seedbed run --model demo") == 2
    assert r"the \x1b[31mpipeline\nbroke" in answer.out
    assert answer.err.startswith("6 jobs given up, 2 shown; --limit 0 shows all; 'seedbed retry ")


def test_watch_ends_with_the_sweep(seedbed: Call, client: Client, worker: HandWorker) -> None:
    sweep = make_sweep(name="study", seed="0..3")
    client.submit(sweep)
    worker.complete(sweep)
    assert seedbed("watch", "study").err == "4/4 images\n"
    lines = seedbed("watch", "study", "--json").out.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["done"]


def test_watch_exits_1_when_jobs_failed(seedbed: Call, client: Client, worker: HandWorker) -> None:
    client.submit(make_sweep(name="study", seed="0..3"))
    worker.fail(4, "no such pipeline")
    worker.finish()
    answer = seedbed("watch", "study")
    assert answer.code == 1
    assert "job 0: failed after 0 tries: no such pipeline" in answer.err


def test_watch_exits_3_when_it_has_waited_long_enough(seedbed: Call) -> None:
    seedbed("submit", *SWEEP)
    answer = seedbed("watch", "study", "--timeout", "0.1")
    assert answer.code == 3
    assert "0 of 4 images" in answer.err


def test_plan_writes_nothing(seedbed: Call, client: Client) -> None:
    answer = seedbed("plan", *SWEEP, "--price-per-hour", "2")
    assert answer.code == 0
    assert "jobs       4 = 4 seed" in answer.out
    assert "no worker serves demo now" in answer.err
    assert nothing_written(client)


def test_plan_needs_no_pool(bare: Call) -> None:
    plan = json.loads(bare("plan", *SWEEP, "--json").out)
    assert (plan["jobs"], plan["models"][0]["workers"]) == (4, None)


def test_schema_is_json(bare: Call) -> None:
    assert json.loads(bare("schema").out)["title"] == "Seedbed manifest"


def test_doctor_finds_a_sound_pool(seedbed: Call, client: Client, worker: HandWorker) -> None:
    worker.announce()
    answer = seedbed("doctor", "--json")
    findings = {item["check"]: item for item in map(json.loads, answer.out.splitlines())}
    assert answer.code == 0
    assert findings["redis"]["level"] == "ok"
    assert findings["redis persistence"]["text"] == "append-only file is on"
    assert findings["redis eviction"]["text"] == "noeviction"
    assert findings["storage"]["level"] == "ok"
    assert "does not answer Celery's ping" in findings["workers"]["text"]
    assert findings["model"]["text"] == "served: demo"
    assert list(client.storage.list()) == []


def test_doctor_looks_at_a_model_of_this_machine(seedbed: Call, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    answer = seedbed("doctor", "--model", str(tmp_path / "checkpoint"))
    assert answer.code == 1
    assert f"model {str(tmp_path / 'checkpoint')!r} has no model_index.json" in answer.out


def test_doctor_tells_of_a_redis_that_may_forget(
    seedbed: Call, client: Client, settings: Settings
) -> None:
    client.queue.client.config_set("appendonly", "no")
    client.queue.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        answer = seedbed("doctor")
    finally:
        client.queue.client.config_set("appendonly", "yes")
        client.queue.client.config_set("maxmemory-policy", "noeviction")
    assert "set 'appendonly yes' and 'appendfsync everysec'" in answer.out
    assert "set 'maxmemory-policy noeviction'" in answer.out


def test_doctor_goes_on_after_a_service_that_is_down(
    seedbed: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEEDBED_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    answer = seedbed("doctor")
    assert answer.code == 1
    assert "fail  storage" in answer.out
    assert "ok    redis" in answer.out


def test_run_on_a_configured_pool_fetches_what_is_done(
    seedbed: Call, client: Client, worker: HandWorker
) -> None:
    sweep = make_sweep(name="study", seed="0..3")
    client.submit(sweep)
    worker.complete(sweep)
    answer = seedbed("run", *SWEEP)
    assert answer.code == 0, answer.err
    assert "all of 4 images done already" in answer.err
    assert len(list(Path("study").glob("0*.png"))) == 4
    assert not Path("seedbed-data").exists()


def test_run_refuses_a_worker_option_where_the_pool_has_its_own_workers(
    seedbed: Call, client: Client
) -> None:
    answer = seedbed("run", *ONE_JOB, "--device", "cpu")
    assert answer.code == 2
    assert answer.is_one_sentence
    assert "leave --device out" in answer.err
    assert nothing_written(client)


def test_run_of_a_complete_sweep_that_redis_lost_needs_no_worker(
    seedbed: Call, client: Client, worker: HandWorker
) -> None:
    sweep = make_sweep(name="study", seed="0..3")
    client.submit(sweep)
    worker.complete(sweep)
    client.queue.client.flushall()
    answer = seedbed("run", *SWEEP)
    assert answer.code == 0, answer.err
    assert "queued 4 images, 4 of them in storage already" in answer.err
    assert len(list(Path("study").glob("0*.png"))) == 4


def test_run_keeps_the_place_of_the_model_among_the_axes(
    seedbed: Call, client: Client, worker: HandWorker
) -> None:
    sweep = make_sweep(name="study", seed="0..1", model=["demo", "other"])
    client.submit(sweep)
    answer = seedbed("submit", *ONE_JOB, "--seed", "0..1", "--model", "other")
    assert answer.out == f"{sweep.id}\n"


def test_run_tells_of_jobs_that_were_given_up(
    seedbed: Call, client: Client, worker: HandWorker
) -> None:
    client.submit(make_sweep(name="study", seed="0..3"))
    worker.fail(4, "no such pipeline")
    worker.finish()
    answer = seedbed("run", *SWEEP)
    assert answer.code == 1
    assert "job 3: failed after 0 tries: no such pipeline" in answer.err
    assert "'seedbed run --retry ...' gives them another chance" in answer.err


def test_a_worker_without_its_packages_says_what_to_install(
    seedbed: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = seedbed("worker", "--model", "demo")
    assert answer.code == 2
    assert answer.is_one_sentence
    assert "pip install 'seedbed[worker]'" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--model is missing"),
        (
            ("--model", "demo", "--batch-size", "0"),
            "--batch-size '0' is not a whole number from 1 to 1024",
        ),
        (
            ("--model", "demo", "--gpu-seconds", "0"),
            "--gpu-seconds '0' is not a number from 0.1 to 86400",
        ),
        (("--model", "demo", "--attention-slicing", "no"), "--attention-slicing 'no' is not"),
    ],
)
def test_a_worker_refuses_options_that_cannot_be(
    seedbed: Call, arguments: tuple[str, ...], words: str
) -> None:
    answer = seedbed("worker", *arguments)
    assert answer.code == 2
    assert answer.is_one_sentence
    assert words in answer.err


BAD_SWEEPS = [
    (("--seed", ""), "seed '' is not a whole number"),
    (("--height", "63"), "height 63 is not a multiple of 8: write 56 or 64"),
    (("--height", "0"), "height 0 is not a whole number from 8 to 8192"),
    (("--guidance-scale", "nan"), "guidance_scale 'nan' is not a number"),
    (("--guidance-scale", "1e999"), "guidance_scale '1e999' is not a number"),
    (("--guidance-scale", "-1"), "guidance_scale -1.0 is not a number from 0"),
    (("--scheduler", "DDIM"), "did you mean 'DDIMScheduler'?"),
    (("--seed", "0..1000000000"), "at most 1,000,000,000"),
    (("--seed", "7..0"), "is an empty range"),
    (("--num-inference-steps", "1..100", "--height", "64..1024..8"), "at most 4,096"),
    (("--key", "images/{seed}.png"), "has no {digest}"),
    (("--key", "../{digest}.png"), "climbs out"),
    (("--name", "../up"), "is not a name"),
    (("--priority", "1000"), "priority '1000' is not a whole number from -100 to 100"),
    (("--weight", "0"), "weight '0' is not a number"),
    (("no.yaml",), "sweep file no.yaml does not exist"),
    ((".",), "is a folder"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD_SWEEPS)
@pytest.mark.parametrize("command", ["submit", "run"])
def test_a_bad_sweep_gets_one_sentence_and_writes_nothing(
    seedbed: Call, client: Client, command: str, arguments: tuple[str, ...], words: str
) -> None:
    answer = seedbed(command, *ONE_JOB, *arguments)

    assert answer.code == 2
    assert answer.is_one_sentence, answer.err
    assert words in answer.err
    assert nothing_written(client)


BAD_FILES = [
    ("model: demo\nprompt: a\nheigth: 64\n", "'heigth' is not a field: did you mean 'height'?"),
    ("model: demo\nprompt: []\n", "prompt is an empty list"),
    ("model: demo\n", "prompt is missing"),
    ("prompt: a\n", "model is missing"),
    ("model: demo\nprompt: a\nguidance_scale: .inf\n", "guidance_scale '.inf' is not a number"),
    ("model: demo\nprompt: a\nseed: true\n", "seed 'true' is not a whole number"),
    ("model: demo\nprompt: a\noutput: {key: x}\n", "has no {digest}"),
    ("- a\n", "has a list at its top"),
    ("a: [", "is not YAML"),
]


@pytest.mark.parametrize(("text", "words"), BAD_FILES)
def test_a_bad_file_gets_one_sentence_and_writes_nothing(
    seedbed: Call, client: Client, text: str, words: str
) -> None:
    Path("sweep.yaml").write_text(text)
    answer = seedbed("submit", "sweep.yaml")
    assert answer.code == 2
    assert answer.is_one_sentence, answer.err
    assert words in answer.err
    assert nothing_written(client)


BAD_SETTINGS = [
    ({"SEEDBED_REDIS_URL": "redis://127.0.0.1:9/0"}, 1, "Redis does not serve"),
    ({"SEEDBED_REDIS_URL": "http://127.0.0.1:80"}, 2, "SEEDBED_REDIS_URL"),
    ({"SEEDBED_POOL": "{a}"}, 2, "SEEDBED_POOL is '{a}'"),
    ({"SEEDBED_BUCKET": "no-such-bucket"}, 2, "does not exist: create it"),
    ({"SEEDBED_PREFIX": "../up"}, 2, "write plain folders"),
    ({"AWS_SECRET_ACCESS_KEY": "wrong"}, 2, "does not accept the secret"),
    ({"SEEDBED_S3_ENDPOINT_URL": "http://127.0.0.1:9"}, 1, "nobody answers"),
    ({"SEEDBED_S3_ENDPOINT_URL": "127.0.0.1:9"}, 2, "write http"),
]


@pytest.mark.parametrize(("wrong", "code", "words"), BAD_SETTINGS)
def test_a_wrong_setting_gets_one_sentence_and_writes_nothing(
    seedbed: Call,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, str],
    code: int,
    words: str,
) -> None:
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    answer = seedbed("submit", *SWEEP)
    assert answer.code == code
    assert answer.is_one_sentence, answer.err
    assert words in answer.err
    assert nothing_written(client)


def test_what_answers_but_is_no_redis_is_told(
    seedbed: Call, client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.s3_endpoint_url is not None
    monkeypatch.setenv("SEEDBED_REDIS_URL", settings.s3_endpoint_url.replace("http", "redis"))
    answer = seedbed("submit", *SWEEP)
    assert answer.is_one_sentence, answer.err
    assert answer.code == 2
    assert "not a Redis" in answer.err
    assert nothing_written(client)


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", *SWEEP),
        ("status", "x"),
        ("ls",),
        ("watch", "x"),
        ("pause", "x"),
        ("retry", "x"),
        ("failures", "x"),
        ("repair", "x"),
        ("verify", "x"),
        ("delete", "x"),
        ("doctor",),
        ("worker", "--model", "demo"),
    ],
)
def test_without_a_pool_every_command_says_so_and_starts_none(
    bare: Call, arguments: tuple[str, ...]
) -> None:
    answer = bare(*arguments)
    assert answer.code == 2
    assert answer.is_one_sentence, answer.err
    assert "no pool" in answer.err
    assert "seedbed up" in answer.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "command",
    ["status", "watch", "pause", "resume", "cancel", "failures", "retry", "delete", "repair"],
)
def test_an_unknown_sweep_gets_one_sentence(seedbed: Call, command: str) -> None:
    answer = seedbed(command, "nobody")
    assert answer.code == 2
    assert answer.is_one_sentence
    assert "sweep 'nobody' is not in this pool" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "-p", "a", "--model", "./no-such-model"), "does not exist"),
        (("run", "-p", "a", "--model", "."), "has no model_index.json"),
        (("up", "--model", "/etc/hostname"), "is a file"),
        (
            ("run", "-p", "a", "--heigth", "64"),
            "no such option '--heigth': did you mean '--height'",
        ),
        (("run", "-p", "a", "--out", "/etc/hostname"), "a file is in the way"),
        (("run", "-p", "a", "--out", "/etc/hostname/x"), "a file is in the way"),
        (("run", "-p", "a", "--batch-size", "x"), "'x' is not a whole number from 1 to 1024"),
        (("run", "-p", "a", "--prompt-column", "text"), "--prompt-column goes with --prompt-file"),
        (("run", "-p", "a", "--model", ""), "model is empty: say which model to use"),
        (("down", "--data", "nowhere", "--debugg"), "no such option '--debugg'"),
        (("up", "sweep.yaml"), "unexpected extra argument"),
        (("up", "--metrics-port", "99999"), "'99999' is not a whole number from 0 to 65535"),
        (("stats", "shapes"), "no such command 'stats': did you mean 'status'?"),
        (("status",), "missing argument 'SWEEP'; 'seedbed status --help' has what there is"),
        (("watch", "shapes", "--timeout", "-1"), "--timeout '-1' is not a number of at least 0"),
        (("plan", "--price-per-hour", "nan"), "'nan' is not a number of at least 0"),
        (("retry", "shapes", "--index", "3..1"), "--index '3..1' is an empty range"),
        (("verify", "shapes", "--max-levels", "300"), "'300' is not a whole number from 0 to 255"),
        (("grid", "shapes", "--cell", "1"), "--cell '1' is not a whole number from 48 to 2048"),
        (("grid", "shapes", "--out", "x.gif"), "--out 'x.gif' is no PNG: name a file that ends"),
        (("find", "shapes", "--grid", "."), "--grid '.' is no PNG: name a file that ends in .png"),
        (("capacity", "--png", "x"), "--png 'x' is no PNG: name a file that ends in .png"),
        (("metrics", "--max-workers", "-1"), "'-1' is not a whole number from 0 to 100000"),
        (("show", "--sweep", "--json", "x.png"), "--sweep prints YAML: leave out --json"),
    ],
)
def test_a_mistake_gets_one_sentence_and_starts_nothing(
    bare: Call, arguments: tuple[str, ...], words: str
) -> None:
    answer = bare(*arguments)
    assert answer.code == 2
    assert answer.is_one_sentence, answer.err
    assert words in answer.err
    assert not list(Path().iterdir())


def test_a_malformed_record_in_redis_is_told_and_can_be_deleted(
    seedbed: Call, client: Client
) -> None:
    sweep_id = seedbed("submit", *SWEEP).out.strip()
    client.queue.client.set(client.queue.keys.manifest(sweep_id), "{}")
    answer = seedbed("status", sweep_id)
    assert answer.is_one_sentence, answer.err
    assert answer.code == 2
    assert "manifest:" in answer.err
    assert seedbed("delete", sweep_id).code == 0


def test_a_bug_is_called_one_and_shows_its_traceback_only_with_debug(
    seedbed: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Client) -> None:
        raise RuntimeError("oops\nand more")

    monkeypatch.setattr(Client, "sweeps", broken)
    answer = seedbed("ls")
    assert (answer.code, len(answer.err.splitlines())) == (1, 1)
    assert "this is a bug in seedbed: RuntimeError: oops and more" in answer.err
    assert "Traceback" in seedbed("--debug", "ls").err


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m producer.cli.main schema | head -c 1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{", "")
