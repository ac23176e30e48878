"""The examples as a newcomer uses them: checked in a fresh clone, started, asked whether they are well, stopped."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from redis_agent.fleet import Fleet
from redis_agent.rpc.probe import ask
from simulator.kafka_broker import KafkaCluster
from simulator.ports import free_ports
from simulator.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
FILES = ("config_basic.json", "config_multi_dc.json", "config_full.json")
SERVICES = ("collector", "detector", "controller", "notifier")
PREFIX = "REDIS_AGENT__"


def exported() -> dict[str, str]:
    """The variables of the README's one `export` block, as a shell sets them."""
    blocks = re.findall(r"```sh\n(.*?)```", (EXAMPLES / "README.md").read_text(), re.S)
    assert len(blocks) == 1
    named = re.findall(r"export (\w+)=", blocks[0])
    shell = subprocess.run(["bash", "-euc", f"{blocks[0]}\nenv -0"], capture_output=True, text=True, check=True)
    whole = dict(line.split("=", 1) for line in shell.stdout.split("\0") if line)
    return {name: whole[name] for name in named}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "redis_agent.cli", *map(str, arguments)]


# --- config check -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_each_passes_the_check_with_nothing_set(name: str, tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command("config", "check", EXAMPLES / name), cwd=tmp_path, env=bare, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{name}: right: " in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_the_readmes_variables_are_those_that_the_full_example_needs(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    full = command("config", "check", "--here", EXAMPLES / "config_full.json")
    without = subprocess.run(full, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert without.returncode == 2
    needed = set(re.findall(r"the environment variable (\w+) isn't set here", without.stderr))
    assert needed == set(exported())
    assert subprocess.run(full, cwd=tmp_path, env=environment | exported(), capture_output=True).returncode == 0


def test_the_examples_name_every_option() -> None:
    """Each key of the schema once at least; a secret in one of its three forms; below `null` nothing can be named.

    The full example is on Kafka; the one of two datacenters has the embedded log's options.
    """
    schema = Fleet.model_json_schema()
    examples = [json.loads((EXAMPLES / name).read_text()) for name in ("config_full.json", "config_multi_dc.json")]
    absent = {path for path in _options(schema, schema) if not any(_named(each, path.split(".")) for each in examples)}
    secrets = {f"{stem}{form}" for stem in _secrets(schema) for form in ("", "_file", "_env")}
    assert {path for path in absent if path.rsplit(".", 1)[-1] not in secrets} == {
        "grpc.tls.cert_file",
        "grpc.tls.key_file",
        "grpc.tls.client_ca_file",
        "grpc.tls.ca_file",
    }


def _secrets(schema: dict[str, Any]) -> set[str]:
    names = {name for definition in schema["$defs"].values() for name in definition.get("properties", {})}
    return {name for name in names if {f"{name}_file", f"{name}_env"} <= names}


def _options(schema: dict[str, Any], here: dict[str, Any], at: str = "") -> Iterator[str]:
    for choice in [here, *here.get("anyOf", ())]:
        if "$ref" in choice:
            yield from _options(schema, schema["$defs"][choice["$ref"].rsplit("/", 1)[-1]], at)
        if "items" in choice:
            yield from _options(schema, choice["items"], f"{at}*.")
        if isinstance(choice.get("additionalProperties"), dict):
            yield from _options(schema, choice["additionalProperties"], f"{at}*.")
        for name, inner in choice.get("properties", {}).items():
            yield f"{at}{name}"
            yield from _options(schema, inner, f"{at}{name}.")


def _named(data: Any, path: list[str]) -> bool:
    if not path:
        return True
    if path[0] == "*":
        inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
        return any(_named(each, path[1:]) for each in inner)
    return isinstance(data, dict) and path[0] in data and _named(data[path[0]], path[1:])


# --- up -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ports:
    """Ports that nobody has, and the variables that make an example use them."""

    grpc: dict[str, int]
    api: int
    metrics: int

    def environment(self) -> dict[str, str]:
        chosen = {f"GRPC__PORTS__{service.upper()}": str(port) for service, port in self.grpc.items()}
        return {f"{PREFIX}{key}": value for key, value in {**chosen, "API__PORT": str(self.api)}.items()}


def new_ports() -> Ports:
    *ports, api, metrics = free_ports(len(SERVICES) + 2)
    return Ports(dict(zip(SERVICES, ports, strict=True)), api, metrics)


@contextmanager
def up(name: str, directory: Path, ports: Ports, variables: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """`redis-agent up` with that example in an empty directory; at the end it must stop as it should."""
    # No call of ours may leave this machine, whoever's credentials lie on it.
    aws = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    (nobody,) = free_ports(1)
    dns = {f"{PREFIX}DNS__MAIN__ROUTE53__ENDPOINT_URL": f"http://127.0.0.1:{nobody}"} if "basic" not in name else {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **aws, **dns, **ports.environment(), **variables}
    output = directory / "up.log"
    with output.open("w") as log:
        child = subprocess.Popen(
            command("up", "--config", EXAMPLES / name),
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=log,
            text=True,
        )
    try:
        yield child
        assert child.poll() is None, output.read_text()
        child.terminate()
        assert child.wait(60) == 0, output.read_text()
        assert "Traceback" not in output.read_text()
        assert "starting it again" not in output.read_text()
    finally:
        child.kill()
        child.wait()


def wait_until_well(child: "subprocess.Popen[str]", ports: Ports) -> None:
    """Every service SERVING and the gateway answering, within two minutes."""
    waiting = set(SERVICES) | {"gateway"}
    deadline = time.monotonic() + 120
    while waiting and time.monotonic() < deadline and child.poll() is None:
        waiting -= {service for service, port in ports.grpc.items() if _serving(port)}
        if _get(ports.api, "/healthz") == 200:
            waiting.discard("gateway")
        time.sleep(0.2)
    assert not waiting, f"not well: {', '.join(waiting)}"


def _serving(port: int) -> bool:
    try:
        return ask(f"127.0.0.1:{port}", 1.0) == "SERVING"
    except grpc.RpcError:
        return False


def _get(port: int, path: str, key: str | None = None) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"api-key": key} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def cli(
    name: str, directory: Path, ports: Ports, *arguments: object, **variables: str
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **ports.environment(), **variables}
    whole = [*command(*arguments), "--config", str(EXAMPLES / name)]
    return subprocess.run(whole, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["config_basic.json", "config_multi_dc.json"])
def test_an_example_on_one_machine_starts_answers_and_stops(name: str, tmp_path: Path) -> None:
    ports = new_ports()
    with up(name, tmp_path, ports, {}) as child:
        wait_until_well(child, ports)
        key = (tmp_path / ".redis-agent" / "api.key").read_text().strip()
        assert _get(ports.api, "/api/status") == 401
        assert _get(ports.api, "/api/status", key) == 200
        shown = json.loads(cli(name, tmp_path, ports, "status", "--json").stdout)
        assert [instance["instance"] for instance in shown["instances"]] == ["orders", "sessions"]
        seen = cli(name, tmp_path, ports, "tail", "observations", "--from", "beginning", "--limit", 1, "--json")
        assert json.loads(seen.stdout)["headers"]["schema"] == "redis_agent.v1.Observations"
        for listing in ("failovers", "alerts"):
            # Nobody runs these databases: on a slow machine that is told before we ask.
            told = json.loads(cli(name, tmp_path, ports, listing, "--json").stdout)
            assert {entry.get("stage", "refused") for entry in told} <= {"refused"}


# --- Kafka --------------------------------------------------------------------------------------------------------


def on_kafka(fleet_kafka: KafkaCluster) -> dict[str, str]:
    return {f"{PREFIX}LOG__KAFKA__BOOTSTRAP_SERVERS": fleet_kafka.bootstrap_servers}


@pytest.mark.timeout(400)
def test_the_full_example_runs_on_a_real_kafka(fleet_kafka: KafkaCluster, tmp_path: Path) -> None:
    ports, secrets = new_ports(), exported()
    addresses = {f"{PREFIX}GRPC__ADDRESSES__{s.upper()}": f"127.0.0.1:{port}" for s, port in ports.grpc.items()}
    metrics = {f"{PREFIX}TELEMETRY__PROMETHEUS_PORT": str(ports.metrics)}
    variables = {**on_kafka(fleet_kafka), **addresses, **metrics, **secrets}
    with up("config_full.json", tmp_path, ports, variables) as child:
        wait_until_well(child, ports)
        assert _get(ports.api, "/api/status", secrets["REDIS_AGENT_API_KEY"]) == 200
        assert _get(ports.api, "/api/status", "0" * 48) == 401
        assert _get(ports.metrics, "/metrics") == 200
        answered = cli("config_full.json", tmp_path, ports, "status", **variables)
        assert answered.returncode == 0, answered.stderr
        stranger = cli(
            "config_full.json", tmp_path, ports, "status", **(variables | {"REDIS_AGENT_GRPC_KEY": "0123456789abcdef"})
        )
        assert stranger.returncode == 1 and "UNAUTHENTICATED" in stranger.stderr
    lines = [line for line in (tmp_path / "up.log").read_text().splitlines() if line.startswith("{")]
    assert {json.loads(line)["service"] for line in lines} >= {*SERVICES, "gateway"}


@pytest.mark.timeout(400)
def test_the_topics_can_be_read_with_plain_libraries(fleet_kafka: KafkaCluster, tmp_path: Path) -> None:
    """A real collector looks at a real Redis and writes to Kafka; the example script reads it."""
    redis, port = free_ports(2)
    server = RedisServer(tmp_path, "127.0.0.1", redis)
    site = {"datacenter": "dc-east", "url": f"redis://127.0.0.1:{redis}"}
    fleet = {
        "log": {"kafka": {"bootstrap_servers": fleet_kafka.bootstrap_servers}},
        "datacenters": [{"name": "dc-east"}],
        "instances": [{"id": "plain-reader", "sites": [site]}],
        "collector": {"vantage": "plain-reader", "interval_seconds": 0.2},
        "grpc": {"ports": {"collector": port}},
    }
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(fleet))
    with _running(server):
        collector = subprocess.Popen([sys.executable, "-m", "collector", "--config", str(path)], cwd=ROOT)
        try:
            deadline = time.monotonic() + 60
            while not _serving(port) and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(3)
        finally:
            collector.terminate()
            assert collector.wait(30) == 0
    batches = _read_topics(fleet_kafka, "--topic", "metrics", "--limit", 5)
    assert batches.count("redis-agent.samples version 1") == 5
    assert "ping_seconds [s]" in batches and "memory_used_bytes [By]" in batches
    assert re.search(r"plain-reader +dc-east +primary +0\.\d+ ", batches)
    told = _read_topics(fleet_kafka, "--topic", "observations", "--limit", 10_000, "--seconds", 8)
    ours = [line for line in told.splitlines() if " plain-reader: " in line]
    assert ours
    for line in ours:
        assert re.search(
            r"schema=redis_agent\.v1\.Observations  source=collector@\S+  sequence=\d+  traceparent=00-", line
        )


@contextmanager
def _running(server: RedisServer) -> Iterator[None]:
    import asyncio

    with asyncio.Runner() as runner:
        runner.run(server.start())
        try:
            yield
        finally:
            runner.run(server.stop())


def _read_topics(fleet_kafka: KafkaCluster, *arguments: object) -> str:
    script = [sys.executable, str(EXAMPLES / "read_topics.py"), "--bootstrap", fleet_kafka.bootstrap_servers]
    done = subprocess.run([*script, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_uses_nothing_of_ours() -> None:
    imported = re.findall(r"^(?:from|import) (\w+)", (EXAMPLES / "read_topics.py").read_text(), re.M)
    assert set(imported) - set(sys.stdlib_module_names) == {"confluent_kafka", "pyarrow"}
