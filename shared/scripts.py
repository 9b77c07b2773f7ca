"""The queue's Lua scripts: composed from their files, called by hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import redis

USES = "-- uses:"
"""First line of a verb's file: the lib_*.lua it stands on, in the order they are put before it."""

LOCAL = re.compile(r"local (?:function )?(\w+)")


@dataclass(frozen=True)
class Script:
    """A composed script and the hash Redis knows it by."""

    source: str
    sha: str


@cache
def load_script(verb: str) -> Script:
    """Compose ``lua/VERB.lua`` with what it needs of the snippets that its first line names.

    Redis sets a script's functions up at every call: those that a verb never reaches would cost it
    more than many a command does.
    """
    folder = files("shared") / "lua"
    text = (folder / f"{verb}.lua").read_text("utf-8")
    snippets = text.partition("\n")[0].removeprefix(USES).split()
    source = _without_comments(text)
    for name in reversed(snippets):
        # what stands further up can't use what stands below it
        for word, statement in reversed(locals_of((folder / f"lib_{name}.lua").read_text("utf-8"))):
            if re.search(rf"\b{word}\b", source):
                source = statement + source
    return Script(source=source, sha=hashlib.sha1(source.encode()).hexdigest())


def locals_of(snippet: str) -> list[tuple[str, str]]:
    """The functions and values that a snippet defines: name and text of each, in their order."""
    statements = re.split(r"^(?=local )", _without_comments(snippet), flags=re.MULTILINE)[1:]
    return [(match[1], text) for text in statements if (match := LOCAL.match(text))]


def _without_comments(text: str) -> str:
    return re.sub(r"^ *--.*\n|^\n", "", text, flags=re.MULTILINE)


def run_script(client: redis.Redis, verb: str, base: str, arguments: Sequence[Any]) -> Any:
    """Run a verb atomically; Redis is sent its source only when it does not know the hash."""
    script = load_script(verb)
    try:
        return client.evalsha(script.sha, 1, base, *arguments)
    except redis.exceptions.NoScriptError:
        return client.eval(script.source, 1, base, *arguments)


def run_scripts(
    client: redis.Redis, verb: str, base: str, calls: Sequence[Sequence[Any]]
) -> list[Any]:
    """Run a verb once for each list of arguments, in one round trip; each is atomic by itself."""
    if len(calls) == 1:
        return [run_script(client, verb, base, calls[0])]
    script = load_script(verb)
    pipeline = client.pipeline(transaction=False)
    for arguments in calls:
        pipeline.evalsha(script.sha, 1, base, *arguments)
    replies = pipeline.execute(raise_on_error=False)
    for i, reply in enumerate(replies):
        if isinstance(reply, redis.exceptions.NoScriptError):
            replies[i] = run_script(client, verb, base, calls[i])
        elif isinstance(reply, Exception):
            raise reply
    return replies
