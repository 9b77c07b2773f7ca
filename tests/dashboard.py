"""Reads deploy/grafana's dashboard as Grafana does: its queries, with its variables filled in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "deploy" / "grafana" / "seedbed.json"

FILLED_IN = {
    "$__rate_interval": "1m",
    "$model": ".*",
    "${dollars}": "2.00",
}
"""Grafana's variables, and what a viewer might have chosen."""


def dashboard() -> dict[str, Any]:
    """The whole document."""
    found: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """Those that ask something; rows are headings."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def filled_in(expression: str) -> str:
    """An expression as Prometheus is asked it."""
    for name, value in FILLED_IN.items():
        expression = expression.replace(name, value)
    return expression


def expressions() -> list[str]:
    """Every query of every panel, as Prometheus is asked it."""
    return [filled_in(target["expr"]) for panel in panels() for target in panel["targets"]]
