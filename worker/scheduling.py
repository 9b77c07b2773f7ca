"""A fresh scheduler for every batch, made from the checkpoint's own configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import RenderError, UnsupportedJob

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

    def make(
        self, name: str | None, *, seeds: Sequence[int], changes: Mapping[str, Any] | None = None
    ) -> Any:
        """Make the scheduler for one batch.

        Args:
            name: diffusers class name; None is the checkpoint's own.
            seeds: One per row, for schedulers that draw noise of their own.
            changes: What is different from the checkpoint's configuration.

        Raises:
            UnsupportedJob: The class does not suit this checkpoint, or has no such setting.
            RenderError: It needs a library that this worker lacks.
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
        changes = changes or {}
        _check_settings(cls, changes)
        try:
            return cls.from_config(self.config, **own_noise, **changes)
        except ImportError as error:
            raise RenderError(
                f"scheduler {name!r} can't be used here: {_missing(error)}"
            ) from error
        except (ArithmeticError, KeyError, TypeError, ValueError, NotImplementedError) as error:
            what = f"scheduler_config {dict(changes)}" if changes else "this model's configuration"
            raise UnsupportedJob(f"scheduler {name!r} refuses {what}: {error}") from error

    def check_explicit(self, name: str | None, argument: str) -> None:
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
