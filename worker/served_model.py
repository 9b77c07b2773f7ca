"""One loaded model and all that serves it: engine, batch sizes, claimer, server and storer."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from threading import Event
from weakref import WeakValueDictionary

import torch

from shared.errors import ModelError
from shared.pin import Pin
from shared.queue import Claim, JobQueue
from shared.storage import Storage
from shared.worker_options import WorkerOptions
from worker.batch_sizes import BatchSizes
from worker.calibration import Calibrator
from worker.claiming import Claimer
from worker.compiling import compile_denoiser
from worker.device import leave_a_core
from worker.engine import StockEngine
from worker.inputs import InputStore
from worker.kept_models import Footprint
from worker.leases import LeaseKeeper
from worker.loading import LoadedModel, load_pipeline
from worker.locating import ModelSource, locate
from worker.metrics import ModelMetrics, WorkerMetrics
from worker.recording import Recorder
from worker.room import PeakMemory, file_bytes, weights_bytes
from worker.serving import Server
from worker.sharing import SharedBase
from worker.storing import Provenance, Storer
from worker.sweeps import ClaimedSweeps
from worker.tuning import Tuning
from worker.watchdog import Watchdog

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
PACKAGES = ("seedbed", "torch", "diffusers", "transformers")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """One loaded model and what serves it.

    Attributes:
        key: The queue's name for its weights.
    """

    key: str
    loaded: LoadedModel
    batches: BatchSizes
    server: Server
    storer: Storer
    footprint: Footprint

    def close(self) -> None:
        """End its threads, what is rendered is stored before."""
        self.server.close()
        self.storer.close()
        self.loaded.release()


@dataclass(frozen=True, kw_only=True)
class ModelLoader:
    """Loads a worker's models, each with what serves it; they share what is the worker's own.

    Attributes:
        options: The worker's command line.
        device: Where to compute.
        worker: Its name.
        queue: The pool's.
        last_words_queue: A connection that is free when the other hangs.
        storage: The bucket.
        keeper: Renews the leases of all models.
        sweeps: Manifests of what was claimed.
        draining: Set: nothing new is started.
        grace_over: Set: what is on the GPU is dropped.
        on_claim: Told of each claim before its work begins.
        inputs: Init images and noise, of whichever model's jobs.
        metrics: What the worker counts.
        bases: Checkpoints that some loaded model is made of, as long as one is.
    """

    options: WorkerOptions
    device: torch.device
    worker: str
    queue: JobQueue
    last_words_queue: JobQueue
    storage: Storage
    keeper: LeaseKeeper
    sweeps: ClaimedSweeps
    draining: Event
    grace_over: Event
    on_claim: Callable[[Claim], None]
    inputs: InputStore
    metrics: WorkerMetrics
    bases: WeakValueDictionary[ModelSource, SharedBase] = field(default_factory=WeakValueDictionary)

    def guess(self, source: ModelSource) -> Footprint:
        """What a model that was never loaded takes, by its files."""
        base = self.bases.get(_checkpoint(source))
        if base is not None:
            return Footprint(weights_bytes=0, working_bytes=weights_bytes(base.pipeline))
        try:
            folder, _ = locate(source)
            return Footprint.guessed(file_bytes(folder))
        except (ModelError, OSError):
            return Footprint.guessed(0)  # loading it says what is wrong

    def load(self, key: str, source: ModelSource) -> ServedModel:
        """Load a model and make it ready to serve.

        Raises:
            ModelError: It can't be loaded.
            InvalidSettings: A setting does not suit it.
        """
        started = time.perf_counter()
        leave_a_core(self.device)
        base = self.bases.get(_checkpoint(source))
        held = 0 if base is None else weights_bytes(base.pipeline)
        loaded = load_as_told(source, self.options, self.device, base)
        assert loaded.base is not None
        if _may_be_shared(self.options):
            self.bases[_checkpoint(source)] = loaded.base
        peak = PeakMemory(self.device)
        engine = StockEngine(loaded)
        batches = self._batches(engine)
        weights = weights_bytes(loaded.base.pipeline, loaded.pipeline)
        logger.info(
            "model loaded",
            extra={
                "model": source.model,
                "seconds": round(time.perf_counter() - started, 2),
                "device": str(loaded.device),
                "dtype": str(loaded.dtype),
                "batch_size": batches.current,
                "attention": loaded.attention,
            },
        )
        metrics = self.metrics.of(source.option)
        metrics.stage("load", time.perf_counter() - started)
        metrics.plan(batches.current)
        storer = self._storer(key, loaded, metrics)
        return ServedModel(
            key=key,
            loaded=loaded,
            batches=batches,
            server=self._server(key, engine, batches, storer, metrics),
            storer=storer,
            footprint=Footprint(
                weights_bytes=max(0, weights - held),
                working_bytes=peak.bytes() or Footprint.guessed(weights).working_bytes,
            ),
        )

    def _batches(self, engine: StockEngine) -> BatchSizes:
        """How large its batches are, measured if need be; what is to be compiled is compiled."""
        loaded, model = engine.loaded, engine.loaded.source.model
        job = engine.typical_job(model)
        batches = BatchSizes(
            engine,
            Calibrator(queue=self.queue, engine=engine, model=model, worker=self.worker),
            # Of a model that can't be had, every job fails at once.
            fixed=self.options.batch_size if loaded.refusal is None else 1,
            first=job,
        )
        if self.options.compile and loaded.refusal is None:
            compile_denoiser(engine, job, batches.current)
        return batches

    def _storer(self, key: str, loaded: LoadedModel, metrics: ModelMetrics) -> Storer:
        """What encodes, stores and commits its images."""
        pin = Pin.from_text(loaded.pin)
        return Storer(
            queue=self.queue,
            storage=self.storage,
            pin=pin,
            provenance=Provenance(
                worker=self.worker,
                device=device_name(self.device),
                attention=loaded.attention,
                software={name: version(name) for name in PACKAGES},
            ),
            give_up=self.grace_over,
            keeper=self.keeper,
            recorder=Recorder(self.storage, self.sweeps, key, pin),
            metrics=metrics,
        )

    def _server(
        self,
        key: str,
        engine: StockEngine,
        batches: BatchSizes,
        storer: Storer,
        metrics: ModelMetrics,
    ) -> Server:
        """What claims its jobs and renders them."""
        loaded = engine.loaded
        claimer = Claimer(
            queue=self.queue,
            storage=self.storage,
            keeper=self.keeper,
            sweeps=self.sweeps,
            model=key,
            pin=loaded.pin,
            inputs=self.inputs,
            checks_safety=getattr(loaded.pipeline, "safety_checker", None) is not None,
        )
        return Server(
            queue=self.queue,
            last_words_queue=self.last_words_queue,
            engine=engine,
            claimer=claimer,
            storer=storer,
            keeper=self.keeper,
            watchdog=Watchdog(self.options.gpu_seconds),
            draining=self.draining,
            grace_over=self.grace_over,
            worker=self.worker,
            model=key,
            batches=batches,
            on_claim=self.on_claim,
            metrics=metrics,
        )


def device_name(device: torch.device) -> str:
    """The device for people: a receipt, the list of workers."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()})"


def _checkpoint(source: ModelSource) -> ModelSource:
    """The same without what is put in."""
    return replace(source, vae=None, loras=())


def _may_be_shared(options: WorkerOptions) -> bool:
    """Compiled code, and the map that sequential offloading keeps layers in, are for the layers as
    they were: a LoRA that is put in later would undo them for every other set."""
    return not options.compile and options.offload != "sequential"


def load_as_told(
    source: ModelSource,
    options: WorkerOptions,
    device: torch.device,
    base: SharedBase | None = None,
) -> LoadedModel:
    """Load a model with the settings of a worker's command line.

    Args:
        base: Its checkpoint, if it is loaded already with the same settings.

    Raises:
        ModelError: It can't be loaded.
        InvalidSettings: A setting does not suit it.
    """
    slicing = options.attention_slicing
    return load_pipeline(
        replace(source, config=options.single_file_config),
        device=device,
        dtype=None if options.dtype is None else DTYPES[options.dtype],
        attention_slicing=int(slicing) if slicing.isdecimal() else slicing,
        tuning=Tuning.of(options),
        base=base,
    )
