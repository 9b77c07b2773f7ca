"""The table of fields in docs/sweeps.md; ``python -m tests.field_table`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from shared.fields import FIELDS, REQUIRED, Field, Value

PAGE = Path(__file__).parents[1] / "docs" / "sweeps.md"
START = "<!-- fields: written by python -m tests.field_table -->\n"
END = "<!-- end of fields -->\n"
DECIDES = {
    "lane": "lane",
    "recipe": "recipe",
    "guidance": "recipe, by being above 1",
    "kind": "lane, by being given",
    "given": "recipe, by being given",
    "row": "-",
}

VALUES = {
    "text": "text",
    "scheduler": "a diffusers class name",
    "device": "`cpu`, `cuda`",
    "switch": "`on`, `off`",
    "flag": "`true`, `false`",
    "settings": "mapping",
    "timesteps": "list of numbers, 0 to 1000",
    "sigmas": "list of numbers, 0 to 10000",
    "loras": "list of mappings",
    "input": "a file, or its key `inputs/...`",
}


def field_table() -> str:
    """Markdown, a row a field, in the order of the table."""
    head = "| field | what it is | values | default | decides |\n| --- | --- | --- | --- | --- |\n"
    return head + "".join(map(_row, FIELDS.values()))


def with_table(page: str) -> str:
    """The page with the table between its marks."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{field_table()}\n{END}{after}"


def _row(field: Field) -> str:
    cells = (
        f"`{field.name}`",
        field.help,
        _values(field),
        "required" if field.name in REQUIRED else f"`{_default(field.default)}`",
        DECIDES[field.decides],
    )
    return f"| {' | '.join(cells)} |\n"


def _default(value: Value) -> str:
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values(field: Field) -> str:
    values = VALUES.get(field.kind, "")
    if field.kind in ("integer", "number"):
        noun = "whole number" if field.kind == "integer" else "number"
        highest = "2**63-1" if field.name == "seed" else f"{field.maximum:g}"
        values = f"{noun}, {field.minimum:g} to {highest}"
    if field.multiple_of > 1:
        values += f", a multiple of {field.multiple_of}"
    return values + (" or `null`" if field.nullable else "")


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
