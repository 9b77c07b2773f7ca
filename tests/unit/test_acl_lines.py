"""The rights in docs/security.md: what the scripts call, and nothing that reaches beyond keys."""

from __future__ import annotations

import re

import pytest

from shared.scripts import load_script
from tests.acl_lines import PASSWORDS, acl_lines, commands_of

VERBS = {
    "seedbed-worker": (
        "claim", "begin", "renew", "commit", "release", "fail", "reap", "finalise", "finish",
        "repair", "pause", "work",
    ),
    "seedbed-producer": (
        "submit", "pause", "resume", "cancel", "delete", "retry", "repair", "commit", "work",
    ),
}  # fmt: skip
"""What each runs."""
BEYOND = {
    "acl", "bgrewriteaof", "bgsave", "client", "cluster", "config", "debug", "failover", "flushall",
    "flushdb", "function", "keys", "migrate", "module", "monitor", "move", "pubsub", "randomkey",
    "replicaof", "restore", "save", "scan", "shutdown", "slaveof", "sort", "swapdb", "sync",
}  # fmt: skip
"""What reaches other keys, other clients, or the server."""


@pytest.mark.parametrize("user", VERBS)
def test_a_user_may_send_what_its_scripts_call(user: str) -> None:
    called = {
        command.lower()
        for verb in VERBS[user]
        for command in re.findall(r"redis\.call\('([A-Z]+)'", load_script(verb).source)
    }
    assert called - commands_of(user) == set()


@pytest.mark.parametrize("user", VERBS)
def test_a_user_may_send_nothing_that_reaches_beyond_its_keys(user: str) -> None:
    assert {command.partition("|")[0] for command in commands_of(user)} & BEYOND == set()


def test_every_user_of_the_page_is_held_to_one_pool() -> None:
    users = [line for line in acl_lines("default") if not line.startswith("user default off")]
    assert len(users) == len(PASSWORDS)
    for line in users:
        patterns = [word for word in line.split() if word[0] in "~&%"]
        assert all(word[1:].startswith("seedbed:{default}") for word in patterns)
        assert {"resetkeys", "resetchannels", "-@all"} <= set(line.split())
        assert "+@" not in line
