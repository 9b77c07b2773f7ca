"""What a worker process is told on its command line, as one value."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from shared.errors import InvalidSettings

VARIABLE = "SEEDBED_WORKER_OPTIONS"
"""How `seedbed worker` hands them to the worker's own process, as JSON."""

LEAST_SECONDS = {
    "lease_seconds": 0.1,
    "gpu_seconds": 0.1,
    "budget_seconds": 0.1,
    "grace_seconds": 0.0,
    "timer_seconds": 0.1,
}
MOST_SECONDS = 86_400
"""A day: beyond it, somebody meant milliseconds."""
MOST_AT_ONCE = 1024
"""Bounds images in a batch, and models loaded."""
HEADS = re.compile(r"[1-9][0-9]{0,3}")
SLICINGS = ("adaptive", "auto", "max", "off")
"""Besides a number of heads; see `worker.attention`."""
DTYPES = ("float16", "bfloat16", "float32")
AUTOCASTS = ("float16", "bfloat16")
OFFLOADS = ("model", "sequential")


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """Options of one worker process.

    Attributes:
        models: What it may serve, ``MODEL`` or ``MODEL@REVISION``; the first is loaded at start.
        variant: Weight file variant of all of them.
        vaes: VAEs that jobs may ask for, by hub id (``NAME@REVISION``) or folder.
        loras: LoRAs that jobs may ask for, by hub id, folder or file.
        single_file_config: Folder whose configuration models in a single file take.
        allow: Patterns such as ``owner/*`` of further models, VAEs and LoRAs.
        batch_size: Images a batch; None measures it.
        device: ``cuda``, ``mps``, ``cpu`` or None for the best there is.
        dtype: ``float16``, ``bfloat16``, ``float32`` or None for the device's usual.
        attention_slicing: One of SLICINGS or a number of heads.
        xformers: Attention by xFormers' kernels.
        vae_slicing: Decode image by image.
        vae_tiling: Decode large images in overlapping tiles.
        channels_last: Convolutions keep their channels innermost in memory.
        offload: ``model`` or ``sequential``: weights wait in the CPU's memory; None is off.
        autocast: ``float16`` or ``bfloat16``: torch picks that format operation by operation;
            None is off.
        compile: The denoiser goes through torch.compile, before the worker is ready.
        keep_models: Models held at once at most; None is as many as memory allows.
        lease_seconds: A claim's lifetime between renewals.
        gpu_seconds: The longest one batch may take on the GPU before the watchdog ends
            the process.
        budget_seconds: How long one doorbell serves before it lets the next one in.
        grace_seconds: How long a drain waits for the batch on the GPU.
        timer_seconds: Mean time between a worker's own looks for work.
        metrics_port: Where Prometheus and probes are answered; 0 is any free port, None nowhere.
        metrics_host: On which address.
        celery_events: Beat where Flower hears it.
        pod_deletion_cost: Keep the pod's deletion cost, so that Kubernetes ends idle workers first.
    """

    models: tuple[str, ...]
    variant: str | None = None
    vaes: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    single_file_config: str | None = None
    batch_size: int | None = None
    device: str | None = None
    dtype: str | None = None
    attention_slicing: str = "adaptive"
    xformers: bool = False
    vae_slicing: bool = True
    vae_tiling: bool = False
    channels_last: bool = False
    offload: str | None = None
    autocast: str | None = None
    compile: bool = False
    keep_models: int | None = None
    lease_seconds: float = 30.0
    gpu_seconds: float = 600.0
    budget_seconds: float = 300.0
    grace_seconds: float = 20.0
    timer_seconds: float = 10.0
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    celery_events: bool = False
    pod_deletion_cost: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be right, naming the option."""
        if not self.models or not all(split_model(model)[0] for model in self.models):
            raise InvalidSettings("--model is missing: say which checkpoint this worker serves")
        for name in ("batch_size", "keep_models"):
            count = getattr(self, name)
            if count is not None and not 1 <= count <= MOST_AT_ONCE:
                option = "--" + name.replace("_", "-")
                raise InvalidSettings(f"{option} {count} is not from 1 to {MOST_AT_ONCE}")
        for name, least in LEAST_SECONDS.items():
            value = getattr(self, name)
            if not least <= value <= MOST_SECONDS:
                option = "--" + name.replace("_", "-")
                raise InvalidSettings(
                    f"{option} {value:g} is not from {least:g} to {MOST_SECONDS:g} seconds"
                )
        if self.metrics_port is not None and not 0 <= self.metrics_port <= 65535:
            raise InvalidSettings(f"--metrics-port {self.metrics_port} is not from 0 to 65535")
        if self.attention_slicing not in SLICINGS and not HEADS.fullmatch(self.attention_slicing):
            raise InvalidSettings(
                f"--attention-slicing {self.attention_slicing!r} is not known: "
                f"write {', '.join(SLICINGS)} or a number of heads"
            )
        for name, words in (("dtype", DTYPES), ("autocast", AUTOCASTS), ("offload", OFFLOADS)):
            value = getattr(self, name)
            if value is not None and value not in words:
                raise InvalidSettings(
                    f"--{name} {value!r} is not known: write {' or '.join(words)}, or leave it out"
                )
        self._check_pairs()

    def _check_pairs(self) -> None:
        """Refuse settings that exclude each other."""
        if self.offload is not None and self.device == "cpu":
            raise InvalidSettings(
                f"--offload {self.offload} needs a GPU to bring the weights to: "
                "leave it out with --device cpu"
            )
        if self.offload == "sequential" and self.compile:
            raise InvalidSettings(
                "--compile needs the denoiser's weights in one place: "
                "use --offload model, or leave --offload sequential out"
            )
        if self.xformers and self.attention_slicing not in ("adaptive", "off"):
            raise InvalidSettings(
                f"--xformers and --attention-slicing {self.attention_slicing} both replace "
                "attention: leave one of them out"
            )

    def to_json(self) -> str:
        """For the environment of the worker's process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerOptions:
        """Read what `to_json` wrote.

        Raises:
            InvalidSettings: Somebody else wrote it.
        """
        lists = ("models", "vaes", "loras", "allow")
        try:
            data = json.loads(text)
            return cls(**{**data, **{name: tuple(data.get(name, ())) for name in lists}})
        except (AttributeError, RecursionError, TypeError, ValueError) as exc:
            raise InvalidSettings(
                f"{VARIABLE} is not what 'seedbed worker' writes ({exc}): start the worker with "
                "'seedbed worker --model MODEL' instead of setting it"
            ) from exc


def split_model(text: str) -> tuple[str, str | None]:
    """``MODEL@REVISION`` into its parts; without ``@`` the revision is None.

    A local path is taken whole: folders have no revisions, but may well have an ``@``.
    """
    if text.startswith(("/", "./", "../", "~")):
        return text, None
    model, _, revision = text.partition("@")
    return model, revision or None
