"""JSON from strangers: objects of known members, known fields, values of their field's own type."""

from __future__ import annotations

from shared.errors import InvalidManifest, InvalidSweep
from shared.field_values import check_value
from shared.fields import FIELDS, Value
from shared.mistakes import nearest, shown


def json_value(path: str, name: str, value: object) -> Value:
    """Check one value of a field; a stranger's ``"5"`` is not 5.

    Args:
        path: Where it stands, for the message.

    Raises:
        InvalidManifest: It is of another type, or out of the field's bounds.
    """
    kind = FIELDS[name].kind
    texts = kind not in ("integer", "number", "flag")
    if value is not None and isinstance(value, str) is not texts:
        wanted = "a JSON string" if texts else "true" if kind == "flag" else "a JSON number"
        raise InvalidManifest(f"{path} is {shown(value)}, not {wanted}")
    try:
        return check_value(name, value)
    except InvalidSweep as exc:
        raise InvalidManifest(f"{path}: {exc}") from exc


def json_object(data: object, path: str, names: set[str]) -> dict[str, object]:
    """The members of a JSON object that has just these.

    Raises:
        InvalidManifest: It names what is missing or too much.
    """
    if not isinstance(data, dict):
        raise InvalidManifest(f"manifest: {path} is {shown(data)}, not an object")
    for name in data:
        if name not in names:
            hint = nearest(name, sorted(names))
            raise InvalidManifest(f"manifest: {path} has a member {shown(name)}: {hint}")
    missing = sorted(names - set(data))
    if missing:
        raise InvalidManifest(f"manifest: {path} has no {' and no '.join(missing)}: add it")
    return data


def check_field(path: str, name: object) -> None:
    """Refuse what is no field's name.

    Raises:
        InvalidManifest: With the nearest that is one.
    """
    if not isinstance(name, str) or name not in FIELDS:
        hint = nearest(name if isinstance(name, str) else "", list(FIELDS))
        raise InvalidManifest(f"manifest: {path} has {shown(name)}, which is not a field: {hint}")
