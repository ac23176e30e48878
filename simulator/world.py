"""Two datacenters and a witness: real Redis servers, a network between them that can be broken, DNS, and receivers.

Everybody who looks at a site looks through a link of their own (127.0.<viewer>.<site>), so that one vantage can be cut off
while the others see on. dc-west replicates from dc-east for real. The clients' links are what the zone's addresses name.
"""

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.client import Client
from simulator.dns_server import DnsServer
from simulator.ports import ports_in_a_row
from simulator.proxy import Link, LinkMode
from simulator.receivers import MailBox, PagerDutyEvents, SlackWebhook
from simulator.records import RecordSet
from simulator.redis_server import RedisServer
from simulator.route53 import Route53Server
from simulator.zone import Zone

EAST, WEST = "dc-east", "dc-west"
SITES = (EAST, WEST)
VANTAGES = (EAST, WEST, "witness")
CLIENTS, CONTROLLER, REPLICATION = "clients", "controller", "replication"
VIEWERS = (*VANTAGES, CLIENTS, CONTROLLER, REPLICATION)
ZONE = "demo.redis-agent.test."
ZONE_ID = "Z0DEMO"
_SERVERS_NET = 9
_PORTS = 16
_GRPC = ("detector", "controller", "notifier")


@dataclass(frozen=True, slots=True)
class Terms:
    """How the demo's fleet is configured: seconds."""

    instance: str = "orders"
    ttl: int = 2
    interval: float = 0.5
    confirm: float = 3.0
    cooldown: float = 30.0
    mode: str = "auto"
    log: Mapping[str, Any] | None = None  # the `log` section; None: embedded, in the world's directory
    gateway_port: int = 0
    prometheus: bool = True
    otlp_endpoint: str | None = None


class World:
    """The whole, on this machine, in one directory."""

    def __init__(self, directory: Path, terms: Terms) -> None:
        self.directory = directory
        self.terms = terms
        self.name = f"{terms.instance}.{ZONE}"
        self.api_key = secrets.token_hex(16)
        first = ports_in_a_row(_PORTS)
        self._port, self._dns_port, *ports = range(first, first + _PORTS)
        self._collector_ports = dict(zip(VANTAGES, ports, strict=False))
        self._grpc_ports = dict(zip(_GRPC, ports[3:], strict=False))
        self.api_port = terms.gateway_port or ports[6]
        # The witness's services take five ports in a row; the other collectors one each.
        self._metrics_ports = {EAST: ports[7], WEST: ports[8], "witness": ports[9]}
        self.servers = {
            EAST: RedisServer(directory / EAST, self._server(EAST), self._port),
            WEST: RedisServer(
                directory / WEST, self._server(WEST), self._port, replica_of=(_address(REPLICATION, EAST), self._port)
            ),
        }
        self.links = {
            (viewer, site): Link(_address(viewer, site), self._port, self._server(site), self._port)
            for viewer in VIEWERS
            for site in SITES
        }
        self.zone = Zone(ZONE, ZONE_ID, propagation_seconds=0.3, records=self._records())
        self.dns = DnsServer(self.zone, "127.0.0.1", self._dns_port)
        self.route53 = Route53Server([self.zone], "127.0.0.1")
        self.slack = SlackWebhook("127.0.0.1")
        self.pagerduty = PagerDutyEvents("127.0.0.1")
        self.mail = MailBox("127.0.0.1")
        self.client = Client(self.name, ("127.0.0.1", self._dns_port), self._port)

    @staticmethod
    def _server(site: str) -> str:
        return f"127.0.{_SERVERS_NET}.{SITES.index(site) + 1}"

    def address(self, site: str) -> str:
        """Where clients find that site."""
        return _address(CLIENTS, site)

    def endpoint(self, viewer: str, site: str) -> tuple[str, int]:
        """Where that viewer finds that site."""
        return _address(viewer, site), self._port

    def _records(self) -> list[RecordSet]:
        sites = [RecordSet(f"{site}.{ZONE}", "A", 60, (_address(CLIENTS, site),)) for site in SITES]
        return [*sites, RecordSet(self.name, "CNAME", self.terms.ttl, (f"{EAST}.{ZONE}",))]

    async def start(self) -> None:
        """Start everything but the services; returns when dc-west is in step with dc-east."""
        for site in SITES:
            (self.directory / site).mkdir(parents=True, exist_ok=True)
        for link in self.links.values():
            await link.start()
        await self.dns.start()
        await self.route53.start()
        await self.slack.start()
        await self.pagerduty.start()
        await self.mail.start()
        for server in self.servers.values():
            await server.start()
        await self._in_step()

    async def _in_step(self) -> None:
        async with asyncio.timeout(15):
            while b"master_link_status:up" not in await self._info(WEST):  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.05)

    async def _info(self, site: str) -> bytes:
        reader, writer = await asyncio.open_connection(self._server(site), self._port)
        try:
            writer.write(b"INFO replication\r\n")
            size = int((await reader.readline()).strip()[1:])
            return await reader.readexactly(size)
        finally:
            writer.close()

    async def stop(self) -> None:
        """Stop everything. Safe twice."""
        await self.client.stop()
        for link in self.links.values():
            await link.stop()
        for server in self.servers.values():
            await server.stop()
        await self.mail.stop()
        await self.pagerduty.stop()
        await self.slack.stop()
        await self.route53.stop()
        await self.dns.stop()

    # --- faults

    async def lose(self, datacenter: str) -> None:
        """The datacenter goes dark: its server stands still and no byte passes in or out, for anybody."""
        await self._set_all(datacenter, LinkMode.BLACK_HOLE)
        self.servers[datacenter].freeze()

    async def bring_back(self, datacenter: str) -> None:
        """Power and network return. Its server still believes what it believed before."""
        self.servers[datacenter].thaw()
        await self._set_all(datacenter, LinkMode.OPEN)

    async def _set_all(self, datacenter: str, mode: LinkMode) -> None:
        for (viewer, site), link in self.links.items():
            if site == datacenter or viewer == datacenter:
                await link.set_mode(mode)

    async def cut_off(self, vantage: str) -> None:
        """That vantage alone reaches no site any more."""
        for site in SITES:
            await self.links[(vantage, site)].set_mode(LinkMode.BLACK_HOLE)

    # --- configuration

    def write_configuration(self, viewer: str) -> Path:
        """The fleet's file as the services at `viewer` have it (its links, its collector's port)."""
        path = self.directory / f"fleet-{viewer}.json"
        path.write_text(json.dumps(self._configuration(viewer), indent=2))
        return path

    def _configuration(self, viewer: str) -> dict[str, Any]:
        terms = self.terms
        vantage = viewer if viewer in VANTAGES else "witness"
        failover = {
            "mode": terms.mode,
            "quorum": 2,
            "confirm_seconds": terms.confirm,
            "cooldown_seconds": terms.cooldown,
            "vote_max_age_seconds": 3,
            "pause_dir": str(self.directory / "pause"),
        }
        return {
            "log": terms.log or {"embedded": {"path": str(self.directory / "log.db")}},
            "datacenters": [{"name": site} for site in SITES],
            "dns": {"main": {"route53": self._route53()}},
            "instances": [self._instance(viewer)],
            "collector": {"vantage": vantage, "interval_seconds": terms.interval, "timeout_seconds": 0.5},
            "detector": {"model_dir": str(self.directory / "models")},
            "failover": failover,
            "alerting": {"receivers": self._receivers(), "group_wait_seconds": 0.5},
            "api": {"enabled": True, "port": self.api_port, "api_key": self.api_key},
            "grpc": {"ports": {"collector": self._collector_ports[vantage], **self._grpc_ports}},
            "telemetry": self._telemetry(vantage),
        }

    def _telemetry(self, vantage: str) -> dict[str, Any]:
        port = self._metrics_ports[vantage] if self.terms.prometheus else None
        return {"prometheus_port": port, "otlp_endpoint": self.terms.otlp_endpoint}

    def _route53(self) -> dict[str, Any]:
        return {
            "hosted_zone_id": ZONE_ID,
            "endpoint_url": self.route53.endpoint_url,
            "nameservers": [f"127.0.0.1:{self._dns_port}"],
            "access_key_id": "demo",
            "secret_access_key": "demo-of-redis-agent",
        }

    def _instance(self, viewer: str) -> dict[str, Any]:
        sites = [
            {"datacenter": site, "url": f"redis://{_address(viewer, site)}:{self._port}", "dns_value": f"{site}.{ZONE}"}
            for site in SITES
        ]
        dns = {"provider": "main", "record": self.name, "type": "CNAME", "ttl": self.terms.ttl}
        return {"id": self.terms.instance, "kind": "plain", "dns": dns, "preferred": EAST, "sites": sites}

    def _receivers(self) -> list[dict[str, Any]]:
        mail = {"host": "127.0.0.1", "port": self.mail.port, "tls": "none", "sender": "redis-agent@demo.test"}
        return [
            {"name": "chat", "slack": {"webhook_url": self.slack.url}},
            {
                "name": "pager",
                "pagerduty": {"routing_key": "0123456789abcdef0123456789abcdef", "url": self.pagerduty.url},
            },
            {"name": "mail", "email": {**mail, "to": ["oncall@demo.test"]}},
        ]


def _address(viewer: str, site: str) -> str:
    return f"127.0.{VIEWERS.index(viewer) + 1}.{SITES.index(site) + 1}"
