"""Rows and values from files: what they say arrives as it is, and all their faults at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.sweep_file import load_sweep
from shared.errors import InvalidSweep
from shared.sweep import Sweep
from shared.sweep_axes import read_axes
from tests.factories import make_sweep
from tests.strategies import texts

ODD = [
    "C# code # poster",
    "{json: 1}",
    "$5, 50% off \\ __x__ ${y}",
    "(a:1.2) [b] <lora:c:0.5>",
    "月亮" * 60,
    "🦊 👩‍👩‍👧 e\u0301",
    "\"quotes\" and 'more'",
    "  spaces around\t",
    "null",
    "0123456",
    "0..3",
    "- a: b",
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Sweep]:
    """Files in a folder, and the sweep of one of them that names the others."""

    def written(files: dict[str, str | bytes], **values: object) -> Sweep:
        for name, content in files.items():
            path = tmp_path / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        sweep = tmp_path / "sweep.json"
        prompt = {} if "rows" in values or "zip" in values else {"prompt": "x"}
        sweep.write_text(json.dumps({"model": "demo"} | prompt | values), encoding="utf-8")
        return load_sweep(sweep)

    return written


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def prompts(sweep: Sweep) -> list[object]:
    return [sweep.layout.job(index).prompt for index in range(sweep.layout.total)]


def refusal(write: Callable[..., Sweep], files: dict[str, Any], **values: object) -> str:
    with pytest.raises(InvalidSweep) as caught:
        write(files, **values)
    return str(caught.value)


def test_the_same_rows_are_one_sweep_whatever_file_has_them(write: Callable[..., Sweep]) -> None:
    rows = [("a, b", 7.5, 3), ('say "hi"', 4, 5), ("x", 1, 2**63 - 1)]
    csv = (
        'prompt,guidance_scale,seed\n"a, b",7.5,3\n"say ""hi""",4.0,5\nx,1e0,9223372036854775807\n'
    )
    tsv = (
        'seed\tprompt\tguidance_scale\n3\ta, b\t7.5\n5\t"say ""hi"""\t4\n'
        "9223372036854775807\tx\t1\n"
    )
    names = ("prompt", "guidance_scale", "seed")
    lines = "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows)
    columns = dict(zip(names, (list(column) for column in zip(*rows, strict=True)), strict=True))
    sweeps = [
        write({"a.csv": csv}, rows="a.csv"),
        write({"a.csv": "\ufeff" + csv.replace("\n", "\r\n")}, rows="a.csv"),
        write({"a.tsv": tsv}, rows="a.tsv"),
        write({"a.jsonl": lines + "\n\n"}, rows="a.jsonl"),
        write({"a.parquet": parquet(**columns)}, rows="a.parquet"),
        write({}, rows=[dict(zip(names, row, strict=True)) for row in rows]),
        write({}, zip=columns),
    ]
    assert len({sweep.id for sweep in sweeps}) == 1
    assert prompts(sweeps[0]) == ["a, b", 'say "hi"', "x"]


def test_long_rows_are_one_sweep_whatever_file_has_them(write: Callable[..., Sweep]) -> None:
    rows = [(f"star {number}", number % 3) for number in range(5_000)]
    csv = "prompt,guidance_scale\n" + "".join(f"{a},{b}\n" for a, b in rows)
    lines = "".join(json.dumps({"guidance_scale": b, "prompt": a}) + "\n" for a, b in rows)
    first = write({"a.csv": csv}, rows="a.csv", seed=[1, 2])
    second = write({"a.jsonl": lines}, rows="a.jsonl", seed=[1, 2])
    assert first.id == second.id
    assert len(first.manifest.text) < 2_000
    for index in (0, 1, 4_001, 9_999):
        job = first.layout.job(index)
        assert (job.prompt, job.guidance_scale) == rows[index // 2]
        assert job.seed == 1 + index % 2


def test_rows_multiply_with_the_axes_around_them(write: Callable[..., Sweep]) -> None:
    sweep = write({"a.csv": "prompt,height\na,64\nb,128\n"}, rows="a.csv", seed="0..2")
    assert [axis.fields for axis in sweep.manifest.axes] == [("height", "prompt"), ("seed",)]
    jobs = [sweep.layout.job(index) for index in range(6)]
    assert [(job.prompt, job.height, job.seed) for job in jobs] == [
        (prompt, height, seed) for prompt, height in (("a", 64), ("b", 128)) for seed in range(3)
    ]


def test_odd_prompts_are_literal_in_every_source(write: Callable[..., Sweep]) -> None:
    lines = "\n".join(ODD) + "\r\n\n"
    csv = "text\n" + "".join('"{}"\n'.format(text.replace('"', '""')) for text in ODD)
    objects = "".join(json.dumps({"text": text}) + "\n" for text in ODD)
    column = {"column": "text"}
    assert prompts(write({"p.txt": lines}, prompt={"file": "p.txt"})) == ODD
    assert prompts(write({"p.csv": csv}, prompt=[{"file": "p.csv", **column}])) == ODD
    assert prompts(write({"p.jsonl": objects}, prompt={"file": "p.jsonl", **column})) == ODD
    table = parquet(text=ODD, other=[1] * len(ODD))
    assert prompts(write({"p.parquet": table}, prompt={"file": "p.parquet", **column})) == ODD
    assert prompts(make_sweep(prompt=ODD)) == ODD


def test_a_prompt_of_several_lines_comes_from_csv_as_it_is(write: Callable[..., Sweep]) -> None:
    sweep = write({"a.csv": b'prompt\n"one\ntwo\r\nthree\xe2\x80\xa8"\nfour\n'}, rows="a.csv")
    assert prompts(sweep) == ["one\ntwo\r\nthree\u2028", "four"]


@given(st.lists(texts.filter(lambda text: "\r" not in text), min_size=2, max_size=5, unique=True))
def test_whatever_text_csv_and_json_hold_arrives(found: list[str]) -> None:
    import csv
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerows([["prompt"], *([text] for text in found)])
        rows = "".join(json.dumps({"prompt": text}) + "\n" for text in found)
        (folder / "a.jsonl").write_text(rows, encoding="utf-8")
        for kind in ("csv", "jsonl"):
            (folder / "s.yaml").write_text(f"model: demo\nrows: a.{kind}\n", encoding="utf-8")
            assert prompts(load_sweep(folder / "s.yaml")) == found


def test_an_empty_cell_is_null_where_a_field_may_be_null(write: Callable[..., Sweep]) -> None:
    sweep = write(
        {"a.csv": "prompt,negative_prompt,scheduler\na,,\nb,c,DDIMScheduler\n"}, rows="a.csv"
    )
    first, second = (sweep.layout.job(index) for index in range(2))
    assert (first.negative_prompt, first.scheduler) == (None, None)
    assert (second.negative_prompt, second.scheduler) == ("c", "DDIMScheduler")


def test_in_json_and_parquet_an_empty_text_is_no_null(write: Callable[..., Sweep]) -> None:
    objects = '{"prompt": "a", "negative_prompt": ""}\n{"prompt": "b", "negative_prompt": null}\n'
    table = parquet(prompt=["a", "b"], negative_prompt=["", None])
    column = {"column": "negative_prompt"}
    for sweep in (
        write({"a.jsonl": objects}, rows="a.jsonl"),
        write({"a.parquet": table}, rows="a.parquet"),
        write({"a.jsonl": objects}, negative_prompt={"file": "a.jsonl", **column}),
        write({"a.parquet": table}, negative_prompt={"file": "a.parquet", **column}),
    ):
        jobs = [sweep.layout.job(index) for index in range(2)]
        assert [job.negative_prompt for job in jobs] == ["", None]


def test_repeated_rows_tuples_and_lines_are_dropped_and_counted(
    write: Callable[..., Sweep],
) -> None:
    rows = write({"a.csv": "prompt,seed\na,1\nb,2\na,1.0\n"}, rows="a.csv")
    assert rows.notes == ("a.csv: 1 repeated row dropped, 2 kept",)
    lines = write({"p.txt": "a\nb\na\na\n"}, prompt=["b", {"file": "p.txt"}])
    assert lines.notes == ("prompt: 3 repeated values dropped, 2 kept",)
    together = write({}, prompt="x", zip={"seed": [1, 1, 1], "eta": [0, 0.0, 1]})
    assert together.notes == ("zip of seed, eta: 1 repeated tuple dropped, 2 kept",)


def test_fields_of_a_zip_vary_together_at_its_place(write: Callable[..., Sweep]) -> None:
    sweep = Sweep.define(
        model="demo",
        seed=[1, 2],
        zip=[
            {"scheduler": ["DDIMScheduler", None], "num_inference_steps": [50, 20]},
            {"height": "64..72..8", "width": [128, 256]},
        ],
        prompt=["a", "b"],
    )
    assert [axis.fields for axis in sweep.manifest.axes] == [
        ("seed",),
        ("scheduler", "num_inference_steps"),
        ("height", "width"),
        ("prompt",),
    ]
    job = sweep.layout.job(15)
    assert (job.scheduler, job.num_inference_steps) == (None, 20)
    assert (job.height, job.width) == (72, 256)


def test_one_file_may_say_all_there_is_to_say(tmp_path: Path) -> None:
    (tmp_path / "more-prompts.txt").write_text("a tree\na {literal} tree\n", encoding="utf-8")
    (tmp_path / "jobs.csv").write_text("eta,width\n0,64\n0.5,64\n0,128\n", encoding="utf-8")
    (tmp_path / "s.yaml").write_text(
        """\
name: shapes-study
model: demo
height: 64
seed: 0..31
guidance_scale: [1.0, 4.0, 7.5]
negative_prompt: [null, "blurry"]
prompt:
  - a red circle on a blue background
  - {template: "a {green|white} star on {a red|an orange} background"}
  - {file: more-prompts.txt}
zip:
  - {scheduler: [DDIMScheduler, EulerDiscreteScheduler], num_inference_steps: [50, 20]}
rows: jobs.csv
output: {format: png}
""",
        encoding="utf-8",
    )
    sweep = load_sweep(tmp_path / "s.yaml")
    assert sweep.layout.total == 32 * 3 * 2 * (1 + 4 + 2) * 2 * 3
    assert sweep.manifest.fields_by_axis == (
        *("seed", "guidance_scale", "negative_prompt", "prompt"),
        *("scheduler", "num_inference_steps", "width", "eta"),
    )
    last = sweep.layout.job(sweep.layout.total - 1)
    assert (last.prompt, last.num_inference_steps, last.width) == ("a {literal} tree", 20, 128)


def test_a_sweep_may_be_toml(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one # two\nthree\n", encoding="utf-8")
    (tmp_path / "s.toml").write_text(
        'model = "demo"\nseed = "0..3"\nguidance_scale = [1, 7.5]\nreuse = false\n'
        'prompt = ["a", {template = "{b|c}"}, {file = "p.txt"}]\n'
        'output = {key = "x/{digest}.png"}\n'
        "[[zip]]\nheight = [64, 128]\nwidth = [64, 128]\n",
        encoding="utf-8",
    )
    sweep = load_sweep(tmp_path / "s.toml")
    assert sweep.layout.total == 4 * 2 * 5 * 2
    assert not sweep.manifest.reuse
    same = Sweep.define(
        model="demo",
        seed=range(4),
        guidance_scale=[1, 7.5],
        reuse=False,
        prompt=["a", "b", "c", "one # two", "three"],
        output={"key": "x/{digest}.png"},
        zip={"height": [64, 128], "width": [64, 128]},
    )
    assert sweep.id == same.id


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("s.toml", 'model = "demo"\nmodel = "b"\n', "is not TOML: "),
        ("s.toml", "model = ", "is not TOML: Invalid value (at end of document)"),
        ("s.json", '{"model": "demo",}', "is not JSON: "),
        ("s.json", '{"model": "demo", "model": "b"}', "model is given twice: keep one"),
    ],
)
def test_a_broken_sweep_file_says_where(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidSweep) as caught:
        load_sweep(tmp_path / name)
    assert sentence in str(caught.value)
    assert name in str(caught.value)


def test_all_faults_of_a_file_are_told_in_one_go(write: Callable[..., Sweep]) -> None:
    csv = "prompt,seed,height\na,1,64\nb,x,63\nc\nd,4,64,9\ne,-1,64\n"
    assert refusal(write, {"a.csv": csv}, rows="a.csv") == (
        "a.csv has 5 faults: "
        "row 2, column height: height 63 is not a multiple of 8: write 56 or 64; "
        "row 2, column seed: seed 'x' is not a whole number from 0 to 2**63-1; "
        "row 3: seed and height is missing; "
        "row 4: '9' is extra, the header has 3 columns; "
        "row 5, column seed: seed -1 is not a whole number from 0 to 2**63-1"
    )


def test_of_very_many_faults_twenty_are_told(write: Callable[..., Sweep]) -> None:
    said = refusal(write, {"a.csv": "prompt,seed\n" + "a,x\n" * 1_000}, rows="a.csv")
    assert said.startswith("a.csv has at least 20 faults: row 1, column seed: ")
    assert "row 20, column seed" in said
    assert "row 21" not in said


@pytest.mark.parametrize(
    ("files", "values", "sentence"),
    [
        ({}, {"rows": "no.csv"}, "no.csv does not exist: check its path"),
        ({}, {"rows": "no.parquet"}, "no.parquet does not exist: check its path"),
        ({}, {"prompt": {"file": "no.txt"}}, "no.txt does not exist: check its path"),
        ({}, {"prompt": {"file": "."}}, ". is a folder: name a file in it"),
        ({}, {"rows": "a.xlsx"}, "rows 'a.xlsx' is of no kind that is read: name a .csv"),
        ({"a.csv": ""}, {"rows": "a.csv"}, "a.csv is empty: write at least one row"),
        ({"a.csv": "prompt\n"}, {"rows": "a.csv"}, "a.csv has no rows: write at least one"),
        ({"a.jsonl": "\n"}, {"rows": "a.jsonl"}, "a.jsonl is empty: write at least one row"),
        ({"a.parquet": ""}, {"rows": "a.parquet"}, "a.parquet is empty: write at least one row"),
        ({"p.txt": "\n \n"}, {"prompt": {"file": "p.txt"}}, "p.txt is empty: write at least"),
        (
            {"a.csv": b"prompt\nok\n\xff\n"},
            {"rows": "a.csv"},
            "a.csv, line 3, is not UTF-8: save it as UTF-8 text",
        ),
        (
            {"p.txt": b"ok\nb\xe4r\n"},
            {"prompt": {"file": "p.txt"}},
            "p.txt, line 2, is not UTF-8: save it as UTF-8 text",
        ),
        (
            {"a.csv": 'prompt\n"unclosed\n'},
            {"rows": "a.csv"},
            "a.csv, line 2, is not CSV (unexpected end of data): mend its quotes",
        ),
        (
            {"a.csv": "prompt,sed\na,1\n"},
            {"rows": "a.csv"},
            "'sed', a column of a.csv, is not a field: did you mean 'seed'?",
        ),
        (
            {"a.csv": "prompt,seed,seed\na,1,2\n"},
            {"rows": "a.csv"},
            "a.csv has two columns 'seed': keep one",
        ),
        (
            {"a.csv": "prompt,seed\na,1\n"},
            {"rows": "a.csv", "seed": "0..3"},
            "seed is given twice, as a field of its own and as a column of a.csv: keep one",
        ),
        (
            {"a.csv": "prompt,seed\na,1\n"},
            {"rows": "a.csv", "num_images_per_prompt": 2},
            "num_images_per_prompt makes consecutive seeds, but seed varies together",
        ),
        (
            {
                "a.jsonl": '{"prompt": "a", "seed": 1}\n{"prompt": "b"}\n'
                '{"prompt": 1, "seed": true}\n'
            },
            {"rows": "a.jsonl"},
            "a.jsonl has 2 faults: row 2: seed is missing; "
            "row 3, column seed: seed True is not a whole number",
        ),
        (
            {"a.jsonl": '{"prompt": "a"}\n{"prompt": "b", "x": 1}\n[1]\n{"prompt"\n'},
            {"rows": "a.jsonl"},
            "a.jsonl has 3 faults: row 2: 'x' is extra, the first row has no such column; "
            "row 3: ['1'] is not an object; row 4: not JSON (",
        ),
        (
            {"a.parquet": parquet(prompt=["a"], seed=["1"])},
            {"rows": "a.parquet"},
            "a.parquet, column 'seed', has values of type string: seed takes numbers",
        ),
        (
            {"a.parquet": parquet(prompt=[1])},
            {"rows": "a.parquet"},
            "a.parquet, column 'prompt', has values of type int64: prompt takes texts",
        ),
        (
            {"a.parquet": parquet(prompt=[["a"]])},
            {"rows": "a.parquet"},
            "a.parquet, column 'prompt', has values of type list<",
        ),
        (
            {"a.parquet": parquet(prompt=["a", None], seed=[1.5, None])},
            {"rows": "a.parquet"},
            "a.parquet has 3 faults: row 1, column seed: seed 1.5 is not a whole number",
        ),
        ({"a.parquet": "text"}, {"rows": "a.parquet"}, "a.parquet can't be read as Parquet: "),
        (
            {"p.csv": "text\na\n"},
            {"prompt": {"file": "p.csv", "column": "txt"}},
            "p.csv has no column 'txt': did you mean 'text'?",
        ),
        (
            {"p.parquet": parquet(text=["a"])},
            {"prompt": {"file": "p.parquet", "column": "txt"}},
            "p.parquet has no column 'txt': did you mean 'text'?",
        ),
        (
            {"p.jsonl": '{"text": "a", "more": {}}\n{"text": "b"}\n{"more": 1}\n{"text": []}\n'},
            {"prompt": {"file": "p.jsonl", "column": "text"}},
            "p.jsonl has 2 faults: row 3: 'text' is missing; row 4: prompt [] is not a text",
        ),
        (
            {"p.csv": "text,id\na,1\nb\nc,1,2\n"},
            {"prompt": {"file": "p.csv", "column": "text"}},
            "p.csv has 2 faults: row 2: id is missing; row 3: '2' is extra, the header has 2",
        ),
        (
            {"p.txt": "a\n" + "x" * 16_385 + "\n"},
            {"prompt": {"file": "p.txt"}},
            "p.txt has a fault: line 2: prompt 'xxx",
        ),
        (
            {"p.txt": "x" * 2**21},
            {"prompt": {"file": "p.txt"}},
            "p.txt, line 1, has over 1,048,576 characters: is it a text?",
        ),
        ({}, {"rows": []}, "rows is an empty list: give at least one row"),
        (
            {},
            {"rows": {"a": 1}},
            "rows {'a': '1'} is neither a file nor a list: write rows: jobs.csv",
        ),
        ({}, {"rows": ["a"]}, "rows has 'a' as row 1: a row is a mapping of fields"),
        (
            {},
            {"zip": {"seed": [1, 2], "prompt": ["a"]}},
            "zip has lists of different lengths (seed 2, prompt 1): give each as many values",
        ),
        ({}, {"zip": [["seed"]]}, "zip ['seed'] is not a mapping: write fields that vary"),
        ({}, {"zip": {}}, "zip {} is not a mapping: write fields that vary together"),
        (
            {},
            {"zip": [{"seed": [1, 2]}, {"seed": [3, 4]}], "prompt": "x"},
            "seed is given twice, in zip and in zip: keep one",
        ),
        ({}, {"zip": {"sed": [1]}, "prompt": "x"}, "'sed', in zip, is not a field: did you mean"),
        (
            {},
            {"prompt": {"json": 1}},
            "prompt {'json': '1'} is a mapping: give a value, a list or a range, and put quotes",
        ),
        ({}, {"seed": {"template": "{1|2}"}}, "seed takes no template: write its values"),
        (
            {},
            {"seed": {"fixed": [1, 2]}},
            "seed {fixed: ['1', '2']} is a list as one value: seed takes none; without 'fixed'",
        ),
        ({}, {"wildcards": "no"}, "wildcards 'no' is not a folder: name the one that has the"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    write: Callable[..., Sweep], files: dict[str, Any], values: dict[str, Any], sentence: str
) -> None:
    assert refusal(write, files, **values).startswith(sentence)


def test_a_fixed_value_is_one_value_whatever_it_looks_like() -> None:
    sweep = make_sweep(seed={"fixed": "7"}, prompt=[{"fixed": "0..3"}, "b"])
    assert prompts(sweep) == ["0..3", "b"]
    assert sweep.layout.job(0).seed == 7


def test_seeds_that_rise_evenly_are_a_range_however_they_are_given(
    write: Callable[..., Sweep],
) -> None:
    csv = "seed\n" + "".join(f"{number}\n" for number in range(5_000))
    sweep = write({"a.csv": csv}, rows="a.csv", prompt="x")
    assert sweep.id == make_sweep(prompt="x", seed=range(5_000)).id


def test_num_images_per_prompt_multiplies_many_seeds() -> None:
    odd = [number * number for number in range(100, 5_000)]
    sweep = make_sweep(seed=odd, num_images_per_prompt=3)
    assert sweep.layout.total == 3 * len(odd)
    assert [sweep.layout.job(index).seed for index in (0, 1, 2, 3)] == [10000, 10001, 10002, 10201]


def test_nothing_is_read_before_the_sweep_is_made(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"model": "demo", "prompt": {"file": "no.txt"}}')
    assert load_sweep(tmp_path / "s.json", {"prompt": "another"}).layout.total == 1


def test_too_many_combinations_in_rows_are_refused_while_they_are_read() -> None:
    rows = [{"height": 8 * (n % 100 + 1), "width": 8 * (n // 100 + 1)} for n in range(5_000)]
    with pytest.raises(InvalidSweep, match=r"rows has over 4,096 combinations of height, width"):
        read_axes({"model": "demo", "prompt": "x", "rows": rows}, [], repeat=1)
