"""Sweeps in, results out."""

from producer.client import Client
from producer.sweep_file import load_sweep
from shared.sweep import Sweep

__all__ = ["Client", "Sweep", "load_sweep"]
