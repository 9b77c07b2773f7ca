"""Property tests have no deadline of their own: a busy machine is no reason to fail."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
if settings.get_current_profile_name() == "default":  # CI and --hypothesis-profile choose theirs
    settings.load_profile("patient")
