"""A sweep as its author writes it: fixed fields, axes and output, validated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from shared.each_value import change_values
from shared.errors import InvalidSweep
from shared.fields import FIELDS
from shared.input_files import InputFile, InputFiles
from shared.layout import Layout
from shared.manifest import (
    FORMATS,
    Manifest,
    Output,
    check_name,
    check_totals,
)
from shared.mistakes import nearest, shown
from shared.numbers import finite_number, whole_number
from shared.object_keys import DEFAULT_TEMPLATE, check_template
from shared.ranges import MAX_VALUES
from shared.sweep_axes import read_axes
from shared.sweep_inputs import check_inputs

DIRECTIVES = (
    "zip",
    "rows",
    "wildcards",
    "name",
    "output",
    "reuse",
    "num_images_per_prompt",
    "priority",
    "weight",
)
"""What a sweep file may say besides fields of a job; ``producer.sources`` reads the wildcards."""
MAX_PRIORITY = 100
MIN_WEIGHT = 0.001
MAX_WEIGHT = 1000.0


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A validated sweep. Make one with `Sweep.define` or from a file with `producer.load_sweep`.

    Attributes:
        manifest: What is submitted, and what its id is made of.
        priority: -100 to 100, higher first; not part of the id.
        weight: Share among sweeps of one priority and owner, above 0; not part of the id.
        notes: What was mended on the way, one sentence each (repetitions dropped).
        inputs: The files that it names, by their keys in the bucket.
    """

    manifest: Manifest
    priority: int = 0
    weight: float = 1.0
    notes: tuple[str, ...] = ()
    inputs: Mapping[str, InputFile] = field(default_factory=dict, compare=False)

    @classmethod
    def define(cls, **values: object) -> Sweep:
        """Validate a sweep given as fields.

        A scalar is fixed; a list, tuple, ``range`` or a text such as ``"0..31"`` is an axis;
        axes multiply, the last varies fastest.

        Raises:
            InvalidSweep: One sentence with field, value and remedy.

        Example:
            Sweep.define(model="demo", prompt=["a red circle"], seed=range(8))
        """
        return cls.from_mapping(values)

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Sweep:
        """Like `define`, from a mapping whose order is the order of the axes."""
        known = [*FIELDS, *DIRECTIVES]
        for name in values:
            if name not in known:
                raise InvalidSweep(
                    f"{shown(name)} is not a field: {nearest(str(name), known)}",
                    field=str(name),
                    value=values[name],
                )
        notes: list[str] = []
        repeat = _directive_integer(values, "num_images_per_prompt", 1, MAX_VALUES, default=1)
        inputs = InputFiles()
        axes = read_axes(change_values(values, inputs.changes), notes, repeat=repeat)
        fixed = {name: entry.default for name, entry in FIELDS.items()}
        for axis in axes:
            if len(axis) == 1:
                fixed |= axis.values(0)
        axes = [axis for axis in axes if len(axis) > 1]
        varying = {name for axis in axes for name in axis.fields}
        manifest = Manifest(
            name=check_name(values.get("name", "sweep")),
            fixed={name: value for name, value in fixed.items() if name not in varying},
            axes=tuple(axes),
            output=_output(values.get("output", {})),
            reuse=_boolean("reuse", values.get("reuse", True)),
        )
        check_totals(manifest)
        sweep = cls(
            manifest=manifest,
            priority=_directive_integer(values, "priority", -MAX_PRIORITY, MAX_PRIORITY, default=0),
            weight=_weight(values.get("weight", 1.0)),
            notes=tuple(notes),
            inputs=inputs.by_key,
        )
        check_inputs(manifest, inputs.by_key)
        _ = sweep.layout  # refuses too many blocks here, at the border
        return sweep

    @property
    def id(self) -> str:
        """The name's slug and the first 12 hex digits of the manifest's digest."""
        return self.manifest.sweep_id

    @cached_property
    def layout(self) -> Layout:
        """Its blocks, and the way between indices and positions."""
        return Layout(self.manifest)


def _output(value: object) -> Output:
    if not isinstance(value, Mapping):
        raise InvalidSweep(
            f"output {shown(value)} is not a mapping: write output: {{format: png}}",
            field="output",
            value=value,
        )
    for name in value:
        if name not in ("format", "key"):
            raise InvalidSweep(
                f"output {shown(name)} is not a field: {nearest(str(name), ['format', 'key'])}",
                field=f"output.{name}",
                value=value[name],
            )
    chosen = value.get("format", "png")
    if chosen not in FORMATS:
        raise InvalidSweep(
            f"output.format {shown(chosen)} is not written: use png",
            field="output.format",
            value=chosen,
        )
    key = value.get("key", DEFAULT_TEMPLATE)
    if not isinstance(key, str):
        raise InvalidSweep(f"output.key {shown(key)} is not a text", field="output.key", value=key)
    return Output(format=str(chosen), key=check_template(key))


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InvalidSweep(f"{name} {shown(value)} is not true or false", field=name, value=value)


def _directive_integer(
    values: Mapping[str, object], name: str, minimum: int, maximum: int, *, default: int
) -> int:
    value = values.get(name, default)
    number = whole_number(value)
    if number is None or not minimum <= number <= maximum:
        raise InvalidSweep(
            f"{name} {shown(value)} is not a whole number from {minimum:,} to {maximum:,}",
            field=name,
            value=value,
        )
    return number


def _weight(value: object) -> float:
    weight = finite_number(value)
    if weight is None or not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise InvalidSweep(
            f"weight {shown(value)} is not a number from {MIN_WEIGHT:g} to {MAX_WEIGHT:g}",
            field="weight",
            value=value,
        )
    return weight
