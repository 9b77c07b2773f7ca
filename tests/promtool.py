"""Prometheus' own linter; Debian has it in the package ``prometheus``."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def promtool(*arguments: str, given: str = "") -> str:
    """Run it; returns what it complains of. Without it a laptop skips and CI fails."""
    program = shutil.which("promtool")
    if program is None:
        message = "promtool is not installed (apt-get install prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    done = subprocess.run(
        [program, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    said = (done.stdout + done.stderr).strip()
    return said if done.returncode == 0 else said or f"exit code {done.returncode}"


def lint_metrics(exposition: str) -> str:
    """``promtool check metrics``; empty if all names are as they should be."""
    return promtool("check", "metrics", given=exposition)
