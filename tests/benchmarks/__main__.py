"""Run every benchmark, one after the other: `make bench`."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = (
    "bench_queue",
    "bench_backlog",
    "bench_end_to_end",
    "bench_rows",
    "bench_demo",
    "bench_batch",
    "bench_mixed",
    "bench_ladder",
    "bench_slicing",
    "bench_reproducible",
)


def main() -> int:
    """Each in a process of its own; the worst exit code."""
    codes = []
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{name}", *sys.argv[1:]]
        codes.append(subprocess.run(command, check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
