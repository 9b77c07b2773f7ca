"""torch.compile on this machine's own compiler: nothing recompiles, padding leaves no trace."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.worker_options import VARIABLE, WorkerOptions
from tests.pictures import (
    LIBRARY_WARNINGS,
    all_rendered,
    assert_same_picture,
    difference,
    mixed_jobs,
    quick_job,
)
from tests.tiny_models import save_lcm
from worker.compiling import CompiledDenoiser, check_compiler, compile_denoiser, row_sizes
from worker.engine import StockEngine
from worker.loading import LoadedModel, ModelSource, load_pipeline
from worker.tuning import Tuning

pytestmark = [
    *LIBRARY_WARNINGS,
    pytest.mark.usefixtures("one_thread"),
    # what torch's own compiler says of Python and of itself
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]

CPU = torch.device("cpu")
BATCH = 3
ONE_LEVEL = {
    "block_out_channels": (24,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "mid_block_type": None,
}
"""A UNet of convolutions and attention at one resolution."""


@pytest.fixture(scope="module")
def compiled(demo_folder: Path, one_thread: None) -> tuple[StockEngine, CompiledDenoiser]:
    """The demo checkpoint for batches of 3, captured as for the compiler and run as captured.

    What makes torch compile again is decided there, whatever turns the graph into code; another
    number of threads does as well.
    """
    engine = StockEngine(load_pipeline(ModelSource(model=str(demo_folder)), device=CPU))
    return engine, compile_denoiser(engine, quick_job(), BATCH, backend="eager")


@pytest.fixture
def no_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is not served by code compiled before fails, instead of running uncompiled."""
    set_stance = torch.compiler.set_stance
    monkeypatch.setattr(torch.compiler, "set_stance", lambda _: set_stance("fail_on_recompile"))


@pytest.mark.parametrize(
    ("batch_size", "halves", "rows"),
    [(8, 2, (2, 8, 16)), (1, 2, (1, 2)), (2, 2, (2, 4)), (8, 1, (1, 8)), (1, 1, (1,))],
)
def test_a_full_batch_guided_or_not_and_a_job_alone_are_compiled(
    batch_size: int, halves: int, rows: tuple[int, ...]
) -> None:
    assert row_sizes(batch_size, halves=halves) == rows


def test_no_batch_up_to_the_size_recompiles_and_pixels_stay_as_promised(
    compiled: tuple[StockEngine, CompiledDenoiser],
    engine: StockEngine,
    no_compiling: None,
) -> None:
    compiled_engine, denoiser = compiled
    assert denoiser.sizes == (2, BATCH, 2 * BATCH)
    uncompiled, before = denoiser.uncompiled, denoiser.compiled
    # PNDM's timesteps are int64, Euler's float32, DEIS' come from numpy
    schedulers = (None, "EulerDiscreteScheduler", "DEISMultistepScheduler", "DDIMScheduler")
    batches = [
        mixed_jobs(scheduler=scheduler)[:rows]
        for scheduler in schedulers
        for rows in range(1, BATCH + 1)
    ] + [[quick_job(guidance_scale=1.0, seed=seed) for seed in range(rows)] for rows in (1, 2, 3)]

    for batch in batches:
        for one, other in zip(
            all_rendered(compiled_engine.render(batch)),
            all_rendered(engine.render(batch)),
            strict=True,
        ):
            assert one.rows == len(batch), "padding is not counted"
            assert_promised(one.image, other.image)

    assert denoiser.uncompiled == uncompiled
    assert denoiser.compiled > before


def assert_promised(first: Any, second: Any) -> None:
    """The promise for float32 on a CPU: 1 of 255 levels on isolated pixels."""
    levels, pixels = difference(first, second)
    assert levels <= 1
    assert pixels <= 0.01


def test_a_size_that_was_not_compiled_runs_as_it_is(
    compiled: tuple[StockEngine, CompiledDenoiser], engine: StockEngine, no_compiling: None
) -> None:
    compiled_engine, denoiser = compiled
    before, uncompiled = denoiser.compiled, denoiser.uncompiled
    edge = 2 * engine.loaded.native_height
    job = quick_job(height=edge, width=edge)

    (one,) = all_rendered(compiled_engine.render([job]))

    (other,) = all_rendered(engine.render([job]))
    assert_same_picture(one.image, other.image)
    assert (denoiser.compiled, denoiser.uncompiled - uncompiled) == (before, one.forwards)


def test_a_reproducible_batch_runs_uncompiled_and_draws_what_other_workers_draw(
    compiled: tuple[StockEngine, CompiledDenoiser], engine: StockEngine
) -> None:
    compiled_engine, denoiser = compiled
    before, uncompiled = denoiser.compiled, denoiser.uncompiled
    jobs = mixed_jobs(reproducible=True)[:3]

    rendered = all_rendered(compiled_engine.render(jobs))

    expected = all_rendered(engine.render(jobs))
    assert [one.image.tobytes() for one in rendered] == [one.image.tobytes() for one in expected]
    assert (denoiser.compiled, denoiser.uncompiled) == (before, uncompiled + rendered[0].forwards)
    all_rendered(compiled_engine.render([quick_job()]))
    assert denoiser.compiled > before, "others go on as compiled"


def test_compiling_leaves_the_pin_alone(
    compiled: tuple[StockEngine, CompiledDenoiser], loaded: LoadedModel
) -> None:
    assert compiled[0].loaded.pin == loaded.pin


def test_an_offloaded_denoiser_is_compiled_behind_its_hook(
    demo_folder: Path, engine: StockEngine
) -> None:
    own = StockEngine(
        load_pipeline(
            ModelSource(model=str(demo_folder)), device=CPU, tuning=Tuning(offload="model")
        )
    )
    denoiser = compile_denoiser(own, quick_job(), 1, backend="eager")
    before = denoiser.compiled

    (one,) = all_rendered(own.render([quick_job()]))

    (other,) = all_rendered(engine.render([quick_job()]))
    assert_promised(one.image, other.image)
    assert (denoiser.compiled - before, denoiser.uncompiled) == (one.forwards, 0)


def test_a_compiled_model_is_freed_with_its_last_user(demo_folder: Path) -> None:
    own = StockEngine(load_pipeline(ModelSource(model=str(demo_folder)), device=CPU))
    compile_denoiser(own, quick_job(), 1, backend="eager")
    denoiser = weakref.ref(own.loaded.denoiser)

    del own
    gc.collect()

    assert denoiser() is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_this_machines_compiler_keeps_the_promise_about_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one level and one number of rows: a compiler takes seconds for each kernel of each
    save_lcm(tmp_path, **ONE_LEVEL)
    check_compiler(CPU)
    plain, own = (
        StockEngine(load_pipeline(ModelSource(model=str(tmp_path)), device=CPU)) for _ in range(2)
    )
    denoiser = compile_denoiser(own, quick_job(), 1)
    assert denoiser.sizes == (1,)
    set_stance = torch.compiler.set_stance
    monkeypatch.setattr(torch.compiler, "set_stance", lambda _: set_stance("fail_on_recompile"))
    before = denoiser.compiled

    for job in [*mixed_jobs()[:4], quick_job(guidance_scale=1.0)]:
        (one,) = all_rendered(own.render([job]))
        (other,) = all_rendered(plain.render([job]))
        assert_promised(one.image, other.image)

    assert (denoiser.compiled - before, denoiser.uncompiled) == (5 * one.forwards, 0)


def test_a_machine_without_a_compiler_is_told_in_one_sentence(
    demo_folder: Path, tmp_path: Path
) -> None:
    options = WorkerOptions(models=(str(demo_folder),), device="cpu", compile=True, batch_size=1)
    done = subprocess.run(
        [sys.executable, "-m", "worker", "show"],
        env={
            **{name: os.environ[name] for name in ("HOME",) if name in os.environ},
            "PATH": str(tmp_path),
            "CXX": str(tmp_path / "no-compiler"),
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
            VARIABLE: options.to_json(),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("seedbed worker: --compile does not work here (")
    assert "or leave it out" in line
