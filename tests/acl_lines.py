"""The lines for Redis' ACL file that docs/security.md gives, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
PASSWORDS = {"seedbed-worker": "WORKER_PASSWORD", "seedbed-producer": "PRODUCER_PASSWORD"}


def acl_lines(pool: str) -> list[str]:
    """The lines for a pool of this name."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(r"^<!-- acl: read by the test -->\n```\n(.*?)^```$", page, re.M | re.S)
    assert found is not None
    return found[1].replace("{default}", f"{{{pool}}}").splitlines()


def commands_of(user: str) -> set[str]:
    """What a user may send, subcommands as ``script|load``."""
    (line,) = (line for line in acl_lines("default") if line.startswith(f"user {user} "))
    return {word[1:] for word in line.split() if word.startswith("+")}
