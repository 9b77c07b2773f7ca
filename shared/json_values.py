"""Values as manifests and chunks write them: in their field's own JSON type."""

from __future__ import annotations

from shared.errors import InvalidManifest, InvalidSweep
from shared.fields import FIELDS, Value, check_value, shown


def json_value(path: str, name: str, value: object) -> Value:
    """Check one value of a field; a stranger's ``"5"`` is not 5.

    Args:
        path: Where it stands, for the message.

    Raises:
        InvalidManifest: It is of another type, or out of the field's bounds.
    """
    texts = FIELDS[name].kind not in ("integer", "number")
    if value is not None and isinstance(value, str) is not texts:
        wanted = "a JSON string" if texts else "a JSON number"
        raise InvalidManifest(f"{path} is {shown(value)}, not {wanted}")
    try:
        return check_value(name, value)
    except InvalidSweep as exc:
        raise InvalidManifest(f"{path}: {exc}") from exc
