"""Tells Kubernetes what ending this worker's pod would cost, so that idle ones are ended first."""

from __future__ import annotations

import json
import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from threading import Event, Thread

from shared.errors import InvalidSettings

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
"""What a ReplicaSet compares when it has pods too many, those that are not ready aside."""

BUSY, IDLE = 100, 0
"""A pod without the annotation costs 0, as one that is idle."""

LOOK_SECONDS = 5.0
IDLE_LOOKS = 3
"""Idle is told after so many looks in a row: a gap between two batches is no news, and each telling
is a write to the cluster's store."""

REQUEST_SECONDS = 10.0
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token, the API server's certificate authority, and its namespace."""

logger = logging.getLogger(__name__)


class PodDeletionCost:
    """A thread that keeps one pod's annotation at BUSY or IDLE.

    Args:
        url: The pod's, of the API server.
        account: Folder with ``token``, which changes while we run, and ``ca.crt``.
        busy: Whether work is in hand.
        look_seconds: Between two looks.
    """

    def __init__(
        self,
        *,
        url: str,
        account: Path,
        busy: Callable[[], bool],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._url = url
        self._token = account / "token"
        tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        # a proxy of the environment is for the world outside of the cluster
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
        )
        self._busy = busy
        self._look_seconds = look_seconds
        self._told: int | None = None
        self._idle_looks = 0
        self._stop = Event()
        self._thread = Thread(target=self._run, name="deletion-cost", daemon=True)

    @classmethod
    def of_this_pod(
        cls,
        environ: Mapping[str, str],
        *,
        busy: Callable[[], bool],
        account: Path = SERVICE_ACCOUNT,
        look_seconds: float = LOOK_SECONDS,
    ) -> PodDeletionCost:
        """For the pod that this process is in.

        Raises:
            InvalidSettings: It is in none, or may not speak to the API server.
        """
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
        pod = environ.get("POD_NAME")
        if not host or not port or not pod:
            raise InvalidSettings(
                "--pod-deletion-cost is for a pod of Kubernetes, with its name in POD_NAME: "
                "leave it out elsewhere"
            )
        try:
            namespace = (account / "namespace").read_text(encoding="utf-8").strip()
            host = f"[{host}]" if ":" in host else host
            url = f"https://{host}:{port}/api/v1/namespaces/{namespace}/pods/{pod}"
            return cls(url=url, account=account, busy=busy, look_seconds=look_seconds)
        except OSError as exc:
            raise InvalidSettings(
                f"--pod-deletion-cost needs the pod's service account ({exc}): "
                "set automountServiceAccountToken, or leave it out"
            ) from exc

    def start(self) -> None:
        """Begin looking."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=REQUEST_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:
                logger.exception("deletion cost stumbled, it goes on")
            self._stop.wait(self._look_seconds)

    def look(self) -> None:
        """See whether there is work in hand, and tell what has changed."""
        if self._busy():
            self._idle_looks = 0
            cost = BUSY
        else:
            self._idle_looks += 1
            if self._told is not None and self._idle_looks < IDLE_LOOKS:
                return
            cost = IDLE
        if cost != self._told and self._tell(cost):
            self._told = cost

    def _tell(self, cost: int) -> bool:
        """PATCH the annotation; returns whether that went well."""
        body = json.dumps({"metadata": {"annotations": {ANNOTATION: str(cost)}}})
        try:
            request = urllib.request.Request(
                self._url,
                data=body.encode(),
                method="PATCH",
                headers={
                    "Authorization": f"Bearer {self._token.read_text(encoding='utf-8').strip()}",
                    "Content-Type": "application/merge-patch+json",
                },
            )
            with self._opener.open(request, timeout=REQUEST_SECONDS):
                return True
        except (OSError, HTTPException) as exc:
            logger.warning("deletion cost not told", extra={"cost": cost, "error": str(exc)})
            return False
