"""Whatever redis-py can raise becomes an error of ours that says who acts next."""

import inspect

import pytest
from redis import exceptions

from shared.errors import QueueError, QueueRefused, QueueUnavailable, SeedbedError
from shared.redis_connection import hide_password, translate, translated_errors

REDIS_ERRORS = [
    error
    for _, error in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(error, exceptions.RedisError)
]


@pytest.mark.parametrize("error", REDIS_ERRORS, ids=lambda error: error.__name__)
def test_no_error_of_redis_py_comes_through(error):
    try:
        raised = error("some text")
    except (TypeError, ValueError):
        raised = error("5000 127.0.0.1:6379")
    with pytest.raises(SeedbedError) as caught, translated_errors():
        raise raised
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (exceptions.ConnectionError("refused"), QueueUnavailable),
        (exceptions.TimeoutError("Timeout reading"), QueueUnavailable),
        (exceptions.BusyLoadingError("LOADING"), QueueUnavailable),
        (exceptions.ReadOnlyError("replica"), QueueUnavailable),
        (exceptions.ResponseError("MISCONF can't persist"), QueueUnavailable),
        (exceptions.OutOfMemoryError("OOM command not allowed"), QueueUnavailable),
        (exceptions.ResponseError("call to f_1: @user_script: 2: -OOM not"), QueueUnavailable),
        (exceptions.AuthenticationError("WRONGPASS"), QueueRefused),
        (exceptions.ResponseError("NOAUTH Authentication required."), QueueRefused),
        (exceptions.NoPermissionError("NOPERM"), QueueRefused),
        (exceptions.InvalidResponse("Protocol Error: b'HTTP/1.1'"), QueueRefused),
        (exceptions.ResponseError("unknown command 'EVALSHA'"), QueueRefused),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), QueueRefused),
        (exceptions.ResponseError("DB index is out of range"), QueueRefused),
        (exceptions.ResponseError("Error running script: nil value"), QueueError),
    ],
)
def test_an_error_says_who_acts_next(raised, expected):
    assert type(translate(raised)) is expected


def test_passwords_are_not_shown():
    assert hide_password("redis://me:secret@host:1/0") == "redis://***@host:1/0"
