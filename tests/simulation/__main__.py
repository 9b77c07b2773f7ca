"""Ask the pool simulator: prints tables, draws pictures.

    python -m tests.simulation [redis] [delay] [preemption] [hours] [first] [--seed 1]
        [--scale 1.0] [--pictures docs/images]

Without a name, everything is asked. docs/scaling.md says what is real in it and what is not.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from tests.simulation.charts import draw_panels
from tests.simulation.questions import QUESTIONS, Answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask what was named and print the answers in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--seed", type=int, default=1, help="the same seed is the same run")
    parser.add_argument("--scale", type=float, default=1.0, help="of pools and loads, 0.1 is quick")
    parser.add_argument("--pictures", type=Path, help="folder for scaling-QUESTION.png")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.names if name not in QUESTIONS]
    if unknown:
        parser.error(f"{unknown[0]!r} is not a question: {', '.join(QUESTIONS)}")
    if not 0 < chosen.scale <= 10:
        parser.error(f"--scale {chosen.scale:g} is not above 0 and at most 10")
    for name in chosen.names or QUESTIONS:
        answer = QUESTIONS[name](chosen.seed, chosen.scale)
        print_answer(answer)
        load = " ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"\n(seed {chosen.seed}, scale {chosen.scale:g}; load of the machine {load})\n")
        if chosen.pictures is not None and answer.panels:
            draw_panels(answer.panels, chosen.pictures / f"scaling-{name}.png")


def print_answer(answer: Answer) -> None:
    """As a Markdown table with its notes."""
    print(f"### {answer.title}\n")
    print(f"| {' | '.join(answer.header)} |")
    print(f"|{' --- |' * len(answer.header)}")
    for row in answer.rows:
        print(f"| {' | '.join(row)} |")
    for number, note in enumerate(answer.notes):
        print(f"{'' if number else chr(10)}- {note}", flush=True)


if __name__ == "__main__":
    main()
