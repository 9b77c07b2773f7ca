"""docs/metrics.md says what is served: its tables are fresh, its names real, its commands parse."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from producer.cli.main import cli
from producer.exporter import Exporter
from producer.pool_reader import PoolLook
from producer.wishes import Scaling
from shared.backlog import Backlog
from shared.metric_table import METRICS, MOST_LANES, MOST_MODELS, STAGES
from tests.metric_page import PAGE, TABLES, with_tables
from tests.promtool import lint_metrics

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_tables_are_fresh() -> None:
    assert with_tables(TEXT) == TEXT, "run python -m tests.metric_page"
    assert sum(len(specs) for specs in TABLES.values()) == len(METRICS)


def test_names_follow_prometheus_conventions() -> None:
    for spec in METRICS.values():
        assert re.fullmatch(r"seedbed(_[a-z]+)+", spec.name)
        assert spec.name.endswith("_total") is (spec.kind == "counter"), spec.name
        assert not re.search(r"_(count|sum|bucket|milliseconds|minutes|ms|kb|mb)$", spec.name)
        assert spec.help.endswith(".")
        assert bool(spec.buckets) is (spec.kind == "histogram")
        assert not {"le", "quantile", "job", "instance"} & set(spec.labels)
        assert not {"sweep", "owner", "prompt"} & set(spec.labels)


def test_promtool_finds_faults_where_there_are_some() -> None:
    assert "_total" in lint_metrics("# HELP x_total Help.\n# TYPE x_total gauge\nx_total 1\n")


def test_every_name_in_the_text_is_a_metric() -> None:
    named = set(re.findall(r"seedbed_[a-z_]+[a-z]", TEXT))
    real = {name + suffix for name in METRICS for suffix in ("", "_sum", "_count", "_bucket")}
    assert named - real == set()


def test_every_stage_is_explained() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", TEXT.split("## Stages")[1], re.MULTILINE)
    assert explained == list(STAGES)


def test_the_bounds_in_the_text_are_those_of_the_code() -> None:
    assert f"{MOST_LANES} lanes" in TEXT
    assert f"beyond {MOST_MODELS} models" in TEXT


def test_the_answer_in_the_text_has_the_members_of_a_real_one() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    found = json.loads(shown)

    class Empty:
        def look(self) -> PoolLook:
            return PoolLook(
                backlog=Backlog(at=0.0), views={}, wishes={}, redis_memory=(0, 0), seconds=0.0
            )

    answer = Exporter(Empty(), Scaling()).scale("m", {})
    assert isinstance(answer.body, dict)
    assert list(found) == list(answer.body)
    assert found["target_seconds"] == Scaling().target_seconds
    assert found["max_workers"] == Scaling().max_workers


@pytest.mark.parametrize("line", re.findall(r"^(seedbed .*)$", TEXT, re.MULTILINE))
def test_its_commands_parse(line: str) -> None:
    _, name, *rest = shlex.split(line, comments=True)
    assert cli.commands[name].make_context(name, rest)


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", TEXT):
        assert (Path(PAGE).parent / target).exists(), target
