"""The keys of one pool in Redis: their names, types and content.

All share the hash tag ``{POOL}``, so that they live on one node of a Redis Cluster and the Lua
scripts, which are given the first of them, may derive the rest (``lua/lib_keys.lua``).
"""

from __future__ import annotations

from dataclasses import dataclass

SEGMENT_BITS = 1 << 20
"""Done bits in one string: bounds what a single SETBIT may allocate to 128 KiB."""

KEY_TABLE: tuple[tuple[str, str, str], ...] = (
    ("sweep:ID", "hash", "state, epoch, owner, priority, weight, counters, pins, virtual times"),
    ("manifest:ID", "string", "the sweep's manifest, opaque to Redis"),
    ("blocks:ID", "zset", "'number model lane recipe size cost' scored by offset"),
    ("cursors:ID", "hash", "NUMBER:at, NUMBER:left of each block claimed from"),
    ("open:ID:MODEL", "zset", "blocks with claimable jobs, scored by those that may be shared"),
    ("lanes:ID", "zset", "'model lane recipe number' of blocks with jobs to share, score 0"),
    ("retry:ID:BLOCK", "set", "positions given back or failed"),
    ("solo:ID:BLOCK", "set", "suspects, to be run alone"),
    ("leased:ID", "hash", "position to the token that holds it"),
    ("tries:ID", "hash", "position to attempts charged"),
    ("dead:ID", "set", "positions that are given up"),
    ("failures:ID", "hash", "position to JSON: attempts, reason, worker, token, at, dead"),
    ("bits:ID:SEGMENT", "string", "done bits of 2^20 positions"),
    ("segments:ID", "hash", "segment to how many of its bits are set"),
    ("sweeps", "zset", "sweep ids scored by their submission, in microseconds"),
    ("epoch", "string", "the last epoch minted in this pool"),
    ("roots", "set", "'model pin' of the trees of turns there have been"),
    ("turn:MODEL:PIN", "zset", "priorities with claimable sweeps"),
    ("turn:MODEL:PIN:PRIORITY", "zset", "owners by virtual time"),
    ("turn:MODEL:PIN:PRIORITY:OWNER", "zset", "sweeps by virtual time"),
    ("fill:MODEL:PIN:LANE:RECIPE", "zset", "the same, of sweeps with jobs of one lane and recipe"),
    ("fill:MODEL:PIN:LANE:RECIPE:PRIORITY", "zset", "owners by virtual time"),
    ("fill:MODEL:PIN:LANE:RECIPE:PRIORITY:OWNER", "zset", "sweeps by virtual time"),
    ("clock:MODEL:PRIORITY", "hash", "clock; clock:OWNER and owner:OWNER, their virtual times"),
    ("lease:TOKEN", "hash", "kind, shares, held, phase and its bound, begun jobs"),
    ("leases", "zset", "tokens scored by their deadline, in microseconds"),
    ("gone:TOKEN", "string", "a token that is over; lives ten minutes"),
    ("finalise", "zset", "sweeps whose finalise item waits, scored by since when"),
    (
        "tallies",
        "hash",
        "'model what' to a count since the pool began: done, reused, dead, expired",
    ),
    ("rates", "hash", "'model lane recipe' to JSON: measured seconds a job and batch"),
    ("weights", "hash", "model to JSON: checkpoint, VAE and LoRAs by name"),
    ("loads", "hash", "'model device' to 'count at': loadings in a row that no worker outlived"),
    ("capacities", "hash", "hash of what it holds for to JSON: measured batches, knees and caps"),
    ("worker:ID", "string", "JSON a worker announced; lives as long as it said"),
    ("workers", "set", "ids of workers that have announced themselves"),
)
"""Every kind of key: name after ``seedbed:{POOL}:``, Redis type, content."""


@dataclass(frozen=True)
class Keys:
    """Names of the keys that Python reads or writes itself; Lua knows the rest."""

    pool: str

    @property
    def base(self) -> str:
        """What every script is given as KEYS[1]."""
        return f"seedbed:{{{self.pool}}}"

    def sweep(self, sweep_id: str) -> str:
        return f"{self.base}:sweep:{sweep_id}"

    def manifest(self, sweep_id: str) -> str:
        return f"{self.base}:manifest:{sweep_id}"

    def blocks(self, sweep_id: str) -> str:
        return f"{self.base}:blocks:{sweep_id}"

    def open(self, sweep_id: str, model: str) -> str:
        return f"{self.base}:open:{sweep_id}:{model}"

    def leased(self, sweep_id: str) -> str:
        return f"{self.base}:leased:{sweep_id}"

    def dead(self, sweep_id: str) -> str:
        return f"{self.base}:dead:{sweep_id}"

    def failures(self, sweep_id: str) -> str:
        return f"{self.base}:failures:{sweep_id}"

    def bits(self, sweep_id: str, segment: int) -> str:
        return f"{self.base}:bits:{sweep_id}:{segment}"

    @property
    def sweeps(self) -> str:
        return f"{self.base}:sweeps"

    @property
    def tallies(self) -> str:
        return f"{self.base}:tallies"

    @property
    def rates(self) -> str:
        return f"{self.base}:rates"

    @property
    def weights(self) -> str:
        return f"{self.base}:weights"

    @property
    def loads(self) -> str:
        return f"{self.base}:loads"

    @property
    def capacities(self) -> str:
        return f"{self.base}:capacities"

    @property
    def workers(self) -> str:
        return f"{self.base}:workers"

    def worker(self, worker_id: str) -> str:
        return f"{self.base}:worker:{worker_id}"
