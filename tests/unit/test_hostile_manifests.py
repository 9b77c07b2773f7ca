"""What a stranger may put into Redis: one sentence each, in bounded time and memory, no more."""

from __future__ import annotations

import json
import time
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bounded_json import MAX_ITEMS, read_json
from shared.errors import InvalidManifest, InvalidSweep
from shared.layout import Layout
from shared.manifest import parse_manifest
from shared.object_keys import check_template, object_key
from shared.settings import Settings
from shared.storage import Storage
from tests.factories import make_sweep
from tests.hostile_manifests import hostile_manifests

GOOD = make_sweep(name="good", prompt=["a", "b"], seed="0..9").manifest.text
HOSTILE = hostile_manifests(GOOD)
MOST_BYTES = 500 * 2**20
"""What reading any of them may take, its own text included."""
MOST_SECONDS = 20.0
"""On a busy machine; one alone takes less than two."""

STORAGE = Storage.connect(
    Settings(
        prefix="team/a", s3_endpoint_url="http://127.0.0.1:9", access_key="key", secret_key="secret"
    )
)
"""Nothing is sent to it."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def read(text: str, sweep_id: str) -> Layout:
    """As a worker does it once Redis has given it the text."""
    manifest = parse_manifest(text)
    if manifest.sweep_id != sweep_id:
        raise InvalidManifest("manifest: another's")
    return Layout(manifest)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_is_refused_with_one_short_sentence(name: str) -> None:
    started = time.monotonic()
    with pytest.raises((InvalidManifest, InvalidSweep)) as found:
        read(HOSTILE[name].decode(errors="surrogateescape"), parse_manifest(GOOD).sweep_id)
    assert time.monotonic() - started < MOST_SECONDS
    assert "\n" not in str(found.value)
    assert str(found.value).isprintable()
    assert len(str(found.value)) < 600


@pytest.mark.parametrize(
    "name", ["a million lists in one another", "five million empty lists", "a prompt of 10 MB"]
)
def test_a_hostile_manifest_takes_little_memory(name: str) -> None:
    text = HOSTILE[name].decode()
    tracemalloc.start()
    try:
        with pytest.raises(InvalidManifest):
            read(text, "x")
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("piece", ["[],", '"",', "{},", "1,", '"\\"",', '"\\\\",', '",[",'])
def test_values_are_counted_before_they_are_made(piece: str) -> None:
    few, many = f"[{piece * 10}1]", f"[{piece * (MAX_ITEMS + 1)}1]"
    assert len(read_json(few, "it")) == 11  # type: ignore[arg-type]
    with pytest.raises(InvalidManifest, match="more than 4,000,000 values"):
        read_json(many, "it")


@given(st.text(max_size=200) | json_values.map(lambda value: repr(value).replace("'", '"')))
def test_any_text_is_json_or_refused(text: str) -> None:
    with suppress(InvalidManifest):
        read_json(text, "it")


@given(
    st.sampled_from(["seedbed", "name", "fixed", "axes", "output", "reuse"]),
    json_values,
    st.data(),
)
def test_a_manifest_with_anything_in_it_is_read_or_refused(
    member: str, value: object, data: st.DataObject
) -> None:
    text = json.loads(GOOD)
    if isinstance(text[member], dict) and data.draw(st.booleans()):
        text[member][data.draw(st.sampled_from(sorted(text[member])))] = value
    elif isinstance(text[member], list) and data.draw(st.booleans()):
        axis = data.draw(st.sampled_from(text[member]))
        axis[data.draw(st.sampled_from(["fields", "columns", "range", "chunks"]))] = value
    else:
        text[member] = value
    try:
        layout = Layout(parse_manifest(json.dumps(text)))
    except (InvalidManifest, InvalidSweep):
        return
    assert layout.index_of(0) < layout.total


@given(
    st.lists(
        st.sampled_from(
            ["..", ".", "/", "\\", "{model}", "{prompt}", "{digest}", "sweeps", "inputs"]
        )
        | st.text(max_size=4),
        max_size=6,
    ),
    st.text(max_size=40) | st.sampled_from(["..", "../..", "/", "a/../../b", "\0", "sweeps"]),
)
def test_no_template_and_no_value_leads_out_of_the_prefix(pieces: list[str], value: str) -> None:
    template = "".join(pieces) + ".png"
    try:
        check_template(template)
    except InvalidSweep:
        return
    key = object_key(template, {"model": value, "prompt": value}, digest="0" * 64)
    full = STORAGE._full(key)
    assert full.startswith("team/a/")
    assert key.split("/")[0] not in ("sweeps", "inputs")
    assert not {"", ".", ".."} & set(full.split("/"))
