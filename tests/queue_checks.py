"""What must hold of a pool in Redis, said once: against the model, and from step to step."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import Any

import redis

from shared.queue import Claim, JobQueue
from shared.queue_look import short_pin
from tests.queue_model import (
    CANCELLED,
    DEAD,
    DONE,
    FRESH,
    LEASED,
    PENDING,
    RETRY,
    SOLO,
    ModelSweep,
    QueueModel,
)
from tests.queue_play import refs_of

Everything = dict[str, Any]

READ_EVERYTHING = """
local found = {}
for _, name in ipairs(redis.call('KEYS', KEYS[1] .. ':*')) do
  local kind, value = redis.call('TYPE', name).ok, nil
  if kind == 'hash' then
    value = redis.call('HGETALL', name)
  elseif kind == 'zset' then
    value = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES')
  elseif kind == 'set' then
    value = redis.call('SMEMBERS', name)
  else
    value = redis.call('GET', name)
  end
  found[#found + 1] = {name, kind, value}
end
return found
"""


def read_everything(client: redis.Redis, base: str) -> Everything:
    """Every key of the pool, hashes and sorted sets as dicts, sets as sets, strings as bytes."""
    found: Everything = {}
    rows: Any = client.eval(READ_EVERYTHING, 1, base)
    for name, kind, value in rows:
        short = name.decode().removeprefix(f"{base}:")
        if kind == b"string":
            found[short] = value
            continue
        texts = [item.decode(errors="replace") for item in value]
        found[short] = (
            set(texts) if kind == b"set" else dict(zip(texts[::2], texts[1::2], strict=True))
        )
    return found


def is_leaf(name: str, kind: str, parts: int) -> bool:
    """Whether a key is the lowest level of a tree of this kind."""
    return name.startswith(f"{kind}:") and name.count(":") == parts - 1


def check_claim(
    model: QueueModel,
    claim: Claim,
    *,
    pin: str,
    max_jobs: int,
    owners: dict[tuple[int, str], float] | None,
    may_stray: bool,
) -> None:
    """Whether a claim was right to take what it took, before the model takes it over.

    Args:
        owners: Virtual times just before, where they say exactly whose turn it was.
        may_stray: It named a preference, and so may have left the fullest block for another.
    """
    first = model.sweeps[claim.shares[0].sweep_id]
    priority = first.record.priority
    open_sweeps = model.open_sweeps(claim.model, pin)
    assert priority == max(sweep.record.priority for sweep in open_sweeps)
    if owners is not None:
        assert owners[priority, first.record.owner] == min(
            owners[priority, sweep.record.owner]
            for sweep in open_sweeps
            if sweep.record.priority == priority
        )
    for share in claim.shares:
        sweep = model.sweeps[share.sweep_id]
        spec = sweep.record.blocks[share.block]
        assert sweep.state == "running"
        assert share.epoch == sweep.epoch
        assert sweep.pins.get(claim.model, pin) == pin
        assert (spec.model, spec.lane, spec.recipe) == (claim.model, claim.lane, claim.recipe)
        assert list(share.positions) == sorted(set(share.positions))
        if claim.solo:
            continue
        given_back = sweep.at(share.block, RETRY)
        fresh = sorted(set(share.positions) - set(given_back))
        assert fresh == sweep.at(share.block, FRESH)[: len(fresh)]
        assert not fresh or set(given_back) <= set(share.positions)
    if claim.solo:
        (ref,) = refs_of(claim)
        assert first.places[ref.position] == SOLO
        assert may_stray or not first.open_blocks(claim.model, pin, FRESH, RETRY)
        return
    shareable = sum(
        len(sweep.at(block, FRESH, RETRY))
        for sweep in model.sweeps.values()
        for block in sweep.open_blocks(claim.model, pin, FRESH, RETRY)
        if sweep.record.blocks[block].lane == claim.lane
        and sweep.record.blocks[block].recipe == claim.recipe
    )
    assert claim.size == min(max_jobs, shareable)


class PoolChecks:
    """Compares Redis with the model; remembers what may only grow."""

    def __init__(self, queue: JobQueue, model: QueueModel) -> None:
        self.queue = queue
        self.model = model
        self.clocks: dict[tuple[str, str], float] = {}
        self.done_before: dict[tuple[str, int], set[int]] = {}

    def check(self) -> None:
        """Everything at once, from one look at Redis."""
        found = read_everything(self.queue.client, self.queue.keys.base)
        for sweep_id, sweep in self.model.sweeps.items():
            self.check_places(found, sweep_id, sweep)
            self.check_counters(found, sweep_id, sweep)
        assert set(found.get("sweeps", {})) == set(self.model.sweeps)
        self.check_leases(found)
        self.check_trees(found)
        self.check_virtual_time(found)
        self.check_backlog()

    def check_places(self, found: Everything, sweep_id: str, sweep: ModelSweep) -> None:
        """I2: every position is in exactly one place, and in the one the model has it in."""
        bits = found.get(f"bits:{sweep_id}:0", b"")
        leased = found.get(f"leased:{sweep_id}", {})
        assert {int(position): token for position, token in leased.items()} == sweep.holders
        places: list[set[str]] = [set() for _ in range(sweep.record.total)]
        for position in range(sweep.record.total):
            if position // 8 < len(bits) and bits[position // 8] & (0x80 >> position % 8):
                places[position].add(DONE)
        for position in leased:
            places[int(position)].add(LEASED)
        for position in found.get(f"dead:{sweep_id}", ()):
            places[int(position)].add(DEAD)
        cursors = found.get(f"cursors:{sweep_id}", {})
        for block in range(len(sweep.record.blocks)):
            span = sweep.span(block)
            beyond = [p for p in span[int(cursors.get(f"{block}:at", 0)) :] if not places[p]]
            assert int(cursors.get(f"{block}:left", len(span))) == len(beyond)
            for place, members in (
                (FRESH, beyond),
                (RETRY, found.get(f"retry:{sweep_id}:{block}", ())),
                (SOLO, found.get(f"solo:{sweep_id}:{block}", ())),
            ):
                for position in members:
                    places[int(position)].add(place)
        if sweep.state == "cancelled":
            places = [place - {FRESH} or {CANCELLED} for place in places]
        assert places == [{place} for place in sweep.places]

    def check_counters(self, found: Everything, sweep_id: str, sweep: ModelSweep) -> None:
        """I5: the counters are the sizes of the sets, and done only grows within an epoch."""
        status = self.queue.status(sweep_id)
        assert (status.state, status.epoch) == (sweep.state, sweep.epoch)
        assert status.done == sweep.count(DONE)
        assert status.dead == sweep.count(DEAD)
        assert status.leased == sweep.count(LEASED)
        assert status.pending == sweep.count(*PENDING)
        assert status.cancelled == sweep.count(CANCELLED)
        assert status.pins == sweep.pins
        assert sweep.state == "cancelled" or self.queue.census(sweep_id).whole
        segments = found.get(f"segments:{sweep_id}", {})
        assert sum(int(count) for count in segments.values()) == status.done
        tries = found.get(f"tries:{sweep_id}", {})
        assert {int(position): int(count) for position, count in tries.items()} == sweep.tries
        done = {position for position, place in enumerate(sweep.places) if place == DONE}
        assert self.done_before.get((sweep_id, sweep.epoch), set()) <= done
        self.done_before[sweep_id, sweep.epoch] = done

    def forget_done(self, sweep_id: str) -> None:
        """A repair takes back what was done, within the epoch where the sweep is under way."""
        for known in [key for key in self.done_before if key[0] == sweep_id]:
            del self.done_before[known]

    def check_leases(self, found: Everything) -> None:
        """Tokens, what they hold, and the finalise items nobody holds."""
        assert set(found.get("leases", {})) == set(self.model.leases)
        for token, lease in self.model.leases.items():
            if lease.kind == "jobs":
                assert int(found[f"lease:{token}"]["held"]) == lease.held
        assert set(found.get("finalise", {})) == self.model.waiting_to_finalise()
        for token in self.model.gone:
            assert f"gone:{token}" in found

    def check_trees(self, found: Everything) -> None:
        """The trees list what is claimable, and nothing else; so does the list of models."""
        turns, fills = set(), set()
        for sweep_id, sweep in self.model.sweeps.items():
            owner = f"{sweep.record.priority}:{sweep.record.owner}"
            for block, spec in enumerate(sweep.record.blocks):
                pin = sweep.pins.get(spec.model)
                pinned = hashlib.sha1(pin.encode()).hexdigest()[:16] if pin else "-"
                if block in sweep.open_blocks(spec.model, pin or "", *PENDING):
                    turns.add((f"turn:{spec.model}:{pinned}:{owner}", sweep_id))
                if block in sweep.open_blocks(spec.model, pin or "", FRESH, RETRY):
                    root = f"fill:{spec.model}:{pinned}:{spec.lane}:{spec.recipe}"
                    fills.add((f"{root}:{owner}", sweep_id))
        listed = {(name, member) for name, members in found.items() for member in members}
        assert {leaf for leaf in listed if is_leaf(leaf[0], "turn", 5)} == turns
        assert {leaf for leaf in listed if is_leaf(leaf[0], "fill", 7)} == fills
        for name in found:
            if name.startswith(("turn:", "fill:")) and name.count(":") >= 3:
                parent, _, child = name.rpartition(":")
                assert child in found.get(parent, (child,))
        reapable = {
            lease.claim.model
            for lease in self.model.leases.values()
            if lease.expired and lease.claim is not None
        }
        models = {name.split(":")[1] for name, _ in turns} | reapable
        assert set(self.queue.look().models) == models

    def check_backlog(self) -> None:
        """What the exporter is told: open jobs by lane, and what has happened by model."""
        waiting: Counter[tuple[str, str, str, str]] = Counter()
        costs: dict[tuple[str, str, str, str], float] = {}
        oldest = set()
        for sweep in self.model.sweeps.values():
            for block, spec in enumerate(sweep.record.blocks):
                pin = sweep.pins.get(spec.model, "")
                if block in sweep.open_blocks(spec.model, pin, *PENDING):
                    name = (spec.model, short_pin(pin), spec.lane, spec.recipe)
                    jobs = len(sweep.at(block, *PENDING))
                    waiting[name] += jobs
                    costs[name] = costs.get(name, 0.0) + jobs * spec.cost
                    oldest.add(spec.model)
        held: Counter[tuple[str, str, str]] = Counter()
        finalising = Counter(
            self.model.sweeps[sweep_id].record.blocks[0].model
            for sweep_id in self.model.waiting_to_finalise()
        )
        for lease in self.model.leases.values():
            if lease.claim is not None:
                held[lease.claim.model, lease.claim.lane, lease.claim.recipe] += lease.held
            elif lease.sweep_id in self.model.sweeps:
                finalising[self.model.sweeps[lease.sweep_id].record.blocks[0].model] += 1
        backlog = self.queue.backlog()
        assert {(r.model, r.pin, r.lane, r.recipe): r.jobs for r in backlog.waiting} == waiting
        for row in backlog.waiting:
            cost = costs[row.model, row.pin, row.lane, row.recipe]
            assert math.isclose(row.cost, cost)
        assert {(r.model, r.lane, r.recipe): r.jobs for r in backlog.held} == held
        assert backlog.finalising == finalising
        assert set(backlog.oldest) == oldest
        assert (backlog.sweeps, backlog.sweeps_unread) == (len(self.model.sweeps), 0)
        tallies = {
            (model, what): count
            for model, tally in self.queue.tallies().items()
            for what in ("done", "dead", "expired")
            if (count := getattr(tally, what))
        }
        assert tallies == +self.model.tally

    def check_virtual_time(self, found: Everything) -> None:
        """Times are finite and not negative; clocks never go back."""
        for name, row in found.items():
            if name.startswith("clock:"):
                for clock, text in row.items():
                    value = float(text)
                    assert math.isfinite(value)
                    assert value >= 0
                    if clock.startswith("clock"):
                        assert value >= self.clocks.get((name, clock), 0)
                        self.clocks[name, clock] = value
