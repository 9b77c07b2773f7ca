"""Which version of Seedbed this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """As it was installed; ``unknown`` where it runs from a checkout."""
    try:
        return version("seedbed")
    except PackageNotFoundError:
        return "unknown"
