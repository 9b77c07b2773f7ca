"""Rows in chunks: read as needed, checked when they are read, and named by what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.chunk_spool import MEMORY_BYTES, ChunkSpool
from shared.chunks import pack_chunk, unpack_chunk
from shared.errors import InvalidManifest, InvalidSweep
from shared.layout import Layout
from shared.manifest import Manifest, parse_manifest
from shared.schema import manifest_schema
from tests.factories import make_sweep
from tests.strategies import sweeps
from tests.tables import chunked_define, with_tables


class Source:
    """Chunks in memory, which a test may harm; remembers which were asked for."""

    def __init__(self, manifest: Manifest) -> None:
        self.bodies = {
            digest: table.source.body(digest)
            for table in manifest.tables
            for digest in table.digests
        }
        self.asked: list[str] = []

    def body(self, digest: str) -> bytes:
        self.asked.append(digest)
        return self.bodies[digest]


def guided(count: int = 10, size: int = 3) -> Manifest:
    """Rows of two groups in turn."""
    return chunked_define(
        size,
        prompt="x",
        zip={
            "guidance_scale": [1 + n % 2 + n / 100 * (n % 2) for n in range(count)],
            "negative_prompt": [f"row {n}" for n in range(count)],
        },
    ).manifest


@given(sweeps(), st.integers(1, 4))
def test_a_manifest_with_chunks_reads_back_as_the_same_jobs(sweep: Any, size: int) -> None:
    manifest = with_tables(sweep.manifest, size=size)
    again = parse_manifest(manifest.text, Source(manifest))
    assert again == manifest
    assert again.digest == manifest.digest
    jsonschema.validate(json.loads(manifest.text), manifest_schema())
    layout, plain = Layout(again), sweep.layout
    assert layout.blocks == plain.blocks
    for index in range(layout.total):
        assert layout.job(index) == plain.job(index)
        assert layout.position_of(index) == plain.position_of(index)


def test_blocks_need_no_chunk_and_a_job_only_its_own() -> None:
    manifest = guided(1_000, size=10)
    source = Source(manifest)
    layout = Layout(parse_manifest(manifest.text, source))
    assert [block.size for block in layout.blocks] == [500, 500]
    assert source.asked == []
    (table,) = layout.manifest.tables
    assert layout.job_at(250).negative_prompt == "row 500"
    assert source.asked == [table.tallies, table.chunks[50]]
    assert layout.index_of(250) == 500
    assert layout.position_of(500) == 250
    assert len(source.asked) == 2


def test_rows_of_one_group_need_no_tallies() -> None:
    manifest = chunked_define(3, prompt=[f"{n}" for n in range(10)], seed=5).manifest
    (table,) = manifest.tables
    assert table.tallies is None
    assert [(group.count, group.values) for group in table.groups] == [(10, ())]
    assert list(manifest.axes[0].columns[0]) == [f"{n}" for n in range(10)]
    assert manifest.axes[0].columns[0][-2:] == ["8", "9"]


def test_a_table_keeps_few_rows_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.tables.CACHED_CHARS", 100)
    manifest = chunked_define(3, prompt=[f"{n:020}" for n in range(30)]).manifest
    source = Source(manifest)
    layout = Layout(parse_manifest(manifest.text, source))
    assert [layout.job(n).prompt for n in range(30)] == [f"{n:020}" for n in range(30)]
    assert len(source.asked) == 10
    (table,) = layout.manifest.tables
    assert len(table._cache) == 1
    assert layout.job(0).prompt == f"{0:020}"


def test_equal_rows_are_equal_chunks_whatever_the_compressor() -> None:
    digest, body = pack_chunk([["a", "b"], [1, 2.0]])
    assert digest == pack_chunk([["a", "b"], [1.0, 2]])[0]
    assert unpack_chunk(digest, body) == [["a", "b"], [1, 2]]


def harmed(manifest: Manifest, content: object, chunk: int = 0) -> Layout:
    """The sweep with another chunk in place, under its own right name."""
    (table,) = manifest.tables
    source = Source(manifest)
    digest, body = pack_chunk(content)
    source.bodies[digest] = body
    old = table.chunks[chunk]
    return Layout(parse_manifest(manifest.text.replace(old, digest), source))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([["a", "b", "c"]], "has not 3 values of each of guidance_scale, negative_prompt"),
        ([[1, 2.01, 1], ["a", "b"]], "has not 3 values of each of guidance_scale"),
        ({"a": 1}, "has not 3 values of each of"),
        ([[1, "2", 1], ["a", "b", "c"]], "is '2', not a JSON number"),
        ([[1, -1, 1], ["a", "b", "c"]], "guidance_scale -1.0 is not a number from 0"),
        ([[1, 2, 1], ["a", 5, "c"]], "is 5, not a JSON string"),
        ([[2, 2, 1], ["a", "b", "c"]], "has rows of other groups than the manifest says"),
        ([[1, 1, 1], ["a", "b", "c"]], "has rows of other groups than the manifest says"),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused(content: object, sentence: str) -> None:
    layout = harmed(guided(), content)
    with pytest.raises(InvalidManifest) as caught:
        layout.job_at(0)
    assert sentence in str(caught.value)


def test_a_row_of_a_lane_that_was_not_queued_is_refused() -> None:
    manifest = chunked_define(
        2, prompt="x", zip={"height": [64] * 4, "negative_prompt": list("abcd")}
    ).manifest
    layout = harmed(manifest, [[64, 4096], ["a", "b"]])
    with pytest.raises(InvalidManifest, match="rows of other groups than the manifest says"):
        layout.job_at(0)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda body: b"", "is cut off"),
        (lambda body: body[:-1], "is cut off"),
        (lambda body: b"x" + body, "can't be decompressed"),
        (lambda body: pack_chunk([1])[1], "holds something else than its name says"),
    ],
)
def test_a_body_that_is_not_its_digests_is_refused(
    harm: Callable[[bytes], bytes], sentence: str
) -> None:
    digest, body = pack_chunk([["a"]])
    with pytest.raises(InvalidManifest, match=sentence):
        unpack_chunk(digest, harm(body))


def test_a_chunk_that_swells_is_refused_before_it_fills_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest, body = pack_chunk([["a" * 5_000]])
    monkeypatch.setattr("shared.chunks.MAX_CHUNK_BYTES", 1_000)
    with pytest.raises(InvalidManifest, match="above 1,000 bytes"):
        unpack_chunk(digest, body)


def test_texts_too_long_for_their_readers_are_refused_when_they_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.chunks.MAX_CHUNK_BYTES", 1_000)
    with pytest.raises(InvalidSweep, match="over 1,000 bytes: shorten them"):
        chunked_define(3, prompt=[f"{n:0500}" for n in range(3)])


@pytest.mark.parametrize(
    "content",
    [
        [],
        [[0, 2, 1, 1, 2, 2, 3, 1]],
        [[0, 2, 1, 1, 2, 2, 3], [0, 1, 1, 2, 2, 1]],
        [[0, 2, 1, 1, 2, 2, 9, 0], [0, 1, 1, 2, 2, 1]],
        [[0, 1, 1, 1, 2, 2, 3, 1], [0, 1, 1, 2, 2, 1]],
        [[0, 2, 1, 1, 2, 2, 4, 0], [0, 1, 1, 2, 2, 1, 3, 1]],
        [[0, 3, 1, 0, 2, 2], [0, 1, 1, 2, 2, 2]],
        [["0", 2], [0, 1]],
        {"a": 1},
    ],
)
def test_tallies_that_do_not_add_up_are_refused(content: object) -> None:
    manifest = guided()
    (table,) = manifest.tables
    assert table.tallies is not None
    source = Source(manifest)
    digest, body = pack_chunk(content)
    source.bodies[digest] = body
    layout = Layout(parse_manifest(manifest.text.replace(table.tallies, digest), source))
    with pytest.raises(InvalidManifest):
        [layout.job_at(position) for position in range(layout.total)]


def changed(path: str, value: object) -> str:
    """The text of a manifest with chunks, one member of whose ``chunks`` is another."""
    data = json.loads(guided().text)
    chunks = data["axes"][0]["chunks"]
    *folders, name = path.split(".")
    for folder in folders:
        chunks = chunks[int(folder) if folder.isdigit() else folder]
    chunks[int(name) if name.isdigit() else name] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("size", 0, "axes[0].chunks.size 0 is not a whole number from 1 to 10000"),
        ("size", True, "axes[0].chunks.size True is not a whole number"),
        ("size", 10_001, "axes[0].chunks.size 10001 is not a whole number"),
        ("size", 4, "axes[0].chunks has 4 chunks for 10 rows"),
        ("rows", [], "axes[0].chunks has 0 chunks for 10 rows"),
        ("rows", "a", "axes[0].chunks.rows is not a list of SHA-256 in hex digits"),
        ("rows.0", "../../secret", "axes[0].chunks.rows is not a list of SHA-256 in hex digits"),
        ("rows.0", "A" * 64, "axes[0].chunks.rows is not a list of SHA-256 in hex digits"),
        ("tallies", None, "axes[0].chunks.tallies is for several groups, null for one"),
        ("tallies", 5, "axes[0].chunks.tallies is neither a SHA-256 nor null"),
        ("groups", [], "axes[0].chunks.groups is [], not a list of groups"),
        ("groups.0", {}, "axes[0].chunks.groups[0] has no count and no values: add it"),
        ("groups.0.count", 0, "axes[0].chunks.groups[0].count 0 is not a count of rows"),
        ("groups.0.count", 10**10, "axes[0].chunks.groups[0].count 10000000000 is not a count"),
        ("groups.0.values", [], "axes[0].chunks.groups[0].values needs a value of guidance_scale"),
        ("groups.0.values", ["1"], "axes[0].chunks.groups[0].values is '1', not a JSON number"),
        ("groups.0.values", [9], "axes[0].chunks.groups has two groups of one lane and recipe"),
        ("more", 1, "axes[0].chunks has a member 'more'"),
    ],
)
def test_a_broken_table_is_refused_with_its_path(path: str, value: object, sentence: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        parse_manifest(changed(path, value))
    assert str(caught.value).startswith(f"manifest: {sentence}")


def test_fields_of_a_table_have_one_order() -> None:
    data = json.loads(guided().text)
    data["axes"][0]["fields"].reverse()
    with pytest.raises(InvalidManifest, match="in another order than the table's"):
        parse_manifest(json.dumps(data))


def test_fields_that_vary_together_are_one_sweep_in_any_order() -> None:
    manifest = make_sweep(zip={"seed": [1, 2], "eta": [0, 1]}).manifest
    data = json.loads(manifest.text)
    data["axes"][0]["fields"].reverse()
    data["axes"][0]["columns"].reverse()
    assert parse_manifest(json.dumps(data)).digest == manifest.digest
    assert make_sweep(zip={"eta": [0, 1], "seed": [1, 2]}).id == manifest.sweep_id


def test_without_a_source_only_the_rows_are_out_of_reach() -> None:
    manifest = parse_manifest(guided().text)
    layout = Layout(manifest)
    assert layout.total == 10
    assert manifest.axes[0].distinct("guidance_scale") == (1.0, 2.01)
    with pytest.raises(InvalidManifest, match="no storage was named"):
        layout.job(0)


def test_a_spool_gives_back_what_it_took_from_memory_and_from_its_file() -> None:
    spool = ChunkSpool()
    bodies = {f"{number}": bytes([number]) * (MEMORY_BYTES // 3) for number in range(5)}
    for digest, body in bodies.items():
        spool.add(digest, body)
        spool.add(digest, body)
    for digest in reversed(bodies):
        assert spool.body(digest) == bodies[digest]


def test_two_tables_of_one_sweep_are_told_apart() -> None:
    manifest = chunked_define(2, prompt=["a", "b", "c"], negative_prompt=["a", "b", "d"]).manifest
    first, second = manifest.tables
    assert first != second
    assert manifest.axes[0].columns[0] != manifest.axes[1].columns[0]
    assert replace(manifest) == manifest
