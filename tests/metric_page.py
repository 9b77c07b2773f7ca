"""The tables in docs/metrics.md; ``python -m tests.metric_page`` writes them anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shared.metric_table import POOL_METRICS, WORKER_METRICS, MetricSpec

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
TABLES = {"pool": POOL_METRICS, "worker": WORKER_METRICS}
UNITS = ("seconds", "bytes")


def metric_table(specs: Iterable[MetricSpec]) -> str:
    """Markdown, a row a metric."""
    head = "| metric | kind | labels | unit | what it is |\n| --- | --- | --- | --- | --- |\n"
    return head + "".join(map(_row, specs))


def with_tables(page: str) -> str:
    """The page with the tables between their marks."""
    for name, specs in TABLES.items():
        start = f"<!-- {name} metrics: written by python -m tests.metric_page -->\n"
        end = f"<!-- end of {name} metrics -->\n"
        before, _, rest = page.partition(start)
        _, _, after = rest.partition(end)
        page = f"{before}{start}\n{metric_table(specs)}\n{end}{after}"
    return page


def _row(spec: MetricSpec) -> str:
    words = spec.name.removesuffix("_total").split("_")
    unit = next((unit for unit in UNITS if unit in words), "")
    cells = (
        f"`{spec.name}`",
        spec.kind,
        ", ".join(f"`{label}`" for label in spec.labels),
        unit,
        spec.help,
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
