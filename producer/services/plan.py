"""What a keeper is to keep: one line of JSON, from the stack's process to the keeper's."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from shared.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stack, or one more worker for a stack that somebody else keeps.

    Attributes:
        settings: The pool's, and the data folder's.
        models: What the worker serves.
        worker: Its command line; None for no worker.
        metrics_port: Of the exporter; None for no exporter.
        worker_only: Add a worker to the stack that is there.
    """

    settings: Settings
    models: tuple[str, ...] = ()
    worker: tuple[str, ...] | None = None
    metrics_port: int | None = None
    worker_only: bool = False

    def line(self) -> bytes:
        """With the line's end."""
        return json.dumps(asdict(self), default=str).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        """What ``line`` has written."""
        said = json.loads(line)
        settings = said.pop("settings")
        models, worker = said.pop("models"), said.pop("worker")
        return cls(
            settings=Settings(**{**settings, "data_dir": Path(settings["data_dir"])}),
            models=tuple(models),
            worker=None if worker is None else tuple(worker),
            **said,
        )
