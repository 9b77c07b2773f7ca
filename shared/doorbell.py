"""Doorbells: Celery messages that say only 'this model has work', a hint and never the work."""

from __future__ import annotations

import logging
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from shared.errors import InvalidSettings, QueueError, QueueRefused, QueueUnavailable
from shared.redis_connection import tls_options, translate
from shared.settings import REDIS_FORMS, VARIABLES

SERVE_TASK = "seedbed.serve"
"""The one Celery task; its only argument is the model's key."""

CONNECT_SECONDS = 5.0
SETTING = VARIABLES["broker_url"]

logger = logging.getLogger(__name__)


def doorbell_queue(pool: str, model: str) -> str:
    """The Celery queue that workers of one model listen to."""
    return f"seedbed.{pool}.{model}"


def broker_prefix(pool: str) -> str:
    """What the keys and channels of a pool's broker begin with, where that is a Redis.

    It begins as those of the queue do, so that one pattern lets a Redis user into one pool, and
    what Celery tells its workers (ping, shutdown) stays within a pool.
    """
    return f"seedbed:{{{pool}}}:celery:"


def make_app(broker_url: str, pool: str) -> Celery:
    """A Celery app with the settings that producers and workers share.

    Raises:
        InvalidSettings: The broker's URL names files of TLS that can't be used.
    """
    app = Celery("seedbed", broker=kombu_url(broker_url), set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        # without it, kombu takes any certificate that a rediss:// server shows
        broker_use_ssl=tls_options(broker_url, setting=SETTING) or False,
        broker_transport_options={
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    if urlsplit(broker_url).scheme in REDIS_FORMS:
        app.conf.broker_transport_options["global_keyprefix"] = broker_prefix(pool)
    return app


def kombu_url(url: str) -> str:
    """A redis-py URL as kombu reads it.

    ``unix://`` is ``redis+socket://``. A query is redis-py's own, which kombu takes for its
    connection's arguments: what it says of TLS is told apart, the database goes into the path.
    """
    if url.startswith("unix://"):
        return "redis+socket://" + url.removeprefix("unix://")
    parts = urlsplit(url)
    if parts.scheme not in REDIS_FORMS:
        return url
    database = dict(parse_qsl(parts.query)).get("db")
    path = parts.path if database is None else f"/{database}"
    return urlunsplit(parts._replace(path=path, query="", fragment=""))


class Doorbell:
    """Rings a model's workers, once, if nobody has rung already."""

    def __init__(self, app: Celery, pool: str) -> None:
        """Connects later.

        Raises:
            InvalidSettings: Celery has no transport for the broker's URL.
        """
        self._app = app
        self._pool = pool
        self._connection: Any = None
        try:
            connection = app.connection_for_write()
            self._lost: tuple[type[Exception], ...] = (
                OperationalError,
                *connection.connection_errors,
                *connection.channel_errors,
            )
        except (KeyError, ImportError) as exc:
            raise InvalidSettings(
                f"{SETTING} is of a kind that Celery has no transport for ({exc.args[0]}): "
                f"write redis://HOST:PORT/0, or leave it out for the queue's own Redis"
            ) from exc
        self._lock = Lock()

    def check(self, *, listening: bool = False) -> None:
        """Ask whether the broker answers and lets us in.

        Args:
            listening: As a worker, which hears Celery's ping as well.

        Raises:
            QueueRefused: It answers, but credentials, rights or TLS are wrong.
            QueueUnavailable: It does not answer.
        """
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)
                _waiting(connection, doorbell_queue(self._pool, "none"))
                if listening:
                    _listen(connection)
        except self._lost as exc:
            raise _translated(exc) from exc

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
            QueueRefused: The broker does not let us in.
            QueueUnavailable: The broker does not answer.
        """
        try:
            replies = self._app.control.ping(timeout=seconds)
        except self._lost as exc:
            raise _translated(exc) from exc
        return {node.partition("@")[0] for reply in replies or () for node in reply}

    def close(self) -> None:
        """Give the connection back; the next ring opens another."""
        with self._lock:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.release()
            self._connection = None


def _translated(error: Exception) -> QueueError:
    """kombu wraps what its library raised, or not."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RedisError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return QueueUnavailable(f"the broker does not answer: {error}; check {SETTING}")
    found = translate(cause, setting=SETTING)
    kind = QueueRefused if isinstance(found, QueueRefused) else QueueUnavailable
    return kind(f"the broker: {found}")


def _waiting(connection: Any, queue: str) -> int:
    """Messages in the queue, by kombu's own count."""
    channel = connection.default_channel
    return int(channel._size(queue)) if hasattr(channel, "_size") else 0


def _listen(connection: Any) -> None:
    """Subscribe to what Celery tells its workers as kombu does, to hear now if that is refused."""
    channel = connection.default_channel
    if hasattr(channel, "keyprefix_fanout"):
        with channel.client.pubsub() as listener:
            listener.psubscribe(f"{channel.keyprefix_fanout}celery.pidbox")
            listener.get_message(timeout=CONNECT_SECONDS)
