"""docs/index.md says what the index is."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from producer.index_cache import MAX_BYTES
from shared.fields import FIELDS
from shared.sweep_index import COLUMNS, LEADING, TRAILING, IndexPointer, version_number

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def test_every_column_is_on_the_page_with_its_type() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", PAGE.split("## Columns")[1], re.MULTILINE)
    said = {name.strip("`"): kind for name, kind in rows if name.startswith("`")}
    assert said == {**LEADING, **TRAILING}
    assert list(COLUMNS) == [*LEADING, *FIELDS, *TRAILING]


def test_every_member_of_the_pointer_is_on_the_page() -> None:
    cells = re.findall(r"^\| (`.+?) \|", PAGE.split("The pointer is JSON")[1], re.MULTILINE)
    said = [name.strip("` ") for cell in cells for name in cell.split(",")]
    members = {"seedbed", *(item.name for item in fields(IndexPointer))}
    assert members <= set(said)


def test_the_size_of_the_cache_is_on_the_page() -> None:
    assert f"at most {MAX_BYTES // 2**30} GiB" in PAGE


@pytest.mark.parametrize(
    ("version", "number"), [("v1-ab", 1), ("v12-0af3", 12), ("v-ab", 0), ("../v1-a", 0), ("v1", 0)]
)
def test_a_version_says_its_number(version: str, number: int) -> None:
    assert version_number(version) == number


@pytest.mark.parametrize("page", ["docs/index.md", "docs/architecture.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
