"""SWEEP: how commands are told which one is meant."""

from __future__ import annotations

import click

sweep_argument = click.argument("sweep")
"""An id, a unique beginning of one, or a name; see `producer.references`."""
