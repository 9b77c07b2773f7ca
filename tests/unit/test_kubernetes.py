"""deploy/kubernetes is what Kubernetes and KEDA take, and holds what docs/deploy.md promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from producer.cli.main import cli
from shared.fields import DEMO_MODEL
from shared.settings import VARIABLES
from tests.alert_rules import RESOURCE, resource
from tests.kubernetes_files import (
    KUBERNETES,
    NEWEST,
    OLDEST,
    OVERLAYS,
    Resource,
    faults,
    keda_faults,
    name_of,
    of_kind,
    pod_of,
    render,
)

THEIRS = ("keda.sh/", "monitoring.coreos.com/")
"""Groups of custom resources, which Kubernetes' own schemas do not know."""

STORE_SECONDS = 60
"""What a pod has left after its grace for the batch, to store and release."""


def workers(resources: list[Resource]) -> list[Resource]:
    return [
        item
        for item in of_kind(resources, "Deployment")
        if name_of(item).startswith("seedbed-work")
    ]


def seedbed_containers(resources: list[Resource]) -> list[tuple[Resource, Resource]]:
    """Each pod with each of its containers that is ours."""
    return [
        (pod_of(item), container)
        for item in of_kind(resources, "Deployment")
        for container in pod_of(item)["containers"]
    ]


def config(resources: list[Resource], name: str) -> dict[str, str]:
    (found,) = (item for item in of_kind(resources, "ConfigMap") if name_of(item) == name)
    return dict(found["data"])


def model_of(worker: Resource, resources: list[Resource]) -> str:
    """What $(MODEL) becomes."""
    (container,) = pod_of(worker)["containers"]
    (source,) = (item["valueFrom"] for item in container["env"] if item["name"] == "MODEL")
    reference = source["configMapKeyRef"]
    return config(resources, reference["name"])[reference["key"]]


def options_of(container: Resource) -> dict[str, str]:
    pairs = (word.partition("=") for word in container["args"] if word.startswith("--"))
    return {name: value for name, _, value in pairs}


def test_there_are_at_least_three_variants() -> None:
    assert len(OVERLAYS) >= 3


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_resource_fits_kubernetes_own_schema(overlay: str, version: str) -> None:
    found = {
        f"{item['kind']}/{name_of(item)}": faults(item, version)
        for item in render(overlay)
        if not item["apiVersion"].startswith(THEIRS)
    }
    assert len(found) >= 10
    assert {name: fault for name, fault in found.items() if fault} == {}


def test_the_schema_finds_a_misspelt_field_and_a_wrong_type() -> None:
    (worker,) = workers(render("one-model"))
    pod_of(worker)["terminationGracePeriod"] = 1
    assert "terminationGracePeriod" in str(faults(worker, NEWEST))
    (worker,) = workers(render("one-model"))
    pod_of(worker)["terminationGracePeriodSeconds"] = "long"
    assert "long" in str(faults(worker, NEWEST))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_scaled_object_fits_kedas_own_schema(overlay: str) -> None:
    found = of_kind(render(overlay), "ScaledObject")
    assert [fault for item in found for fault in keda_faults(item)] == []
    assert bool(found) is (overlay != "trial")


def test_kedas_schema_finds_a_misspelt_field() -> None:
    (scaler,) = of_kind(render("one-model"), "ScaledObject")
    scaler["spec"]["cooldownperiod"] = 3
    assert "cooldownperiod" in str(keda_faults(scaler))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_scaler_asks_for_the_model_that_its_workers_serve(overlay: str) -> None:
    resources = render(overlay)
    by_name = {name_of(item): item for item in workers(resources)}
    for scaler in of_kind(resources, "ScaledObject"):
        spec = scaler["spec"]
        worker = by_name.pop(spec["scaleTargetRef"]["name"])
        (trigger,) = spec["triggers"]
        assert trigger["type"] == "metrics-api"
        host, _, model = trigger["metadata"]["url"].partition("/scale/")
        assert unquote(model) == model_of(worker, resources)
        namespace = scaler["metadata"]["namespace"]
        (service,) = (
            item for item in of_kind(resources, "Service") if name_of(item) == "seedbed-metrics"
        )
        assert service["metadata"]["namespace"] == namespace
        port = service["spec"]["ports"][0]["port"]
        assert host == f"http://seedbed-metrics.{namespace}.svc:{port}"
        assert trigger["metadata"]["valueLocation"] == "workers_wanted"
        assert trigger["metadata"]["targetValue"] == "1"
        assert trigger["metadata"]["activationTargetValue"] == "0"
        assert trigger["metricType"] == "AverageValue", "KEDA has a fallback for no other"
        assert spec["minReplicaCount"] == 0
        assert spec["fallback"]["behavior"] == "currentReplicas"
        down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] >= 60
        assert "replicas" not in worker["spec"], "else every apply would set it"
        (metrics,) = (
            item for item in of_kind(resources, "Deployment") if name_of(item) == "seedbed-metrics"
        )
        most = options_of(pod_of(metrics)["containers"][0])["--max-workers"]
        assert spec["maxReplicaCount"] <= int(most)
    assert bool(by_name) is (overlay == "trial")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_worker_may_finish_its_batch_before_it_is_killed(overlay: str) -> None:
    for worker in workers(render(overlay)):
        pod = pod_of(worker)
        (container,) = pod["containers"]
        options = options_of(container)
        assert float(options["--grace-seconds"]) >= float(options["--gpu-seconds"])
        kill = pod["terminationGracePeriodSeconds"]
        assert kill >= float(options["--grace-seconds"]) + STORE_SECONDS
        assert "lifecycle" not in container


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_gets_a_command_that_parses_and_variables_that_are_read(
    overlay: str,
) -> None:
    resources = render(overlay)
    for worker in workers(resources):
        assert model_of(worker, resources) != DEMO_MODEL or overlay == "trial"
    for _, container in seedbed_containers(resources):
        name, *words = container["args"]
        cli.commands[name].make_context(name, words)
        given = {item["name"] for item in container["env"]}
        for source in container["envFrom"]:
            given |= set(config(resources, source["configMapRef"]["name"]))
        ours = {variable for variable in given if variable.startswith("SEEDBED_")}
        assert ours <= set(VARIABLES.values())
        assert {"SEEDBED_REDIS_URL", "SEEDBED_BUCKET"} <= ours


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_has_more_rights_than_it_needs(overlay: str) -> None:
    resources = render(overlay)
    for item in of_kind(resources, "Deployment") + of_kind(resources, "StatefulSet"):
        pod = pod_of(item)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        # a Service seedbed-metrics would set SEEDBED_METRICS_PORT=tcp://... else
        assert pod["enableServiceLinks"] is False
        costs = "--pod-deletion-cost" in pod["containers"][0].get("args", [])
        assert pod["automountServiceAccountToken"] is costs
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
    for role in of_kind(resources, "Role"):
        assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]
    assert of_kind(resources, "ClusterRole") == []


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name != "trial"])
def test_secrets_are_only_referred_to(overlay: str) -> None:
    resources = render(overlay)
    assert of_kind(resources, "Secret") == []
    for _, container in seedbed_containers(resources):
        for item in container["env"]:
            if re.search("TOKEN|SECRET|ACCESS_KEY|REDIS_URL", item["name"]):
                assert item["valueFrom"]["secretKeyRef"]["name"] == "seedbed"


def test_only_the_container_that_fetches_has_the_hubs_token() -> None:
    (worker,) = workers(render("one-model"))
    (fetch,) = pod_of(worker)["initContainers"]
    (container,) = pod_of(worker)["containers"]
    assert "HF_TOKEN" in str(fetch)
    assert "HF_TOKEN" not in str(container)
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in container["env"]
    mounts = [item for item in fetch["volumeMounts"] if item["name"] == "models"]
    assert mounts == [item for item in container["volumeMounts"] if item["name"] == "models"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_finds_its_pods_and_no_others(overlay: str) -> None:
    resources = render(overlay)
    pods = {
        name_of(item): item["spec"]["template"]["metadata"]["labels"]
        for item in of_kind(resources, "Deployment") + of_kind(resources, "StatefulSet")
    }

    def selected(selector: dict[str, Any]) -> set[str]:
        wanted = selector.get("matchLabels", selector).items()
        return {name for name, labels in pods.items() if wanted <= labels.items()}

    for item in of_kind(resources, "Deployment"):
        assert selected(item["spec"]["selector"]) == {name_of(item)}
    for item in of_kind(resources, "PodDisruptionBudget"):
        assert selected(item["spec"]["selector"]) == {name_of(item)}
    for item in of_kind(resources, "Service"):
        (name,) = selected(item["spec"]["selector"])
        ports = {port["name"] for port in _ports(resources, name)}
        assert {port["targetPort"] for port in item["spec"]["ports"]} <= ports
    for item in of_kind(resources, "NetworkPolicy"):
        assert selected(item["spec"]["podSelector"])
    for item in of_kind(resources, "PodMonitor"):
        chosen = selected(item["spec"]["selector"])
        assert chosen == {name_of(worker) for worker in workers(resources)}
        (endpoint,) = item["spec"]["podMetricsEndpoints"]
        for name in chosen:
            assert endpoint["port"] in {port["name"] for port in _ports(resources, name)}
    services = {
        name_of(item): item["metadata"].get("labels", {}) for item in of_kind(resources, "Service")
    }
    for item in of_kind(resources, "ServiceMonitor"):
        wanted = item["spec"]["selector"]["matchLabels"].items()
        assert [name for name, labels in services.items() if wanted <= labels.items()] == [
            "seedbed-metrics"
        ]


def _ports(resources: list[Resource], workload: str) -> list[dict[str, Any]]:
    (found,) = (
        item
        for item in of_kind(resources, "Deployment") + of_kind(resources, "StatefulSet")
        if name_of(item) == workload
    )
    return [port for item in pod_of(found)["containers"] for port in item["ports"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_name_that_is_referred_to_is_there_or_documented(overlay: str) -> None:
    resources = render(overlay)
    there = {(item["kind"], name_of(item)) for item in resources}
    documented = {"Secret": {"seedbed"}, "PersistentVolumeClaim": {"checkpoints"}}
    documents = (KUBERNETES.parents[1] / "docs" / "deploy.md").read_text(encoding="utf-8")
    for names in documented.values():
        assert all(f"`{name}`" in documents for name in names)
    text = {"configMapRef": "ConfigMap", "configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}
    for found, kind in _references(resources, text):
        assert (kind, found) in there or found in documented.get(kind, ()), f"{kind} {found}"


def _references(node: Any, kinds: dict[str, str]) -> list[tuple[str, str]]:
    if isinstance(node, list):
        return [found for item in node for found in _references(item, kinds)]
    if not isinstance(node, dict):
        return []
    found = [(str(node[key]["name"]), kind) for key, kind in kinds.items() if key in node]
    if "claimName" in node:
        found.append((str(node["claimName"]), "PersistentVolumeClaim"))
    if "serviceAccountName" in node:
        found.append((str(node["serviceAccountName"]), "ServiceAccount"))
    return found + [item for value in node.values() for item in _references(value, kinds)]


def test_a_worker_asks_for_a_gpu_and_for_cuda_unless_it_is_a_trial() -> None:
    for overlay in OVERLAYS:
        for worker in workers(render(overlay)):
            (container,) = pod_of(worker)["containers"]
            gpus = container["resources"]["limits"].get("nvidia.com/gpu")
            device = options_of(container)["--device"]
            assert (gpus, device) == ((None, "cpu") if overlay == "trial" else ("1", "cuda"))


def test_the_operators_rules_are_prometheus_own() -> None:
    assert RESOURCE.read_text(encoding="utf-8") == resource(), "run python -m tests.alert_rules"


def test_every_component_is_part_of_a_variant() -> None:
    used = "".join(
        path.read_text(encoding="utf-8")
        for path in KUBERNETES.glob("overlays/**/kustomization.yaml")
    )
    for component in KUBERNETES.glob("components/*"):
        assert f"components/{component.name}\n" in used, component.name


def test_images_are_named_by_a_tag() -> None:
    for overlay in OVERLAYS:
        for item in of_kind(render(overlay), "Deployment") + of_kind(
            render(overlay), "StatefulSet"
        ):
            for container in pod_of(item)["containers"] + pod_of(item).get("initContainers", []):
                _, _, tag = Path(container["image"]).name.partition(":")
                assert tag not in ("", "latest"), container["image"]
