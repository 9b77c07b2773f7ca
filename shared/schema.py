"""The manifest's JSON Schema, for producers in other languages."""

from __future__ import annotations

from shared.chunks import DIGEST, MAX_CHUNK_ROWS
from shared.fields import DEVICES, FIELDS, INPUT_KEY, MAX_TEXT_BYTES, SWITCH, Field
from shared.layout import MAX_BLOCKS
from shared.manifest import FORMATS, NAME_PATTERN, SCHEMA_VERSION
from shared.ranges import MAX_JOBS, MAX_VALUES
from shared.schedulers import SCHEDULERS


def manifest_schema() -> dict[str, object]:
    """JSON Schema (draft 2020-12) of the manifest.

    It says all that a schema can; that every field is given exactly once, that columns are of
    one length, that values don't repeat, that chunks and groups add up, that there are not too
    many jobs and that the key's template is safe, `shared.manifest.parse_manifest` checks besides.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Seedbed manifest",
        "type": "object",
        "additionalProperties": False,
        "required": ["seedbed", "name", "fixed", "axes", "output", "reuse"],
        "properties": {
            "seedbed": {"const": SCHEMA_VERSION},
            "name": {"type": "string", "pattern": f"^{NAME_PATTERN.pattern}$"},
            "fixed": {
                "type": "object",
                "additionalProperties": False,
                "properties": {name: field_schema(field) for name, field in FIELDS.items()},
            },
            "axes": {"type": "array", "items": {"anyOf": _axis_schemas()}},
            "output": {
                "type": "object",
                "additionalProperties": False,
                "required": ["format", "key"],
                "properties": {
                    "format": {"enum": list(FORMATS)},
                    "key": {"type": "string", "pattern": r"\{digest\}"},
                },
            },
            "reuse": {"type": "boolean"},
        },
    }


def field_schema(field: Field) -> dict[str, object]:
    """JSON Schema of one field's value."""
    schema: dict[str, object] = {"description": field.help}
    if field.kind == "scheduler":
        return schema | {"enum": [*sorted(SCHEDULERS), None]}
    if field.kind == "device":
        return schema | {"enum": list(DEVICES)}
    if field.kind == "input":
        return schema | {"type": ["string", "null"], "pattern": f"^{INPUT_KEY.pattern}$"}
    if field.kind == "switch":
        return schema | {"enum": [*SWITCH, None]}
    if field.kind == "flag":
        return schema | {"type": ["boolean", "null"]}
    kind = {"integer": "integer", "number": "number"}.get(field.kind, "string")
    schema["type"] = [kind, "null"] if field.nullable else kind
    if field.structured:
        schema |= {"contentMediaType": "application/json", "minLength": 2}
    if field.kind == "text":
        schema["maxLength"] = MAX_TEXT_BYTES
        if field.decides == "lane":
            schema["minLength"] = 1
    if field.minimum is not None:
        schema["minimum"] = field.minimum
    if field.maximum is not None:
        schema["maximum"] = field.maximum
    if field.multiple_of > 1:
        schema["multipleOf"] = field.multiple_of
    return schema


def _axis_schemas() -> list[dict[str, object]]:
    """A range of seeds, values of one field, of fields that vary together, or rows in chunks."""
    ones = [
        _axis_schema({"const": [name]}, "columns", _columns(field_schema(field), 1, 1))
        for name, field in FIELDS.items()
        if not field.whole
    ]
    varying = [name for name, field in FIELDS.items() if not field.whole]
    names: dict[str, object] = {
        "type": "array",
        "items": {"enum": varying},
        "minItems": 2,
        "maxItems": len(varying),
        "uniqueItems": True,
    }
    together = _columns({"type": ["string", "number", "null"]}, 2, len(varying))
    seeds = {
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": 2**63},
        "minItems": 3,
        "maxItems": 3,
        "description": f"start, stop (not included), step above 0: at most {MAX_JOBS} values",
    }
    return [
        _axis_schema({"const": ["seed"]}, "range", seeds),
        *ones,
        _axis_schema(names, "columns", together),
        _axis_schema(names | {"minItems": 1}, "chunks", _chunks_schema()),
    ]


def _chunks_schema() -> dict[str, object]:
    digest = {"type": "string", "pattern": f"^{DIGEST.pattern}$"}
    group = {
        "type": "object",
        "additionalProperties": False,
        "required": ["count", "values"],
        "properties": {
            "count": {"type": "integer", "minimum": 1, "maximum": MAX_JOBS},
            "values": {"type": "array", "items": {"type": ["string", "number", "null"]}},
        },
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["size", "rows", "groups", "tallies"],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": MAX_CHUNK_ROWS},
            "rows": {"type": "array", "items": digest, "minItems": 1},
            "groups": {"type": "array", "items": group, "minItems": 1, "maxItems": MAX_BLOCKS},
            "tallies": {"anyOf": [digest, {"type": "null"}]},
        },
    }


def _axis_schema(names: object, kind: str, values: object) -> dict[str, object]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["fields", kind],
        "properties": {"fields": names, kind: values},
    }


def _columns(value: object, minimum: int, maximum: int) -> dict[str, object]:
    """One list of values a field, all of one length."""
    column = {"type": "array", "items": value, "minItems": 1, "maxItems": MAX_VALUES}
    return {"type": "array", "items": column, "minItems": minimum, "maxItems": maximum}
