"""``worker``: becomes the worker's own process, which alone imports torch."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.numbers import Number, Whole
from producer.cli.output import json_option
from producer.cli.settings_options import Flags, find_pool, pool_options
from producer.model_folder import absolute_model, absolute_part
from shared.errors import InvalidSettings
from shared.settings import Settings
from shared.worker_options import LEAST_SECONDS, MOST_AT_ONCE, MOST_SECONDS, VARIABLE, WorkerOptions

NEEDED = ("torch", "diffusers", "transformers", "accelerate")
DEFAULT = WorkerOptions(models=("demo",))


def _seconds(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    option = "--" + name.replace("_", "-")
    default = getattr(DEFAULT, name)
    kind = Number(LEAST_SECONDS[name], MOST_SECONDS)
    return click.option(option, type=kind, default=default, show_default=True, help=text)


@click.command(
    cls=SectionCommand,
    epilog=examples(
        "seedbed worker --model stabilityai/stable-diffusion-2-1 --batch-size 8 --device cuda",
        "seedbed worker --model demo --show",
    ),
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="hub id or folder, with @REVISION if need be; repeatable, the first is loaded at start",
)
@click.option("--variant", help="weight files' variant, such as fp16")
@click.option("--vae", "vaes", multiple=True, help="a VAE that jobs may ask for; repeatable")
@click.option("--lora", "loras", multiple=True, help="a LoRA that jobs may ask for; repeatable")
@click.option("--allow", multiple=True, help="pattern of more of all three, such as 'owner/*'")
@click.option("--single-file-config", help="folder whose configuration a .safetensors file takes")
@click.option(
    "--batch-size", type=Whole(1, MOST_AT_ONCE), help="images a batch; measured if not given"
)
@click.option("--device", help="cuda, mps or cpu; the best there is if not given")
@click.option("--dtype", help="float16, bfloat16 or float32; the device's usual if not given")
@click.option(
    "--attention-slicing",
    default=DEFAULT.attention_slicing,
    show_default=True,
    help="adaptive, auto, max, off, or a number of heads",
)
@click.option("--xformers", is_flag=True, help="attention by xFormers' kernels (CUDA)")
@click.option(
    "--vae-slicing/--no-vae-slicing",
    default=DEFAULT.vae_slicing,
    show_default=True,
    help="decode image by image: same pixels, less memory",
)
@click.option("--vae-tiling", is_flag=True, help="decode in tiles; changes pixels of large images")
@click.option("--channels-last", is_flag=True, help="memory format of convolutions")
@click.option("--offload", help="model or sequential: weights wait in the CPU's memory")
@click.option("--autocast", help="float16 or bfloat16, operation by operation; changes pixels")
@click.option("--compile", is_flag=True, help="torch.compile the denoiser before it is ready")
@click.option(
    "--keep-models",
    type=Whole(1, MOST_AT_ONCE),
    help="models loaded at once; as many as fit if not given",
)
@click.option("--show", is_flag=True, help="tell what would be in force and why, and end")
@json_option
@_seconds("lease_seconds", "a claim's lifetime between renewals")
@_seconds("gpu_seconds", "the longest one batch may take before the watchdog ends the process")
@_seconds("budget_seconds", "how long one doorbell serves")
@_seconds("grace_seconds", "how long a drain waits for the batch on the GPU")
@_seconds("timer_seconds", "mean time between looks for work")
@click.option(
    "--metrics-port",
    type=Whole(0, 65535),
    envvar="SEEDBED_METRICS_PORT",
    show_envvar=True,
    help="answer Prometheus and probes there; off if not given, 0 is any free port",
)
@click.option(
    "--metrics-host",
    default=DEFAULT.metrics_host,
    show_default=True,
    envvar="SEEDBED_METRICS_HOST",
    show_envvar=True,
    help="on this address; 0.0.0.0 in a container",
)
@click.option("--celery-events", is_flag=True, help="beat where Flower hears it")
@click.option(
    "--pod-deletion-cost", is_flag=True, help="in a Kubernetes pod: let idle workers be ended first"
)
@pool_options
def worker(
    flags: Flags, models: tuple[str, ...], show: bool, as_json: bool, **given: Any
) -> NoReturn:
    """Serve a pool with this machine's GPU, until SIGTERM or Ctrl-C.

    With --show it loads the models, prints device, number format, attention and every other
    setting with the reason for it, and touches no pool. docs/worker.md has what each does.
    """
    if as_json and not show:
        raise InvalidSettings("--json goes with --show: add it, or leave --json out")
    for name in ("vaes", "loras"):
        given[name] = tuple(map(absolute_part, given[name]))
    if given["single_file_config"] is not None:
        given["single_file_config"] = os.path.abspath(given["single_file_config"])
    options = WorkerOptions(models=tuple(map(absolute_model, models)), **given)
    settings = None if show else find_pool(flags)
    need_worker_packages("a worker")
    environ = worker_environ(settings, options)
    arguments = (["show-json"] if as_json else ["show"]) if show else []
    os.execve(sys.executable, [sys.executable, "-P", "-m", "worker", *arguments], environ)


def need_worker_packages(who: str) -> None:
    """Refuse what can't be done with the producer's packages alone.

    Args:
        who: What needs more.

    Raises:
        InvalidSettings: Some are not installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidSettings(
            f"{who} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            f"not installed here: pip install 'seedbed[worker]'"
        )


def worker_environ(settings: Settings | None, options: WorkerOptions) -> dict[str, str]:
    """This process' environment, with settings and options for the worker's."""
    pool = settings.to_environ() if settings is not None else {}
    environ = {**os.environ, **pool, VARIABLE: options.to_json()}
    root = Path(__file__).resolve().parents[2]
    if root.name not in ("site-packages", "dist-packages"):  # a checkout that is not installed
        environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(root), os.environ.get("PYTHONPATH")))
        )
    return environ
