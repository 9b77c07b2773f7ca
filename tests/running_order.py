"""Which modules of tests compute for long, and an order in which processes end at one time.

The seconds are a processor's, children included, on a 2-core machine. To measure them again:

    python -m pytest -p tests.cpu_seconds tests/acceptance tests/integration
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

SLOW_SECONDS = 12
"""From here on a module's tests are marked slow, and `make quick` leaves them out."""

SECONDS: Mapping[str, int] = {
    "tests/acceptance/test_compose.py": 16,
    "tests/acceptance/test_demo.py": 52,
    "tests/acceptance/test_demo_pictures.py": 65,
    "tests/acceptance/test_elastic.py": 66,
    "tests/acceptance/test_examples.py": 22,
    "tests/acceptance/test_faults.py": 60,
    "tests/acceptance/test_nothing_lost.py": 49,
    "tests/acceptance/test_poison.py": 47,
    "tests/acceptance/test_trust.py": 14,
    "tests/contract/test_queue_properties.py": 22,
    "tests/contract/test_storage.py": 42,
    "tests/integration/test_calibration.py": 15,
    "tests/integration/test_cli.py": 25,
    "tests/integration/test_compiling.py": 62,
    "tests/integration/test_engine_rescue.py": 20,
    "tests/integration/test_engine_schedulers.py": 26,
    "tests/integration/test_engine_weights.py": 16,
    "tests/integration/test_fetching.py": 16,
    "tests/integration/test_image_commands.py": 13,
    "tests/integration/test_image_kinds.py": 22,
    "tests/integration/test_index.py": 12,
    "tests/integration/test_loading.py": 26,
    "tests/integration/test_probing.py": 18,
    "tests/integration/test_reproducible.py": 24,
    "tests/integration/test_run_command.py": 24,
    "tests/integration/test_several_models.py": 46,
    "tests/integration/test_showing.py": 24,
    "tests/integration/test_single_file.py": 13,
    "tests/integration/test_stack.py": 17,
    "tests/integration/test_verify.py": 29,
    "tests/integration/test_worker_capacity.py": 22,
    "tests/integration/test_worker_weights.py": 25,
}
"""Of every module that takes so long."""


def in_order(modules: Sequence[str], *, processes: int) -> list[int]:
    """The places of tests in the order in which they are dealt out.

    xdist's worksteal deals equal parts to the processes, each in one piece, and lets who has
    finished take half of what another has left. So every part begins with its share of the slow
    modules, and what is left to take from in the end is quick.

    Args:
        modules: Of each test, its module.
        processes: How many share the tests.

    Returns:
        Each place once.
    """
    slow: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for module in sorted(set(modules) & set(SECONDS), key=lambda name: (-SECONDS[name], name)):
        least = loads.index(min(loads))
        loads[least] += SECONDS[module]
        slow[least] += _places(modules, module)
    quick = (place for place, module in enumerate(modules) if module not in SECONDS)
    order: list[int] = []
    for number, places in enumerate(slow):
        share = (len(modules) - len(order)) // (processes - number)
        order += [*places, *islice(quick, max(0, share - len(places)))]
    return [*order, *quick]


def _places(modules: Iterable[str], wanted: str) -> list[int]:
    return [place for place, module in enumerate(modules) if module == wanted]
