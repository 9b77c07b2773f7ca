"""An address is a pure function of what acts on the pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.addressing import address
from shared.job import Job
from shared.manifest import Output
from tests.results import PIN

JOB = Job(model="demo", prompt="a red circle")


def test_the_default_key_is_the_digest_in_256_folders() -> None:
    found = address(JOB, PIN, Output())
    assert found.key == f"images/{found.digest[:2]}/{found.digest}.png"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"height": 64, "width": 64}, {}),
        ({"scheduler": "DDIMScheduler"}, {}),
        ({"guidance_scale": 1.0}, {"guidance_scale": 0.0, "negative_prompt": "blurry"}),
        ({"scheduler": "DDPMScheduler"}, {"scheduler": "DDPMScheduler", "eta": 0.5}),
    ],
)
def test_jobs_that_act_alike_share_one_object(
    first: dict[str, object], second: dict[str, object]
) -> None:
    key = "{height}x{width}/{scheduler}/{guidance_scale}_{eta}_{digest}.png"
    for output in (Output(), Output(key=key)):
        assert address(replace(JOB, **first), PIN, output) == address(  # type: ignore[arg-type]
            replace(JOB, **second),  # type: ignore[arg-type]
            PIN,
            output,
        )


@pytest.mark.parametrize("change", [{"seed": 1}, {"prompt": "a blue circle"}, {"eta": 0.5}])
def test_another_job_is_another_object(change: dict[str, object]) -> None:
    assert address(replace(JOB, **change), PIN, Output()) != address(JOB, PIN, Output())  # type: ignore[arg-type]


def test_other_weights_are_another_object() -> None:
    assert address(JOB, PIN, Output()) != address(JOB, replace(PIN, weights="other"), Output())


def test_readable_parts_of_a_key_are_safe_names() -> None:
    job = replace(JOB, prompt="../etc/passwd\n: a / b", seed=7)
    found = address(job, PIN, Output(key="{prompt}/{seed:06}-{digest}.png"))
    folder, name = found.key.split("/")
    assert ".." not in folder.split("/")
    assert name == f"000007-{found.digest}.png"
