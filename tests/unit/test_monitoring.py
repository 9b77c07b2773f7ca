"""Dashboard and alerts ask for metrics that there are, by labels that they have, and are tested."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.metric_table import METRICS, STAGES
from tests.alert_rules import DEPLOY, RULES, alerts
from tests.dashboard import PATH, dashboard, expressions, filled_in, panels
from tests.promtool import promtool

PROMETHEUS = DEPLOY / "prometheus"
PAGE = (DEPLOY.parent / "docs" / "deploy.md").read_text(encoding="utf-8")

WORDS = {"and", "or", "unless", "on", "ignoring", "by", "without", "group_left", "group_right"}
FUNCTIONS = {
    *("sum", "max", "avg", "count", "rate", "increase", "absent", "avg_over_time"),
    "histogram_quantile",
}
FROM_PROMETHEUS = {"job", "instance", "le"}
"""Labels that a scrape, or a histogram, adds."""
SUFFIXES = ("_bucket", "_count", "_sum")

QUESTIONS = expressions()
EXPRESSIONS = [*expressions(), *(rule["expr"] for rule in alerts())]


def named(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric with the labels that its braces ask for."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\[[^\]]*\]", " ", bare)
    for name, braces in re.findall(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*[\w:(])", bare):
        if name not in WORDS | FUNCTIONS:
            yield name, set(re.findall(r"(\w+)\s*[=!]~?", braces or ""))


def labels_of(name: str) -> set[str] | None:
    """What a series of this name has; None if there is none."""
    for suffix in ("", *SUFFIXES):
        spec = METRICS.get(name.removesuffix(suffix) if suffix else name)
        if spec is not None and name.endswith(suffix):
            if suffix and spec.kind != "histogram":
                continue
            return {*spec.labels, *FROM_PROMETHEUS}
    return None


def test_the_reader_of_expressions_sees_what_it_should() -> None:
    text = 'sum by (le) (rate(a_total{x="b{c}", y!~"d"}[5m])) / on (z) 2 * e > 0 unless f'
    assert list(named(text)) == [("a_total", {"x", "y"}), ("e", set()), ("f", set())]
    assert labels_of("seedbed_worker_batch_size") is not None
    assert labels_of("seedbed_worker_batch_size_sum") is not None
    assert labels_of("seedbed_jobs_done_total_sum") is None
    assert labels_of("seedbed_images_total") is None


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    found = list(named(expression))
    assert found
    known: set[str] = set()
    for name, labels in found:
        there = labels_of(name)
        assert there is not None, f"{name} is no metric"
        assert labels <= there, f"{name} has no {labels - there}"
        known |= there
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", group)) <= known, group
    for stage in re.findall(r'stage="(\w+)"', expression):
        assert stage in STAGES


def test_every_metric_of_the_pool_is_on_the_dashboard_or_in_an_alert() -> None:
    asked = {name for expression in EXPRESSIONS for name, _ in named(expression)}
    bare = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked} | asked
    left = {
        *("seedbed_build_info", "seedbed_worker_info"),  # for a person who looks for a version
        *("seedbed_sweeps", "seedbed_sweeps_finalising", "seedbed_job_seconds"),
        "seedbed_worker_device_memory_allocated_bytes",
        "seedbed_worker_device_memory_reserved_bytes",
    }
    assert set(METRICS) - bare == left


def test_prometheus_takes_rules_and_configuration() -> None:
    for arguments in (["check", "rules", RULES.name], ["check", "config", "prometheus.yml"]):
        assert "SUCCESS" in check(*arguments)


def test_every_alert_fires_when_it_should_and_not_when_it_should_not() -> None:
    assert "SUCCESS" in check("test", "rules", "alerts_test.yml")
    text = (PROMETHEUS / "alerts_test.yml").read_text(encoding="utf-8")
    for rule in alerts():
        assert rule["alert"] in text, f"{rule['alert']} has no test"


def test_a_wrong_threshold_is_found_by_the_tests(tmp_path: Path) -> None:
    text = RULES.read_text(encoding="utf-8")
    assert "> 0.8 *" in text
    (tmp_path / "alerts.yml").write_text(text.replace("> 0.8 *", "> 0.2 *"), encoding="utf-8")
    tests = (PROMETHEUS / "alerts_test.yml").read_text(encoding="utf-8")
    (tmp_path / "alerts_test.yml").write_text(tests, encoding="utf-8")
    assert "FAILED" in promtool("test", "rules", str(tmp_path / "alerts_test.yml"))


def check(*arguments: str) -> str:
    """What promtool says of files in deploy/prometheus."""
    *words, name = arguments
    return promtool(*words, str(PROMETHEUS / name))


def test_prometheus_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for number, query in enumerate(QUESTIONS):
        lines += [f"      - record: dashboard:query{number}", f"        expr: '{query}'"]
    (tmp_path / "rules.yml").write_text("\n".join(lines), encoding="utf-8")
    said = promtool("check", "rules", str(tmp_path / "rules.yml"))
    assert f"{len(QUESTIONS)} rules found" in said


def test_the_dashboard_asks_ten_questions() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert [row.split(". ")[0] for row in rows] == [str(number) for number in range(1, 11)]
    assert all(row.endswith("?") for row in rows)
    for row in rows:
        assert row.split(". ")[1] in PAGE, f"docs/deploy.md does not know {row!r}"


def test_the_dashboards_panels_are_whole() -> None:
    whole = dashboard()
    assert PATH.name == "seedbed.json"
    assert whole["uid"] == "seedbed-pool"
    numbers = [panel["id"] for panel in whole["panels"]]
    assert len(set(numbers)) == len(numbers)
    variables = {variable["name"] for variable in whole["templating"]["list"]}
    for panel in panels():
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            used = set(re.findall(r"\$\{?(\w+)", target["expr"]))
            assert used <= variables | {"__rate_interval"}
            assert "$" not in filled_in(target["expr"])
    taken: set[tuple[int, int]] = set()
    for panel in whole["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another"
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_has_a_runbook(rule: dict[str, dict[str, str]]) -> None:
    name = str(rule["alert"])
    assert rule["annotations"]["runbook_url"] == f"docs/deploy.md#{name.lower()}"
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")
    _, _, section = PAGE.partition(f"\n### {name}\n")
    section = section.partition("\n##")[0]
    assert "`seedbed " in section or "kubectl" in section or "```sh" in section, "what to do?"


def test_there_is_no_runbook_without_an_alert() -> None:
    assert set(re.findall(r"^### (Seedbed\w+)$", PAGE, re.MULTILINE)) == {
        rule["alert"] for rule in alerts()
    }
