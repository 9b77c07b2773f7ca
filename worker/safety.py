"""The checkpoint's safety checker, on, off, or as it has it, for the length of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared.errors import UnsupportedJob


@contextmanager
def checked_safety(pipeline: Any, wish: str | None) -> Iterator[None]:
    """While it lasts, the checker looks at images, or does not, as a job wants it.

    Args:
        wish: ``"on"``, ``"off"``, or None for what the checkpoint came with.

    Raises:
        UnsupportedJob: It shall be on and there is none.
    """
    checker = getattr(pipeline, "safety_checker", None)
    if wish == "on" and checker is None:
        raise UnsupportedJob(
            f"safety_checker 'on': this {type(pipeline).__name__} came without one; leave it out, "
            "or use a checkpoint that has one"
        )
    if wish != "off" or checker is None:
        yield
        return
    pipeline.safety_checker = None
    try:
        yield
    finally:
        pipeline.safety_checker = checker
