"""``--where``: a condition over a sweep's columns, read by DuckDB's parser and rebuilt by us.

DuckDB turns the text into a tree; whatever is not a comparison of columns and constants is refused,
and the SQL that runs is written anew from the tree, with every constant as a parameter. Nothing of
the user's text reaches an engine that could do more than compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from shared.errors import InvalidInput
from shared.mistakes import nearest, shown
from shared.sweep_index import ColumnType

if TYPE_CHECKING:
    import duckdb

MAX_CHARACTERS = 20_000
"""A longer condition is a list that should be a file of indices."""
MAX_DEPTH = 200
"""Of parentheses in each other."""
COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "IS DISTINCT FROM",
    "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
}
LIKES = {"~~": "LIKE", "!~~": "NOT LIKE", "~~*": "ILIKE", "!~~*": "NOT ILIKE"}
LIKES_ESCAPED = {
    "like_escape": "LIKE",
    "not_like_escape": "NOT LIKE",
    "ilike_escape": "ILIKE",
    "not_ilike_escape": "NOT ILIKE",
}
NOUNS = {"integer": "a number", "number": "a number", "text": "a text", "boolean": "true or false"}
ALLOWED = "write comparisons of columns with and, or, not, in, like, between, is null"
_BEFORE = "SELECT 1 FROM jobs WHERE "


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A checked condition.

    Attributes:
        sql: Of columns in double quotes, operators and ``?``.
        parameters: One for each ``?``.
        columns: Those it speaks of.
    """

    sql: str
    parameters: tuple[object, ...]
    columns: frozenset[str]


EVERYTHING = Condition(sql="true", parameters=(), columns=frozenset())


def parse_where(text: str, columns: Mapping[str, ColumnType]) -> Condition:
    """Read a condition.

    Text in double quotes is a column if there is one of that name, and a text otherwise.

    Args:
        columns: Those there are, with their types.

    Raises:
        InvalidInput: It does anything but compare, or speaks of a column that is not there.
    """
    if not text.strip():
        raise InvalidInput(f"--where is empty: {ALLOWED}")
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput(f"--where has {len(text):,} characters: at most {MAX_CHARACTERS:,}")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidInput(f"--where {shown(text)} is not valid Unicode text") from exc
    return _Rebuilder(text, columns).rebuild(_tree_of(text))


def _tree_of(text: str) -> dict[str, Any]:
    """The condition's tree, if the text is one condition and nothing else.

    Raises:
        InvalidInput: It is not.
    """
    statements = _parsed(_BEFORE + text)
    plain = _parsed(_BEFORE + "true")
    if len(statements) != 1:
        raise InvalidInput(f"--where {shown(text)} is more than a condition: {ALLOWED}")
    (statement,), (bare,) = statements, plain
    tree = statement["node"].pop("where_clause", None)
    bare["node"].pop("where_clause")
    if not isinstance(tree, dict) or statement != bare:
        raise InvalidInput(f"--where {shown(text)} is more than a condition: {ALLOWED}")
    return tree


def _parsed(sql: str) -> list[dict[str, Any]]:
    import duckdb

    try:
        row = _parser().execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
        answer: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    except (duckdb.Error, ValueError, RecursionError) as exc:
        raise InvalidInput(f"--where can't be read ({_brief(str(exc))}): {ALLOWED}") from exc
    if answer["error"]:
        said = _brief(str(answer.get("error_message", "")))
        raise InvalidInput(f"--where can't be read ({said}): {ALLOWED}")
    statements: list[dict[str, Any]] = answer["statements"]
    return statements


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """A database that only ever parses."""
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


class _Rebuilder:
    """Walks the tree; what it does not know, it refuses."""

    def __init__(self, text: str, columns: Mapping[str, ColumnType]) -> None:
        self._source = (_BEFORE + text).encode()
        self._columns = columns
        self._by_lower = {name.lower(): name for name in columns}
        self._parameters: list[object] = []
        self._used: set[str] = set()

    def rebuild(self, tree: dict[str, Any]) -> Condition:
        sql = self._condition(tree, 0)
        return Condition(sql=sql, parameters=tuple(self._parameters), columns=frozenset(self._used))

    def _condition(self, node: dict[str, Any], depth: int) -> str:
        """A part that is true or false."""
        if depth > MAX_DEPTH:
            raise InvalidInput(f"--where is nested more than {MAX_DEPTH} deep: write it flatter")
        kind, type_ = node.get("class"), node.get("type")
        if kind == "CONJUNCTION":
            word = {"CONJUNCTION_AND": " AND ", "CONJUNCTION_OR": " OR "}[type_ or ""]
            parts = [self._condition(child, depth + 1) for child in node["children"]]
            return f"({word.join(parts)})"
        if kind == "COMPARISON" and type_ in COMPARISONS:
            left, right = self._alike([node["left"], node["right"]])
            return f"({left} {COMPARISONS[type_]} {right})"
        if kind == "BETWEEN" and type_ == "COMPARE_BETWEEN":
            value, low, high = self._alike([node["input"], node["lower"], node["upper"]])
            return f"({value} BETWEEN {low} AND {high})"
        if kind == "OPERATOR":
            return self._operator(node, depth)
        if kind == "FUNCTION":
            return self._like(node)
        if kind == "COLUMN_REF":
            sql, found = self._operand(node)
            if found == "boolean":
                return sql
        if kind == "CONSTANT" and node["literal"]["kind"] == "BOOLEAN":
            return self._constant(node)[0]
        raise self._refused(node)

    def _operator(self, node: dict[str, Any], depth: int) -> str:
        type_, children = node["type"], node["children"]
        if type_ == "OPERATOR_NOT":
            return f"(NOT {self._condition(children[0], depth + 1)})"
        if type_ in ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"):
            if children[0].get("class") != "COLUMN_REF":
                raise self._refused(node)
            sql, _ = self._column(children[0], quoted_text=False)
            return f"({sql} IS {'NOT ' if 'NOT' in type_ else ''}NULL)"
        if type_ in ("COMPARE_IN", "COMPARE_NOT_IN"):
            value, *others = self._alike(children)
            return f"({value} {'NOT ' if 'NOT' in type_ else ''}IN ({', '.join(others)}))"
        raise self._refused(node)

    def _like(self, node: dict[str, Any]) -> str:
        name = node["function_name"]
        operands = [argument["expression"] for argument in node["arguments"]]
        plain = (node["is_operator"] and name in LIKES and len(operands) == 2) or (
            name in LIKES_ESCAPED and len(operands) == 3
        )
        if not plain or node.get("schema") or node.get("catalog") or node.get("filter"):
            raise self._refused(node)
        parts = self._alike(operands, wanted="text")
        word = LIKES.get(name) or LIKES_ESCAPED[name]
        return f"({parts[0]} {word} {' ESCAPE '.join(parts[1:])})"

    def _alike(self, nodes: list[dict[str, Any]], wanted: str | None = None) -> list[str]:
        """Columns and constants of one type, a column among them."""
        operands = [self._operand(node) for node in nodes]
        columns = [
            (sql, found) for node, (sql, found) in zip(nodes, operands, strict=True) if sql != "?"
        ]
        if not columns:
            raise InvalidInput(
                f"--where {shown(self._text(nodes[0]))} is compared with no column: "
                f"{nearest(self._text(nodes[0]).strip(chr(34)), list(self._columns))}"
            )
        name, first = columns[0]
        for node, (_, found) in zip(nodes, operands, strict=True):
            if _family(found) != _family(first) or (wanted and _family(found) != wanted):
                raise InvalidInput(
                    f"--where compares {name.strip(chr(34))}, which is {NOUNS[first]}, "
                    f"with {'like' if wanted else shown(self._text(node))}: "
                    f"{_remedy(first, wanted)}"
                )
        return [sql for sql, _ in operands]

    def _operand(self, node: dict[str, Any]) -> tuple[str, str]:
        """SQL and type of a column or a constant."""
        if node.get("class") == "COLUMN_REF":
            return self._column(node, quoted_text=True)
        if node.get("class") == "CONSTANT":
            return self._constant(node)
        raise self._refused(node)

    def _column(self, node: dict[str, Any], *, quoted_text: bool) -> tuple[str, str]:
        names = node["column_names"]
        if len(names) == 1:
            name = self._by_lower.get(str(names[0]).lower())
            if name is not None:
                self._used.add(name)
                return f'"{name}"', self._columns[name]
            if quoted_text and self._source[node["query_location"] :].startswith(b'"'):
                self._parameters.append(str(names[0]))
                return "?", "text"
        wrong = ".".join(map(str, names))
        raise InvalidInput(
            f"--where has {shown(wrong)}, which is no column: {nearest(wrong, list(self._columns))}"
        )

    def _constant(self, node: dict[str, Any]) -> tuple[str, str]:
        literal = node["literal"]
        kind, text = literal["kind"], str(literal.get("text", ""))
        value: object
        if kind == "INTEGER" and len(text) <= 30:
            value, found = int(text), "integer"
        elif kind in ("NUMERIC", "INTEGER"):
            value, found = float(text), "number"
        elif kind == "STRING":
            value, found = text, "text"
        elif kind == "BOOLEAN":
            value, found = text == "true", "boolean"
        elif "NULL" in kind:
            raise InvalidInput("--where compares with null, which is never true: write 'is null'")
        else:
            raise self._refused(node)
        self._parameters.append(value)
        return "?", found

    def _text(self, node: dict[str, Any]) -> str:
        """What the user wrote there."""
        start, length = node.get("query_location", 0), node.get("query_location_length", 0)
        return self._source[start : start + length].decode(errors="replace") or "a part"

    def _refused(self, node: dict[str, Any]) -> InvalidInput:
        return InvalidInput(f"--where {shown(self._text(node))} does not compare: {ALLOWED}")


def _family(type_: str) -> str:
    return "number" if type_ == "integer" else type_


def _remedy(type_: str, wanted: str | None) -> str:
    if wanted:
        return "write =, < or >" if _family(type_) == "number" else "write ="
    return {
        "number": "write a number without quotes",
        "text": "write the text in quotes",
        "boolean": "write true or false",
    }[_family(type_)]


def _brief(message: str) -> str:
    """The first line of what the parser says, without its own name."""
    line = message.strip().splitlines()[0] if message.strip() else "no SQL"
    return shown(line.removeprefix("Parser Error: ").replace("syntax error ", ""))
