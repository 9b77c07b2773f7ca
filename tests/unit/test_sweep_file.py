"""Sweep files: what YAML's scalars become, and what is refused with which sentence."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from producer.sweep_file import load_sweep, read_values
from shared.errors import InvalidSweep


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "sweep.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def values(folder: Path, text: str | bytes) -> dict[str, object]:
    return read_values(written(folder, text))


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("0123456", "0123456"),
        ("off", "off"),
        ("yes", "yes"),
        ("1e-4", "1e-4"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("0..31", "0..31"),
        (".nan", ".nan"),
        ("null", None),
        ("~", None),
        ("", None),
        ('"null"', "null"),
        ("'~'", "~"),
        ('""', ""),
        ("!!str null", "null"),
        ("=", "="),
        ("{words: x}", {"words": "x"}),
        ("[1, null, '']", ["1", None, ""]),
    ],
)
def test_a_scalar_arrives_as_its_own_text(tmp_path: Path, scalar: str, value: object) -> None:
    assert values(tmp_path, f"prompt: {scalar}\n") == {"prompt": value}


def test_text_fields_keep_what_looks_like_a_number(tmp_path: Path) -> None:
    sweep = load_sweep(
        written(tmp_path, "model: demo\nprompt: 0123456\nnegative_prompt: off\neta: 1e-4\n")
    )
    job = sweep.layout.job(0)
    assert (job.prompt, job.negative_prompt, job.eta) == ("0123456", "off", 1e-4)


def test_five_and_five_point_nought_are_one_value(tmp_path: Path) -> None:
    first = load_sweep(written(tmp_path, "model: demo\nprompt: a\nguidance_scale: 5\n"))
    second = load_sweep(written(tmp_path, "model: demo\nprompt: a\nguidance_scale: 5.0\n"))
    assert first.id == second.id


def test_null_and_empty_negative_prompts_are_two_values(tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path, 'model: demo\nprompt: a\nnegative_prompt: [null, ""]\n'))
    assert [sweep.layout.job(index).negative_prompt for index in range(2)] == [None, ""]


def test_json_keeps_its_strings_to_the_byte(tmp_path: Path) -> None:
    text = r'{"model": "demo", "prompt": ["\ud83d\ude00 \/ \u00e9", "{a|b}"], "seed": 3}'
    assert values(tmp_path, text) == {
        "model": "demo",
        "prompt": ["😀 / é", "{a|b}"],
        "seed": "3",
    }


def test_a_yaml_flow_mapping_is_not_taken_for_broken_json(tmp_path: Path) -> None:
    assert values(tmp_path, "{model: demo, seed: 0..3}") == {"model": "demo", "seed": "0..3"}


def test_a_byte_order_mark_and_windows_lines_are_accepted(tmp_path: Path) -> None:
    assert values(tmp_path, b"\xef\xbb\xbfmodel: demo\r\nprompt: a\r\n") == {
        "model": "demo",
        "prompt": "a",
    }


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"model: demo\nprompt: a\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert read_values("-") == {"model": "demo", "prompt": "a"}


def test_overrides_win_and_keep_the_files_axis_order(tmp_path: Path) -> None:
    path = written(tmp_path, "model: demo\nprompt: a\nseed: 0..3\nguidance_scale: [1, 4]\n")
    sweep = load_sweep(path, {"seed": [7, 8], "num_inference_steps": [5, 10]})
    axes = [(axis.fields, len(axis)) for axis in sweep.manifest.axes]
    assert axes == [(("seed",), 2), (("guidance_scale",), 2), (("num_inference_steps",), 2)]


def test_an_anchor_may_be_used_twice_and_redefined(tmp_path: Path) -> None:
    assert values(tmp_path, "a: &x 1\nb: &x 2\nc: *x\n") == {"a": "1", "b": "2", "c": "2"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty: write at least model and prompt"),
        ("  \n\n", "is empty"),
        ("# nothing\n", "has nothing at its top"),
        ("- model: demo\n", "has a list at its top"),
        ("just words\n", "has a single value at its top"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: a is given twice"),
        ('{"a": 1, "a": 2}', "a is given twice"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1, is not YAML: a second document begins"),
        ("prompt: a: b\n", "line 1, column 10, is not YAML: .* put quotes around"),
        ("prompt: [a, b\n", "line 2, column 1, is not YAML"),
        ("\tprompt: a\n", "line 1, column 1, is not YAML"),
        ("a: *nobody\n", "line 1, column 4, is not YAML: found undefined alias"),
        ("a: &x [*x]\n", "too many values inside values"),
        ("a: !!python/object:os.system x\n", "line 1, column 4: tag !!python"),
        ("a: !custom x\n", "tag !custom is not known"),
        ("? [a]\n: b\n", "a key is not a plain word"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: \x01\n", "is not YAML: unacceptable character"),
        (b"model: demo\nprompt: caf\xe9\n", "line 2, is not UTF-8"),
        ("model: demo\nprompt: a\n".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_a_broken_file_gets_one_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(InvalidSweep, match=sentence) as caught:
        values(tmp_path, text)
    assert "sweep.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_aliases_of_aliases_are_refused_before_they_fill_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 [" + ",".join("x" * 10) + "]"]
    lines += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 100) + "]" for n in range(1, 7)]
    with pytest.raises(InvalidSweep, match="too many values"):
        values(tmp_path, "\n".join(lines))


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InvalidSweep, match="does not exist"):
        read_values(tmp_path / "no.yaml")
    with pytest.raises(InvalidSweep, match="is a folder"):
        read_values(tmp_path)
