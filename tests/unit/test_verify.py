"""Which images verify takes, what it makes of the answers, and what it says without torch."""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import replace

import pytest

from producer.cli import worker_command
from producer.cli.worker_command import need_worker_packages
from producer.verify import Verified, choose, psnr, render_again, wanted_images
from shared.errors import InvalidSettings, ServiceError
from shared.verifying import Compared, read_answer, read_request, write_answer, write_request
from tests.factories import make_pin
from tests.results import make_results

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_same_seed_chooses_the_same_images_and_another_others() -> None:
    first = choose(range(1000), 1000, 10, seed=3)
    assert first == choose(iter(range(1000)), 1000, 10, seed=3)
    assert first != choose(range(1000), 1000, 10, seed=4)
    assert len(set(first)) == 10


def test_a_sample_of_more_than_there_are_is_all_of_them_in_order() -> None:
    assert choose([7, 3, 5], 3, 10, seed=0) == [3, 5, 7]
    assert choose([], 0, 4, seed=0) == []


def test_no_more_is_read_than_the_last_image_chosen_needs() -> None:
    source = itertools.count()
    chosen = choose(source, 100, 3, seed=1)
    assert next(source) == chosen[-1] + 1


def test_every_image_is_chosen_about_as_often_as_any_other() -> None:
    times = [0] * 20
    for seed in range(400):
        for index in choose(range(20), 20, 5, seed=seed):
            times[index] += 1
    assert min(times) > 60
    assert max(times) < 140


def test_psnr_is_that_of_8_bit_pictures() -> None:
    assert psnr(0) == math.inf
    assert psnr(1) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(255**2) == 0


def test_requests_and_answers_come_through_the_pipe_as_they_are() -> None:
    results = make_results(prompt='say "hi" 🦊\n', seed="0..3", loras=None)
    wanted = wanted_images(results, range(4))
    assert [image.index for image in wanted] == [0, 1, 2, 3]
    assert read_request(write_request(wanted)) == wanted
    answer = Compared(index=3, key="images/ab/x.png", levels=2, square_error=0.1, values=12)
    assert read_answer(write_answer(answer)) == answer


def test_weights_of_a_hub_repository_are_asked_for_by_their_commit() -> None:
    (image,) = wanted_images(make_results(pin=make_pin(weights=f"hub:{COMMIT}")), [0])
    assert image.job.revision == COMMIT
    (image,) = wanted_images(make_results(), [0])
    assert image.job.revision is None


def test_a_model_that_nobody_has_rendered_for_has_nothing_to_verify() -> None:
    assert wanted_images(make_results(pin=None), [0]) == []
    assert render_again([], {}) == ()


def test_an_image_that_is_too_far_off_or_has_a_fault_fails_the_sample() -> None:
    same = Compared(index=0, key="a", values=100)
    near = Compared(index=1, key="b", levels=1, square_error=0.01, values=300)
    good = Verified(sweep_id="s", done=9, images=(same, near), max_levels=1)
    assert (good.passed, good.levels, good.identical) == (True, 1, 1)
    assert good.psnr == pytest.approx(psnr(0.0075))
    assert not replace(good, max_levels=0).passed
    assert not replace(good, images=(same, Compared(index=2, key="c", fault="is gone"))).passed
    assert not replace(good, images=()).passed


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("import sys; print('error: other weights', file=sys.stderr); sys.exit(2)",
         InvalidSettings, "^other weights$"),
        ("import sys; print('error: S3 is down', file=sys.stderr); sys.exit(1)",
         ServiceError, "^S3 is down$"),
        ("import os; os.kill(os.getpid(), 9)", ServiceError, "was ended by signal 9"),
        ("pass", ServiceError, "ended with exit code 0"),
    ],
)  # fmt: skip
def test_a_process_that_renders_no_more_is_told_in_its_own_words(
    script: str, error: type[Exception], words: str
) -> None:
    wanted = wanted_images(make_results(), [0])
    with pytest.raises(error, match=words):
        render_again(wanted, {}, command=[sys.executable, "-c", script])


def test_without_the_worker_s_packages_one_sentence_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_command, "NEEDED", ("no_such_torch",))
    with pytest.raises(InvalidSettings, match=r"verify needs no_such_torch, .*seedbed\[worker\]"):
        need_worker_packages("verify")
