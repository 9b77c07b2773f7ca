"""Property tests: how many examples they try, and why they have no deadline of their own."""

from __future__ import annotations

from hypothesis import settings

# a busy machine is no reason to fail
settings.register_profile("patient", deadline=None)
# pytest --hypothesis-profile=thorough: twenty-five times as many random lives of a pool
settings.register_profile("thorough", max_examples=2500, deadline=None)
if settings.get_current_profile_name() == "default":  # CI and --hypothesis-profile choose theirs
    settings.load_profile("patient")
