"""Input files in storage: uploaded before a sweep is queued, under the name of their content."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from shared.errors import InvalidSweep
from shared.input_files import InputFile, input_key

if TYPE_CHECKING:
    from shared.storage import Storage

UPLOADS = 8
"""Files read and PUT at a time."""


def upload_inputs(storage: Storage, inputs: Mapping[str, InputFile]) -> int:
    """Put those inputs into storage that it lacks; returns how many.

    Raises:
        InvalidSweep: A file has changed since the sweep was read, or one that was named by its
            key is not there.
        StorageError: Storage does not answer.
    """
    stored = storage.exists_many(inputs)
    missing = {key: file for key, file in inputs.items() if key not in stored}
    for key, file in missing.items():
        if file.path is None:
            raise InvalidSweep(
                f"{file.field} {key} is not in this pool's bucket: give the file's path",
                field=file.field,
                value=key,
            )
    with ThreadPoolExecutor(UPLOADS, thread_name_prefix="inputs") as threads:
        list(threads.map(lambda item: _put(storage, *item), missing.items()))
    return len(missing)


def _put(storage: Storage, key: str, file: InputFile) -> None:
    body = file.read()
    if input_key(body) != key or file.checked is None:
        raise file.fault("has changed since the sweep was read: submit it again")
    storage.put(key, body, content_type=file.checked.content_type)
