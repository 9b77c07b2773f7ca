"""A manifest comes back as it went in; a stranger's is taken whole or refused with its path."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import InvalidManifest
from shared.fields import FIELDS
from shared.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from shared.schema import manifest_schema
from shared.sweep import Sweep
from tests.factories import make_sweep
from tests.strategies import sweeps

SCHEMA = jsonschema.Draft202012Validator(manifest_schema())

GOOD: dict[str, Any] = json.loads(
    make_sweep(name="shapes", prompt=["a", "b"], seed="0..9", guidance_scale=[1, 7.5]).manifest.text
)
"""One of everything: fixed fields, a range, texts, numbers."""

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -1, 10**30, 1e308, -0.0, 5.0, "", "5", "\ud800", "\0", "{digest}"])
    | st.floats()
    | st.text(max_size=5)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def parse(data: object) -> Manifest:
    return parse_manifest(json.dumps(data))


def inside(data: Any, path: str) -> tuple[Any, Any]:
    """The container and the key of a place such as ``axes.0.columns``."""
    *parents, last = path.split(".")
    for part in parents:
        data = data[int(part)] if isinstance(data, list) else data[part]
    return data, int(last) if isinstance(data, list) else last


def changed(path: str, value: object) -> dict[str, Any]:
    """GOOD with one place replaced."""
    data = copy.deepcopy(GOOD)
    container, key = inside(data, path)
    container[key] = value
    return data


def without(path: str) -> dict[str, Any]:
    """GOOD with one place taken out."""
    data = copy.deepcopy(GOOD)
    container, key = inside(data, path)
    del container[key]
    return data


def places(data: Any) -> list[tuple[Any, Any]]:
    """Container and key of every value inside."""
    if not isinstance(data, dict | list):
        return []
    found = []
    for key, value in list(data.items() if isinstance(data, dict) else enumerate(data)):
        found += [(data, key), *places(value)]
    return found


def assert_parsed_or_refused(text: str) -> Manifest | None:
    try:
        manifest = parse_manifest(text)
    except InvalidManifest as exc:
        message = str(exc)
        manifest = None
    else:
        message = "manifest: fine"
    assert message.startswith("manifest: ")
    assert "\n" not in message
    assert len(message.encode()) < 1000
    return manifest


@given(sweeps())
def test_a_sweep_comes_back_from_its_manifest(sweep: Sweep) -> None:
    manifest = parse_manifest(sweep.manifest.text)
    assert manifest == sweep.manifest
    assert manifest.text == sweep.manifest.text
    assert manifest.digest == sweep.manifest.digest
    assert manifest.sweep_id == sweep.id


@given(sweeps())
def test_the_schema_accepts_every_manifest_we_make(sweep: Sweep) -> None:
    SCHEMA.validate(json.loads(sweep.manifest.text))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(manifest_schema())
    assert json.loads(json.dumps(manifest_schema())) == manifest_schema()


def test_every_field_is_said_defaults_too() -> None:
    said = set(GOOD["fixed"]) | {name for axis in GOOD["axes"] for name in axis["fields"]}
    assert said == {name for name, field in FIELDS.items() if not field.added}


def test_a_field_of_a_later_version_is_said_where_it_is_not_null() -> None:
    key = "inputs/" + "0" * 64
    sweep = make_sweep(init_image=key, strength=[0.5, 0.8])
    said = json.loads(sweep.manifest.text)
    assert said["fixed"]["init_image"] == key
    assert {"mask_image", "latents"}.isdisjoint(said["fixed"])
    assert parse_manifest(sweep.manifest.text) == sweep.manifest
    said["fixed"]["latents"] = None  # another spelling of the same sweep
    assert parse_manifest(json.dumps(said)).digest == sweep.manifest.digest


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"init_image": "/etc/passwd"}, "'/etc/passwd' is not in the bucket's inputs/"),
        ({"init_image": "sweeps/" + "0" * 64}, "is not in the bucket's inputs/"),
        ({"init_image": "inputs/../" + "0" * 64}, "is not in the bucket's inputs/"),
        ({"init_image": "s3://other/inputs/" + "0" * 64}, "is not in the bucket's inputs/"),
        ({"latents": "inputs/" + "0" * 63}, "is not in the bucket's inputs/"),
        ({"strength": 1.5}, "strength 1.5 is not a number from 0 to 1"),
    ],
)
def test_an_input_from_outside_the_bucket_is_refused(fields: dict[str, Any], problem: str) -> None:
    data = {**GOOD, "fixed": {**GOOD["fixed"], **fields}}
    with pytest.raises(InvalidManifest) as refused:
        parse_manifest(json.dumps(data))
    assert problem in str(refused.value)
    assert str(refused.value).startswith("manifest: fixed.")


def test_fields_of_later_versions_are_left_out_where_they_are_null() -> None:
    bare = make_sweep().manifest
    added = {name for name, field in FIELDS.items() if field.added}
    assert not added & set(json.loads(bare.text)["fixed"])
    assert added <= set(parse_manifest(bare.text).fixed)

    spelt_out = make_sweep(**dict.fromkeys(added)).manifest
    assert spelt_out.text == bare.text
    written = json.loads(bare.text)
    written["fixed"] |= dict.fromkeys(added)
    assert parse_manifest(json.dumps(written)).digest == bare.digest


def test_a_structured_value_of_a_stranger_is_made_canonical() -> None:
    one = make_sweep(scheduler_config={"b": 1.0, "a": True}).manifest
    written = json.loads(one.text)
    assert written["fixed"]["scheduler_config"] == '{"a":true,"b":1}'
    written["fixed"]["scheduler_config"] = '{"b": 1.0, "a": true}'
    assert parse_manifest(json.dumps(written)).digest == one.digest
    written["fixed"]["scheduler_config"] = {"b": 1}
    with pytest.raises(InvalidManifest, match=r"fixed\.scheduler_config is .* not a JSON string"):
        parse_manifest(json.dumps(written))


def test_the_canonical_text_is_this() -> None:
    assert make_sweep(name="shapes", prompt=["b", "a"], seed="0..9").manifest.text == (
        '{"axes":[{"columns":[["b","a"]],"fields":["prompt"]},'
        '{"fields":["seed"],"range":[0,10,1]}],'
        '"fixed":{"eta":0,"generator_device":"cpu","guidance_rescale":0,"guidance_scale":7.5,'
        '"height":null,"model":"demo","negative_prompt":null,"num_inference_steps":50,'
        '"revision":null,"scheduler":null,"variant":null,"width":null},'
        '"name":"shapes","output":{"format":"png","key":"images/{digest:.2}/{digest}.png"},'
        '"reuse":true,"seedbed":1}'
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("fixed.num_inference_steps", 50.0),
        ("fixed.eta", -0.0),
        ("seedbed", 1.0),
        ("axes.1", {"fields": ["seed"], "columns": [list(range(10))]}),
        ("axes.1", {"fields": ["seed"], "columns": [[float(seed) for seed in range(10)]]}),
    ],
)
def test_another_spelling_of_a_manifest_has_the_same_digest(path: str, value: object) -> None:
    assert parse(changed(path, value)).digest == parse(GOOD).digest


def test_the_end_of_a_range_may_lie_between_its_steps() -> None:
    spellings = [[0, stop, 5] for stop in (11, 12, 15)]
    digests = {parse(changed("axes.1.range", values)).digest for values in spellings}
    assert len(digests) == 1


def test_an_axis_of_one_value_is_a_fixed_field() -> None:
    data = without("fixed.eta")
    data["axes"].append({"fields": ["eta"], "columns": [[0.5]]})
    assert parse(data).digest == parse(changed("fixed.eta", 0.5)).digest


def test_fields_may_vary_together() -> None:
    data = without("fixed.eta")
    del data["fixed"]["scheduler"]
    zipped = {
        "fields": ["scheduler", "eta"],
        "columns": [["DDIMScheduler", "DDIMScheduler", None], [0, 1, 1]],
    }
    data["axes"].append(zipped)
    SCHEMA.validate(data)
    manifest = parse(data)
    assert manifest.total == 2 * 10 * 2 * 3
    assert manifest.axes[-1].values(1) == {"scheduler": "DDIMScheduler", "eta": 1.0}
    assert parse_manifest(manifest.text) == manifest


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "it is None, not an object"),
        ([], "it is [], not an object"),
        ({}, "it has no axes and no fixed and no name and no output"),
        ({"seedbed": 2, "new": 1}, "seedbed is 2, this version reads 1: upgrade the older side"),
        (changed("seedbed", True), "seedbed is True, this version reads 1"),
        (changed("seedbed", "1"), "seedbed is '1', this version reads 1"),
        (changed("axis", []), "it has a member 'axis': did you mean 'axes'?"),
        (without("name"), "it has no name: add it"),
        (changed("name", "../x"), "name '../x' is not a name"),
        (changed("name", 5), "name 5 is not a name"),
        (changed("reuse", 1), "reuse 1 is not true or false"),
        (changed("output", "png"), "output is 'png', not an object"),
        (changed("output", {}), "output has no format and no key: add it"),
        (changed("output.format", "gif"), "output.format 'gif' is not 'png'"),
        (changed("output.key", None), "output.key None is not a text"),
        (changed("output.key", "x.png"), "output.key 'x.png' has no {digest}"),
        (changed("output.key", "\ud800{digest}.png"), "output.key '\\ud800{digest}.png' has a"),
        (changed("fixed", []), "fixed is [], not an object"),
        (changed("fixed.sed", 5), "fixed has 'sed', which is not a field: did you mean 'seed'?"),
        (changed("fixed.\ud800", 5), "fixed has '\\ud800', which is not a field: it can be model"),
        (without("fixed.eta"), "eta is in neither fixed nor axes: every field is said, defaults"),
        (without("fixed.model"), "model is in neither fixed nor axes: required"),
        (changed("fixed.seed", 5), "seed is given twice: keep one"),
        (changed("fixed.eta", "0"), "fixed.eta is '0', not a JSON number"),
        (changed("fixed.eta", [0]), "fixed.eta: eta [0] is not a number from 0 to 1"),
        (changed("fixed.eta", True), "fixed.eta: eta True is not a number from 0 to 1"),
        (changed("fixed.model", 5), "fixed.model is 5, not a JSON string"),
        (changed("fixed.model", None), "fixed.model: model is null: give it a text"),
        (changed("fixed.height", 70), "fixed.height: height 70 is not a multiple of 8"),
        (changed("fixed.scheduler", "Euler"), "fixed.scheduler: scheduler 'Euler' is not known"),
        (changed("fixed.negative_prompt", "\ud800"), "fixed.negative_prompt: negative_prompt '\\"),
        (changed("axes", {}), "axes is {}, not a list"),
        (changed("axes.0", []), "axes[0] needs fields and one of range, columns or chunks"),
        (changed("axes.0.range", [0, 2, 1]), "axes[0] needs fields and one of range, columns or"),
        (changed("axes.0.fields", "prompt"), "axes[0].fields 'prompt' is not a list of fields"),
        (changed("axes.0.fields", []), "axes[0].fields [] is not a list of fields"),
        (changed("axes.0.fields", [None]), "axes[0].fields has None, which is not a field"),
        (changed("axes.0.fields", [[]]), "axes[0].fields has [], which is not a field"),
        (changed("axes.0.fields", ["promt"]), "axes[0].fields has 'promt', which is not a field"),
        (
            changed("axes.0", {"fields": ["eta", "eta"], "columns": [[0, 1], [0, 1]]}),
            "axes[0].fields ['eta', 'eta'] has a field twice: keep one",
        ),
        (changed("axes.0.columns", []), "axes[0].columns needs one list a field, of one length"),
        (changed("axes.0.columns", [[]]), "axes[0].columns needs one list a field, of one length"),
        (changed("axes.0.columns", ["ab"]), "axes[0].columns needs one list a field"),
        (changed("axes.0.columns", [["a"], ["b"]]), "axes[0].columns needs one list a field"),
        (changed("axes.0.columns.0.1", 5), "axes[0].columns is 5, not a JSON string"),
        (changed("axes.0.columns.0.1", {}), "axes[0].columns is {}, not a JSON string"),
        (changed("axes.0.columns.0.1", None), "axes[0].columns: prompt is null"),
        (changed("axes.0.columns.0.1", "a"), "axes[0] repeats a value: drop the repetition"),
        (changed("axes.2.columns.0.1", 1.0), "axes[2] repeats a value: drop the repetition"),
        (changed("axes.1.range", [0, 5]), "axes[1].range [0, 5] is not [start, stop, step]"),
        (changed("axes.1.range", [0, 5, 0]), "axes[1].range [0, 5, 0] is not [start, stop, step]"),
        (changed("axes.1.range", [5, 5, 1]), "axes[1].range [5, 5, 1] is not [start, stop, step]"),
        (changed("axes.1.range", [0, 5, True]), "axes[1].range [0, 5, True] is not [start, stop"),
        (changed("axes.1.range", [0, 5.5, 1]), "axes[1].range [0, 5.5, 1] is not [start, stop"),
        (changed("axes.1.range", [-1, 5, 1]), "axes[1].range: seed -1 is not a whole number"),
        (changed("axes.1.range", [0, 2**63, 1]), "axes[1].range: seed range(0, 922337203685477"),
        (changed("axes.1.range", [0, 2**64, 2**63]), "axes[1].range: seed 9223372036854775808"),
        (changed("axes.1.range", [0, 10**4000, 1]), "axes[1].range: seed a whole number of about"),
        (changed("axes.1.fields", ["height"]), "axes[1].range [0, 10, 1] is not [start, stop"),
        (changed("axes.1.range", [0, 10**9, 1]), "the sweep has 4,000,000,000 jobs"),
    ],
)
def test_a_broken_manifest_is_refused_with_its_path(data: object, sentence: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        parse(data)
    assert str(caught.value).startswith(f"manifest: {sentence}")
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("nonsense", "not JSON"),
        ("\ufeff{}", "not JSON"),
        ("1" * 5000, "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[" * 900 + "]" * 900, "not an object"),
        ('{"a":' * 400 + "1" + "}" * 400, "has a member 'a'"),
        ("x" * (MAX_MANIFEST_BYTES + 1), "at most 16,777,216 bytes"),
        ('{"seedbed":1,"seedbed":1}', "member 'seedbed' is given twice: keep one"),
        (json.dumps(GOOD).replace('"eta": 0', '"eta": NaN'), "NaN is not JSON"),
        (json.dumps(GOOD).replace('"eta": 0', '"eta": -Infinity'), "-Infinity is not JSON"),
        (json.dumps(GOOD).replace('"eta": 0', '"eta": 1e999'), "eta inf is not a number"),
        (json.dumps(GOOD).replace('"eta": 0', '"eta": 0, "eta": 0'), "member 'eta' is given twice"),
        (json.dumps(GOOD).replace('"a"', "NaN"), "NaN is not JSON"),
    ],
)
def test_what_is_not_even_json_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        parse_manifest(text)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        without("name"),
        changed("axis", []),
        changed("seedbed", 2),
        changed("name", "../x"),
        changed("name", 5),
        changed("reuse", 1),
        changed("output", {}),
        changed("output.format", "gif"),
        changed("output.key", "x.png"),
        changed("fixed.sed", 5),
        changed("fixed.eta", "0"),
        changed("fixed.eta", 2),
        changed("fixed.eta", True),
        changed("fixed.height", 70),
        changed("fixed.model", ""),
        changed("fixed.model", None),
        changed("fixed.scheduler", "Euler"),
        changed("fixed.generator_device", "gpu"),
        changed("fixed.num_inference_steps", 0.5),
        changed("axes.0.fields", ["promt"]),
        changed("axes.0.fields", ["prompt", "prompt"]),
        changed("axes.0.columns", [[]]),
        changed("axes.0.columns", [["a"], ["b"]]),
        changed("axes.0.columns.0.1", 5),
        changed("axes.0.range", [0, 2, 1]),
        changed("axes.1.range", [0, 5]),
        changed("axes.1.range", [-1, 5, 1]),
        changed("axes.1.fields", ["height"]),
        changed("axes.2.columns.0.1", "1"),
    ],
)
def test_the_schema_refuses_the_broken_manifests_it_can(data: object) -> None:
    assert not SCHEMA.is_valid(data)


@given(text=st.text() | st.builds(json.dumps, JSON))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    assert_parsed_or_refused(text)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_anything_in_any_place_is_parsed_or_refused(data: st.DataObject) -> None:
    broken = copy.deepcopy(GOOD)
    for _ in range(data.draw(st.integers(1, 2))):
        number = data.draw(st.integers(0, len(places(broken)) - 1))
        place, key = places(broken)[number]
        verb = data.draw(st.sampled_from(["replace", "replace", "drop", "add"]))
        if verb == "replace":
            place[key] = data.draw(JSON)
        elif verb == "drop":
            del place[key]
        elif isinstance(place, list):
            place.append(data.draw(JSON))
        else:
            place[data.draw(st.text(max_size=3) | st.sampled_from(sorted(FIELDS)))] = data.draw(
                JSON
            )
    manifest = assert_parsed_or_refused(json.dumps(broken))
    if manifest is not None:
        SCHEMA.validate(broken)
        assert parse_manifest(manifest.text) == manifest
        SCHEMA.validate(json.loads(manifest.text))


@settings(max_examples=200)
@given(data=st.data())
def test_any_damage_to_the_text_is_parsed_or_refused(data: st.DataObject) -> None:
    text = json.dumps(GOOD)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 8)))
    middle = data.draw(st.text(max_size=4) | st.sampled_from(['"', "[", "}", "1e9", "NaN", "null"]))
    manifest = assert_parsed_or_refused(text[:start] + middle + text[end:])
    if manifest is not None:
        assert parse_manifest(manifest.text) == manifest


def test_deep_nesting_in_any_place_is_refused() -> None:
    for depth in (50, 300, 450, 480, 490, 495, 900, 3000):
        for path in ("name", "fixed.eta", "axes.0", "axes.0.columns.0.1", "output.key", "seedbed"):
            text = json.dumps(changed(path, "HERE")).replace('"HERE"', "[" * depth + "]" * depth)
            assert assert_parsed_or_refused(text) is None
