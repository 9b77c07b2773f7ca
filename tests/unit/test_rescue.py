"""Splitting failed batches: exact caps, lone culprits, and nobody's job lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

pytest.importorskip("torch", reason="needs the worker's dependencies")

import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    Cancelled,
    ModelError,
    OutOfMemory,
    RenderError,
    UnsupportedJob,
)
from shared.job import Job
from tests.factories import make_job
from worker.faults import translate
from worker.rescue import RowCap, render_rows

Run = Callable[[Sequence[Job]], list[str | RenderError]]


def jobs(count: int) -> list[Job]:
    return [make_job(prompt=str(number)) for number in range(count)]


def renderer(*, fits: int = 1000, bad: frozenset[str] = frozenset()) -> tuple[Run, list[int]]:
    """Something that renders at most ``fits`` rows, none of them called as in ``bad``."""
    sizes: list[int] = []

    def run(batch: Sequence[Job]) -> list[str | RenderError]:
        sizes.append(len(batch))
        if len(batch) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        if bad & {job.prompt for job in batch}:
            raise ValueError("no such thing")
        return [job.prompt for job in batch]

    return run, sizes


def render(batch: list[Job], run: Run, cap: RowCap) -> list[str | RenderError]:
    return render_rows(batch, run, cap, release=lambda: None)


@given(
    count=st.integers(0, 40),
    fits=st.integers(1, 20),
    bad=st.frozensets(st.integers(0, 39).map(str), max_size=4),
)
def test_every_job_ends_with_its_own_outcome(count: int, fits: int, bad: frozenset[str]) -> None:
    run, _ = renderer(fits=fits, bad=bad)

    outcomes = render(jobs(count), run, RowCap())

    for job, outcome in zip(jobs(count), outcomes, strict=True):
        if job.prompt in bad:
            assert str(outcome) == "ValueError: no such thing"
        else:
            assert outcome == job.prompt


@pytest.mark.parametrize("fits", [1, 3, 11])
def test_the_exact_cap_is_found_and_never_exceeded_again(fits: int) -> None:
    run, sizes = renderer(fits=fits)
    cap = RowCap()
    for _ in range(4):
        render(jobs(16), run, cap)

    assert (cap.good, cap.bad) == (fits, fits + 1)
    assert len([size for size in sizes if size > fits]) <= 4, "a bisection, not a descent"
    sizes.clear()
    render(jobs(16), run, cap)
    assert max(sizes) == fits
    assert len(sizes) == -(-16 // fits)


def test_a_cap_learnt_while_something_else_held_the_memory_is_forgotten() -> None:
    cap = RowCap()
    full, _ = renderer(fits=0)
    free, sizes = renderer()
    render(jobs(4), full, cap)

    render(jobs(4), free, cap)
    sizes.clear()
    render(jobs(4), free, cap)

    assert sizes == [4]


def test_less_memory_than_before_is_found_by_bisection() -> None:
    cap = RowCap()
    render(jobs(64), renderer(fits=64)[0], cap)
    run, sizes = renderer(fits=2)

    for _ in range(2):
        outcomes = render(jobs(64), run, cap)

    assert outcomes == [job.prompt for job in jobs(64)]
    assert (cap.good, cap.bad) == (2, 3)
    assert len([size for size in sizes if size > 2]) <= 6


def test_a_lone_culprit_costs_two_runs_a_halving() -> None:
    run, sizes = renderer(bad=frozenset({"5"}))

    outcomes = render(jobs(16), run, RowCap())

    assert sum(isinstance(outcome, RenderError) for outcome in outcomes) == 1
    assert len(sizes) == 1 + 2 * 4


@pytest.mark.parametrize("error", [Cancelled("enough"), UnsupportedJob("no such scheduler")])
def test_what_concerns_the_whole_batch_is_not_bisected(error: RenderError) -> None:
    sizes = []

    def run(batch: Sequence[Job]) -> list[str | RenderError]:
        sizes.append(len(batch))
        raise error

    outcomes = render(jobs(8), run, RowCap())

    assert sizes == [8]
    assert [type(outcome) for outcome in outcomes] == [type(error)] * 8


def test_images_made_before_a_cancellation_are_kept() -> None:
    run, _ = renderer(fits=2)
    calls = 0

    def run_twice(batch: Sequence[Job]) -> list[str | RenderError]:
        nonlocal calls
        if len(batch) <= 2:
            calls += 1
            if calls > 2:
                raise Cancelled("enough")
        return run(batch)

    outcomes = render(jobs(8), run_twice, RowCap())

    assert outcomes[:4] == ["0", "1", "2", "3"]
    assert all(isinstance(outcome, Cancelled) for outcome in outcomes[4:])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_every_allocators_words_mean_out_of_memory(error: Exception) -> None:
    assert isinstance(translate(error), OutOfMemory)


@pytest.mark.parametrize(
    "message",
    ["CUDA error: an illegal memory access was encountered", "CUDA error: device-side assert"],
)
def test_a_broken_device_ends_the_process_work(message: str) -> None:
    with pytest.raises(ModelError, match="restart the worker"):
        translate(RuntimeError(message))


def test_a_real_allocation_beyond_all_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)

    assert isinstance(translate(caught.value), OutOfMemory)


def test_a_translated_error_is_one_line_and_holds_no_frames() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError as caught:
        error = translate(caught)

    assert str(error) == "ValueError: first"
    assert error.__traceback__ is None
    assert error.__cause__ is None
    assert error.__context__ is None
