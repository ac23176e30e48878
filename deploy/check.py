"""`python deploy/check.py [FOLDER]`: renders the base and every overlay and says what is wrong with them.

Every document against the schemas of the oldest and the newest Kubernetes, strictly; every pod against the restricted Pod
Security standard and our own rules; every name that one document calls another by; and the fleet's file as the services
would read it. One line a kustomization when all is well. Exit codes: 0 fine, 1 something is wrong, each with its line.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import yaml

if TYPE_CHECKING:
    from redis_agent.fleet import Fleet

Document = dict[str, Any]

DEPLOY = Path(__file__).resolve().parent
OLDEST = "1.27"  # the first whose gRPC probes are stable
NEWEST = kubernetes_validate.latest_version().rpartition(".")[0]
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
FLEET_FILE = "fleet.yaml"


def main(arguments: list[str]) -> int:
    """Check the kustomizations beneath FOLDER (by default deploy/kustomize)."""
    root = Path(arguments[0]) if arguments else DEPLOY / "kustomize"
    wrong = 0
    for folder in [root / "base", *sorted(path.parent for path in root.glob("overlays/*/kustomization.yaml"))]:
        shown = os.path.relpath(folder)
        try:
            documents = render(folder)
        except subprocess.CalledProcessError as fault:
            found, documents = [f"does not render: {fault.stderr.strip()}"], []
        else:
            found = list(faults(documents))
        wrong += len(found)
        for text in found:
            print(f"{shown}: {text}")  # noqa: T201 - the command's answer
        if not found:
            print(f"{shown}: {len(documents)} documents, Kubernetes {OLDEST} and {NEWEST}: fine")  # noqa: T201
    return 1 if wrong else 0


def render(folder: Path) -> list[Document]:
    """The documents that the kustomization makes. Raises CalledProcessError with kustomize's own words in stderr."""
    done = subprocess.run([DEPLOY / "render.sh", folder], check=True, capture_output=True, text=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def faults(documents: list[Document]) -> Iterator[str]:
    """Everything that is wrong, each with the document it is in."""
    malformed = [f"{_name(document)}: {text}" for document in documents for text in schema_faults(document)]
    # The rules read documents that have their shape.
    yield from malformed or rule_faults(documents)


def rule_faults(documents: list[Document]) -> Iterator[str]:
    """What the API server would take and we don't."""
    for document in documents:
        found = list(secret_faults(document))
        if document["kind"] in WORKLOADS:
            found += pod_faults(document["spec"]["template"]["spec"])
        yield from (f"{_name(document)}: {text}" for text in found)
    yield from reference_faults(documents)
    yield from configuration_faults(documents)


def schema_faults(document: Document) -> Iterator[str]:
    """What the API server of the oldest and of the newest Kubernetes would refuse. Unknown keys count."""
    for version in (OLDEST, NEWEST):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as fault:
            yield f"Kubernetes {version}: {'.'.join(map(str, fault.path)) or 'the document'}: {fault.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"Kubernetes {version} has no {document['apiVersion']} {document['kind']}"


def secret_faults(document: Document) -> Iterator[str]:
    """A Secret that carries values."""
    if document["kind"] == "Secret" and (document.get("data") or document.get("stringData")):
        yield "carries values; a Secret is made where it is used, and only named here"


# --- pods -------------------------------------------------------------------------------------------------------------


def pod_faults(pod: Document) -> Iterator[str]:
    """What the restricted Pod Security standard forbids, and what we forbid besides."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} must not be set"
    for volume in pod.get("volumes", ()):
        if kinds := volume.keys() - RESTRICTED_VOLUMES - {"name"}:
            yield f"volume {volume['name']}: {', '.join(sorted(kinds))} isn't allowed"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken must be false"
    served = pod["containers"]
    for container in [*served, *pod.get("initContainers", ())]:
        found = [*_security(pod, container), *_resources(container)]
        if container in served:
            found += _probes(container)
        yield from (f"container {container['name']}: {text}" for text in found)


def _security(pod: Document, container: Document) -> Iterator[str]:
    own = container.get("securityContext", {})
    context = {**pod.get("securityContext", {}), **own}
    capabilities = own.get("capabilities", {})
    rules = {
        "runAsNonRoot must be true": context.get("runAsNonRoot") is True,
        "runAsUser must not be 0": context.get("runAsUser") != 0,
        "seccompProfile must be RuntimeDefault": context.get("seccompProfile", {}).get("type") == "RuntimeDefault",
        "privileged must not be set": not own.get("privileged"),
        "allowPrivilegeEscalation must be false": own.get("allowPrivilegeEscalation") is False,
        "readOnlyRootFilesystem must be true": own.get("readOnlyRootFilesystem") is True,
        "capabilities must drop ALL": "ALL" in capabilities.get("drop", ()),
        "capabilities must add none": not capabilities.get("add"),
        "procMount must not be set": own.get("procMount", "Default") == "Default",
        "hostPort must not be set": not any(port.get("hostPort") for port in container.get("ports", ())),
    }
    return (rule for rule, holds in rules.items() if not holds)


def _resources(container: Document) -> Iterator[str]:
    resources = container.get("resources", {})
    for part, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        if name not in resources.get(part, {}):
            yield f"resources.{part}.{name} is missing"
    image = container["image"]
    tag = image.rpartition("/")[2].partition(":")[2]
    if "@sha256:" not in image and tag in ("", "latest"):
        yield f"image {image} must have a tag that stays, or a digest"


def _probes(container: Document) -> Iterator[str]:
    yield from (f"{probe} is missing" for probe in PROBES if probe not in container)
    ports = {port["containerPort"] for port in container.get("ports", ())}
    for probe in PROBES:
        grpc = container.get(probe, {}).get("grpc")
        if grpc and grpc["port"] not in ports:
            yield f"{probe}: port {grpc['port']} isn't among its ports"
    if container.get("livenessProbe", {}).get("grpc", {"service": "any"}).get("service", "") == "":
        yield "livenessProbe: grpc kills a service that waits for its log; ask with redis_agent.rpc.probe --alive"


# --- names ------------------------------------------------------------------------------------------------------------


def reference_faults(documents: list[Document]) -> Iterator[str]:
    """A name that nothing bears, a selector that finds nothing, a pod that two workloads claim."""
    known = {(document["kind"], document["metadata"]["name"]) for document in documents}
    workloads = [document for document in documents if document["kind"] in WORKLOADS]
    for workload in workloads:
        wanted = set(_wanted(workload["spec"]["template"]["spec"]))
        yield from (f"{_name(workload)}: no {kind} {name} here" for kind, name in sorted(wanted - known))
        owners = [other for other in workloads if _selects(_match_labels(other), workload)]
        if owners != [workload]:
            yield f"{_name(workload)}: its pods are selected by {', '.join(map(_name, owners)) or 'nobody'}"
    for document in documents:
        if document["kind"] == "Service":
            yield from _service_faults(document, workloads)
        if document["kind"] == "PodDisruptionBudget" and not any(
            _selects(_match_labels(document), workload) for workload in workloads
        ):
            yield f"{_name(document)}: selects no pod"


def _wanted(pod: Document) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", pod.get("serviceAccountName", "default")
    for volume in pod.get("volumes", ()):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]


def _service_faults(service: Document, workloads: list[Document]) -> Iterator[str]:
    behind = [workload for workload in workloads if _selects(service["spec"]["selector"], workload)]
    if len(behind) != 1:
        yield f"{_name(service)}: selects the pods of {', '.join(map(_name, behind)) or 'nobody'}; one is right"
    for workload in behind:
        ports = [
            port for container in workload["spec"]["template"]["spec"]["containers"] for port in container["ports"]
        ]
        named = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in named:
                yield f"{_name(service)}: {_name(workload)} has no port {port['targetPort']}"


def _match_labels(document: Document) -> dict[str, str]:
    labels: dict[str, str] = document["spec"]["selector"]["matchLabels"]
    return labels


def _selects(labels: dict[str, str], workload: Document) -> bool:
    borne: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels.items() <= borne.items()


# --- the fleet's file -------------------------------------------------------------------------------------------------


def configuration_faults(documents: list[Document]) -> Iterator[str]:
    """A fleet's file that the services would refuse, or that speaks of other ports and names than the manifests."""
    # Imported here: the checkout need not be installed.
    if str(DEPLOY.parent) not in sys.path:
        sys.path.insert(0, str(DEPLOY.parent))
    from redis_agent.errors import ConfigurationError
    from redis_agent.fleet import SERVICES
    from redis_agent.fleet_file import load

    services = {document["metadata"]["name"] for document in documents if document["kind"] == "Service"}
    for document in documents:
        if document["kind"] != "ConfigMap" or FLEET_FILE not in document.get("data", {}):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, FLEET_FILE)
            path.write_text(document["data"][FLEET_FILE])
            try:
                fleet = load(path, environ={}, sections=())
            except ConfigurationError as fault:
                yield from (f"{_name(document)}: {line.removeprefix(f'{folder}/')}" for line in fault.faults)
                continue
        for workload in documents:
            if workload["kind"] in WORKLOADS and (service := _service(workload)) in SERVICES:
                found = _disagreements(fleet, service, workload["spec"]["template"], services)
                yield from (f"{_name(workload)}: {text}" for text in found)


def _service(workload: Document) -> str:
    """Which service its container is told to be."""
    return str((workload["spec"]["template"]["spec"]["containers"][0].get("args") or [""])[0])


def _disagreements(fleet: "Fleet", service: str, template: Document, services: set[str]) -> Iterator[str]:
    ports = {port.get("name"): port["containerPort"] for port in template["spec"]["containers"][0].get("ports", ())}
    metrics = fleet.telemetry.metrics_port(service)
    scraped = template["metadata"].get("annotations", {}).get("prometheus.io/port")
    if scraped != str(metrics) or ports.get("metrics") != metrics:
        yield f"metrics: {FLEET_FILE} says port {metrics}, annotation {scraped}, container {ports.get('metrics')}"
    listens = fleet.api.port if service == "gateway" else fleet.grpc.port(service)
    if listens not in ports.values():
        yield f"{FLEET_FILE} lets it listen on {listens}, which isn't among its ports"
    if service != "gateway" and (host := fleet.grpc.address(service).partition(":")[0]) not in services:
        yield f"{FLEET_FILE} calls it {host}, but no Service has that name"


def _name(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
