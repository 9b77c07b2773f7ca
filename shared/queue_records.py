"""The values that go into the queue and come out of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from shared.errors import InvalidSweep
from shared.layout import MAX_BLOCKS
from shared.ranges import MAX_JOBS

State = Literal["running", "paused", "finalising", "done", "cancelled"]
Outcome = Literal["created", "unchanged", "restarted", "done"]
Phase = Literal["queued", "gpu", "uploading"]

MAX_PRIORITY = 100
MAX_OWNER_CHARACTERS = 200

OPAQUE = re.compile(r"[0-9a-z]{1,32}")
SWEEP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockSpec:
    """A contiguous range of a sweep's positions with one lane and one recipe.

    Attributes:
        model: Opaque key of the model: a worker claims by it.
        lane: Opaque key of what could share a forward pass.
        recipe: Opaque key of how the jobs are sampled.
        size: Jobs, at least 1.
        cost: Virtual time of one job (steps times pixels, scaled), above 0.
    """

    model: str
    lane: str
    recipe: str
    size: int
    cost: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRecord:
    """What the queue is told of a sweep.

    Attributes:
        id: The sweep's id; also part of key names.
        digest: Whole digest of the manifest: the same id with another digest is refused.
        manifest: Stored as given; the queue never looks inside.
        blocks: Block b holds the positions after those of the blocks before it.
        owner: Whose sweep it is, for fair sharing.
        priority: -100..100; higher is served first.
        weight: Share relative to other sweeps, above 0.
    """

    id: str
    digest: str
    manifest: str
    blocks: tuple[BlockSpec, ...]
    owner: str
    priority: int = 0
    weight: float = 1.0

    @property
    def total(self) -> int:
        """Jobs in all blocks."""
        return sum(block.size for block in self.blocks)

    def check(self) -> None:
        """Raise InvalidSweep, naming field and value, for a record the queue can't hold."""
        if not SWEEP_ID.fullmatch(self.id):
            raise InvalidSweep(
                f"sweep id {self.id!r}: 1 to 200 letters, digits, '.', '_' or '-'",
                field="name",
                value=self.id,
            )
        if not 1 <= len(self.owner) <= MAX_OWNER_CHARACTERS:
            raise InvalidSweep(
                f"owner {self.owner!r} must have 1 to {MAX_OWNER_CHARACTERS} characters",
                field="owner",
                value=self.owner,
            )
        if not -MAX_PRIORITY <= self.priority <= MAX_PRIORITY:
            raise InvalidSweep(
                f"priority {self.priority} is not within -{MAX_PRIORITY}..{MAX_PRIORITY}",
                field="priority",
                value=self.priority,
            )
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise InvalidSweep(
                f"weight {self.weight} must be a finite number above 0",
                field="weight",
                value=self.weight,
            )
        if not 1 <= len(self.blocks) <= MAX_BLOCKS:
            raise InvalidSweep(
                f"a sweep of {len(self.blocks)} blocks: 1 to {MAX_BLOCKS} are possible; "
                "split it into several sweeps",
                value=len(self.blocks),
            )
        for block in self.blocks:
            _check_block(block)
        if self.total > MAX_JOBS:
            raise InvalidSweep(
                f"a sweep of {self.total} jobs: at most {MAX_JOBS} are possible; "
                "split it into several sweeps",
                value=self.total,
            )


def _check_block(block: BlockSpec) -> None:
    for name in ("model", "lane", "recipe"):
        if not OPAQUE.fullmatch(getattr(block, name)):
            raise InvalidSweep(
                f"block {name} {getattr(block, name)!r}: 1 to 32 characters of 0-9 and a-z",
                value=getattr(block, name),
            )
    if block.size < 1:
        raise InvalidSweep(f"a block of {block.size} jobs: at least 1", value=block.size)
    if not (math.isfinite(block.cost) and block.cost > 0):
        raise InvalidSweep(
            f"block cost {block.cost} must be a finite number above 0", value=block.cost
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitted:
    """What became of a submit.

    Attributes:
        outcome: ``created``; ``restarted``: it was cancelled, everything is pending again under a
            new epoch; ``unchanged``: it is under way; ``done``: check storage, then ``repair``.
        state: The sweep's state now.
        epoch: The sweep's epoch now.
    """

    outcome: Outcome
    state: State
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The part of a claim that comes from one block of one sweep; positions ascend."""

    sweep_id: str
    epoch: int
    block: int
    positions: tuple[int, ...]

    @property
    def refs(self) -> list[JobRef]:
        """Its jobs, in the order of the positions."""
        return [JobRef(self.sweep_id, position) for position in self.positions]


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Jobs of one lane and recipe under one lease.

    Attributes:
        token: The lease's id, the client's own.
        solo: A single suspect, to be run alone.
        more: There is more to claim for whoever has loaded the same. Not of the claim itself: asked
            again, it may have changed.
    """

    token: str
    model: str
    lane: str
    recipe: str
    solo: bool
    more: bool = field(compare=False)
    shares: tuple[Share, ...]

    @property
    def size(self) -> int:
        """Jobs in all shares."""
        return sum(len(share.positions) for share in self.shares)


@dataclass(frozen=True, slots=True)
class JobRef:
    """One job of a sweep as the queue knows it."""

    sweep_id: str
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitGroup:
    """Stored images of one sweep.

    Attributes:
        positions: In any order, without repeats.
        bytes: Size of each object, in the order of ``positions``.
        reused: Storage already had them; nothing was rendered.
        flagged: Those of the positions that a safety checker blacked out.
    """

    sweep_id: str
    epoch: int
    positions: Sequence[int]
    bytes: Sequence[int]
    reused: bool = False
    flagged: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """What a commit changed.

    Attributes:
        newly_done: Positions that were not done before.
        finalising: Sweeps this commit completed.
        stale: Sweeps that are unknown or of another epoch: nothing was written for them.
        lease_over: The lease holds nothing more and has ended: it need not be released.
    """

    newly_done: int
    finalising: tuple[str, ...]
    stale: tuple[str, ...]
    lease_over: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FinaliseItem:
    """A sweep whose index is to be written, under a lease."""

    sweep_id: str
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepStatus:
    """Where the jobs of a sweep are; done + dead + leased + pending + cancelled = total.

    Attributes:
        reused: Done jobs whose image storage already had.
        flagged: Images of it that a safety checker blacked out, as far as that is known.
        bytes: Size of all stored images.
        submitted_at: Seconds since 1970, UTC.
        finished_at: When it became done or cancelled, or None.
        pins: Model key to what the workers on it have loaded.
        blocks: How many there are.
        refused: Why a worker paused it, if one did: its manifest can't be read.
    """

    id: str
    state: State
    epoch: int
    owner: str
    priority: int
    weight: float
    total: int
    done: int
    reused: int
    dead: int
    leased: int
    pending: int
    cancelled: int
    bytes: int
    submitted_at: float
    finished_at: float | None
    pins: dict[str, str]
    blocks: int
    flagged: int = 0
    refused: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The last failure of one job.

    Attributes:
        attempts: Tries that were charged to it so far.
        worker: Who had it.
        at: Seconds since 1970, UTC.
        dead: It is given up until somebody retries it.
    """

    position: int
    attempts: int
    reason: str
    worker: str
    at: float
    dead: bool


@dataclass(frozen=True, slots=True)
class Census:
    """The jobs of a sweep, counted where they are.

    Attributes:
        total: Jobs of the sweep.
        done: By the counter.
        bits: Done by the bits.
        claimable: Beyond a cursor, to be tried again or to be run alone; on a cancelled sweep
            only some of those that are pending no more.
        leased: In somebody's hands.
        dead: Given up.
    """

    total: int
    done: int
    bits: int
    claimable: int
    leased: int
    dead: int

    @property
    def whole(self) -> bool:
        """Whether every job is somewhere, and the done ones are counted right."""
        places = self.bits + self.claimable + self.leased + self.dead
        return self.done == self.bits and places == self.total


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """What workers measured for one lane and recipe of a model."""

    model: str
    lane: str
    recipe: str
    seconds_per_job: float
    batch: int
