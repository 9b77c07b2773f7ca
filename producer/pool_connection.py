"""One pool as it is reached: its queue, its storage and its doorbells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Self

from shared.errors import InvalidSettings
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.doorbell import Doorbell
    from shared.queue import JobQueue
    from shared.storage import Storage


class PoolConnection:
    """A context; each of the three is imported and connected at first use.

    Attributes:
        settings: Of the pool.
    """

    def __init__(self, settings: Settings) -> None:
        """Nothing is sent yet.

        Raises:
            InvalidSettings: No Redis is configured.
        """
        if settings.redis_url is None:
            raise InvalidSettings(
                "no pool: set SEEDBED_REDIS_URL or --redis-url, or start one here with 'seedbed up'"
            )
        self.settings = settings
        self._redis_url = settings.redis_url

    def close(self) -> None:
        """Close what is connected; the next call connects again."""
        opened = self.__dict__
        if "doorbell" in opened:
            opened.pop("doorbell").close()
        if "storage" in opened:
            opened.pop("storage").close()
        if "queue" in opened:
            opened.pop("queue").client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def queue(self) -> JobQueue:
        """The pool's lanes in Redis."""
        from shared.queue import JobQueue

        return JobQueue.connect(self._redis_url, self.settings.pool)

    @cached_property
    def storage(self) -> Storage:
        """The pool's bucket."""
        from shared.storage import Storage

        return Storage.connect(self.settings)

    @cached_property
    def doorbell(self) -> Doorbell:
        """Wakes workers up."""
        from shared.doorbell import Doorbell, make_app

        broker, pool = self.settings.broker_url or self._redis_url, self.settings.pool
        return Doorbell(make_app(broker, pool), pool)

    def ring(self, models: Sequence[str]) -> None:
        """Tell these models' workers that there may be work; a lost ring costs seconds."""
        for model in models:
            self.doorbell.ring(model)
