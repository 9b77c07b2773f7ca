"""Which weights a job needs (a checkpoint, its VAE, LoRAs), and which of them a worker may load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import PurePath

from shared.canonical import canonical_json
from shared.errors import InvalidManifest
from shared.job import Job
from shared.lanes import model_key
from shared.mistakes import shown
from shared.structured import MAX_LORAS, MAX_NAME_CHARS, lora_weights


@dataclass(frozen=True, kw_only=True)
class WeightsName:
    """A checkpoint and what is put into it, by name.

    Attributes:
        model: Hub id, folder or file.
        revision: Hub branch, tag or commit.
        variant: Weight files' variant.
        vae: Of an AutoencoderKL in place of the checkpoint's.
        loras: Names, rising.
    """

    model: str
    revision: str | None = None
    variant: str | None = None
    vae: str | None = None
    loras: tuple[str, ...] = ()

    @classmethod
    def of(cls, job: Job) -> WeightsName:
        """What a job needs."""
        return cls(
            model=job.model,
            revision=job.revision,
            variant=job.variant,
            vae=job.vae,
            loras=tuple(lora_weights(job.loras)),
        )

    @property
    def key(self) -> str:
        """The queue's name for them."""
        return model_key(self.model, self.revision, self.variant, vae=self.vae, loras=self.loras)

    @property
    def option(self) -> str:
        """``MODEL`` or ``MODEL@REVISION``, as ``seedbed worker --model`` takes it."""
        return self.model if self.revision is None else f"{self.model}@{self.revision}"

    @property
    def parts(self) -> tuple[str, ...]:
        """What a worker must be told beside the model, as options."""
        vae = [] if self.vae is None else [f"--vae={self.vae}"]
        return (*vae, *(f"--lora={name}" for name in self.loras))

    @property
    def title(self) -> str:
        """For a sentence: ``model 'a/b' with vae 'c/d' and lora 'e/f'``."""
        variant = [] if self.variant is None else [f"variant {self.variant!r}"]
        vae = [] if self.vae is None else [f"vae {self.vae!r}"]
        more = [*variant, *vae, *(f"lora {name!r}" for name in self.loras)]
        return f"model {self.option!r}" + (f" with {' and '.join(more)}" if more else "")

    def to_text(self) -> str:
        """Canonical JSON."""
        return canonical_json({item.name: getattr(self, item.name) for item in fields(WeightsName)})

    @classmethod
    def from_text(cls, text: str) -> WeightsName:
        """Read what a stranger may have written.

        Raises:
            InvalidManifest: It names no weights.
        """
        try:
            data = json.loads(text)
            name = cls(**{**data, "loras": tuple(data["loras"])})
        except (KeyError, RecursionError, TypeError, ValueError) as exc:
            raise InvalidManifest(f"weights {shown(text)} can't be read") from exc
        texts = [name.model, *name.loras]
        texts += [one for one in (name.revision, name.variant, name.vae) if one is not None]
        if len(name.loras) > MAX_LORAS or not all(
            isinstance(one, str) and 0 < len(one) <= MAX_NAME_CHARS for one in texts
        ):
            raise InvalidManifest(f"weights {shown(text)} are not names")
        return name


@dataclass(frozen=True, kw_only=True)
class AllowList:
    """What a worker may load: what it was started with, and what a pattern allows.

    Attributes:
        models: ``MODEL`` or ``MODEL@REVISION``.
        variant: Of all models.
        vaes: Names.
        loras: Names.
        patterns: Such as ``owner/*``, of names of all three kinds.
    """

    models: Sequence[str]
    variant: str | None = None
    vaes: Sequence[str] = ()
    loras: Sequence[str] = ()
    patterns: Sequence[str] = ()

    def allows(self, weights: WeightsName) -> bool:
        """Whether all of them are."""
        return self.missing(weights) is None

    def missing(self, weights: WeightsName) -> str | None:
        """The first of them that is not, such as ``vae 'a/b'``."""
        if not self._has(weights.option, self.models):
            return f"model {weights.option!r}"
        if weights.variant != self.variant:
            return "variant " + ("null" if weights.variant is None else repr(weights.variant))
        if weights.vae is not None and not self._has(weights.vae, self.vaes):
            return f"vae {weights.vae!r}"
        lora = next((name for name in weights.loras if not self._has(name, self.loras)), None)
        return None if lora is None else f"lora {lora!r}"

    def _has(self, name: str, names: Sequence[str]) -> bool:
        if name in names:
            return True
        climbs = ".." in PurePath(name).parts  # /models/../etc is not below /models
        return not climbs and any(fnmatchcase(name, pattern) for pattern in self.patterns)
