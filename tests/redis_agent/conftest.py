"""A fleet's file for tests that start real processes: one database that nobody runs, ports that nobody has."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulator.ports import free_ports

SERVICES = ("collector", "detector", "controller", "notifier")


@pytest.fixture
def configuration(tmp_path: Path) -> dict[str, Any]:
    """What `fleet_file` holds; a test may change it and write it again."""
    redis, *ports = free_ports(6)
    site = {"datacenter": "dc-east", "url": f"redis://127.0.0.1:{redis}", "dns_value": "east.example.com."}
    return {
        "log": {"embedded": {"path": str(tmp_path / "log.db")}},
        "datacenters": [{"name": "dc-east"}],
        "instances": [{"id": "orders", "sites": [site]}],
        "collector": {"vantage": "dc-east", "interval_seconds": 0.2},
        "detector": {"model_dir": str(tmp_path / "models")},
        "failover": {"pause_dir": str(tmp_path / "pause")},
        "api": {"enabled": True, "port": ports[4], "api_key": "0a1b2c3d4e5f60718293a4b5c6d7e8f9"},
        "grpc": {"ports": dict(zip(SERVICES, ports, strict=False))},
    }


@pytest.fixture
def fleet_file(tmp_path: Path, configuration: dict[str, Any]) -> Path:
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(configuration, indent=1))
    return path
