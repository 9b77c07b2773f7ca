"""What people see of a sweep that is under way."""

from __future__ import annotations

from typing import cast

import pytest

from producer.cli.output import one_line, size_text, time_text
from producer.cli.progress import Rate, WaitNotes, describe, following
from producer.waiting import Wait, Waits
from shared.queue_records import SweepStatus
from shared.weights import WeightsName


def status_of(**fields: object) -> SweepStatus:
    defaults = {
        "id": "study-0123456789ab",
        "state": "running",
        "epoch": 1,
        "owner": "tester",
        "priority": 0,
        "weight": 1.0,
        "total": 100,
        "done": 0,
        "reused": 0,
        "dead": 0,
        "leased": 0,
        "pending": 100,
        "cancelled": 0,
        "bytes": 0,
        "submitted_at": 0.0,
        "finished_at": None,
        "pins": {},
        "blocks": 1,
    }
    return SweepStatus(**{**defaults, **fields})  # type: ignore[arg-type]


def test_a_rate_counts_from_the_moment_rendering_begins() -> None:
    rate = Rate()
    for second in range(61):  # a minute to load the model
        rate.add(0, float(second), begun=False)
    rate.add(0, 61.0, begun=True)
    rate.add(10, 62.0, begun=True)
    rate.add(20, 63.0, begun=True)
    assert rate.now == rate.overall == pytest.approx(20 / 3)


def test_a_rate_is_that_of_the_last_while() -> None:
    rate = Rate()
    for second in range(100):
        done = second if second < 50 else 50 + (second - 50) * 10
        rate.add(done, float(second), begun=True)
    assert rate.now == pytest.approx(10.0, rel=0.02)
    assert rate.overall == pytest.approx(540 / 99)


def test_nothing_is_said_of_the_rate_before_the_first_image() -> None:
    rate = Rate()
    rate.add(0, 0.0, begun=True)
    assert rate.now is None
    assert describe(status_of(leased=4, pending=96), rate, "waiting") == ""


def test_an_eta_covers_what_is_pending_and_leased() -> None:
    rate = Rate()
    rate.add(40, 0.0, begun=True)
    rate.add(50, 1.0, begun=True)
    found = describe(status_of(done=50, leased=10, pending=40), rate, "waiting")
    assert found == "10 images/s, 5.0 s left"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "waiting for a worker"),
        ({"state": "paused"}, "paused"),
        ({"leased": 8, "pending": 92}, ""),
        ({"done": 98, "dead": 2, "pending": 0}, "2 failed"),
    ],
)
def test_a_sweep_that_does_not_move_says_why(fields: dict[str, object], words: str) -> None:
    assert describe(status_of(**fields), Rate(), "waiting for a worker") == words


def test_without_a_terminal_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with following() as show:
        show(status_of(done=1, pending=99))
        show(status_of(done=2, pending=98))
        show(status_of(done=100, pending=0, state="done"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "1/100 images, waiting for a worker"
    assert lines[-1].startswith("100/100 images, ")
    assert len(lines) == 2


def test_a_quiet_view_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with following(quiet=True) as show:
        show(status_of())
    assert capsys.readouterr() == ("", "")


def test_numbers_are_written_for_people() -> None:
    assert [size_text(count) for count in (1, 999, 1500, 2.5e6, 3e9, 4e15)] == [
        "1 bytes",
        "999 bytes",
        "1.5 KB",
        "2.5 MB",
        "3.0 GB",
        "4,000.0 TB",
    ]
    assert [time_text(seconds) for seconds in (0.5, 42, 600, 36_000)] == [
        "0.5 s",
        "42 s",
        "10 min",
        "10.0 h",
    ]


def test_control_characters_cannot_reach_a_terminal() -> None:
    assert one_line("a\x1b[31m\nb\u202ec\u200b") == r"a\x1b[31m\nb\u202ec\u200b"
    assert one_line("naïve 猫 😀") == "naïve 猫 😀"


class Looks:
    """Stands for looking at a pool: what was found, look by look."""

    def __init__(self, *found: tuple[Wait, ...]) -> None:
        self._found = iter(found)

    def look(self, status: SweepStatus) -> tuple[Wait, ...]:
        return next(self._found)


NOT_YET = Wait(weights=WeightsName(model="a"), reason="nobody is ready", refused=False)
NEVER = Wait(weights=WeightsName(model="b"), reason="b is gated", refused=True)


def notes_of(monkeypatch: pytest.MonkeyPatch, *found: tuple[Wait, ...], **more: bool) -> WaitNotes:
    monkeypatch.setattr("producer.cli.progress.LOOK_SECONDS", 0.0)
    return WaitNotes(cast("Waits", Looks(*found)), **more)


def test_each_reason_for_waiting_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = notes_of(monkeypatch, (NOT_YET,), (NOT_YET, NEVER), (NEVER,), (NEVER,))
    for _ in range(3):
        notes.look(status_of())
    assert capsys.readouterr().err == "waiting: nobody is ready\nwaiting: b is gated\n"
    assert not notes.stuck, "jobs move while one looks: once is not enough"
    notes.look(status_of())
    assert notes.stuck


def test_whoever_has_the_only_worker_hears_what_it_refuses_while_it_works_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = notes_of(monkeypatch, (NOT_YET,), (NEVER,), (NEVER,), (NEVER,), ends=True)
    notes.look(status_of())
    assert capsys.readouterr().err == "", "it is starting"
    notes.look(status_of(leased=2))
    assert capsys.readouterr().err == "waiting: b is gated\n"
    for _ in range(2):
        notes.look(status_of())
    assert notes.stuck
    assert capsys.readouterr().err == ""
