"""Contact sheets of stored images: what is there is shown, what is not is said."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from producer.grid import GridOptions, draw_grid
from producer.grid_sheet import BAD, EMPTY
from producer.results import SweepResults
from shared.errors import InvalidInput, InvalidSettings, StorageError
from shared.storage import Storage
from tests.results import make_image, make_results, store_images
from tests.s3_server import S3Server, rclone_server


@pytest.fixture
def results(server: S3Server, request: pytest.FixtureRequest) -> SweepResults:
    storage = Storage.connect(server.settings(prefix=request.node.name))
    made = make_results(
        storage=storage, name="shapes", prompt=["a", "b"], seed="0..2", height=128, width=128
    )
    store_images(made, range(6))
    return made


def colours(page: Path) -> set[tuple[int, ...]]:
    with Image.open(page) as picture:
        found = picture.getcolors(1 << 24) or []
    return {colour for _, colour in found if isinstance(colour, tuple)}


def test_every_image_is_on_the_page(results: SweepResults, tmp_path: Path) -> None:
    moves: list[tuple[int, int]] = []
    drawn = draw_grid(
        results, tmp_path / "new" / "sheet.png", progress=lambda *move: moves.append(move)
    )
    (page,) = drawn.pages
    assert (page.images, page.places, drawn.rows, drawn.columns) == (6, 6, ("prompt",), ("seed",))
    assert moves == [(done, 6) for done in range(1, 7)]
    assert drawn.notes == ()
    shown = colours(page.path)
    for index in range(6):
        with Image.open(io.BytesIO(make_image(results, index))) as image:
            assert image.getpixel((2, 2)) in shown
            assert image.getpixel((64, 64)) in shown
    assert [path.name for path in page.path.parent.iterdir()] == ["sheet.png"]


def test_places_without_an_image_say_why(results: SweepResults, tmp_path: Path) -> None:
    for index in (1, 2):
        results.storage.delete(str(results.key_of(index)))
    first = draw_grid(results, tmp_path / "sheet.png").pages[0]
    assert first.images == 4
    assert EMPTY[0] in colours(first.path)
    assert BAD[0] not in colours(first.path)
    draw_grid(results, tmp_path / "sheet.png", failed={2})
    assert {EMPTY[0], BAD[0]} <= colours(tmp_path / "sheet.png")


def test_an_object_that_is_no_image_is_called_damaged(
    results: SweepResults, tmp_path: Path
) -> None:
    whole = make_image(results, 0)
    for index, body in enumerate((b"", b"not a PNG", whole[:300], whole[:-200] + b"\0" * 200)):
        results.storage.put(str(results.key_of(index)), body, content_type="image/png")
    (page,) = draw_grid(results, tmp_path / "sheet.png").pages
    assert page.images == 2
    assert BAD[0] in colours(page.path)


def test_a_sweep_that_no_worker_has_touched_is_all_empty(
    results: SweepResults, tmp_path: Path
) -> None:
    bare = make_results(storage=results.storage, pin=None, seed="0..3")
    (page,) = draw_grid(bare, tmp_path / "sheet.png").pages
    assert (page.images, page.places) == (0, 4)


def test_pages_are_numbered_and_those_left_out_are_told(
    results: SweepResults, tmp_path: Path
) -> None:
    options = GridOptions(x=("prompt",), y=("prompt",))
    with pytest.raises(InvalidInput, match="--x and --y both name prompt"):
        draw_grid(results, tmp_path / "sheet.png", options)
    made = make_results(storage=results.storage, prompt=["a", "b"], seed="0..2", eta=[0, 1])
    options = GridOptions(x=("eta",), y=("prompt",), max_pages=2)
    drawn = draw_grid(made, tmp_path / "sheet.png", options)
    assert [page.path.name for page in drawn.pages] == ["sheet-01.png", "sheet-02.png"]
    assert [page.facets for page in drawn.pages] == [(("seed", "0"),), (("seed", "1"),)]
    assert drawn.notes == (
        f"2 of 3 pages drawn; 'seedbed grid {made.manifest.sweep_id} --pages 3' draws all of them",
    )


def test_characters_that_no_font_has_are_told(results: SweepResults, tmp_path: Path) -> None:
    made = make_results(storage=results.storage, prompt=["a", "\U00012000\U00012001"])
    (note,) = draw_grid(made, tmp_path / "sheet.png").notes
    assert note.startswith("no font here has ")
    assert "--font FILE" in note


@pytest.mark.parametrize("cell", [48, 100, 300])
def test_images_are_as_large_as_asked_for(results: SweepResults, tmp_path: Path, cell: int) -> None:
    draw_grid(results, tmp_path / "sheet.png", GridOptions(cell_pixels=cell))
    with Image.open(tmp_path / "sheet.png") as picture:
        assert 3 * cell < picture.width < 3 * cell + 200 + cell // 4


@pytest.mark.parametrize("cell", [0, 47, 100_000])
def test_a_size_that_cannot_be_drawn_is_refused(
    results: SweepResults, tmp_path: Path, cell: int
) -> None:
    with pytest.raises(InvalidInput, match=f"--cell {cell} is not a number of pixels"):
        draw_grid(results, tmp_path / "sheet.png", GridOptions(cell_pixels=cell))


def test_a_page_that_would_be_too_large_becomes_several(
    results: SweepResults, tmp_path: Path
) -> None:
    made = make_results(storage=results.storage, prompt=[str(n) for n in range(20)], seed="0..15")
    drawn = draw_grid(made, tmp_path / "sheet.png", GridOptions(cell_pixels=2048, max_pages=1))
    with Image.open(drawn.pages[0].path) as picture:
        assert picture.width * picture.height < 120_000_000
    assert "1 of " in drawn.notes[0]


def test_a_place_that_cannot_be_written_is_named(results: SweepResults, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    (tmp_path / "sheet.png").mkdir()
    for path in (tmp_path / "file" / "sheet.png", tmp_path / "sheet.png"):
        with pytest.raises(InvalidSettings, match=r"cannot write to '.*name another place"):
            draw_grid(results, path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "sheet.png"]


def test_storage_that_is_down_is_an_error(tmp_path: Path) -> None:
    with rclone_server() as server:
        made = make_results(storage=Storage.connect(server.settings()), seed="0..3")
    with pytest.raises(StorageError, match="nobody answers"):
        draw_grid(made, tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == []
