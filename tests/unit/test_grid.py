"""Every image has one place, whose labels are its own axis values; nothing is drawn over it."""

from __future__ import annotations

from itertools import chain, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from producer.grid_plan import MAX_SIDE, GridPlan, Level, Page
from producer.grid_sheet import BAD, EMPTY, PAPER, Sheet, Style
from producer.lettering import Lettering
from producer.results import SweepResults
from shared.errors import InvalidInput
from tests.factories import make_sweep
from tests.results import make_results

PROMPTS = ["a red circle", "a blue star", "a green square"]
LONG = "three small purple squares in a row on a white table, soft morning light, " * 6


def make_plan(*, x: tuple[str, ...] = (), y: tuple[str, ...] = (), **fields: object) -> GridPlan:
    return GridPlan(make_results(**fields).manifest, x=x, y=y)


def labels_at(levels: tuple[Level, ...], number: int) -> dict[str, str]:
    """Name and label of each level at one row or column."""
    found = {}
    for level in levels:
        spread = [span.label for span in level.spans for _ in range(span.size)]
        found[level.name] = spread[number]
    return found


def said_of(page: Page, row: int, column: int) -> dict[str, str]:
    """What a page says of the image in one place."""
    said = dict(page.facets) | labels_at(page.rows, row) | labels_at(page.columns, column)
    if page.captions:
        said[page.caption_name] = page.captions[row][column]
    return said


def truth(results: SweepResults, index: int) -> dict[str, str]:
    return {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in results.varying(index).items()
    }


AXES = {
    "prompt": st.integers(1, 5).map(lambda count: [f"prompt {n}" for n in range(count)]),
    "seed": st.integers(1, 40).map(lambda count: range(7, 7 + count)),
    "guidance_scale": st.integers(1, 4).map(lambda count: [1.5 * n + 1 for n in range(count)]),
    "num_inference_steps": st.integers(1, 3).map(lambda count: [10 * n + 5 for n in range(count)]),
}


@settings(max_examples=150)
@given(data=st.data())
def test_each_image_has_one_place_and_its_own_labels(data: st.DataObject) -> None:
    names = data.draw(st.permutations(list(AXES)))[: data.draw(st.integers(1, 4))]
    results = make_results(**{name: data.draw(AXES[name]) for name in names})
    varying = [name for axis in results.manifest.axes for name in axis.fields]
    picked = data.draw(st.permutations(varying)) if varying else []
    cut = data.draw(st.integers(0, len(picked)))
    x = tuple(picked[: data.draw(st.integers(0, cut))])
    y = tuple(picked[cut : cut + data.draw(st.integers(0, 2))])
    limits = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    plan = GridPlan(results.manifest, x=x, y=y)

    seen = []
    for number in range(1, plan.page_count(limits) + 1):
        page = plan.page(number, limits)
        assert len(page.cells) <= limits[0]
        assert max(map(len, page.cells)) <= limits[1]
        for level in (*page.rows, *page.columns):
            side = len(page.cells) if level in page.rows else len(page.cells[0])
            assert sum(span.size for span in level.spans) == side
        for row, cells in enumerate(page.cells):
            for column, index in enumerate(cells):
                if index is not None:
                    seen.append(index)
                    assert said_of(page, row, column) == truth(results, index)
    assert sorted(seen) == list(range(results.total))


def sides(plan: GridPlan) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    return plan.row_fields, plan.column_fields, plan.page_count()


def test_prompts_make_the_rows_and_what_fits_nests_in_the_columns() -> None:
    plan = make_plan(seed="0..3", prompt=PROMPTS, guidance_scale=[1, 4, 7.5])
    assert sides(plan) == (("prompt",), ("seed", "guidance_scale"), 1)


def test_columns_are_chosen_for_few_pages() -> None:
    plan = make_plan(prompt=PROMPTS, seed="0..31", guidance_scale=[1, 4, 7.5])
    assert sides(plan) == (("prompt",), ("seed",), 3)


def test_without_prompts_the_first_axis_makes_the_rows() -> None:
    plan = make_plan(num_inference_steps=[10, 20], guidance_scale=[1, 4])
    assert sides(plan) == (("num_inference_steps",), ("guidance_scale",), 1)


def test_what_is_neither_row_nor_column_makes_pages() -> None:
    plan = make_plan(prompt=PROMPTS, seed="0..3", guidance_scale=[1, 4], x=("seed",), y=("prompt",))
    assert sides(plan) == (("prompt",), ("seed",), 2)
    assert plan.page(2).facets == (("guidance_scale", "4"),)


def test_the_side_that_is_not_named_is_chosen() -> None:
    fields = {"prompt": PROMPTS, "seed": "0..3", "guidance_scale": [1, 4]}
    assert sides(make_plan(**fields, x=("guidance_scale",))) == (
        ("prompt",),
        ("guidance_scale",),
        4,
    )
    assert sides(make_plan(**fields, y=("seed",))) == (("seed",), ("prompt",), 2)


def test_both_sides_may_nest() -> None:
    fields = {"prompt": PROMPTS, "seed": "0..1", "guidance_scale": [1, 4]}
    page = make_plan(**fields, x=("prompt",), y=("guidance_scale", "seed")).page(1)
    assert [level.name for level in page.rows] == ["guidance_scale", "seed"]
    assert [[(span.label, span.size) for span in level.spans] for level in page.rows] == [
        [("1", 2), ("4", 2)],
        [("0", 1), ("1", 1), ("0", 1), ("1", 1)],
    ]


@pytest.mark.parametrize(
    ("count", "rows", "columns"),
    [(2, 1, 2), (3, 1, 3), (4, 2, 2), (8, 2, 4), (12, 3, 4), (32, 4, 8), (48, 6, 8), (7, 2, 4)],
)
def test_a_single_axis_wraps_into_a_broad_page(count: int, rows: int, columns: int) -> None:
    page = make_plan(seed=range(count)).page(1)
    assert (len(page.cells), len(page.cells[0])) == (rows, columns)
    assert [index for index in chain(*page.cells) if index is not None] == list(range(count))


def test_a_single_image_is_a_page_without_labels() -> None:
    page = make_plan().page(1)
    assert (page.cells, page.rows, page.columns, page.facets) == (((0,),), (), (), ())


def test_long_sides_are_cut_into_pages_of_nearly_equal_size() -> None:
    plan = make_plan(prompt=[f"prompt {n}" for n in range(70)], seed="0..129")
    assert plan.page_count() == 2 * 3
    pages = [plan.page(number) for number in range(1, 7)]
    assert {len(page.cells) for page in pages} == {35}
    assert [len(page.cells[0]) for page in pages] == [44, 44, 42] * 2
    assert pages[4].part == "rows 36 to 70 of 70, columns 45 to 88 of 130"


def test_a_billion_images_are_planned_at_once() -> None:
    plan = make_plan(seed="0..99999999", prompt=[f"prompt {n}" for n in range(10)])
    assert plan.page_count() == 1_562_500
    assert plan.page(plan.page_count()).cells[-1][-1] == 10**9 - 1


def test_values_that_would_show_as_nothing_have_words() -> None:
    page = make_plan(negative_prompt=[None, "", "blurry"]).page(1)
    assert page.captions == (("none", "(empty)", "blurry"),)
    page = make_plan(height=[None, 64]).page(1)
    assert page.captions == (("the checkpoint's own", "64"),)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (("sed",), (), r"--x 'sed' is not a field: did you mean 'seed'\?"),
        ((), ("height",), "--y height has only one value in this sweep: name prompt or seed"),
        (("seed",), ("seed",), "--x and --y both name seed"),
    ],
)
def test_a_field_that_does_not_vary_is_refused(
    x: tuple[str, ...], y: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_plan(seed="0..3", prompt=PROMPTS, x=x, y=y)


def test_a_field_of_a_sweep_of_one_image_is_refused() -> None:
    with pytest.raises(InvalidInput, match="it is a sweep of one image"):
        make_plan(x=("seed",))


def draw(page: Page, cell: tuple[int, int] = (128, 128)) -> Sheet:
    return Sheet(
        page, style=Style(cell=cell), lettering=Lettering(), title="shapes", note="shapes-0123"
    )


def ink_in(picture: Image.Image, box: tuple[int, int, int, int]) -> bool:
    """Whether anything is drawn there."""
    part = picture.crop(box)
    return ImageChops.difference(part, Image.new("RGB", part.size, PAPER)).getbbox() is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [*PROMPTS, LONG], "seed": "0..3", "guidance_scale": [1, 4, 7.5]},
        {"prompt": [LONG, LONG + "b"], "negative_prompt": [None, LONG]},
        {"seed": "0..11"},
        {"prompt": [*PROMPTS, LONG]},
        {"scheduler": ["DDIMScheduler", "EulerAncestralDiscreteScheduler"], "seed": "0..63"},
        {},
    ],
)
@pytest.mark.parametrize("cell", [(128, 128), (48, 48), (256, 144)])
def test_no_label_touches_an_images_place(fields: dict[str, object], cell: tuple[int, int]) -> None:
    page = make_plan(**fields).page(1)
    sheet = draw(page, cell)
    for row, cells in enumerate(page.cells):
        for column, index in enumerate(cells):
            x, y = sheet.corner(row, column)
            assert not ink_in(sheet.picture, (x, y, x + cell[0], y + cell[1])), index
            assert x + cell[0] < sheet.picture.width
            assert y + cell[1] < sheet.picture.height


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [*PROMPTS, LONG], "seed": "0..3", "guidance_scale": [1, 4, 7.5]},
        {"scheduler": ["DDIMScheduler", "EulerAncestralDiscreteScheduler"], "seed": "0..30"},
        {"num_inference_steps": [10, 20], "prompt": [LONG, "b"]},
    ],
)
def test_every_row_and_column_has_its_label(fields: dict[str, object]) -> None:
    page = make_plan(**fields).page(1)
    sheet = draw(page)
    first_x, first_y = sheet.corner(0, 0)
    for column in range(len(page.cells[0])):
        x, _ = sheet.corner(0, column)
        assert ink_in(sheet.picture, (x, first_y - 24, x + 128, first_y))
    for row in range(len(page.cells)):
        _, y = sheet.corner(row, 0)
        assert ink_in(sheet.picture, (0, y, first_x, y + 128))


def test_every_wrapped_image_has_its_caption() -> None:
    page = make_plan(seed="0..6").page(1)
    sheet = draw(page)
    for row, cells in enumerate(page.cells):
        for column, index in enumerate(cells):
            x, y = sheet.corner(row, column)
            assert ink_in(sheet.picture, (x, y + 129, x + 128, y + 150)) == (index is not None)


def test_labels_stay_inside_the_margins() -> None:
    for fields in ({"prompt": [LONG, "b"], "seed": "0..1"}, {"guidance_rescale": [0.1, 0.2]}, {}):
        sheet = draw(make_plan(**fields).page(1), (48, 48))
        width, height = sheet.picture.size
        for box in ((0, 0, width, 20), (0, 0, 20, height), (width - 20, 0, width, height)):
            assert not ink_in(sheet.picture, box)


def test_groups_of_a_nested_side_stand_apart() -> None:
    fields = {"eta": [0, 0.5], "seed": "0..1", "guidance_scale": [1, 4]}
    page = make_plan(**fields, x=tuple(fields)).page(1)
    sheet = draw(page)
    starts = [sheet.corner(0, column)[0] for column in range(8)]
    steps = [after - before - 128 for before, after in pairwise(starts)]
    inner, middle, outer = steps[0], steps[1], steps[3]
    assert steps == [inner, middle, inner, outer, inner, middle, inner]
    assert inner < middle < outer


def test_an_image_is_put_in_its_place() -> None:
    sheet = draw(make_plan(seed="0..3", prompt=PROMPTS).page(1))
    image = Image.effect_noise((128, 128), 50).convert("RGB")
    sheet.place(1, 2, image)
    x, y = sheet.corner(1, 2)
    assert sheet.picture.crop((x, y, x + 128, y + 128)).tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("state", "fill"), [("not done", EMPTY[0]), ("failed", BAD[0]), ("damaged", BAD[0])]
)
def test_a_place_without_an_image_says_why(state: str, fill: tuple[int, int, int]) -> None:
    sheet = draw(make_plan(seed="0..3").page(1))
    sheet.leave_empty(0, 1, state)
    x, y = sheet.corner(0, 1)
    box = sheet.picture.crop((x + 1, y + 1, x + 127, y + 127))
    colours = box.getcolors(10_000)
    assert colours is not None
    assert max(colours)[1] == fill
    assert len(colours) > 5  # the word, smoothed


def test_pages_are_never_longer_than_a_side_allows() -> None:
    plan = make_plan(prompt=[f"prompt {n}" for n in range(1000)])
    page = plan.page(1, (10_000, 10_000))
    assert max(len(page.cells), len(page.cells[0])) <= MAX_SIDE


def test_a_grid_of_some_images_shows_only_values_that_they_have() -> None:
    manifest = make_sweep(prompt=["a", "b", "c"], seed="0..9", guidance_scale=[1, 4]).manifest
    # given: prompts a and c, seeds 2 and 7, at guidance 4 only, one of the four left out
    hits = [prompt * 20 + seed * 2 + 1 for prompt in (0, 2) for seed in (2, 7)][:-1]

    plan = GridPlan(manifest, only=hits)
    page = plan.page(1)

    assert plan.page_count() == 1
    assert sorted(i for row in page.cells for i in row if i is not None) == hits
    assert sum(i is None for row in page.cells for i in row) == 1
    labels = {span.label for level in (*page.rows, *page.columns) for span in level.spans}
    assert labels | {value for _, value in page.facets} == {"a", "c", "2", "7", "4"}


def test_a_grid_of_some_images_of_a_single_axis_wraps_them() -> None:
    manifest = make_sweep(seed="0..99").manifest
    page = GridPlan(manifest, only=[3, 50, 99]).page(1)
    assert [i for row in page.cells for i in row if i is not None] == [3, 50, 99]
    assert [text for row in page.captions for text in row if text] == ["3", "50", "99"]
