"""Jobs that misbehave on purpose, told by their prompt or seed; other jobs are left alone."""

from __future__ import annotations

RAISES = "a prompt that nobody can read"
"""Encoding it raises, in whatever batch."""

NON_FINITE = 9_000_001
"""Its latents become NaN in mid-denoising."""
TOO_LARGE = 9_000_002
"""No batch of more than FITS images that holds one of these seeds fits in memory."""
TOO_LARGE_UNTIL = 9_000_010
FITS = 2
HANGS = 9_000_011
"""Its batch never ends."""
KILLS = 9_000_012
"""Its process is killed as soon as its batch begins."""

DIE_AT = "SEEDBED_TEST_DIE_AT"
"""Variable: the stage after which a worker kills itself, and which time: ``upload:3``."""
RENDERS = "SEEDBED_TEST_RENDERS"
"""Variable: file that gets a line for each call of the pipeline."""

STAGES = ("load", "claim", "begin", "render", "upload", "receipt", "commit")
"""Where a worker can be killed; each is the moment after the step, its reply in hand."""
