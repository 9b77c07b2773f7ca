"""From values to what prometheus_client writes: every family is one of the table's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from shared.metric_table import METRICS

Sample = tuple[Sequence[str], float]
"""Values of the labels, in the table's order, and the number."""


def new_registry() -> CollectorRegistry:
    """An empty one, of its own: what libraries register with the global one is not ours to tell."""
    # else each of ours has a second series that says since when it counts
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return CollectorRegistry()


def family(name: str, samples: Iterable[Sample]) -> Metric:
    """A gauge or counter of the table with these samples.

    Args:
        name: In METRICS.
        samples: Each with a value for each label.
    """
    spec = METRICS[name]
    made: GaugeMetricFamily | CounterMetricFamily
    if spec.kind == "gauge":
        made = GaugeMetricFamily(name, spec.help, labels=spec.labels)
    else:
        made = CounterMetricFamily(name, spec.help, labels=spec.labels)
    for labels, value in samples:
        made.add_metric(list(labels), value)
    return made


def counter(name: str, registry: CollectorRegistry) -> Counter:
    """A counter of the table."""
    spec = METRICS[name]
    return Counter(name, spec.help, spec.labels, registry=registry)


def gauge(name: str, registry: CollectorRegistry) -> Gauge:
    """A gauge of the table."""
    spec = METRICS[name]
    return Gauge(name, spec.help, spec.labels, registry=registry)


def histogram(name: str, registry: CollectorRegistry) -> Histogram:
    """A histogram of the table."""
    spec = METRICS[name]
    return Histogram(name, spec.help, spec.labels, registry=registry, buckets=spec.buckets)
