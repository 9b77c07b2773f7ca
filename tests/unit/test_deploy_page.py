"""docs/deploy.md: its commands parse, its sums come out, its links and files are there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from producer.cli.main import cli
from tests.kubernetes_files import KUBERNETES, OVERLAYS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "deploy.md"
TEXT = PAGE.read_text(encoding="utf-8")
DECISIONS = ROOT / "docs" / "decisions" / "deploy.md"


def commands() -> list[str]:
    """Every line of a shell block, and every `seedbed ...` in the text."""
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    inline = re.findall(r"`(seedbed [^`\n]+)`", TEXT)
    compose = [line.split(" cli ", 1)[1] for line in lines if " cli " in line]
    return (
        [line for line in lines if line.startswith("seedbed ")]
        + inline
        + [f"seedbed {words}" for words in compose]
    )


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_parses(line: str) -> None:
    words = shlex.split(line, comments=True)
    words = words[: words.index("<")] if "<" in words else words
    with cli.make_context("seedbed", words[1:]) as context:
        name, command, rest = cli.resolve_command(context, words[1:])
        assert command is not None
        command.make_context(name, rest, parent=context, resilient_parsing=not rest)


def test_there_are_commands_to_parse() -> None:
    assert len(set(commands())) > 15


def test_every_sum_comes_out() -> None:
    found = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", TEXT, re.M | re.S)
    assert len(found) >= 2
    for code, said in found:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, {})
        assert out.getvalue() == said


def test_the_cost_of_requests_comes_out() -> None:
    rows = re.findall(r"^\| ([A-Z][\w ]+) \|.*\| ([\d,]+) \| ([\d.]+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 4
    total = 0.0
    for request, count, dollars in rows:
        a_thousand = 0.005 if request.startswith(("PUT", "LIST")) else 0.0004
        cost = int(count.replace(",", "")) / 1000 * a_thousand
        assert f"{cost:.2f}" == dollars, request
        total += cost
    (said,) = re.findall(r"Together about \$([\d.]+) a million", TEXT)
    assert abs(total - float(said)) < 0.01


def test_the_gpus_figure_is_the_one_that_was_measured() -> None:
    performance = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    (figure,) = re.findall(r"^images_a_second = ([\d.]+)$", TEXT, re.MULTILINE)
    assert f"| 32 | {figure} |" in performance
    assert "NVIDIA H200" in TEXT


@pytest.mark.parametrize("page", [PAGE, DECISIONS])
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([\w-]+))?\)", text):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in headings]
            assert anchor in slugs, f"{target}#{anchor}"


def test_every_overlay_and_component_is_explained() -> None:
    for overlay in OVERLAYS:
        assert f"kubernetes/overlays/{overlay})" in TEXT
    components = {path.name for path in (KUBERNETES / "components").iterdir()}
    assert set(re.findall(r"^\| `([\w-]+)` \| [a-zA-Z]", TEXT, re.MULTILINE)) >= components


def test_every_file_that_a_command_names_is_there() -> None:
    for name in re.findall(r"\b(?:deploy|examples)/[\w./-]+\w", TEXT):
        if name != "deploy/compose/.env":
            assert (ROOT / name).exists(), name
