"""One worker process, put together: its models, its threads, and the Celery app."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext
from threading import Event, Lock, Thread, Timer
from typing import NoReturn

import torch

from shared.doorbell import Doorbell
from shared.errors import InvalidSettings, ModelError, QueueError, SeedbedError
from shared.lanes import model_key
from shared.queue import JobQueue
from shared.settings import VARIABLES, Settings
from shared.storage import Storage
from shared.weights import AllowList
from shared.worker_options import WorkerOptions, split_model
from worker.app import make_worker_app, run_app, stop_listening
from worker.compiling import check_compiler
from worker.deletion_cost import PodDeletionCost
from worker.device import pick_device
from worker.device_memory import device_memory
from worker.discovery import Discovery
from worker.finalising import Finaliser
from worker.health import Health
from worker.heartbeat import Heartbeat
from worker.inputs import InputStore
from worker.kept_models import KeptModels
from worker.leases import LeaseKeeper
from worker.loads import Loads
from worker.locating import ModelSource
from worker.metrics import WorkerMetrics
from worker.room import PeakMemory, free_bytes
from worker.served_model import ModelLoader, ServedModel, device_name
from worker.sweeps import ClaimedSweeps
from worker.switching import Switching
from worker.tuning import Tuning
from worker.watchdog import EXIT_CODE

logger = logging.getLogger(__name__)


class WorkerProcess:
    """Everything one worker holds; `run` blocks until it is asked to end."""

    def __init__(
        self,
        settings: Settings,
        options: WorkerOptions,
        *,
        health: Health | None = None,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """Connect to the pool and load the first model.

        Args:
            health: Told how far this is.
            metrics: What is counted; None counts where nobody looks.

        Raises:
            InvalidSettings: A setting can't be right, or no pool is configured.
            QueueUnavailable: Redis does not answer.
            StorageError: Storage does not answer.
            ModelError: The model can't be loaded.
        """
        if settings.redis_url is None:
            raise InvalidSettings(
                f"no pool: set {VARIABLES['redis_url']} to the pool's Redis, or run 'seedbed up'"
            )
        self._settings = settings
        self._options = options
        self._health = health or Health()
        self._metrics = metrics or WorkerMetrics(self._health)
        self._device = pick_device(options.device)
        Tuning.of(options).check(self._device)
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._queue = JobQueue.connect(settings.redis_url, settings.pool)
        self._last_words_queue = JobQueue.connect(settings.redis_url, settings.pool)
        self._storage = Storage.connect(settings)
        self._storage.check()
        self._sources = {}
        for text in options.models:
            model, revision = split_model(text)
            source = ModelSource(model=model, revision=revision, variant=options.variant)
            self._sources[model_key(model, revision, options.variant)] = source
        self._discovery = Discovery(
            queue=self._queue,
            allowed=AllowList(
                models=options.models,
                variant=options.variant,
                vaes=options.vaes,
                loras=options.loras,
                patterns=options.allow,
            ),
            sources=self._sources,
        )
        self._queue.workers()  # a Redis that is not there is said before the model is loaded,
        self._queue.look()  # one that lets nobody run scripts as well
        broker = settings.broker_url or settings.redis_url
        self._app = make_worker_app(broker, settings.pool, self.serve)
        self._doorbell = Doorbell(self._app, settings.pool)
        self._doorbell.check(listening=True)
        if options.compile:
            check_compiler(self._device)
        self._draining = Event()
        self._grace_over = Event()
        self._sweeps = ClaimedSweeps(self._queue, self._storage)
        self._keeper = LeaseKeeper(
            self._queue,
            options.lease_seconds,
            on_lost=self._metrics.leases_lost.inc,
            on_turn=lambda seconds: self._health.turned("lease keeper", within=seconds),
        )
        self._deletion_cost: PodDeletionCost | None = None
        if options.pod_deletion_cost:
            self._deletion_cost = PodDeletionCost.of_this_pod(
                os.environ, busy=lambda: bool(self._keeper.held())
            )
        self._finaliser = Finaliser(self._queue, self._storage, self._sweeps)
        self._loads = Loads(self._queue, device=device_name(self._device))
        self._switch = Lock()
        self._pins: dict[str, str] = {}
        self._known: dict[str, dict[str, object]] = {}
        self._serving: ServedModel | None = None
        weights_on = self._device if options.offload is None else torch.device("cpu")
        self._switching: Switching[ServedModel] = Switching(
            load=self._load,
            guess=lambda model: self._loader.guess(self._sources[model]),
            measure=lambda serving: serving.footprint,
            kept=KeptModels(
                most=options.keep_models,
                free_bytes=lambda: free_bytes(weights_on),
                close=ServedModel.close,
            ),
        )
        self._heartbeat = Heartbeat(
            queue=self._queue,
            doorbell=self._doorbell,
            discover=self._discovery.look,
            pins=lambda: {model: self._pins.get(model, "") for model in list(self._sources)},
            worker=self.name,
            describe=self.describe,
            finalise=self._finaliser.run_pending,
            mean_seconds=options.timer_seconds,
            on_work=lambda models: self._switching.waiting.saw(models, self._sources),
            on_turn=lambda seconds: self._health.turned("heartbeat", within=seconds),
        )
        self._loader = ModelLoader(
            options=options,
            device=self._device,
            worker=self.name,
            queue=self._queue,
            last_words_queue=self._last_words_queue,
            storage=self._storage,
            keeper=self._keeper,
            sweeps=self._sweeps,
            draining=self._draining,
            grace_over=self._grace_over,
            on_claim=lambda claim: self._heartbeat.ring_soon(more=claim.more),
            inputs=InputStore(self._storage),
            metrics=self._metrics,
        )
        self._metrics.describe(
            worker=self.name,
            device=device_name(self._device),
            memory=lambda: device_memory(self._device),
        )
        self._health.wait_for(f"loading {options.models[0]}")
        self._switch_to(next(iter(self._sources)))
        self._health.wait_for("not listening yet")

    def run(self) -> int:
        """Serve doorbells until SIGTERM or SIGINT; returns the exit code."""
        self.start_threads()
        try:
            return run_app(
                self._app,
                hostname=self._hostname,
                pool=self._settings.pool,
                models=tuple(self._sources),
                events=self._options.celery_events,
                on_ready=self._listening,
                on_drain=self.drain,
            )
        finally:
            self.close()

    def _listening(self, listen: Callable[[str], None]) -> None:
        logger.info("listening", extra={"worker": self.name})
        self._discovery.listen_with(listen)
        if not self._draining.is_set():
            self._health.be_ready()

    @property
    def _hostname(self) -> str:
        """Celery's name of this worker."""
        return f"{self.name}@{socket.gethostname()}"

    def start_threads(self) -> None:
        """Begin renewing leases and beating."""
        self._keeper.start()
        if self._deletion_cost is not None:
            self._deletion_cost.start()
        self._heartbeat.start()

    def close(self) -> None:
        """End every thread; what is rendered is stored before."""
        self._heartbeat.stop()
        self._finaliser.close()
        self._doorbell.close()
        self._serving = None
        self._switching.kept.clear()
        self._keeper.stop()
        if self._deletion_cost is not None:
            self._deletion_cost.stop()

    def drain(self) -> None:
        """Start nothing new; what is on the GPU may finish within the grace period.

        What has been claimed and not begun is given back at once.
        """
        if self._draining.is_set():
            return
        self._draining.set()
        self._health.wait_for("draining")
        self._metrics.draining.set(1)
        # in a thread: this is a signal's handler, and Redis may be slow
        Thread(target=self._keeper.give_back_unstarted, name="give-back", daemon=True).start()
        timer = Timer(self._options.grace_seconds, self._grace_over.set)
        timer.daemon = True
        timer.start()

    def serve(self, model: str) -> int:
        """The Celery task: render what is claimable; returns how many images were made."""
        if model not in self._sources:
            logger.error("doorbell for a model not served here", extra={"model": model})
            return 0
        self._heartbeat.answered()
        chosen = self._next(model)
        rendered = 0 if chosen is None else self._take_turn(chosen)
        if not self._draining.is_set():
            self._finaliser.run_pending()
            self._heartbeat.ring_where_claimable()
        return rendered

    def _next(self, rung: str) -> str | None:
        """The model to serve, of those with work: the doorbell's is only a hint."""
        if len(self._sources) == 1:
            return rung
        try:
            with_work = self._heartbeat.claimable()
        except QueueError:
            return rung
        chosen = self._switching.choose(with_work)
        if chosen != rung and rung in with_work:
            self._doorbell.ring(rung)  # somebody else may have it loaded
        return chosen

    def _take_turn(self, model: str) -> int:
        """Serve one model for a while; returns how many images were made."""
        waiting, budget = self._switching.waiting, self._options.budget_seconds
        waiting.begin(model)
        try:
            serving = self._switch_to(model)
        except QueueError:
            raise  # also one that is InvalidSettings: it is no fault of the model
        except (ModelError, InvalidSettings) as exc:
            waiting.end()
            if not self._discovery.reject(model, exc):
                self._give_up(model, exc)
            self._heartbeat.announce_soon()
            return 0
        peak = PeakMemory(self._device)
        try:
            return serving.server.serve(budget, lane_seconds=self._lane_seconds(model))
        except ModelError as exc:
            self._end(exc)
        finally:
            waiting.end()
            if (taken := peak.bytes()) > serving.footprint.working_bytes:
                self._switching.kept.learn(model, working_bytes=taken)

    def _lane_seconds(self, model: str) -> float:
        """How much longer its lane may be finished: less than what coming back to it would cost."""
        if all(other in self._switching.kept for other in self._sources):
            return 0.0  # the others are loaded: nothing is lost by letting them in
        cost = self._switching.load_seconds.get(model, 0.0)
        return min(cost, self._options.budget_seconds)

    def _give_up(self, model: str, exc: SeedbedError) -> None:
        """Serve the other models without one that can't be loaded."""
        if len(self._sources) == 1:
            self._end(exc)
        logger.error(
            "model not served from now on",
            extra={"model": self._sources[model].model, "error": str(exc)},
        )
        self._discovery.give_up(model, exc)
        stop_listening(self._app, hostname=self._hostname, pool=self._settings.pool, model=model)

    def _end(self, exc: SeedbedError) -> NoReturn:
        """The process can't render any more: a fresh one can, and the leases run out."""
        logger.error("worker ends", extra={"error": str(exc)})
        logging.shutdown()
        os._exit(EXIT_CODE)

    def describe(self) -> dict[str, object]:
        """What the pool's list of workers says of this one."""
        serving = self._serving
        now = {} if serving is None else {serving.key: {"batch_size": serving.batches.current}}
        return {
            "name": self.name,
            "models": [source.model for source in list(self._sources.values())],
            "model_keys": list(self._sources),
            "model_options": list(self._options.models),
            "variant": self._options.variant,
            "unserved": self._discovery.errors,
            "vaes": list(self._options.vaes),
            "loras": list(self._options.loras),
            "allow": list(self._options.allow),
            "device": device_name(self._device),
            "draining": self._draining.is_set(),
            "served": [
                {
                    "key": key,
                    "model": source.model,
                    "revision": source.revision,
                    "variant": source.variant,
                    "vae": source.vae,
                    "loras": list(source.loras),
                }
                | self._known.get(key, {})
                | now.get(key, {})
                for key, source in list(self._sources.items())
            ],
        } | (
            {}
            if serving is None
            else {
                "loaded": serving.loaded.source.model,
                "loaded_key": serving.key,
                "loaded_keys": list(self._switching.kept.keys),
                "pin": serving.loaded.pin,
                "batch_size": serving.batches.current,
                "attention": serving.loaded.attention,
            }
        )

    def _switch_to(self, model: str) -> ServedModel:
        with self._switch:
            self._serving = None  # so that what has to go for another model is freed
            self._serving = self._switching.hold(model)
            return self._serving

    def _load(self, model: str) -> ServedModel:
        source = self._sources[model]
        # the first is what this worker was started for: whoever did sees it end
        counted = self._loads.counted(model, name=source.option) if self._pins else nullcontext()
        with counted:
            serving = self._loader.load(model, source)
        loaded = serving.loaded
        self._pins[model] = loaded.pin
        self._known[model] = {
            "pin": loaded.pin,
            "batch_size": serving.batches.current,
            "schedulers": list(loaded.schedulers),
            "fields": list(loaded.fields),
        }
        return serving
