"""Settings come from flag, environment, default, in that order, and never show a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidSettings
from shared.settings import VARIABLES, Settings, hidden

SECRET = "s3cr3t"


def resolve(**values: str) -> Settings:
    return Settings.resolve(values, {})


def test_without_anything_there_is_no_pool_and_every_other_default() -> None:
    settings = Settings.resolve({}, {"USER": "ada"})
    assert settings == Settings(owner="ada")
    assert settings.redis_url is None


def test_the_flag_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"SEEDBED_POOL": "from-environment", "SEEDBED_BUCKET": "from-environment"}
    settings = Settings.resolve({"pool": "from-flag", "bucket": None}, environ)
    assert (settings.pool, settings.bucket, settings.prefix) == (
        "from-flag",
        "from-environment",
        "",
    )


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.resolve({}, {"SEEDBED_POOL": ""}).pool == "default"


def test_every_variable_reaches_its_field() -> None:
    environ = {
        "SEEDBED_REDIS_URL": "rediss://:pw@host:6380/1",
        "SEEDBED_BROKER_URL": "amqp://broker//",
        "SEEDBED_POOL": "gpu.1",
        "SEEDBED_BUCKET": "pictures",
        "SEEDBED_PREFIX": "team/shapes",
        "SEEDBED_S3_ENDPOINT_URL": "http://127.0.0.1:9000",
        "SEEDBED_S3_REGION": "eu-central-1",
        "SEEDBED_OWNER": "Ada L.",
        "SEEDBED_DATA": "/srv/seedbed",
    }
    assert set(environ) == set(VARIABLES.values())
    settings = Settings.resolve({}, environ)
    assert settings.data_dir == Path("/srv/seedbed")
    for name, variable in VARIABLES.items():
        assert str(getattr(settings, name)) == environ[variable]


def test_a_child_process_gets_the_same_settings() -> None:
    settings = Settings(
        redis_url="redis://:pw@host:1/0", prefix="a/b", owner="ada", data_dir=Path("x")
    )
    assert Settings.resolve({}, settings.to_environ()) == settings


def test_generated_credentials_go_to_a_child_as_the_aws_chain_knows_them() -> None:
    environ = Settings(access_key="key", secret_key=SECRET).to_environ()
    assert environ["AWS_ACCESS_KEY_ID"] == "key"
    assert environ["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert "AWS_ACCESS_KEY_ID" not in Settings().to_environ()


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:6379/0",
        "redis://host",
        "REDIS://host",
        "rediss://user:p%40ss@host:6380/0",
        "redis://[::1]:6379/0",
        "unix:///tmp/redis.sock",
        "unix://:pw@/tmp/redis.sock?db=1",
    ],
)
def test_a_redis_url_is_taken_as_it_is(url: str) -> None:
    assert resolve(redis_url=url).redis_url == url


@pytest.mark.parametrize(
    "url",
    ["redis://host/0", "amqp://host//", "memory://", "sentinel://a:1;sentinel://b:2", "sqs://"],
)
def test_a_broker_may_be_of_any_kind(url: str) -> None:
    assert resolve(broker_url=url).broker_url == url


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("redis_url", "host:6379", "SEEDBED_REDIS_URL is 'host:6379', which is not a URL of a"),
        ("redis_url", "http://host", "SEEDBED_REDIS_URL is 'http://host', which is not a URL of"),
        ("redis_url", "redis:host", "SEEDBED_REDIS_URL is 'redis:host', which is not a URL of a"),
        ("redis_url", "redis://", "SEEDBED_REDIS_URL is 'redis://', which names no host: "),
        ("redis_url", "unix://", "SEEDBED_REDIS_URL is 'unix://', which names no path: "),
        (
            "redis_url",
            "redis://h:x",
            "SEEDBED_REDIS_URL is 'redis://h:x', which has a host or port",
        ),
        (
            "redis_url",
            "redis://h:99999",
            "SEEDBED_REDIS_URL is 'redis://h:99999', which has a host",
        ),
        ("redis_url", "redis://[::1", "SEEDBED_REDIS_URL is 'redis://[::1', which has a host or"),
        (
            "redis_url",
            "redis://user:12/3@host",
            "SEEDBED_REDIS_URL is 'redis://***@host', which has a password whose '/', '?' or '#'",
        ),
        ("redis_url", "", "SEEDBED_REDIS_URL is '', which is not a URL of a kind it takes"),
        ("broker_url", "host:6379", "SEEDBED_BROKER_URL is 'host:6379', which is not a URL"),
        ("broker_url", "redis://h:x", "SEEDBED_BROKER_URL is 'redis://h:x', which has a host"),
        ("s3_endpoint_url", "host:9000", "SEEDBED_S3_ENDPOINT_URL is 'host:9000', which is not"),
        ("s3_endpoint_url", "s3://x", "SEEDBED_S3_ENDPOINT_URL is 's3://x', which is not a URL"),
        ("s3_endpoint_url", "http://", "SEEDBED_S3_ENDPOINT_URL is 'http://', which names no host"),
        ("pool", "a{b}", "SEEDBED_POOL is 'a{b}': write 1 to 64 letters"),
        ("pool", "", "SEEDBED_POOL is '': write 1 to 64 letters"),
        ("pool", "x\n", "SEEDBED_POOL is 'x\\n': write 1 to 64 letters"),
        ("bucket", "", "SEEDBED_BUCKET is '': write the name of an S3 bucket"),
        ("bucket", "a/b", "SEEDBED_BUCKET is 'a/b': write the name of an S3 bucket"),
        ("bucket", "s3://b", "SEEDBED_BUCKET is 's3://b': write the name of an S3 bucket"),
        ("prefix", "..", "SEEDBED_PREFIX is '..': write plain folders"),
        ("prefix", "a/../b", "SEEDBED_PREFIX is 'a/../b': write plain folders"),
        ("prefix", "a//b", "SEEDBED_PREFIX is 'a//b': write plain folders"),
        ("prefix", "a\nb", "SEEDBED_PREFIX is 'a\\nb': write plain folders"),
        ("prefix", "\udcff", "SEEDBED_PREFIX is '\\udcff': write plain folders"),
        ("owner", "", "SEEDBED_OWNER is '': write a name"),
        ("owner", "a\0", "SEEDBED_OWNER is 'a\\x00': write a name"),
        ("owner", "x" * 129, "SEEDBED_OWNER is 'xxx"),
    ],
)
def test_a_setting_that_cannot_be_right_names_its_variable(
    name: str, value: str, sentence: str
) -> None:
    with pytest.raises(InvalidSettings) as caught:
        resolve(**{name: value})
    assert str(caught.value).startswith(sentence)
    assert "write " in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "/", "a", "/a/", "a/b c/d"])
def test_slashes_at_the_ends_of_a_prefix_do_not_count(prefix: str) -> None:
    assert resolve(prefix=prefix).prefix == prefix


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@host:port",
        f"redis://user:{SECRET}/with/slashes@host:port",
        f"redis://user:{SECRET}@with@ats@host:port",
        f"redis://user:{SECRET}#?@host:port",
        f"http://{SECRET}@host",
        f"user:{SECRET}@host:6379",
        f"://:{SECRET}@host",
        f"redis://?password={SECRET}",
        f"unix://?password={SECRET}",
    ],
)
@pytest.mark.parametrize("name", ["redis_url", "broker_url", "s3_endpoint_url"])
def test_no_message_holds_a_password(name: str, url: str) -> None:
    try:
        settings = resolve(**{name: url})
    except InvalidSettings as exc:
        shown = str(exc) + repr(exc.__cause__) + repr(exc.__context__)
    else:
        shown = "" if name == "s3_endpoint_url" else repr(settings)
    assert SECRET not in shown


def test_settings_can_be_logged_without_their_secrets() -> None:
    url = f"redis://:{SECRET}@host"
    settings = Settings(redis_url=url, broker_url=url, access_key=SECRET, secret_key=SECRET)
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.with_values(pool="other"))


@given(st.text(), st.text(), st.text(alphabet="abc.:/", max_size=9))
def test_whatever_stands_before_the_last_at_is_hidden(user: str, word: str, place: str) -> None:
    assert hidden(f"redis://{user}:{SECRET}{word}@{place}") == f"redis://***@{place}"
