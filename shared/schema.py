"""The manifest's JSON Schema, for producers in other languages."""

from __future__ import annotations

from shared.fields import FIELDS, MAX_TEXT_BYTES, Field
from shared.manifest import FORMATS, MAX_JOBS, NAME_PATTERN, SCHEMA_VERSION
from shared.ranges import MAX_VALUES
from shared.schedulers import SCHEDULERS


def manifest_schema() -> dict[str, object]:
    """JSON Schema (draft 2020-12) of the manifest.

    It says all that a schema can; that every field is given exactly once, that values don't
    repeat and that the key's template is safe, `shared.manifest.parse_manifest` checks besides.
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
            "axes": {"type": "array", "items": {"oneOf": [_columns_schema(), _range_schema()]}},
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
        return schema | {"enum": ["cpu", "cuda"]}
    kind = {"text": "string", "integer": "integer", "number": "number"}[field.kind]
    schema["type"] = [kind, "null"] if field.nullable else kind
    if field.kind == "text":
        schema["maxLength"] = MAX_TEXT_BYTES
    if field.minimum is not None:
        schema["minimum"] = field.minimum
    if field.maximum is not None:
        schema["maximum"] = field.maximum
    if field.multiple_of > 1:
        schema["multipleOf"] = field.multiple_of
    return schema


def _names_schema() -> dict[str, object]:
    return {
        "type": "array",
        "items": {"enum": list(FIELDS)},
        "minItems": 1,
        "uniqueItems": True,
    }


def _columns_schema() -> dict[str, object]:
    """One list of values a field, all of one length."""
    column = {
        "type": "array",
        "items": {"type": ["string", "number", "null"]},
        "minItems": 1,
        "maxItems": MAX_VALUES,
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["fields", "columns"],
        "properties": {"fields": _names_schema(), "columns": {"type": "array", "items": column}},
    }


def _range_schema() -> dict[str, object]:
    """start, stop (excluded), step."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["fields", "range"],
        "properties": {
            "fields": _names_schema() | {"maxItems": 1},
            "range": {
                "type": "array",
                "items": {"type": "integer"},
                "minItems": 3,
                "maxItems": 3,
                "description": f"at most {MAX_JOBS} values",
            },
        },
    }
