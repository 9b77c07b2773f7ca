"""Every error Seedbed raises on purpose, and who acts next.

    SeedbedError
      InvalidInput          the user's to mend: exit code 2, nothing was written
        InvalidSweep        names field, value, remedy; never retried
        InvalidManifest     a manifest from a stranger that breaks the schema
        InvalidSettings     a URL, bucket, credential or folder that cannot be right
          NoPool            no pool is named, and no stack runs here
          QueueRefused      a QueueError too: Redis does not let us in; a worker that runs waits
        UnknownSweep        no sweep of that name in this pool
        SweepConflict       another sweep of that id in this pool
      QueueError
        QueueUnavailable    retried with backoff
        LeaseLost           another worker owns the jobs: stop, keep what is stored
      StorageError          keep the image, retry the upload
        ObjectMissing       no object under that key
        ObjectTooLarge      more bytes than its reader bears
      ModelError            not there, pickle only, not allowed: this worker can't serve it
      RenderError           this job's own fault; its batch mates go on
        OutOfMemory         split the batch and try again
        NonFiniteImage      decode once more in float32, then give up on that job alone
        Cancelled           nobody wants the batch any more: stop at this step
        UnsupportedJob      the loaded pipeline can't do it, here or elsewhere: dead at once
      ServiceError          an embedded service did not start, or nobody answers; exit code 1
      WaitTimeout           a wait ran out; the work goes on; exit code 3

The file that owns a library translates that library's exceptions into these with
``raise ... from exc``. The command line prints the message and exits with ``exit_code``.
"""

from __future__ import annotations


class SeedbedError(Exception):
    """Root of the tree. ``exit_code`` is what the command line leaves with."""

    exit_code = 1


class InvalidInput(SeedbedError):
    """The user mends it: one sentence with field, value and remedy."""

    exit_code = 2


class InvalidSweep(InvalidInput):
    """A sweep that can't be run as written.

    Attributes:
        field: The sweep field at fault (``"height"``), or None where no single one is.
        value: The offending value as given.
    """

    def __init__(self, message: str, *, field: str | None = None, value: object = None) -> None:
        super().__init__(message)
        self.field = field
        self.value = value


class InvalidManifest(InvalidInput):
    """A manifest that breaks the published schema: its producer mends it, workers skip it."""


class InvalidSettings(InvalidInput):
    """A setting that cannot be right: the user mends a flag or a ``SEEDBED_*`` variable."""


class NoPool(InvalidSettings):
    """Neither flags nor environment name a pool, and no stack runs here: start or name one."""


class UnknownSweep(InvalidInput):
    """No sweep of that id in this pool: the user looks at ``seedbed ls``."""

    def __init__(self, sweep_id: str) -> None:
        super().__init__(
            f"sweep {sweep_id!r} is not in this pool; 'seedbed ls' lists those that are"
        )
        self.sweep_id = sweep_id


class SweepConflict(InvalidInput):
    """Another sweep has this id: the user changes the name."""

    def __init__(self, sweep_id: str) -> None:
        super().__init__(
            f"another sweep is in this pool under the id {sweep_id!r}: "
            "give yours another name, or delete that one"
        )
        self.sweep_id = sweep_id


class QueueError(SeedbedError):
    """Redis, or what it holds, is not as it should be."""


class QueueUnavailable(QueueError):
    """Redis does not answer: callers retry with backoff, work in hand is kept."""


class QueueRefused(InvalidSettings, QueueError):
    """Redis answers, and credentials, rights, TLS or what it is are wrong: a setting to mend."""


class LeaseLost(QueueError):
    """The lease is over: its holder stops, what it stored stays."""

    def __init__(self, token: str) -> None:
        super().__init__(f"lease {token} is over; its jobs belong to the queue again")
        self.token = token


class StorageError(SeedbedError):
    """S3 failed: the worker keeps the image and tries again."""


class ObjectMissing(StorageError):
    """There is no object under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no object {key!r} in storage")
        self.key = key


class ObjectTooLarge(StorageError):
    """The object has more bytes than its reader bears: nothing of it was read."""

    def __init__(self, key: str, size: int, limit: int) -> None:
        super().__init__(f"object {key!r} has {size:,} bytes: at most {limit:,} are read")
        self.key = key


class ModelError(SeedbedError):
    """This worker can't serve the model; another may."""


class RenderError(SeedbedError):
    """The job itself can't be rendered: it is failed alone, its batch mates go on."""


class OutOfMemory(RenderError):
    """The batch does not fit: split it and try again."""


class NonFiniteImage(RenderError):
    """The image has NaN or infinite values even when decoded in float32."""


class Cancelled(RenderError):
    """The batch was cancelled at a denoising step: release its jobs."""


class UnsupportedJob(RenderError):
    """The loaded pipeline can't do what the job asks, and no retry would change that."""


class ServiceError(SeedbedError):
    """A service Seedbed starts or needs is down: the message says how to get it."""


class WaitTimeout(SeedbedError):
    """A wait ran out. The work itself goes on."""

    exit_code = 3
