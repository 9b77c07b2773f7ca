"""What holds for every test: property tests' settings, and a Ctrl-C that reaches children."""

from __future__ import annotations

import signal

from hypothesis import settings

# a busy machine is no reason to fail
settings.register_profile("patient", deadline=None)
# pytest --hypothesis-profile=thorough: twenty-five times as many random lives of a pool
settings.register_profile("thorough", max_examples=2500, deadline=None)
if settings.get_current_profile_name() == "default":  # CI and --hypothesis-profile choose theirs
    settings.load_profile("patient")

# a shell's background job ignores SIGINT and its children inherit that: the tests of Ctrl-C would
# press it in vain
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
