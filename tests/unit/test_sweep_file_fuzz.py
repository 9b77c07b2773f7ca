"""Whatever a sweep file holds is a sweep or one sentence: nothing of it runs, or is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.sweep_file import load_sweep
from shared.errors import InvalidInput
from shared.fields import FIELDS

words = st.sampled_from(
    [
        *FIELDS, "name", "zip", "rows", "output", "key", "template", "file", "fixed", "demo",
        "0..9", "{", "}", "[", "]", ": ", ", ", "- ", "\n", "  ", "&a ", "*a",
        "!!python/object:os.system ",
        "%YAML 1.1\n---\n", "{a|b}", "../../etc/passwd", "/dev/zero", "null", "~", ".nan", "1e999",
        "-1", "9" * 40, "'", '"', "#", "|", ">", "\t", "\x00", "\u2028",
    ]
)  # fmt: skip
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["demo", "0..3", "DDIMScheduler", "{digest}.png", "../{digest}.png", "x.csv"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["template", "file", "fixed", "key", "column"]), inner)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps")


def read(folder: Path, name: str, body: bytes) -> None:
    """Read it; a refusal is one sentence, and no file has come or gone."""
    (folder / name).write_bytes(body)
    before = sorted(os.listdir(folder))
    try:
        sweep = load_sweep(folder / name)
    except InvalidInput as exc:
        said = str(exc)
    else:
        said = sweep.manifest.text
        key = sweep.manifest.output.key
        assert not key.startswith("/")
        assert ".." not in key.split("/")
    assert "\n" not in said
    assert sorted(os.listdir(folder)) == before


@given(st.lists(words, max_size=30).map("".join) | st.text(max_size=60))
def test_any_text_is_a_sweep_or_refused(folder: Path, text: str) -> None:
    read(folder, "sweep.yaml", text.encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_a_sweep_or_refused(folder: Path, body: bytes) -> None:
    for name in ("sweep.yaml", "sweep.json", "sweep.toml"):
        read(folder, name, body)


@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "name", "zip", "rows", "output", "priority", "weight", "reuse"]),
        values,
        max_size=6,
    )
)
def test_any_values_are_a_sweep_or_refused(folder: Path, data: dict[str, object]) -> None:
    body = json.dumps({"model": "demo", "prompt": "x", **data}).encode()
    read(folder, "sweep.json", body)
