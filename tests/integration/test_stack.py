"""The embedded stack as real processes: they start, are shared, survive, and never stay behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import redis

from producer.services.binaries import find_rclone, find_redis_server
from producer.services.metrics_process import pick_port
from producer.services.plan import Plan
from producer.stack import Stack
from shared.errors import InvalidSettings, ServiceError, StorageError
from shared.settings import Settings
from shared.storage import Storage
from tests.scrape import ask, ask_json, scrape, value

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 20.0

WORKER = """
import os, pathlib, signal, sys, time
note = pathlib.Path(os.environ["SEEDBED_DATA"], "worker-note")
def drain(*_):
    note.write_text("drained")
    sys.exit(0)
mode = sys.argv[-1]
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "deaf" else drain)
print("the worker was given", sys.argv[1:], flush=True)
if mode == "refuses":
    print("seedbed worker: 'x' is no model folder")
    sys.exit(2)
if mode == "fails":
    print("out of luck")
    sys.exit(1)
if mode == "crashes" and not note.exists():
    note.write_text("crashed")
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "served-and-crashes":
    print("2026-01-02T03:04:05Z INFO worker.process listening worker=w", flush=True)
    lives = note.parent / "lives.txt"
    lives.write_text(lives.read_text() + "*" if lives.exists() else "*")
    if len(lives.read_text()) <= 7:
        os.kill(os.getpid(), signal.SIGKILL)
note.write_text("up " + repr(sorted(k for k in os.environ if k.startswith(("AWS_", "SEEDBED_")))))
time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def binaries() -> None:
    try:
        find_redis_server()
        find_rclone()
    except ServiceError as exc:
        if os.environ.get("CI"):
            pytest.fail(str(exc))
        pytest.skip(str(exc))


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data folder that no process may use any more when the test is over."""
    folder = tmp_path / "seedbed-data"
    yield folder
    left = processes_of(folder)
    for process in left:
        process.kill()
    assert not left


def make_stack(data_dir: Path) -> Stack:
    return Stack(data_dir, worker_command=[sys.executable, "-c", WORKER])


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Every process of a stack there: by arguments, working directory or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            where = [*process.cmdline(), process.cwd(), process.environ().get("SEEDBED_DATA", "")]
        except (psutil.Error, OSError):
            continue
        if process.pid != os.getpid() and any(item.startswith(str(data_dir)) for item in where):
            found.append(process)
    return found


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def note(data_dir: Path) -> str:
    try:
        return (data_dir / "worker-note").read_text()
    except FileNotFoundError:
        return ""


def keeper_of(data_dir: Path) -> psutil.Process:
    return psutil.Process(json.loads((data_dir / "stack.json").read_text())["keeper"]["pid"])


def count(stack: Stack) -> int:
    """Add one to a number that Redis keeps."""
    client = redis.Redis.from_url(str(stack.settings.redis_url))
    try:
        return int(client.incr("number"))
    finally:
        client.close()


def start_elsewhere(data_dir: Path, script: str = "") -> subprocess.Popen[str]:
    """Another Python process that starts a stack, says so, and does ``script``, or waits."""
    code = f"""
        import sys, time
        from pathlib import Path
        from producer.stack import Stack
        print("going", flush=True)
        stack = Stack(Path({str(data_dir)!r}), worker_command=[sys.executable, "-c", {WORKER!r}])
        with stack:
            {script or "stack.start()"}
            print("started", flush=True)
            time.sleep(600)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Its exit is waited for, its pipes are closed; returns what it wrote to stderr."""
    return process.communicate(timeout=DEADLINE)[1]


# It starts, works, and ends.


def test_a_stack_answers_while_it_runs_and_leaves_nothing_behind(data_dir: Path) -> None:
    with make_stack(data_dir).start() as stack:
        assert count(stack) == 1
        storage = Storage.connect(stack.settings)
        storage.check()
        storage.put("a/b.png", b"plain", content_type="image/png")
        assert (data_dir / "objects/seedbed/a/b.png").read_bytes() == b"plain"
        stack.check()
    assert processes_of(data_dir) == []
    assert not (data_dir / "stack.json").exists()
    assert not (data_dir / "children.json").exists()
    assert Stack.running(data_dir) is None


def test_a_stack_s_metrics_are_served_until_it_ends(data_dir: Path) -> None:
    port = pick_port(0)
    with make_stack(data_dir).start(worker_models=["demo"], metrics_port=port):
        wait_until(lambda: answers(port))
        assert value(scrape(port), "seedbed_pool_up") == 1
        assert ask_json(port, "/scale/demo")["workers_wanted"] == 0
    assert not answers(port)
    assert processes_of(data_dir) == []


def test_a_stack_goes_on_without_metrics_that_cannot_be_served(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSettings, match=f"--metrics-port {port} can't be had"):
            pick_port(port)
        with make_stack(data_dir).start(worker_models=["demo"], metrics_port=port) as stack:
            log = stack.logs / "stack.log"
            wait_until(lambda: "no metrics any more" in log.read_text())
            assert f"port {port}" in log.read_text()
            stack.check()
            assert count(stack) == 1


def answers(port: int) -> bool:
    try:
        return ask(port, "/healthz")[0] == 200
    except OSError:
        return False


def test_what_is_queued_and_stored_survives_a_stop(data_dir: Path) -> None:
    with make_stack(data_dir).start() as stack:
        assert count(stack) == 1
        Storage.connect(stack.settings).put("key", b"kept", content_type="text/plain")
    with make_stack(data_dir).start() as stack:
        assert count(stack) == 2
        assert Storage.connect(stack.settings).get("key") == b"kept"


def test_secrets_are_in_no_process_list_and_nobody_elses_file(data_dir: Path) -> None:
    with make_stack(data_dir).start(worker_models=["m"]) as stack:
        settings = stack.settings
        secrets = [str(settings.redis_url).split("@")[0][9:], settings.secret_key]
        assert all(len(str(secret)) > 30 for secret in secrets)
        for process in processes_of(data_dir):
            assert not any(str(secret) in item for item in process.cmdline() for secret in secrets)
        for name in ("stack.json", "redis/redis.conf"):
            assert (data_dir / name).stat().st_mode & 0o077 == 0
        assert not (data_dir / "redis").stat().st_mode & 0o077
        for secret in secrets:
            for log in stack.logs.iterdir():
                assert str(secret) not in log.read_text()


def test_the_servers_listen_on_this_machine_only(data_dir: Path) -> None:
    with make_stack(data_dir).start():
        listening = [
            connection.laddr.ip
            for process in processes_of(data_dir)
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
    assert listening == ["127.0.0.1", "127.0.0.1"]


def test_redis_keeps_what_it_was_told_and_evicts_nothing(data_dir: Path) -> None:
    with make_stack(data_dir).start() as stack:
        client = redis.Redis.from_url(str(stack.settings.redis_url), decode_responses=True)
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
        found = {name: client.config_get(name)[name] for name in wanted}
        client.close()
    assert found == wanted


def test_a_long_and_odd_folder_name_works(tmp_path: Path) -> None:
    data_dir = tmp_path / ("x" * 120) / 'it\'s a "folder": ä, 月 %20 #1'
    with make_stack(data_dir).start() as stack:
        assert count(stack) == 1
        Storage.connect(stack.settings).check()


def test_pool_and_prefix_are_the_starters_and_the_owner_is_ones_own(data_dir: Path) -> None:
    base = Settings(pool="mine", prefix="here", owner="me")
    with Stack(data_dir, base=base).start() as stack:
        assert (stack.settings.pool, stack.settings.prefix) == ("mine", "here")
        other = Stack.running(data_dir, base=Settings(owner="you"))
        assert other is not None
        assert (other.settings.pool, other.settings.owner) == ("mine", "you")
        assert other.settings.data_dir == data_dir


# It is shared.


def test_a_stack_that_runs_is_joined_and_not_stopped_by_the_joiner(data_dir: Path) -> None:
    with make_stack(data_dir).start() as mine:
        count(mine)
        with make_stack(data_dir).start() as theirs:
            assert theirs.joined
            assert not mine.joined
            assert theirs.settings.redis_url == mine.settings.redis_url
        seen = Stack.running(data_dir)
        assert seen is not None
        seen.stop()
        mine.check()
        assert count(mine) == 2


def test_a_stack_outlasts_its_starter_while_others_use_it(data_dir: Path) -> None:
    mine, theirs = make_stack(data_dir), make_stack(data_dir)
    mine.start()
    theirs.start()
    mine.stop()
    assert mine.left_running
    theirs.check()
    assert count(theirs) == 1
    theirs.stop()
    wait_until(lambda: not processes_of(data_dir))
    assert not (data_dir / "stack.json").exists()


def test_many_starts_at_once_make_one_stack(data_dir: Path) -> None:
    stacks = [make_stack(data_dir) for _ in range(5)]
    with ThreadPoolExecutor(5) as threads:
        list(threads.map(lambda stack: stack.start(), stacks))
    try:
        assert sorted(stack.joined for stack in stacks) == [False, True, True, True, True]
        assert sorted(count(stack) for stack in stacks) == [1, 2, 3, 4, 5]
    finally:
        for stack in stacks:
            stack.stop()
    wait_until(lambda: not processes_of(data_dir))


def test_a_start_during_a_stop_gets_a_stack_of_its_own(data_dir: Path) -> None:
    first, second = make_stack(data_dir).start(), make_stack(data_dir)
    with ThreadPoolExecutor(2) as threads:
        stopped, started = threads.submit(first.stop), threads.submit(second.start)
        stopped.result()
        started.result()
    second.check()
    assert count(second) == 1
    second.stop()
    wait_until(lambda: not processes_of(data_dir))


def test_a_joiner_gets_a_worker_for_the_model_that_the_stack_lacks(data_dir: Path) -> None:
    with make_stack(data_dir).start(worker_models=["a"]) as mine:
        with make_stack(data_dir).start(worker_models=["a"]):
            assert len(list(mine.logs.glob("worker*.log"))) == 1
        with make_stack(data_dir).start(worker_models=["a", "b"], worker_args=["--device=cpu"]):
            log = next(mine.logs.glob("worker-*.log"))
            wait_until(lambda: "['--model=b', '--device=cpu']" in log.read_text())
        assert len(processes_of(data_dir)) == 4
        mine.check()


def test_a_detached_stack_stays_until_it_is_shut_down(data_dir: Path) -> None:
    process = start_elsewhere(data_dir, "stack.start(worker_models=['m'], detach=True); exit()")
    assert finish(process) == ""
    assert process.returncode == 0
    stack = Stack.running(data_dir)
    assert stack is not None
    assert stack.worker_models == ("m",)
    assert count(stack) == 1
    wait_until(lambda: note(data_dir))
    assert Stack.shut_down(data_dir)
    assert processes_of(data_dir) == []
    assert note(data_dir) == "drained"
    assert not Stack.shut_down(data_dir)
    with pytest.raises(ServiceError, match="was stopped"):
        stack.check()


def test_down_elsewhere_is_an_orderly_end_for_whoever_serves(data_dir: Path) -> None:
    with make_stack(data_dir).start() as stack:
        assert Stack.shut_down(data_dir)
        stack.serve_forever()
        with pytest.raises(ServiceError, match="was stopped"):
            stack.check()


def test_a_joiner_can_make_a_stack_stay_with_a_worker_added_to_it(data_dir: Path) -> None:
    mine = make_stack(data_dir).start(worker_models=["a"])
    script = "stack.start(worker_models=['b'], detach=True); exit()"
    process = start_elsewhere(data_dir, script)
    assert finish(process) == ""
    mine.stop()
    assert mine.left_running
    stack = Stack.running(data_dir)
    assert stack is not None
    assert count(stack) == 1
    names = [item for process in processes_of(data_dir) for item in process.cmdline()]
    assert "--model=a" in names
    assert "--model=b" in names
    assert Stack.shut_down(data_dir)
    wait_until(lambda: not processes_of(data_dir))


def test_a_worker_added_to_a_stack_drains_before_the_stack_ends(data_dir: Path) -> None:
    mine = make_stack(data_dir).start()
    theirs = make_stack(data_dir).start(worker_models=["b"])
    wait_until(lambda: note(data_dir).startswith("up"))
    assert Stack.shut_down(data_dir)
    assert note(data_dir) == "drained"
    theirs.serve_forever()
    theirs.stop()
    mine.stop()


# Its worker.


def test_the_worker_drains_before_redis_and_s3_end(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "somebody-elses")
    monkeypatch.setenv("SEEDBED_BROKER_URL", "redis://elsewhere")
    with make_stack(data_dir).start(worker_models=["m"]) as stack:
        wait_until(lambda: note(data_dir).startswith("up"))
        assert "AWS_PROFILE" not in note(data_dir)
        assert "SEEDBED_BROKER_URL" not in note(data_dir)
        for name in ("SEEDBED_REDIS_URL", "SEEDBED_S3_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY"):
            assert name in note(data_dir)
        stack.check()
    assert note(data_dir) == "drained"


def test_a_worker_that_refuses_says_so_in_its_own_sentence(data_dir: Path) -> None:
    with make_stack(data_dir).start(worker_models=["m"], worker_args=["refuses"]) as stack:
        with pytest.raises(InvalidSettings) as caught:
            stack.serve_forever()
        assert str(caught.value) == "'x' is no model folder"
        with pytest.raises(InvalidSettings):
            stack.check()
        other = Stack.running(data_dir)
        assert other is not None
        with pytest.raises(InvalidSettings):
            other.check()
        assert count(stack) == 1
        with make_stack(data_dir).start(worker_models=["n"]) as unconcerned:
            unconcerned.check()
        with make_stack(data_dir).start(worker_models=["m"]) as another_try:
            wait_until(lambda: note(data_dir).startswith("up"))
            another_try.check()


def test_a_worker_that_fails_early_shows_the_end_of_its_log(data_dir: Path) -> None:
    words = r"exit code 1 \d s after its start(.|\n)*out of luck"
    stack = make_stack(data_dir).start(worker_models=["m"], worker_args=["fails"])
    with stack, pytest.raises(ServiceError, match=words):
        stack.serve_forever()


def test_a_worker_that_crashes_is_started_again(data_dir: Path) -> None:
    with make_stack(data_dir).start(worker_models=["m"], worker_args=["crashes"]) as stack:
        wait_until(lambda: note(data_dir).startswith("up"))
        stack.check()


def test_a_worker_that_its_jobs_kill_is_started_again_and_again(data_dir: Path) -> None:
    arguments = ["served-and-crashes"]
    with make_stack(data_dir).start(worker_models=["m"], worker_args=arguments) as stack:
        wait_until(lambda: note(data_dir).startswith("up"))
        stack.check()


def test_redis_and_s3_come_back_where_they_were_when_killed(data_dir: Path) -> None:
    with make_stack(data_dir).start() as stack:
        count(stack)
        for process in processes_of(data_dir):
            if process.name() in ("redis-server", "rclone"):
                process.kill()

        def back() -> bool:
            try:
                Storage.connect(stack.settings).check()
                return count(stack) >= 2
            except (redis.RedisError, StorageError, InvalidSettings):
                return False

        wait_until(back)
        stack.check()


# It never stays behind.


def test_a_killed_starter_takes_the_stack_with_it(data_dir: Path) -> None:
    process = start_elsewhere(data_dir, "stack.start(worker_models=['m'])")
    wait_until(lambda: note(data_dir))
    process.kill()
    finish(process)
    wait_until(lambda: not processes_of(data_dir))
    assert note(data_dir) == "drained"
    assert not (data_dir / "stack.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start cleans up")
def test_a_killed_keeper_takes_its_children_with_it(data_dir: Path) -> None:
    stack = make_stack(data_dir).start(worker_models=["m"])
    count(stack)
    keeper_of(data_dir).kill()
    wait_until(lambda: not processes_of(data_dir))
    with pytest.raises(ServiceError, match="exit code -9"):
        stack.check()
    stack.stop()
    assert (data_dir / "stack.json").exists()
    assert Stack.running(data_dir) is None
    with make_stack(data_dir).start() as again:
        assert count(again) == 2


def test_what_a_killed_keeper_left_running_is_ended_by_the_next_start(data_dir: Path) -> None:
    with make_stack(data_dir).start():
        pass
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    started = Path(f"/proc/{orphan.pid}/stat").read_text().rpartition(")")[2].split()[19]
    me = os.getpid()
    notes = {"s3": {"pid": orphan.pid, "started": started}, "redis": {"pid": me, "started": "1"}}
    (data_dir / "children.json").write_text(json.dumps(notes))
    half = data_dir / "objects/seedbed/.rclone_temp_put_1234"
    half.write_bytes(b"half")
    with make_stack(data_dir).start():
        assert orphan.wait(DEADLINE) == -signal.SIGKILL
        assert not half.exists()


def test_ctrl_c_at_any_moment_of_a_start_leaves_nothing(data_dir: Path) -> None:
    # A start takes some 0.3 s; 0.1 s of imports go before it.
    for pause in (0.0, 0.05, 0.1, 0.2, 0.3, 0.6):
        process = start_elsewhere(data_dir)
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        time.sleep(pause)
        os.killpg(process.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in finish(process)
        wait_until(lambda: not processes_of(data_dir))
        assert not (data_dir / "stack.json").exists()
    with make_stack(data_dir).start() as stack:
        count(stack)


def test_a_second_ctrl_c_does_not_wait_for_the_worker(data_dir: Path) -> None:
    process = start_elsewhere(data_dir, "stack.start(worker_models=['m'], worker_args=['deaf'])")
    wait_until(lambda: note(data_dir))
    process.send_signal(signal.SIGINT)
    state = data_dir / "stack.json"
    wait_until(lambda: not state.exists() or json.loads(state.read_text())["stopping"])
    began = time.monotonic()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in finish(process)
    assert time.monotonic() - began < 10.0
    assert processes_of(data_dir) == []


# Folders and files that can't be right.


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSettings, match="a file: set SEEDBED_DATA to a folder"):
        make_stack(tmp_path / name).start()


def test_a_data_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"cannot be written to .*SEEDBED_DATA"):
        make_stack(Path("/proc/seedbed-data")).start()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"version": 1}',
        '{"version": 99}',
        json.dumps({"version": 1, "keeper": {"pid": 1, "started": "0"}}),
    ],
)
def test_a_stack_file_that_means_nothing_is_no_stack(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    assert Stack.running(tmp_path) is None
    assert not Stack.shut_down(tmp_path)


def test_a_stack_whose_number_another_process_has_now_is_no_stack(data_dir: Path) -> None:
    with make_stack(data_dir).start():
        state = json.loads((data_dir / "stack.json").read_text())
    state["keeper"]["pid"] = os.getpid()
    (data_dir / "stack.json").write_text(json.dumps(state))
    assert Stack.running(data_dir) is None
    assert not Stack.shut_down(data_dir)


def test_a_port_that_another_takes_first_is_given_up_for_the_next(data_dir: Path) -> None:
    code = """
        import sys
        from producer.services import keeper, service
        ports = iter([int(sys.argv[1]), service.free_port(), service.free_port(), int(sys.argv[1])])
        keeper.free_port = lambda: next(ports, None) or service.free_port()
        sys.exit(keeper.main())
    """
    for folder in ("logs", "objects", "redis"):
        (data_dir / folder).mkdir(parents=True)
    plan = Plan(settings=Settings(data_dir=data_dir))
    with socket.create_server(("127.0.0.1", 0)) as other:
        keeper = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(other.getsockname()[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        keeper.stdin.write(plan.line().decode())
        keeper.stdin.flush()
        assert json.loads(keeper.stdout.readline()) == {"event": "ready"}
        stack = Stack.running(data_dir)
        assert stack is not None
        assert count(stack) == 1
        Storage.connect(stack.settings).check()
        assert finish(keeper) == ""
        assert keeper.returncode == 0


def test_redis_sevens_files_are_not_given_to_an_older_redis(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (data_dir / "redis" / "appendonlydir").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match=r"needs redis-server 7 or later.* is 6\.2"):
        make_stack(data_dir).start()
