"""``python -m tests.faults.lives``: the worker of the faults, started again whenever it ends."""

from __future__ import annotations

import os

from tests.faults.marks import RENDERS
from tests.faults.worker import misrender
from tests.worker_lives import live_again

if __name__ == "__main__":
    misrender(os.environ.get(RENDERS))
    live_again()
