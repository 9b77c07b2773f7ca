"""Every cell of the table of states and verbs in docs/queue.md, played on a real Redis."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import LeaseLost, UnknownSweep
from shared.keys import KEY_TABLE
from shared.queue import JobQueue, JobRef
from tests.queue_play import (
    LONG_LEASE,
    MODEL,
    PIN,
    expire,
    finish,
    make_block,
    make_record,
    must_take,
    refs_of,
    store,
    store_positions,
    take,
)

DOCS = Path(__file__).parents[2] / "docs" / "queue.md"

RECORD = make_record("s", make_block(4))
DEAD, LEASED, PENDING = 0, (1, 2), 3


def table_of(marker: str) -> list[list[str]]:
    """Cells of the table that follows a line of docs/queue.md."""
    rows = []
    for line in DOCS.read_text("utf-8").partition(marker)[2].splitlines()[1:]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows


HEADER, _, *ROWS = table_of("<!-- states x verbs: read by the test -->")
CELLS = [
    pytest.param(row[0], state, expected, id=f"{row[0]}-{state}")
    for row in ROWS
    for state, expected in zip(HEADER[1:], row[1:], strict=True)
]


class Scene:
    """A sweep with one dead job, two under the token ``t`` and one pending, in some state."""

    def __init__(self, queue: JobQueue, state: str) -> None:
        self.queue = queue
        self.epoch = queue.submit(RECORD).epoch
        dying = must_take(queue, 1)
        queue.fail(dying.token, JobRef("s", DEAD), reason="x", worker="w", permanent=True)
        self.claim = must_take(queue, 2, token="t")
        assert [ref.position for ref in refs_of(self.claim)] == list(LEASED)
        if state == "paused":
            queue.pause("s")
        elif state == "cancelled":
            queue.cancel("s")
        elif state in ("finalising", "done"):
            store_positions(queue, "s", [*LEASED, PENDING])
            if state == "done":
                finish(queue)
        elif state == "unknown":
            queue.delete("s")

    def submit(self) -> str:
        return self.queue.submit(RECORD).outcome

    def pause(self) -> str:
        return self.queue.pause("s")

    def resume(self) -> str:
        return self.queue.resume("s")

    def cancel(self) -> str:
        return self.queue.cancel("s")

    def delete(self) -> str:
        self.queue.delete("s")
        return "unknown"

    def retry(self) -> str:
        return f"{self.queue.retry('s')} revived"

    def repair(self) -> str:
        return f"{self.queue.repair('s', missing=[PENDING])} undone"

    def pin(self) -> str:
        return "pinned" if self.queue.pin("s", MODEL, PIN) else "pinned to another"

    def claim_jobs(self) -> str:
        claim = take(self.queue)
        return "none" if claim is None else f"{claim.size} job"

    def begin(self) -> str:
        self.queue.begin("t", refs_of(self.claim), gpu_seconds=9)
        return "begun"

    def renew(self) -> str:
        assert self.queue.renew("t", lease_seconds=9, phase="queued") == 9
        return "renewed"

    def commit(self) -> str:
        committed = store(self.queue, self.claim)
        return "stale" if committed.stale else f"{committed.newly_done} new"

    def release(self) -> str:
        return f"{self.queue.release('t')} given back"

    def fail(self) -> str:
        ref = refs_of(self.claim)[0]
        try:
            self.queue.begin("t", [ref], gpu_seconds=9)
        finally:
            self.queue.fail("t", ref, reason="x", worker="w")
        failed = [failure for failure in self.queue.failures("s") if failure.position == LEASED[0]]
        return f"{failed[0].attempts} attempt" if failed else "no attempt"

    def reap(self) -> str:
        if self.queue.client.zscore(f"{self.queue.keys.base}:leases", "t") is not None:
            expire(self.queue, "t")
        return f"{self.queue.reap()} reaped"

    def finalise(self) -> str:
        item = self.queue.finalise(token="f", lease_seconds=LONG_LEASE)
        return "none" if item is None else "item"

    def finish(self) -> str:
        self.finalise()
        self.queue.finish("f", "s", self.epoch)
        return "finished"

    def state(self) -> str:
        return self.queue.status("s").state


@pytest.mark.parametrize(("verb", "state", "expected"), CELLS)
def test_each_verb_does_in_each_state_what_the_docs_say(queue, verb, state, expected):
    scene = Scene(queue, state)
    act: Callable[[], str] = getattr(scene, {"claim": "claim_jobs"}.get(verb, verb))
    try:
        effect = act()
    except (UnknownSweep, LeaseLost) as error:
        effect = type(error).__name__
    try:
        after = scene.state()
    except UnknownSweep:
        after = ""
    seen = ", ".join(dict.fromkeys(word for word in (effect, after) if word))
    assert seen == expected


def test_the_tests_that_the_docs_name_are_there():
    tests = {
        name
        for path in Path(__file__).parents[1].rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", DOCS.read_text("utf-8")))
    assert named
    assert named <= tests


def test_the_key_table_of_the_docs_is_that_of_the_code():
    rows = table_of("## Keys")
    assert [[cell.strip("`") for cell in row] for row in rows[2:]] == [
        list(row) for row in KEY_TABLE
    ]
