"""The worker's Celery app: the settings that keep doorbells harmless, and the one task."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.worker.consumer import Consumer
from celery.worker.control import Panel
from kombu.exceptions import OperationalError

from shared.doorbell import SERVE_TASK, doorbell_queue, make_app

REMOTE_COMMANDS = frozenset({"ping", "cancel_consumer"})
"""Of Celery's remote control, what the pool uses; whoever may ring a doorbell could send others,
``shutdown`` and ``pool_shrink`` among them."""

RECONNECT_SECONDS = {"interval_start": 1, "interval_step": 1, "interval_max": 5}
"""Between looks at a broker that is away. kombu's own go up to 30 s: as long would a worker with
nothing to do stay deaf after an outage of minutes."""

EVENT_SECONDS = 10.0
"""Between two beats that Flower hears. Celery's own 2 s would be thousands of messages a second in
a large pool, to nobody as a rule: they are off unless asked for."""

logger = logging.getLogger(__name__)


class EagerConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer, which finds a broker that is back within seconds."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however long it takes."""
        return super().ensure_connected(eager(conn))


def eager(connection: Any) -> Any:
    """The connection, with RECONNECT_SECONDS between its attempts to connect."""
    connection.ensure_connection = partial(connection.ensure_connection, **RECONNECT_SECONDS)
    return connection


def make_worker_app(broker_url: str, pool: str, serve: Callable[[str], int]) -> Celery:
    """A Celery app whose only task calls ``serve`` with a model's key."""
    app = make_app(broker_url, pool)
    app.conf.update(
        worker_pool="threads",  # solo can't answer pings while busy, prefork hides the drain
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        # redelivery on Redis is the visibility timeout: it duplicates and loses messages, and
        # the leases make it unnecessary
        task_acks_late=False,
        task_acks_on_failure_or_timeout=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        broker_connection_max_retries=None,
        # rights in Redis that are taken away are given back some day, as a connection is
        broker_channel_error_retry=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )

    app.task(serve, name=SERVE_TASK, ignore_result=True)
    return app


def stop_listening(app: Celery, *, hostname: str, pool: str, model: str) -> None:
    """Leave a model's doorbells to other workers; ``hostname`` is this one's."""
    try:
        app.control.cancel_consumer(doorbell_queue(pool, model), destination=[hostname])
    except OperationalError as exc:
        logger.warning("still listening for a model", extra={"model": model, "error": str(exc)})


def run_app(
    app: Celery,
    *,
    hostname: str,
    pool: str,
    models: Sequence[str],
    events: bool,
    on_ready: Callable[[Callable[[str], None]], None],
    on_drain: Callable[[], None],
) -> int:
    """Listen for doorbells until SIGTERM or SIGINT; returns the process' exit code.

    Args:
        app: From `make_worker_app`.
        hostname: Celery's node name, ``NAME@HOST``.
        pool: Name of the pool.
        models: Keys of the models served.
        events: Whether Celery's events tell that the worker is there.
        on_ready: Called when the worker listens, with what makes it listen for another model,
            from any thread.
        on_drain: Called in the signal's handler: the worker is asked to end.
    """

    for name in set(Panel.data) - REMOTE_COMMANDS:
        Panel.data[name] = _not_offered

    def ready(sender: Any, **_: Any) -> None:
        def listen(model: str) -> None:
            # what Celery's own add_consumer command does, on the consumer's thread
            sender.call_soon(sender.add_task_queue, doorbell_queue(pool, model))

        on_ready(listen)

    def shutting_down(**_: Any) -> None:
        on_drain()

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    # Celery warns of root because of pickle, which this app does not accept
    warnings.filterwarnings("ignore", category=SecurityWarning)
    try:
        worker = app.Worker(
            hostname=hostname,
            queues=[doorbell_queue(pool, model) for model in models],
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=not events,
            heartbeat_interval=EVENT_SECONDS,
            consumer_cls=EagerConsumer,
            loglevel="WARNING",
            quiet=True,
        )
        _quieten()
        worker.start()
        return int(worker.exitcode or 0)
    finally:
        signals.worker_ready.disconnect(ready)
        signals.worker_shutting_down.disconnect(shutting_down)


def _quieten() -> None:
    """Leave out what Celery and kombu say beside the line that tells of a lost broker.

    Only once there is a Celery worker: making it opens these warnings.
    """
    # of a default that will change, though this app sets it
    warnings.filterwarnings("ignore", r"\s*In Celery 5\.1", CPendingDeprecationWarning)
    # the traceback of a command that Redis refused, each second: whoever needs it says so in a line
    logging.getLogger("kombu.transport.redis").setLevel(logging.ERROR)


def _not_offered(state: Any, **_: Any) -> dict[str, str]:
    """The answer to every other remote command."""
    logger.warning("remote command refused")
    return {"error": "this worker answers ping alone"}
