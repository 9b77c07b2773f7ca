"""File names are readable, short, distinct, and stay in their folder."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.naming import MAX_NAME_BYTES, make_namer, slug
from producer.results import SweepResults
from shared.errors import InvalidSweep
from tests.results import make_results


def names(results: SweepResults, template: str | None = None) -> list[str]:
    namer = make_namer(results, template)
    return [namer(index) for index in range(results.total)]


def test_the_default_is_the_index_and_what_varies() -> None:
    results = make_results(seed="0..3", guidance_scale=[4, 7.5], height=64)
    assert names(results)[3] == "000003_seed=1_guidance_scale=7.5.png"
    assert names(results)[0] == "000000_seed=0_guidance_scale=4.png"


def test_a_sweep_of_one_image_has_the_index_alone() -> None:
    assert names(make_results()) == ["000000.png"]


def test_more_than_a_million_images_get_more_digits() -> None:
    namer = make_namer(make_results(seed="0..19999999"))
    assert namer(3) == "00000003_seed=3.png"


def test_prompts_become_slugs() -> None:
    results = make_results(prompt=["a red circle, 4k!", "../../etc/passwd", "???", "ein Käse 月"])
    assert names(results) == [
        "000000_prompt=a-red-circle-4k.png",
        "000001_prompt=etc-passwd.png",
        "000002_prompt=empty.png",
        "000003_prompt=ein-Käse-月.png",
    ]


def test_an_input_is_called_by_the_beginning_of_its_hash() -> None:
    keys = ["inputs/" + digit * 64 for digit in "ab"]
    assert names(make_results(init_image=[None, *keys])) == [
        "000000_init_image=none.png",
        "000001_init_image=aaaaaaaaaaaa.png",
        "000002_init_image=bbbbbbbbbbbb.png",
    ]


def test_no_negative_prompt_and_an_empty_one_differ() -> None:
    assert names(make_results(negative_prompt=[None, ""])) == [
        "000000_negative_prompt=none.png",
        "000001_negative_prompt=empty.png",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(7.0, "7"), (7.5, "7.5"), (0.1 + 0.2, "0.30000000000000004"), (1e-5, "1e-05"), (12, "12")],
)
def test_numbers_are_short_and_exact(value: float, text: str) -> None:
    assert slug(value) == text


TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=400),
    min_size=1,
    max_size=3,
)


@settings(max_examples=50, deadline=None)
@given(
    prompts=TEXTS, negatives=TEXTS, template=st.sampled_from([None, "{prompt}/{prompt}_{index}"])
)
def test_any_prompt_makes_a_distinct_name_that_stays_in_the_folder(
    prompts: list[str], negatives: list[str], template: str | None
) -> None:
    results = make_results(prompt=prompts, negative_prompt=negatives)
    made = names(results, template)
    assert len({name.casefold() for name in made}) == len(made)
    for name in made:
        assert name.endswith(".png")
        for part in name.split("/"):
            assert 0 < len(part.encode()) <= MAX_NAME_BYTES
            assert not part.startswith(".")
            assert part.isprintable()


def test_a_sweep_over_every_field_still_has_short_names() -> None:
    results = make_results(
        model=["demo", "demo-two"],
        revision=["main", "a" * 40],
        variant=[None, "fp16"],
        prompt=["a" * 200, "b" * 200],
        negative_prompt=["c" * 200, "d" * 200],
        scheduler=["DDIMScheduler", "EulerDiscreteScheduler"],
        seed=[2**63 - 1, 2**62],
        guidance_scale=[1 / 3, 2 / 3],
        guidance_rescale=[1 / 3, 2 / 3],
        eta=[1 / 3, 2 / 3],
        num_inference_steps=[10, 20],
    )
    name = make_namer(results)(results.total - 1)
    assert name.startswith("002047_model=demo_prompt=bbbb_revision=aaaa")
    assert len(name.encode()) <= MAX_NAME_BYTES


def test_a_template_takes_fields_formats_and_folders() -> None:
    results = make_results(prompt=["a cat", "a dog"], seed="0..1")
    assert names(results, "{prompt}/{seed:04}_{guidance_scale:.2f}_{height}") == [
        "a-cat/0000_7.50_64.png",
        "a-cat/0001_7.50_64.png",
        "a-dog/0000_7.50_64.png",
        "a-dog/0001_7.50_64.png",
    ]


def test_a_template_may_hold_the_digest() -> None:
    results = make_results(seed="0..1")
    assert names(results, "{digest}.png") == [f"{results.digest_of(i)}.png" for i in range(2)]
    assert names(results, "{digest:.12}")[1] == f"{results.digest_of(1)}"[:12] + ".png"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{sed}", "did you mean 'seed'"),
        ("{index", "is not a template"),
        ("{seed.__class__}", "has '{seed.__class__}'"),
        ("{index!r}", "keep it plain"),
        ("{}", "has '{}'"),
        ("../{index}", "climbs out"),
        ("/tmp/{index}", "climbs out"),
        ("a//{index}", "climbs out"),
        ("a/", "climbs out"),
        ("", "is empty: write one such as"),
        ("a\n{index}", "control character"),
        ("a\\{index}", "backslash"),
        ("{prompt:.2f}", r"write \{prompt:\.8\}"),
        ("{seed:x}", "keep it plain"),
        ("{seed:.2}", "write {seed:06}"),
        ("{index:300}", "keep it plain"),
        ("{index:99}", "same name"),
        ("x" * 200 + "{index}", "over 200 bytes"),
    ],
)
def test_a_bad_template_is_refused_in_one_sentence(template: str, message: str) -> None:
    with pytest.raises(InvalidSweep, match=message) as caught:
        make_namer(make_results(seed="0..3"), template)
    assert str(caught.value).startswith("file name ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "remedy"),
    [
        ("{prompt}", r"jobs 0 and 1 the same name 'a-cat\.png': add \{guidance_scale\}"),
        ("{guidance_scale}", r"jobs 0 and 2 the same name '4\.0\.png': add \{seed\}"),
        ("{seed}{guidance_scale:.0f}", r"add \{index\}"),
        ("{digest:.1}", "same name"),
        ("fixed", r"add \{guidance_scale\}"),
    ],
)
def test_a_template_that_gives_two_images_one_name_is_refused(template: str, remedy: str) -> None:
    results = make_results(prompt=["a cat", "A cat!"], seed=[1, 11], guidance_scale=[4.0, 14.0])
    with pytest.raises(InvalidSweep, match=remedy):
        make_namer(results, template)


def test_names_that_differ_only_in_case_count_as_the_same() -> None:
    with pytest.raises(InvalidSweep, match=r"add \{index\}"):
        make_namer(make_results(prompt=["a cat", "A Cat"]), "{prompt}")


def test_a_template_without_index_is_refused_where_comparing_would_take_too_long() -> None:
    with pytest.raises(InvalidSweep, match=r"2,000,000 images: add \{index\}"):
        make_namer(make_results(seed="0..1999999"), "{seed}")
