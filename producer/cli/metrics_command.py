"""``metrics``: the pool's exporter, for Prometheus and KEDA, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import signal
from threading import Event
from typing import Any

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.numbers import Number, Whole
from producer.cli.output import say
from producer.cli.settings_options import Flags, find_pool, pool_options
from producer.wishes import MOST_TARGET_SECONDS, MOST_WORKERS, Scaling
from shared.metrics_server import DEFAULT_HOST, POOL_PORT

LOOK_AGAIN_SECONDS = 3600.0
"""Wakes the main thread now and then; a signal does it at once."""


@click.command(
    cls=SectionCommand,
    epilog=examples(
        "seedbed metrics",
        "seedbed metrics --host 0.0.0.0 --port 9640 --target-seconds 120 --max-workers 8",
    ),
)
@click.option(
    "--port",
    type=Whole(0, 65535),
    default=POOL_PORT,
    show_default=True,
    envvar="SEEDBED_METRICS_PORT",
    show_envvar=True,
    help="to listen on; 0 is any free one",
)
@click.option(
    "--host",
    default=DEFAULT_HOST,
    show_default=True,
    envvar="SEEDBED_METRICS_HOST",
    show_envvar=True,
    help="to listen on; 0.0.0.0 in a container",
)
@click.option(
    "--target-seconds",
    type=Number(0, MOST_TARGET_SECONDS),
    default=300.0,
    show_default=True,
    help="of work for each worker; several times what a worker takes to start",
)
@click.option(
    "--max-workers",
    type=Whole(0, MOST_WORKERS),
    default=100,
    show_default=True,
    help="never more, for one model",
)
@click.option(
    "--down-seconds",
    type=Number(0, MOST_TARGET_SECONDS),
    default=30.0,
    show_default=True,
    help="fewer are wanted when the backlog has been smaller for so long",
)
@pool_options
def metrics(flags: Flags, host: str, port: int, **scaling: Any) -> None:
    """Tell Prometheus of the pool, and KEDA how many workers it wants.

    /metrics, /scale/MODEL (percent-encoded), /healthz and /readyz; docs/metrics.md has every name.
    """
    from producer.exporter import Exporter
    from producer.pool_reader import PoolReader
    from shared.queue import JobQueue

    wanted = Scaling(**scaling)
    settings = find_pool(flags)
    queue = JobQueue.connect(str(settings.redis_url), settings.pool)
    reader = PoolReader(queue, wanted)
    reader.look()  # a Redis that is not there is said now
    ended = Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    server = Exporter(reader, wanted).serve(host, port)
    try:
        say(f"metrics of pool {settings.pool!r} on http://{host}:{server.port}/metrics")
        while not ended.wait(LOOK_AGAIN_SECONDS):
            pass
    finally:
        server.close()
        queue.client.close()
