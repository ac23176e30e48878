"""The compose file: complete, closed to the outside, without a secret, and of one mind with its fleet's file."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from redis_agent.errors import ConfigurationError
from redis_agent.fleet import SERVICES, Fleet
from redis_agent.fleet_file import load

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
FLEET_FILE = DEPLOY / "compose" / "fleet.yaml"
KEYS = ("REDIS_AGENT_API_KEY", "REDIS_AGENT_GRPC_KEY")


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for key in KEYS:
        monkeypatch.setenv(key, "0a1b2c3d4e5f60718293a4b5c6d7e8f9")
    return load(FLEET_FILE)


def test_it_names_every_service_and_what_they_work_on() -> None:
    assert set(COMPOSE["services"]) == {*SERVICES, "kafka", "redis-east", "redis-west", "mailpit"}
    for name in SERVICES:
        service = COMPOSE["services"][name]
        assert service["command"] == [name, "--config", "/etc/redis-agent/fleet.yaml"]
        assert f"./compose/{FLEET_FILE.name}:/etc/redis-agent/fleet.yaml:ro" in service["volumes"]
        assert service["depends_on"]["kafka"] == {"condition": "service_healthy"}


def test_every_container_restarts_and_has_a_health_check_and_a_tag_that_stays() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD", name
        tag = service["image"].partition(":")[2]
        assert tag not in ("", "latest"), name


def test_a_health_check_asks_the_port_that_its_service_listens_on(fleet: Fleet) -> None:
    for name in SERVICES:
        asked = COMPOSE["services"][name]["healthcheck"]["test"][-1]
        assert f"127.0.0.1:{fleet.api.port if name == 'gateway' else fleet.grpc.port(name)}" in asked
        if name != "gateway":
            assert fleet.grpc.address(name) == f"{name}:{fleet.grpc.port(name)}"


def test_every_host_that_the_fleets_file_names_is_a_service(fleet: Fleet) -> None:
    assert fleet.log.kafka is not None
    hosts = {fleet.log.kafka.bootstrap_servers.partition(":")[0]}
    hosts |= {site.host for instance in fleet.instances for site in instance.sites}
    hosts |= {receiver.email.host for receiver in fleet.alerting.receivers if receiver.email is not None}
    assert hosts <= set(COMPOSE["services"])


def test_ports_are_published_on_this_machine_only() -> None:
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_a_key_has_no_default_and_its_absence_is_told() -> None:
    given = COMPOSE["services"]["gateway"]["environment"]
    assert set(given) == set(KEYS)
    for key, value in given.items():
        assert value.startswith(f"${{{key}:?"), "compose stops with the text after :? when the variable is empty"
        assert "openssl rand" in value


@pytest.mark.parametrize("key", KEYS)
def test_the_fleets_file_without_a_key_names_the_variable(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, "0a1b2c3d4e5f60718293a4b5c6d7e8f9")
    monkeypatch.delenv(key)
    with pytest.raises(ConfigurationError, match=f"environment variable {key} isn't set"):
        load(FLEET_FILE)
