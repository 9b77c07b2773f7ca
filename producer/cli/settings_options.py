"""Options that say where the pool is, and what is used when none of them is given."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import click

from producer.cli.help import SectionOption
from producer.client import Client
from shared.errors import NoPool
from shared.settings import VARIABLES, Settings

Flags = dict[str, str | None]
"""Setting to the option's value, None where it was not given."""

HELP: dict[str, str] = {
    "redis_url": "Redis that holds the queue",
    "broker_url": "Celery's broker; the queue's Redis if not given",
    "pool": "name of the pool",
    "bucket": "S3 bucket; credentials come from the standard AWS chain",
    "prefix": "key prefix inside the bucket",
    "s3_endpoint_url": "S3-compatible endpoint; AWS if not given",
    "s3_region": "region of the bucket",
    "owner": "whose sweeps these are, for fair sharing",
    "data_dir": "folder of the embedded stack (default: seedbed-data)",
}


def setting_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add options for these settings to a command, which takes the outcome as ``flags``."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_flags(*args: Any, **given: Any) -> Any:
            flags = {name: given.pop(name) for name in names}
            return command(*args, flags=flags, **given)

        decorated: Callable[..., Any] = with_flags
        for name in reversed(names):
            decorated = _setting_option(name)(decorated)
        return decorated

    return decorate


def _setting_option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--data" if name == "data_dir" else "--" + name.replace("_", "-"),
        name,
        cls=SectionOption,
        section="Where the pool is",
        metavar="FOLDER" if name == "data_dir" else "TEXT",
        help=f"{HELP[name]}  [{VARIABLES[name]}]",
    )


pool_options = setting_options(*VARIABLES)
"""Add all of them."""


def pool_client(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command takes a client of the pool they lead to as ``client``."""

    @pool_options
    @functools.wraps(command)
    def with_client(*args: Any, flags: Flags, **given: Any) -> Any:
        with Client(find_pool(flags)) as client:
            return command(*args, client=client, **given)

    return with_client


def given_settings(flags: Flags) -> Settings:
    """Settings from flags, then the environment, then defaults."""
    return Settings.resolve(flags, os.environ)


def find_pool(flags: Flags) -> Settings:
    """The configured pool, else the embedded stack that ``seedbed up`` keeps running here.

    Raises:
        NoPool: There is neither.
    """
    settings = given_settings(flags)
    if settings.redis_url is not None:
        return settings
    from producer.stack import Stack

    stack = Stack.running(settings.data_dir, base=settings)
    if stack is None:
        raise NoPool(
            f"no pool: no stack runs in {str(settings.data_dir)!r} and SEEDBED_REDIS_URL is not "
            f"set; start one with 'seedbed up', or set it"
        )
    return stack.settings
