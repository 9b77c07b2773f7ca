"""What the docs say is what the code does: tables are fresh, examples run, links lead somewhere."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from producer.cli.main import cli
from producer.like import refine
from producer.plan import Measured, make_plan
from producer.sweep_file import load_sweep, read_values
from shared.canonical import canonical_json
from shared.digest import job_digest
from shared.fields import MAX_TEXT_BYTES
from shared.layout import MAX_BLOCKS, Layout
from shared.manifest import parse_manifest
from shared.ranges import MAX_JOBS, MAX_VALUES
from shared.schedulers import TAKES_ETA
from shared.schema import manifest_schema
from shared.sweep import DIRECTIVES, Sweep
from tests.factories import make_pin, make_sweep
from tests.field_table import with_table
from tests.input_files import noise_bytes, write_picture

ROOT = Path(__file__).parents[2]
SWEEPS = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
CAPACITY = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
MANIFEST = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
PAGES = ["README.md", "docs/sweeps.md", "docs/models.md"]
OURS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "worker/**/*.md")
    for path in ROOT.glob(pattern)
)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def write_files(page: str, folder: Path) -> None:
    """The files that a page shows under their names."""
    for name, text in re.findall(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", page, re.M | re.S):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for number, name in enumerate(sorted(set(re.findall(r"[\w/-]+\.png", page)))):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        write_picture(folder / name, colour=f"hsl({number * 7}, 90%, 50%)")
    for name in re.findall(r"[\w-]+\.safetensors", page):
        (folder / name).write_bytes(noise_bytes())


def sweep_blocks() -> list[Any]:
    pages = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    return [
        pytest.param(content, language, text, id=f"{page}-{language}-{number}")
        for page, content in pages.items()
        for language in ("yaml", "json", "toml")
        for number, text in enumerate(blocks(content, language))
    ]


@pytest.mark.parametrize(("page", "language", "text"), sweep_blocks())
def test_every_sweep_in_the_docs_is_a_sweep(
    page: str, language: str, text: str, tmp_path: Path
) -> None:
    write_files(page, tmp_path)
    file = tmp_path / f"example.{language}"
    file.write_text(text, encoding="utf-8")
    sweep = Sweep.from_mapping(refine({"model": "demo", "prompt": "a cat"}, read_values(file)))
    assert sweep.notes == ()
    plan = make_plan(sweep, Measured())
    counted = re.findall(r"= ([\d,]+) images", text)
    assert [f"{plan.jobs:,}"] * len(counted) == counted
    assert counted or language == "json" or "name: shapes" in text, "say how many images"


def test_json_and_toml_of_the_docs_are_one_sweep(tmp_path: Path) -> None:
    found = set()
    for language in ("json", "toml"):
        file = tmp_path / f"sweep.{language}"
        file.write_text(blocks(SWEEPS, language)[0], encoding="utf-8")
        found.add(load_sweep(file).id)
    assert len(found) == 1


def command_lines() -> list[str]:
    found = "".join(blocks(SWEEPS, "sh") + blocks(CAPACITY, "sh")).splitlines()
    return [line for line in found if line.startswith("seedbed ")]


def example_lines() -> list[str]:
    """The commands in the comments of the examples."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.yaml")]
    return sorted({line for text in texts for line in re.findall(r"^# +(seedbed .*)", text, re.M)})


@pytest.mark.parametrize("line", [*command_lines(), *example_lines()])
def test_every_command_in_the_docs_and_examples_parses(line: str) -> None:
    words = shlex.split(line, comments=True)
    if ">" in words:
        words = words[: words.index(">")]
    with cli.make_context("seedbed", words[1:]) as context:
        name, command, rest = cli.resolve_command(context, words[1:])
        assert command is not None
        command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("line", [line for line in command_lines() if "# = " in line])
def test_every_plan_in_the_docs_has_as_many_images_as_they_say(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(SWEEPS, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEEDBED_REDIS_URL", raising=False)
    words = [*shlex.split(line, comments=True), "--json"]
    result = CliRunner().invoke(cli, words[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (count,) = re.findall(r"= ([\d,]+) images", line)
    assert json.loads(result.stdout)["jobs"] == int(count.replace(",", ""))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_is_a_sweep_with_as_many_images_as_it_says(path: Path) -> None:
    sweep = Sweep.from_mapping(refine({"model": "demo"}, read_values(path)))
    (count,) = re.findall(r"= ([\d,]+) images", path.read_text(encoding="utf-8"))
    assert make_plan(sweep, Measured()).jobs == int(count.replace(",", ""))


def test_the_first_sweep_of_the_docs_has_as_many_images_as_they_say(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(blocks(SWEEPS, "yaml")[0], encoding="utf-8")
    layout = Sweep.from_mapping(read_values(file)).layout
    assert "That is 32 x 3 x 2 x 2 = 384 images" in SWEEPS
    assert layout.total == 384
    digests = {job_digest(layout.job(index), make_pin()) for index in range(384)}
    assert len(digests) == 384 - 32 * 2  # two negative prompts at guidance 1.0 are one image


def test_the_table_of_fields_is_fresh() -> None:
    assert with_table(SWEEPS) == SWEEPS, "run python -m tests.field_table"


def test_every_directive_is_in_the_docs() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", SWEEPS.split("## Directives")[1], re.MULTILINE)
    assert sorted(listed) == sorted(DIRECTIVES)


def test_the_limits_in_the_docs_are_those_of_the_code() -> None:
    for limit in (MAX_BLOCKS, MAX_JOBS, MAX_VALUES, MAX_TEXT_BYTES):
        assert f"{limit:,}" in SWEEPS
    for limit in (MAX_BLOCKS, MAX_JOBS, MAX_VALUES):
        assert f"{limit:,}" in MANIFEST


def test_the_spellings_that_the_docs_call_one_sweep_are_one() -> None:
    spellings: list[dict[str, Any]] = [
        {"seed": "0..2"},
        {"seed": [0, 1, 2]},
        {"seed": [0, 1.0, "2"]},
        {"seed": 0, "num_images_per_prompt": 3},
    ]
    assert len({make_sweep(**spelling).id for spelling in spellings}) == 1


def test_the_note_in_the_docs_is_what_a_sweep_says() -> None:
    (note,) = make_sweep(seed=[1, 2, 2, 3]).notes
    assert note in " ".join(SWEEPS.split())


def worked_example() -> str:
    return blocks(MANIFEST, "json")[0].strip()


def test_the_worked_manifest_is_canonical_and_has_the_digest_it_is_said_to_have() -> None:
    text = worked_example()
    manifest = parse_manifest(text)
    jsonschema.Draft202012Validator(manifest_schema()).validate(json.loads(text))
    assert manifest.text == text
    assert f"Its digest is `{manifest.digest}` and its id `{manifest.sweep_id}`." in MANIFEST


def test_the_code_in_the_docs_computes_that_digest_without_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json").write_text(worked_example() + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(blocks(MANIFEST, "python")[0], {})
    assert printed.getvalue().strip() == parse_manifest(worked_example()).digest


def test_the_blocks_of_the_worked_example_follow_from_the_rules_on_the_page() -> None:
    rows = re.findall(
        r"^\| (\d+) \| (\d+) to (\d+) \| `(\w+)` \| `(\w+)` \| `(\w+)` \| (\d+) \| (\d+) \|$",
        MANIFEST,
        re.MULTILINE,
    )
    layout = Layout(parse_manifest(worked_example()))
    said = [
        (int(first), int(last), model, lane, recipe, int(size), float(cost))
        for _, first, last, model, lane, recipe, size, cost in rows
    ]
    assert said == [
        (b.offset, b.offset + b.size - 1, b.model, b.lane, b.recipe, b.size, b.cost)
        for b in layout.blocks
    ]

    def key(*parts: object) -> str:
        text = json.dumps(parts, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    for (*_, model, lane, recipe, _, _), guided in zip(rows, (True, False), strict=True):
        assert model == key("demo", None, None)
        assert lane == key("demo", None, None, None, None)
        assert recipe == key("DDIMScheduler", 20, guided, 0, 0, "cpu")
    assert layout.index_of(1) == 2
    job = layout.job_at(1)
    assert (job.seed, job.guidance_scale) == (0, 4)
    for scheduler in TAKES_ETA:
        assert f"`{scheduler}`" in MANIFEST


def test_the_image_of_the_worked_example_has_the_digest_it_is_said_to_have() -> None:
    text = blocks(MANIFEST, "json")[1].strip()
    data = json.loads(text)
    job = Layout(parse_manifest(worked_example())).job(2)
    pin = make_pin(weights=data["weights"], dtype=data["dtype"], renderer=data["renderer"])
    digest = job_digest(job, pin)
    assert canonical_json(data) == text
    assert hashlib.sha256(text.encode()).hexdigest() == digest
    assert f"its digest is `{digest}`" in MANIFEST


@pytest.mark.parametrize("page", OURS)
def test_no_link_is_broken(page: str) -> None:
    path = ROOT / page
    for target, part in re.findall(
        r"\]\(([^)#:]*)(?:#([\w-]+))?\)", path.read_text(encoding="utf-8")
    ):
        place = path.parent / target if target else path
        assert place.exists(), target
        assert not part or part in anchors(place), f"{target}#{part}"


def anchors(page: Path) -> set[str]:
    """The names that its headings have in links, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def test_the_licence_is_there_in_full() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
