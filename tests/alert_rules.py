"""Writes deploy/kubernetes' alerts from deploy/prometheus': ``python -m tests.alert_rules``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
RESOURCE = DEPLOY / "kubernetes" / "components" / "monitoring" / "alerts.yaml"

HEAD = """\
# The rules of deploy/prometheus/alerts.yml, written by python -m tests.alert_rules
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: seedbed
  labels: {app.kubernetes.io/part-of: seedbed}
spec:
"""


def alerts() -> list[dict[str, Any]]:
    """Every alert."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def resource() -> str:
    """The rules as the Prometheus operator takes them."""
    text = RULES.read_text(encoding="utf-8")
    body = text[text.index("groups:") :]
    return HEAD + re.sub(r"^(?=.)", "  ", body, flags=re.MULTILINE)


if __name__ == "__main__":
    RESOURCE.write_text(resource(), encoding="utf-8")
