"""``seedbed capacity``: what the pool's workers have measured, from Redis alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from producer import Client
from tests.command_line import Call
from tests.factories import make_capacity

OTHER = "owner/other-model"


@pytest.fixture
def measured(client: Client) -> Client:
    """Two models at two sizes."""
    client.queue.record_capacity(make_capacity())
    client.queue.record_capacity(make_capacity(height=512, width=768))
    client.queue.record_capacity(make_capacity(model=OTHER, weights="hub:1", decode=None))
    return client


def test_it_shows_a_table_and_a_plot_for_each_measurement(seedbed: Call, measured: Client) -> None:
    answer = seedbed("capacity")

    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].split() == [
        *("MODEL", "DEVICE", "DTYPE", "SIZE", "BATCH", "UNGUIDED"),
        *("ROWS", "FIT", "IMAGES", "FIT"),
    ]
    assert lines[1].split("  ")[0] == "demo"
    assert "768 x 512" in lines[2]
    assert lines[3].startswith(OTHER)
    assert lines[1].split()[-4:] == ["2", "2", "8", "2"], "guided, unguided, rows, images"
    assert lines[3].split()[-4:] == ["2", "4", "8", "-"]
    assert answer.out.count("denoising, 4 calls of the model") == 3
    assert answer.out.count("decoding:") == 2
    assert answer.out.count("knee") == 5
    assert "measured by gpu-box-1, 2025-10-09 08:53 UTC; diffusers 0.42.1, renderer 1" in answer.out


def test_json_has_every_measurement(seedbed: Call, measured: Client) -> None:
    answer = seedbed("capacity", "--json")

    found = json.loads(answer.out)
    assert (answer.code, answer.err, len(found)) == (0, "", 3)
    assert found[0]["key"]["device"] == "Small GPU, 8 GiB"
    assert (found[0]["batch_size"], found[0]["batch_size_unguided"]) == (2, 2)
    assert found[0]["denoise"]["points"][0] == {"rows": 1, "seconds": 0.1, "peak_bytes": 1 << 30}
    assert (found[0]["denoise"]["knee"], found[0]["denoise"]["cap"]) == (4, 8)
    assert found[2]["decode"] is None


def test_it_can_be_asked_for_one_model(seedbed: Call, measured: Client) -> None:
    found = json.loads(seedbed("capacity", "--model", OTHER, "--json").out)

    assert [item["model"] for item in found] == [OTHER]


def test_it_draws_a_picture_as_well(seedbed: Call, measured: Client, tmp_path: Path) -> None:
    answer = seedbed("capacity", "--png", str(tmp_path / "capacity.PNG"))

    assert answer.code == 0
    assert "3 of 3 measurements drawn" in answer.err
    with Image.open(tmp_path / "capacity.PNG") as image:
        assert image.format == "PNG"


@pytest.mark.parametrize("more", [(), ("--model", "demo")])
def test_a_pool_that_has_measured_nothing_says_so(
    seedbed: Call, tmp_path: Path, more: tuple[str, ...]
) -> None:
    answer = seedbed("capacity", "--png", str(tmp_path / "none.png"), *more)

    assert (answer.code, answer.out) == (0, "")
    (line,) = answer.err.splitlines()
    assert "has been measured in this pool yet" in line
    assert ("of demo" in line) is bool(more)
    assert not (tmp_path / "none.png").exists()
    assert seedbed("capacity", "--json").out == "[]\n"


def test_what_is_corrupt_is_left_out(seedbed: Call, measured: Client) -> None:
    measured.queue.client.hset(measured.queue.keys.capacities, "broken", b"\xff{")

    answer = seedbed("capacity", "--json")

    assert (answer.code, len(json.loads(answer.out))) == (0, 3)


def test_names_from_strangers_cannot_play_with_the_terminal(seedbed: Call, client: Client) -> None:
    client.queue.record_capacity(make_capacity(model="\x1b[2Jevil", worker="\x07bell"))

    answer = seedbed("capacity")

    assert answer.code == 0
    assert not {"\x1b", "\x07"} & set(answer.out)
    assert "\\x1b[2Jevil" in answer.out


@pytest.mark.parametrize(
    "words",
    [
        ("--png", "capacity.jpg"),
        ("--png", "no-such-folder/capacity.png"),
    ],
)
def test_a_picture_that_cannot_be_written_exits_2(
    seedbed: Call, measured: Client, words: tuple[str, ...]
) -> None:
    answer = seedbed("capacity", *words)

    assert answer.code == 2
    assert answer.is_one_sentence
    assert words[1] in answer.err


@pytest.mark.parametrize("words", [("--png",), ("extra",), ("--nonsense",)])
def test_words_that_are_no_options_exit_2(seedbed: Call, words: tuple[str, ...]) -> None:
    assert seedbed("capacity", *words).code == 2


def test_without_a_pool_it_exits_2(seedbed: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEEDBED_REDIS_URL")

    answer = seedbed("capacity")

    assert answer.code == 2
    assert answer.is_one_sentence
