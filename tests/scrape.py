"""Asks our HTTP endpoints as Prometheus, KEDA and a kubelet do."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and text of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask_json(port: int, path: str) -> Any:
    """The JSON of an answer that must be one."""
    status, text = ask(port, path)
    assert status == 200, text
    return json.loads(text)


def scrape(port: int) -> Samples:
    """Every sample: (name, sorted labels) to value."""
    status, text = ask(port, "/metrics")
    assert status == 200, text
    return samples_of(text)


def scrape_openmetrics(port: int) -> set[str]:
    """Names of the families, as Prometheus itself asks for them: in the OpenMetrics format."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    request.add_header("Accept", "application/openmetrics-text; version=1.0.0")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert "openmetrics" in answer.headers["Content-Type"]
        return {
            found.name
            for found in openmetrics.text_string_to_metric_families(answer.read().decode())
        }


def samples_of(text: str) -> Samples:
    """Every sample of an exposition."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for found in text_string_to_metric_families(text)
        for sample in found.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """One sample's value."""
    return samples[name, tuple(sorted(labels.items()))]
