"""``python -m worker.fetching``: get checkpoints to this machine, and end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from shared.errors import ModelError
from shared.worker_options import split_model
from worker.locating import ModelSource, locate
from worker.parts import locate_parts


def fetch(
    models: Sequence[str], *, variant: str | None, vaes: Sequence[str], loras: Sequence[str]
) -> list[str]:
    """Fetch what a worker that is started with these would fetch; returns a line for each.

    Args:
        models: ``MODEL`` or ``MODEL@REVISION``.
        variant: Weight file variant of all of them.
        vaes: Hub ids or folders.
        loras: Hub ids, folders or files.

    Raises:
        ModelError: One is not there, or none that may be loaded.
    """
    sources = []
    for text in models:
        model, revision = split_model(text)
        sources.append(ModelSource(model=model, revision=revision, variant=variant))
    lines = [f"{source.option}: {locate(source)[0]}" for source in sources]
    for vae in vaes:
        found = locate_parts(ModelSource(model="demo", vae=vae)).vae
        assert found is not None
        lines.append(f"{vae}: {found[1]}")
    parts = locate_parts(ModelSource(model="demo", loras=tuple(loras)))
    return lines + [f"{name}: {path}" for name, path in parts.loras.items()]


def main(arguments: Sequence[str]) -> int:
    """Fetch what the arguments name; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker.fetching", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="with @REVISION if need be")
    parser.add_argument("--variant", help="weight files' variant, such as fp16")
    parser.add_argument("--vae", action="append", default=[], help="a VAE; repeatable")
    parser.add_argument("--lora", action="append", default=[], help="a LoRA; repeatable")
    given = parser.parse_args(arguments)
    try:
        lines = fetch(given.models, variant=given.variant, vaes=given.vae, loras=given.lora)
    except (ModelError, OSError) as exc:
        print(f"worker.fetching: {exc}", file=sys.stderr, flush=True)
        return 2 if isinstance(exc, ModelError) else 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
