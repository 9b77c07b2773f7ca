"""A fresh scheduler for every batch, made from the checkpoint's own configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import RenderError, UnsupportedJob
from shared.job import Job
from shared.mistakes import shown
from shared.sampling import explicit_steps
from shared.structured import listed, parsed
from worker.locating import first_line

SET_STEPS = "set_timesteps"
RESERVED = frozenset({"noise_sampler_seed", "trained_betas"})
"""Settings that jobs can't change: one is made of their seeds, the other is a list."""


class Schedulers:
    """The schedulers that a loaded checkpoint can be sampled with.

    Schedulers carry state (the step they are at, past model outputs), so one made for a batch is
    never used for another.

    Attributes:
        native: Class name of the checkpoint's own scheduler.
        config: Its configuration.
        names: All class names that are known to suit its configuration, sorted.
        taking_eta: Those whose step takes ``eta``.
    """

    def __init__(self, own: Any, *, own_only: bool = False) -> None:
        """Read the configuration of ``own``, the scheduler that the checkpoint came with.

        Args:
            own_only: Its pipeline steps in a way that suits no other.
        """
        self.native: str = type(own).__name__
        self.config: Mapping[str, Any] = own.config
        classes = [type(own), *(() if own_only else getattr(own, "compatibles", ()))]
        self._classes: dict[str, type[Any]] = {cls.__name__: cls for cls in classes}
        self.names: tuple[str, ...] = tuple(sorted(self._classes))
        self.taking_eta = frozenset(
            name for name, cls in self._classes.items() if "eta" in _parameters(cls, "step")
        )

    def for_batch(self, jobs: Sequence[Job]) -> Any:
        """The scheduler for one batch, as its first job wants it.

        Raises:
            UnsupportedJob: The class does not suit this checkpoint, has no such setting, or can't
                be told its steps.
            RenderError: It needs a library that this worker lacks.
        """
        first = jobs[0]
        if (steps := explicit_steps(first)) is not None:
            self._check_explicit(first.scheduler, steps)
        changes = parsed(first.scheduler_config)
        return self._make(
            first.scheduler,
            seeds=[job.seed for job in jobs],
            changes=changes if isinstance(changes, dict) else {},
        )

    def _make(self, name: str | None, *, seeds: Sequence[int], changes: Mapping[str, Any]) -> Any:
        """Make one.

        Args:
            name: diffusers class name; None is the checkpoint's own.
            seeds: One per row, for schedulers that draw noise of their own.
            changes: What is different from the checkpoint's configuration.
        """
        name = name or self.native
        cls = self._classes.get(name)
        if cls is None:
            raise UnsupportedJob(
                f"scheduler {name!r} does not suit this model: use one of {', '.join(self.names)}"
            )
        own_noise = {}
        if "noise_sampler_seed" in _parameters(cls, "__init__"):
            # DPMSolverSDE ignores the generators and draws from torch's global one otherwise.
            own_noise["noise_sampler_seed"] = list(seeds)
        _check_settings(cls, changes)
        try:
            return cls.from_config(self.config, **own_noise, **changes)
        except ImportError as error:
            raise RenderError(
                f"scheduler {name!r} can't be used here: {_missing(error)}"
            ) from error
        except Exception as error:  # of its own arithmetic, on the CPU: the same everywhere
            what = f"scheduler_config {dict(changes)}" if changes else "this model's configuration"
            raise UnsupportedJob(
                f"scheduler {name!r} refuses {what}: {first_line(error)}"
            ) from error

    def _check_explicit(self, name: str | None, argument: str) -> None:
        """Refuse ``timesteps`` or ``sigmas`` for a scheduler that can't be told its steps.

        Raises:
            UnsupportedJob: It lists the schedulers of this checkpoint that can.
        """
        name = name or self.native
        takers = [
            one for one, cls in self._classes.items() if argument in _parameters(cls, SET_STEPS)
        ]
        if name in self._classes and name not in takers:
            raise UnsupportedJob(
                f"scheduler {name!r} takes no {argument}: use one of "
                f"{', '.join(sorted(takers)) or 'another model'}"
            )


def asked_of_scheduler(job: Job) -> str:
    """What a job wants of its scheduler, for people."""
    steps = explicit_steps(job)
    if steps is None:
        asked = f"num_inference_steps {job.num_inference_steps}"
    else:
        asked = f"{steps} {shown(listed(getattr(job, steps)))}"
    if job.scheduler_config is None:
        return asked
    return f"{asked} and scheduler_config {shown(parsed(job.scheduler_config))}"


def _check_settings(cls: type[Any], changes: Mapping[str, Any]) -> None:
    """diffusers itself passes unknown settings over, and the image would be another's."""
    known = [
        name for name in _parameters(cls, "__init__") if name not in ("self", "args", "kwargs")
    ]
    unknown = [name for name in changes if name not in known or name in RESERVED]
    if unknown:
        raise UnsupportedJob(
            f"scheduler_config has {', '.join(unknown)}, which {cls.__name__} does not take: it "
            f"takes {', '.join(name for name in sorted(known) if name not in RESERVED)}"
        )


def _parameters(cls: type[Any], method: str) -> Mapping[str, inspect.Parameter]:
    """A method's parameters; none for diffusers' stand-in of a class whose library is missing."""
    try:
        return inspect.signature(getattr(cls, method)).parameters
    except ImportError:
        return {}


def _missing(error: ImportError) -> str:
    """The line of diffusers' five-line message that says what to install."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next(
        (line for line in lines if "requires" in line), lines[0] if lines else "ImportError"
    )
