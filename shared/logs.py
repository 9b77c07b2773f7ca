"""Log lines: a constant message and its fields, one line each, to stderr."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from shared.errors import InvalidSettings
from shared.mistakes import shown

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FieldFormatter(logging.Formatter):
    """``2026-01-02T03:04:05Z INFO worker.serving sweep ended sweep=shapes-0123``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with a traceback below it where there is one."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = "".join(
            f" {name}={_shown(value)}"
            for name, value in sorted(vars(record).items())
            if name not in _STANDARD and name != "data"
        )
        line = f"{at} {record.levelname} {record.name} {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logging(level: str) -> Callable[[], None]:
    """Send this process' log to stderr; libraries speak only of warnings.

    Only for entry points; where a handler is installed already, it stays.

    Returns:
        Undoes it, for an entry point that may be called within a longer life, as tests do.

    Raises:
        InvalidSettings: There is no such level.
    """
    if level not in LEVELS:
        raise InvalidSettings(
            f"SEEDBED_LOG_LEVEL is {shown(level)}: write one of {', '.join(LEVELS)}"
        )
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter())
    root = logging.getLogger()
    ours = [logging.getLogger(name) for name in ("worker", "producer", "shared")]
    before = [(logger, logger.level) for logger in (root, *ours)]
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for logger in ours:
        logger.setLevel(level)

    def undo() -> None:
        root.removeHandler(handler)
        for logger, was in before:
            logger.setLevel(was)

    return undo


def _shown(value: object) -> str:
    """Quoted, and escaped, wherever a value could be taken for anything else."""
    text = str(value)
    plain = text.isprintable() and not any(char.isspace() or char == '"' for char in text)
    return text if text and plain else repr(text)
