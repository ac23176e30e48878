"""What the kustomizations make, and that `deploy/check.py` sees what is wrong with them."""

import copy
import functools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import check
from redis_agent.errors import ConfigurationError
from redis_agent.fleet import SERVICES
from redis_agent.fleet_file import load

KUSTOMIZE = check.DEPLOY / "kustomize"
EXAMPLE = KUSTOMIZE / "overlays" / "example"
FLEETS = [KUSTOMIZE / "base" / "fleet.yaml", EXAMPLE / "fleet.yaml"]
MOUNT = Path("/run/secrets/redis-agent")


@functools.cache
def rendered(folder: Path) -> list[check.Document]:
    return check.render(folder)


def of_kind(documents: list[check.Document], kind: str) -> dict[str, check.Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def pod(documents: list[check.Document], name: str) -> dict[str, Any]:
    found: dict[str, Any] = of_kind(documents, "Deployment")[name]["spec"]["template"]
    return found


def run_check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, check.DEPLOY / "check.py", *arguments], capture_output=True, text=True, timeout=60
    )


def test_the_manifests_in_the_tree_pass_with_a_line_each() -> None:
    done = run_check()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()] == ["fine", "fine"]


def test_a_manifest_broken_in_a_copy_is_named(tmp_path: Path) -> None:
    copied = shutil.copytree(KUSTOMIZE, tmp_path / "kustomize")
    detector = copied / "base" / "detector.yaml"
    detector.write_text(detector.read_text().replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"))
    done = run_check(copied)
    assert done.returncode == 1
    fault = "Deployment detector: container detector: readOnlyRootFilesystem must be true"
    assert done.stdout.count(fault) == 2, "once in the base, once in the overlay that includes it"


def test_what_does_not_render_is_told_in_the_words_of_kustomize(tmp_path: Path) -> None:
    copied = shutil.copytree(KUSTOMIZE, tmp_path / "kustomize")
    (copied / "base" / "notifier.yaml").unlink()
    done = run_check(copied)
    assert done.returncode == 1
    assert "does not render" in done.stdout
    assert "notifier.yaml" in done.stdout


def broken(change: Callable[[list[check.Document]], object]) -> list[str]:
    documents = copy.deepcopy(rendered(EXAMPLE))
    change(documents)
    return list(check.rule_faults(documents))


def container(documents: list[check.Document], name: str) -> dict[str, Any]:
    found: dict[str, Any] = pod(documents, name)["spec"]["containers"][0]
    return found


def fleet_text(documents: list[check.Document], old: str, new: str) -> None:
    (fleet,) = of_kind(documents, "ConfigMap").values()
    assert old in fleet["data"]["fleet.yaml"]
    fleet["data"]["fleet.yaml"] = fleet["data"]["fleet.yaml"].replace(old, new)


SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "grpc-key"}, "stringData": {"grpc_key": "k"}}
VANTAGE = "redis-agent/vantage"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: container(d, "gateway").update(image="redis-agent:latest"), "image redis-agent:latest must"),
        (lambda d: container(d, "gateway").update(image="host:5000/redis-agent"), "image host:5000/redis-agent must"),
        (lambda d: container(d, "gateway").pop("startupProbe"), "gateway: startupProbe is missing"),
        (lambda d: container(d, "detector").update(livenessProbe={"grpc": {"port": 50052}}), "waits for its log"),
        (lambda d: container(d, "detector")["readinessProbe"]["grpc"].update(port=50059), "50059 isn't among its"),
        (lambda d: container(d, "detector")["resources"].pop("limits"), "resources.limits.memory is missing"),
        (lambda d: container(d, "notifier").pop("securityContext"), "notifier: capabilities must drop ALL"),
        (lambda d: container(d, "notifier")["securityContext"].update(runAsUser=0), "runAsUser must not be 0"),
        (lambda d: pod(d, "notifier")["spec"].pop("securityContext"), "seccompProfile must be RuntimeDefault"),
        (lambda d: pod(d, "notifier")["spec"].update(hostNetwork=True), "hostNetwork must not be set"),
        (lambda d: pod(d, "notifier")["spec"].pop("automountServiceAccountToken"), "automountServiceAccountToken"),
        (
            lambda d: pod(d, "notifier")["spec"]["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
            "volume h: hostPath isn't allowed",
        ),
        (lambda d: d.append(SECRET), "Secret grpc-key: carries values"),
        (lambda d: d.remove(of_kind(d, "ServiceAccount")["controller"]), "no ServiceAccount controller here"),
        (lambda d: d.remove(of_kind(d, "PersistentVolumeClaim")["controller-state"]), "no PersistentVolumeClaim"),
        (lambda d: of_kind(d, "Service")["gateway"]["spec"]["ports"][0].update(targetPort="web"), "no port web"),
        (lambda d: of_kind(d, "Service")["collector"]["spec"]["selector"].pop(VANTAGE), "collector-dc-west; one is"),
        (
            lambda d: of_kind(d, "Deployment")["collector"]["spec"]["selector"]["matchLabels"].pop(VANTAGE),
            "collector-dc-west: its pods are selected by Deployment collector, Deployment collector-dc-west",
        ),
        (
            lambda d: of_kind(d, "PodDisruptionBudget")["collector"]["spec"]["selector"]["matchLabels"].update(x="y"),
            "PodDisruptionBudget collector: selects no pod",
        ),
        (lambda d: fleet_text(d, "quorum: 2", "quorun: 2"), "failover.quorun: unknown key"),
        (lambda d: fleet_text(d, "9464", "9400"), "detector: metrics: fleet.yaml says port 9401, annotation 9465"),
        (lambda d: fleet_text(d, "detector:50052", "nobody:50052"), "calls it nobody, but no Service"),
        (lambda d: fleet_text(d, "port: 8080", "port: 8081"), "gateway: fleet.yaml lets it listen on 8081"),
    ],
)
def test_check_names(change: Callable[[list[check.Document]], object], told: str) -> None:
    found = broken(change)
    assert any(told in text for text in found), found


@pytest.mark.parametrize("version", [check.OLDEST, check.NEWEST])
def test_a_key_that_kubernetes_does_not_know_is_a_fault(version: str) -> None:
    documents = copy.deepcopy(rendered(EXAMPLE))
    container(documents, "gateway")["imagePulPolicy"] = "Always"
    (found,) = [text for text in check.faults(documents) if f"Kubernetes {version}" in text]
    assert found.startswith("Deployment gateway: ")
    assert "imagePulPolicy" in found


def test_every_service_has_its_deployment_service_and_account() -> None:
    documents = rendered(KUSTOMIZE / "base")
    for kind in ("Deployment", "Service", "ServiceAccount"):
        assert set(of_kind(documents, kind)) == set(SERVICES)
    for service in SERVICES:
        assert container(documents, service)["args"] == [service, "--config", "/etc/redis-agent/fleet.yaml"]


def test_the_controller_runs_once_and_its_pause_outlives_the_pod() -> None:
    documents = rendered(EXAMPLE)
    spec = of_kind(documents, "Deployment")["controller"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    (state,) = [volume for volume in spec["template"]["spec"]["volumes"] if volume["name"] == "state"]
    (mount,) = [mount for mount in container(documents, "controller")["volumeMounts"] if mount["name"] == "state"]
    assert "persistentVolumeClaim" in state
    fleet = yaml.safe_load((EXAMPLE / "fleet.yaml").read_text())
    assert Path(fleet["failover"]["pause_dir"]).is_relative_to(mount["mountPath"])


def test_the_two_collectors_of_the_overlay_look_from_different_places() -> None:
    documents = rendered(EXAMPLE)
    vantages = {}
    for name in ("collector", "collector-dc-west"):
        (variable,) = container(documents, name)["env"]
        assert variable["name"] == "REDIS_AGENT__COLLECTOR__VANTAGE"
        assert variable["valueFrom"] == {"fieldRef": {"fieldPath": f"metadata.labels['{VANTAGE}']"}}
        vantages[name] = pod(documents, name)["metadata"]["labels"][VANTAGE]
    assert vantages == {"collector": "dc-east", "collector-dc-west": "dc-west"}


@pytest.mark.parametrize("path", FLEETS, ids=["base", "example"])
def test_the_fleets_file_asks_for_nothing_but_its_secrets(path: Path) -> None:
    load(path, environ={}, sections=())
    with pytest.raises(ConfigurationError) as failed:
        load(path, environ={})
    assert all(f"{MOUNT}/" in line and "can't be read" in line for line in failed.value.faults), failed.value.faults


@pytest.mark.parametrize("path", FLEETS, ids=["base", "example"])
def test_the_fleets_file_loads_once_its_secrets_are_there(path: Path, tmp_path: Path) -> None:
    text = path.read_text().replace(str(MOUNT), str(tmp_path))
    for line in text.splitlines():
        _, here, name = line.partition(f"{tmp_path}/")
        if here:
            (tmp_path / name.rstrip("} ")).write_text("0a1b2c3d4e5f60718293a4b5c6d7e8f9")
    copied = tmp_path / "fleet.yaml"
    copied.write_text(text)
    load(copied, environ={})
