"""Hurt a real pool and count: ``python -m tests.faults``, or ``make chaos``.

Each fault alone, then all at random; prints the seed that draws the same faults again, and a table.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random, SystemRandom

from tests.faults.catalogue import CATALOGUE
from tests.faults.pool import faulty_pool
from tests.faults.rounds import MISRENDERINGS, TO_THE_BIT, Player, Round

MINUTES = 10.0
ROUND_SECONDS = 90.0
"""How long faults strike at random before the sweeps may end in peace."""


def main(arguments: list[str]) -> int:
    """Play rounds; returns 1 if one went wrong."""
    options = parse(arguments)
    # so that whoever ends this run ends its servers and workers as well
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="seedbed-faults-"))
    rounds: list[Round] = []
    with faulty_pool(folder) as pool:
        player = Player(pool, Random(seed))
        if options.sigkills:
            pool.worker_module = "tests.faults.lives"
        pool.staff()
        rounds.append(tell(player.without_faults()))
        if options.fault or not (options.random or options.sigkills):
            for name in options.fault or [*CATALOGUE, *MISRENDERINGS, TO_THE_BIT]:
                if name == TO_THE_BIT:
                    rounds.append(tell(player.to_the_bit()))
                elif name in CATALOGUE:
                    rounds.append(tell(player.alone(CATALOGUE[name])))
                else:
                    rounds.append(tell(player.misrendering(name)))
        if not options.fault:
            deadline = time.monotonic() + 60 * options.minutes
            while (left := deadline - time.monotonic()) > 0:
                if options.sigkills:
                    rounds.append(tell(player.under_kills(left)))
                else:
                    rounds.append(tell(player.at_random(min(left, ROUND_SECONDS))))
        ends = Counter(pool.unexpected_ends)
    print_summary(seed, rounds)
    for end in ends:
        print(f"unexpected end: {end}")
    if all(one.good for one in rounds):
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    print(f"the workers' logs are in {folder}")
    return 1


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the dice; without it, a new one")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="of faults at random (default 10)"
    )
    parser.add_argument("--random", action="store_true", help="leave out each fault alone")
    parser.add_argument(
        "--sigkills",
        action="store_true",
        help="instead: SIGKILL of one worker after another, at random moments",
    )
    parser.add_argument(
        "--fault",
        action="append",
        choices=[*CATALOGUE, *MISRENDERINGS, TO_THE_BIT],
        metavar="NAME",
        help="only this one, alone; may be repeated. " + "; ".join(stories()),
    )
    return parser.parse_args(arguments)


def stories() -> list[str]:
    """Every fault and what it does."""
    return [f"{one.name}: {one.story}" for one in CATALOGUE.values()]


def tell(played: Round) -> Round:
    """One line for a round, and more for what went wrong."""
    waste = 100 * played.wasted / max(1, played.begun)
    print(
        f"{'ok  ' if played.good else 'BAD '} {played.name:28} {played.seconds:6.1f} s"
        f"  images {played.audit.images:5}  wasted {played.wasted:4} ({waste:4.1f}%)"
        f"  recovery {played.recovery:5.1f} s  levels {played.audit.levels}"
        f"  {dict(played.faults) if len(played.faults) > 1 else ''}",
        flush=True,
    )
    for problem in played.problems:
        print(f"     {problem}", flush=True)
    return played


def print_summary(seed: int, rounds: list[Round]) -> None:
    """All rounds together."""
    faults: Counter[str] = sum((one.faults for one in rounds), Counter())
    begun, images = sum(one.begun for one in rounds), sum(one.audit.images for one in rounds)
    counts = Counter[str]()
    for one in rounds:
        counts.update({kind: len(found) for kind, found in one.audit.faults.items()})
    wasted = sum(one.wasted for one in rounds)
    print(f"\nseed {seed}: {len(rounds)} rounds, {sum(one.seconds for one in rounds):.0f} s")
    print("faults: " + ", ".join(f"{name} {count}" for name, count in sorted(faults.items())))
    print(
        f"images {images}, wasted {wasted} of {begun} begun ({100 * wasted / max(1, begun):.1f}%)"
    )
    print(
        f"missing {counts['missing']}, strangers {counts['strangers']}, corrupt "
        f"{counts['corrupt']}, in two places {counts['twice']}, unsettled {counts['unsettled']}, "
        f"wrongly dead {counts['blamed']}, wrongly alive {counts['spared']}"
    )
    print(f"longest recovery {max((one.recovery for one in rounds), default=0):.1f} s")
    bad = [one for one in rounds if not one.good]
    print(f"{len(bad)} rounds went wrong" if bad else "nothing went wrong")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
