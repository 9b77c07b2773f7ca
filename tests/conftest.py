"""What holds for every test: which are slow, settings of property tests, a Ctrl-C that arrives."""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from tests.running_order import SECONDS, in_order

# a busy machine is no reason to fail
settings.register_profile("patient", deadline=None)
# pytest --hypothesis-profile=thorough: twenty-five times as many random lives of a pool
settings.register_profile("thorough", max_examples=2500, deadline=None)
if settings.get_current_profile_name() == "default":  # CI and --hypothesis-profile choose theirs
    settings.load_profile("patient")

# a shell's background job ignores SIGINT and its children inherit that: the tests of Ctrl-C would
# press it in vain
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave what is imported for good out of Python's garbage collections.

    Workers collect whenever they have measured or have run out of memory: each time it would be
    half a second of looking through torch.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_unconfigure() -> None:
    """Let the end find everything: some libraries tell of what seems to leak."""
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Mark what is slow; where several processes share the tests, have them end at one time."""
    for item in items:
        if _module_of(item) in SECONDS:
            item.add_marker(pytest.mark.slow)
    yield  # others leave out what -m and -k say
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        modules = [_module_of(item) for item in items]
        order = in_order(modules, processes=int(workerinput["workercount"]))
        items[:] = [items[place] for place in order]


def _module_of(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]
