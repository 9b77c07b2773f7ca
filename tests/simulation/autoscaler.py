"""What KEDA and Kubernetes' HorizontalPodAutoscaler make of a metric: how many replicas.

KEDA asks the trigger every ``polling_seconds``. Between zero replicas and one it decides itself:
up when the value is above ``activation``, down when it has not been for ``cooldown_seconds``.
From one on the HPA decides, every ``sync_seconds``, with KEDA's answer as an external metric of the
kind AverageValue:

    desired = ceil(metric / target), or what there is while metric / (target x replicas) is within
    ``tolerance`` of 1

then bounded by what was desired within the stabilisation windows (the least on the way up, the most
on the way down), by the policies (so many pods, or per cent, a period) and by the most allowed.

Sources: kubernetes.io, 'Horizontal Pod Autoscaling' (algorithm details; configurable scaling
behavior), and kubernetes' pkg/controller/podautoscaler/{horizontal,replica_calculator}.go; keda.sh,
'ScaledObject specification', and keda's pkg/scaling/executor/scale_scaledobjects.go. Defaults are
theirs.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Policy:
    """At most so many pods, or per cent of the pods there were, within a period."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_seconds: float = 15.0


@dataclass(frozen=True, kw_only=True)
class Rules:
    """For one direction; of several policies ``select`` takes the one that allows most or least."""

    stabilization_seconds: float
    policies: tuple[Policy, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"


LONGEST_PERIOD_SECONDS = 1800.0
"""That Kubernetes takes for a policy."""

SCALE_UP = Rules(
    stabilization_seconds=0.0,
    policies=(Policy(kind="Percent", value=100), Policy(kind="Pods", value=4)),
)
SCALE_DOWN = Rules(stabilization_seconds=300.0, policies=(Policy(kind="Percent", value=100),))


@dataclass(frozen=True, kw_only=True)
class ScaledObject:
    """Settings of KEDA's ScaledObject and of the HPA it makes."""

    target: float = 1.0
    activation: float = 0.0
    polling_seconds: float = 30.0
    cooldown_seconds: float = 300.0
    max_replicas: int = 100
    sync_seconds: float = 15.0
    tolerance: float = 0.1
    up: Rules = SCALE_UP
    down: Rules = SCALE_DOWN


def desired_replicas(metric: float, *, target: float, replicas: int, tolerance: float) -> int:
    """What the metric alone asks for, of a deployment that has ``replicas`` (at least 1)."""
    if abs(1.0 - metric / (target * replicas)) <= tolerance:
        return replicas
    return math.ceil(metric / target)


def most_allowed(rules: Rules, replicas: int, *, added: Changes, removed: Changes) -> int:
    """To how many the policies let it grow now."""
    if rules.select == "Disabled":
        return replicas
    found = []
    for policy in rules.policies:
        period = policy.period_seconds
        before = replicas - added.within(period) + removed.within(period)
        if policy.kind == "Pods":
            found.append(before + policy.value)
        else:
            found.append(math.ceil(before * (1 + policy.value / 100)))
    return max(replicas, (max if rules.select == "Max" else min)(found))


def fewest_allowed(rules: Rules, replicas: int, *, added: Changes, removed: Changes) -> int:
    """To how many the policies let it shrink now."""
    if rules.select == "Disabled":
        return replicas
    found = []
    for policy in rules.policies:
        period = policy.period_seconds
        before = replicas - added.within(period) + removed.within(period)
        if policy.kind == "Pods":
            found.append(before - policy.value)
        else:
            found.append(math.floor(before * (1 - policy.value / 100)))
    return min(replicas, max(0, (min if rules.select == "Max" else max)(found)))


class Changes:
    """Replicas that came, or went, and when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> None:
        """So many just now."""
        self._seen.append((self.now, count))

    def forget(self, seconds: float) -> None:
        """Those that are longer ago than any policy looks."""
        while self._seen and self._seen[0][0] <= self.now - seconds:
            self._seen.popleft()

    def within(self, seconds: float) -> int:
        """How many in the last seconds."""
        return sum(count for when, count in self._seen if when > self.now - seconds)


@dataclass
class Autoscaler:
    """One HPA: remembers what it desired and what it changed."""

    settings: ScaledObject
    _desired: deque[tuple[float, int]] = field(default_factory=deque)
    _added: Changes = field(default_factory=Changes)
    _removed: Changes = field(default_factory=Changes)

    def sync(self, now: float, metric: float, replicas: int) -> int:
        """How many replicas there shall be from now on; 0 stays 0, that is KEDA's to change."""
        if replicas == 0:
            return 0
        self._added.now = self._removed.now = now
        settings = self.settings
        desired = desired_replicas(
            metric, target=settings.target, replicas=replicas, tolerance=settings.tolerance
        )
        bounded = min(max(1, desired), settings.max_replicas)
        chosen = self._allowed(self._stabilised(now, bounded, replicas), replicas)
        if chosen > replicas:
            self._added.add(chosen - replicas)
        elif chosen < replicas:
            self._removed.add(replicas - chosen)
        return chosen

    def _stabilised(self, now: float, desired: int, replicas: int) -> int:
        """What there is, as far as recent wishes leave it alone."""
        up, down = self.settings.up, self.settings.down
        window = max(up.stabilization_seconds, down.stabilization_seconds)
        while self._desired and self._desired[0][0] <= now - window:
            self._desired.popleft()
        self._desired.append((now, desired))
        least = min([desired, *self._recent(now, up.stabilization_seconds)])
        most = max([desired, *self._recent(now, down.stabilization_seconds)])
        return min(max(replicas, least), most)

    def _recent(self, now: float, seconds: float) -> list[int]:
        return [wish for when, wish in self._desired if when > now - seconds]

    def _allowed(self, desired: int, replicas: int) -> int:
        changes = {"added": self._added, "removed": self._removed}
        for found in changes.values():
            found.forget(LONGEST_PERIOD_SECONDS)
        if desired > replicas:
            return min(desired, most_allowed(self.settings.up, replicas, **changes))
        if desired < replicas:
            return max(desired, 1, fewest_allowed(self.settings.down, replicas, **changes))
        return replicas


@dataclass
class Activator:
    """KEDA's own part: from zero replicas to one, and back."""

    settings: ScaledObject
    _active_at: float | None = None

    def poll(self, now: float, metric: float, replicas: int) -> int:
        """How many replicas there shall be: the same, 1 instead of none, or none."""
        if metric > self.settings.activation:
            self._active_at = now
            return max(1, replicas)
        if replicas == 0:
            return 0
        since = self._active_at
        over = since is None or now > since + self.settings.cooldown_seconds
        return 0 if over else replicas
