"""Doorbells: Celery messages that say only 'this model has work', a hint and never the work."""

from __future__ import annotations

import logging
from threading import Lock
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from shared.errors import QueueUnavailable

SERVE_TASK = "seedbed.serve"
"""The one Celery task; its only argument is the model's key."""

CONNECT_SECONDS = 5.0

logger = logging.getLogger(__name__)


def doorbell_queue(pool: str, model: str) -> str:
    """The Celery queue that workers of one model listen to."""
    return f"seedbed.{pool}.{model}"


def make_app(broker_url: str) -> Celery:
    """A Celery app with the settings that producers and workers share."""
    app = Celery("seedbed", broker=kombu_url(broker_url), set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    return app


def kombu_url(url: str) -> str:
    """kombu writes redis-py's ``unix://`` as ``redis+socket://``."""
    return "redis+socket://" + url.removeprefix("unix://") if url.startswith("unix://") else url


class Doorbell:
    """Rings a model's workers, once, if nobody has rung already."""

    def __init__(self, app: Celery, pool: str) -> None:
        self._app = app
        self._pool = pool
        self._connection: Any = None
        self._lost: tuple[type[Exception], ...] = (
            OperationalError,
            *app.connection_for_write().connection_errors,
        )
        self._lock = Lock()

    def ring(self, model: str) -> bool:
        """Send one message if the queue has none; without retries, since timers ring too.

        Returns:
            Whether a message was sent.
        """
        queue = doorbell_queue(self._pool, model)
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._app.connection_for_write()
                    self._connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)
                if _waiting(self._connection, queue):
                    return False
                self._app.send_task(
                    SERVE_TASK,
                    args=[model],
                    queue=queue,
                    connection=self._connection,
                    retry=False,
                    ignore_result=True,
                )
            except self._lost as exc:
                self._hang_up()
                logger.warning("doorbell not rung", extra={"model": model, "error": str(exc)})
                return False
        return True

    def answering(self, seconds: float) -> set[str]:
        """Names of the workers that answer Celery's ping within ``seconds``.

        Raises:
            QueueUnavailable: The broker does not answer.
        """
        try:
            replies = self._app.control.ping(timeout=seconds)
        except self._lost as exc:
            raise QueueUnavailable(f"the broker does not answer: {exc}") from exc
        return {node.partition("@")[0] for reply in replies or () for node in reply}

    def close(self) -> None:
        """Give the connection back; the next ring opens another."""
        with self._lock:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.release()
            self._connection = None


def _waiting(connection: Any, queue: str) -> int:
    """Messages in the queue, by kombu's own count."""
    channel = connection.default_channel
    return int(channel._size(queue)) if hasattr(channel, "_size") else 0
