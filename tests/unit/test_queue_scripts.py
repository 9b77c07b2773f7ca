"""The Lua files: every verb opens with its map, and the maps agree with the key table."""

import re
from importlib.resources import files

import pytest

from shared.keys import KEY_TABLE, SEGMENT_BITS
from shared.scripts import load_script, locals_of

LUA = sorted(item.name for item in (files("shared") / "lua").iterdir() if item.name[0] != "_")
VERBS = [name.removesuffix(".lua") for name in LUA if not name.startswith("lib_")]
KINDS = {pattern.partition(":")[0] for pattern, _, _ in KEY_TABLE}


def text_of(name: str) -> str:
    return (files("shared") / "lua" / name).read_text("utf-8")


def header_of(verb: str) -> str:
    """The comment a verb's file opens with."""
    lines = text_of(f"{verb}.lua").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:end])


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_opens_with_keys_arguments_reply_and_what_it_touches(verb):
    header = header_of(verb)
    for word in ("-- uses: ", "-- KEYS  1 seedbed:{POOL}", "-- ARGV  1", "-- Reply", "-- Touches"):
        assert word in header


@pytest.mark.parametrize("verb", VERBS)
def test_the_key_kinds_a_verb_names_itself_are_in_its_header(verb):
    header = header_of(verb)
    body = text_of(f"{verb}.lua").removeprefix(header)
    for kind in set(re.findall(r"(?:block_)?key\('(\w+)'", body)):
        assert kind in KINDS
        assert re.search(rf"\b{kind}\b", header), kind


@pytest.mark.parametrize("name", LUA)
def test_key_kinds_are_those_of_the_table(name):
    assert set(re.findall(r"key\('(\w+)'", text_of(name))) <= KINDS


@pytest.mark.parametrize("verb", VERBS)
def test_scripts_run_on_redis_6_2(verb):
    source = load_script(verb).source
    assert not source.startswith("#!")
    assert "redis.setresp" not in source
    assert not re.search(r"BITPOS[^\n]*'BIT'", source)


def test_segments_are_of_one_size_on_both_sides():
    assert f"SEGMENT_BITS = {SEGMENT_BITS}" in text_of("lib_keys.lua")


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_of_the_snippets_what_it_reaches_and_nothing_else(verb):
    source = load_script(verb).source
    snippets = {
        name: text
        for file in LUA
        if file.startswith("lib_")
        for name, text in locals_of(text_of(file))
    }
    for name, text in snippets.items():
        uses = len(re.findall(rf"\b{name}\b", source.replace(text, "")))
        assert (text in source) == (uses > 0), name
