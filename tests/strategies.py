"""Hypothesis strategies for sweeps: small ones of every shape, and the texts they may hold."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from shared.field_values import check_value
from shared.fields import DEVICES, FIELDS
from shared.schedulers import SCHEDULERS
from shared.sweep import Sweep

MAX_AXIS = 4
"""Values drawn for one axis; a dozen axes of four is as many jobs as a test can count."""

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
filled_texts = texts.filter(lambda text: bool(text.strip()))
sizes = st.none() | st.integers(1, 1024).map(lambda number: number * 8)
seeds = st.integers(0, 2**63 - 1)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,9}", fullmatch=True)
_lora = st.fixed_dictionaries(
    {"name": st.sampled_from(["owner/one", "/loras/two", "three"]), "weight": st.floats(-2, 2)}
)

input_keys = st.integers(0, 3).map(lambda number: f"inputs/{number:064x}")

FIELD_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "model": filled_texts,
    "revision": st.none() | filled_texts,
    "variant": st.none() | filled_texts,
    "vae": st.none() | filled_texts,
    "loras": st.none()
    | st.lists(_lora, max_size=2, unique_by=lambda item: item["name"]).map(
        lambda items: check_value("loras", items)
    ),
    "safety_checker": st.sampled_from([None, "on", "off"]),
    "height": sizes,
    "width": sizes,
    "scheduler": st.none() | st.sampled_from(sorted(SCHEDULERS)),
    "scheduler_config": st.none()
    | st.dictionaries(
        st.sampled_from(["use_karras_sigmas", "timestep_spacing", "solver_order"]),
        st.booleans() | st.integers(0, 9) | st.floats(0, 1) | st.sampled_from(["zero", "a,b", ""]),
    ).map(lambda items: check_value("scheduler_config", items)),
    "num_inference_steps": st.integers(1, 1000),
    # one list for one job, and only of schedulers that take one: see test_sampling
    "timesteps": st.none(),
    "sigmas": st.none(),
    "guidance_scale": st.floats(0, 1000) | st.sampled_from([0, 1, 1.0, 1.5, 7.5]),
    "guidance_rescale": st.floats(0, 1),
    "eta": st.floats(0, 1),
    "prompt": texts,
    "negative_prompt": st.none() | texts,
    "clip_skip": st.none() | st.integers(1, 24),
    "seed": seeds,
    "generator_device": st.sampled_from(DEVICES),
    "init_image": st.none() | input_keys,
    "mask_image": st.none() | input_keys,
    "strength": st.none() | st.sampled_from([0.8, 1]),
    "latents": st.none() | input_keys,
    "reproducible": st.sampled_from([None, True]),
}
"""Every field, and values it may have."""


@st.composite
def sweep_values(draw: st.DrawFn, *, max_axes: int = 4) -> dict[str, Any]:
    """The mapping of a sweep: some fields fixed, some axes, in any order."""
    named = draw(st.lists(st.sampled_from(sorted(FIELD_VALUES)), unique=True, max_size=9))
    if "latents" in named or "init_image" not in named:  # what can't go together, or alone
        named = [name for name in named if name not in ("init_image", "mask_image", "strength")]
    if "init_image" in named:  # of few steps, it leaves none
        named = [name for name in named if name != "num_inference_steps"]
    order = draw(st.permutations(sorted({*named, "model", "prompt"})))
    may_vary = [name for name in order if not FIELDS[name].whole]
    varying = draw(st.lists(st.sampled_from(may_vary), unique=True, max_size=max_axes))
    values: dict[str, Any] = {}
    for name in order:
        one = FIELD_VALUES[name]
        if name == "init_image" and ("mask_image" in named or "strength" in named):
            one = input_keys
        if name not in varying:
            values[name] = draw(one)
        elif name == "seed" and draw(st.booleans()):
            start, step = draw(st.integers(0, 2**62)), draw(st.integers(1, 2**40))
            values[name] = range(start, start + step * draw(st.integers(1, MAX_AXIS)), step)
        else:
            values[name] = draw(st.lists(one, min_size=1, max_size=MAX_AXIS))
    return values


def sweeps(*, max_axes: int = 4) -> st.SearchStrategy[Sweep]:
    """Validated sweeps of at most MAX_AXIS ** max_axes jobs."""
    return st.builds(
        lambda values, name, reuse: Sweep.from_mapping({**values, "name": name, "reuse": reuse}),
        sweep_values(max_axes=max_axes),
        names,
        st.booleans(),
    )
