"""The DNS record of every instance as its provider last held it."""

import asyncio
import logging
from collections.abc import Mapping

from controller.edges.zones import Zones
from controller.settings import Instance
from redis_agent.errors import AgentError, Permanent, Transient
from redis_agent.fleet import DnsName
from redis_agent.model import InstanceId, Record

logger = logging.getLogger(__name__)
_KEPT_SECONDS = 60.0
_KEPT_WITHOUT_SECONDS = 1.0


class Records:
    """Read at the start, before each decision, and again when what is held is old or absent."""

    def __init__(self, instances: Mapping[InstanceId, Instance], zones: Zones) -> None:
        self._instances = instances
        self._zones = zones
        self.changed: set[InstanceId] = set()
        """Whose record is another than before; who looks takes them out."""
        self._held: dict[InstanceId, Record | None] = {}
        self._read_at: dict[InstanceId, float] = {}

    def of(self, instance: InstanceId) -> Record | None:
        """As last read; None when it couldn't be."""
        return self._held.get(instance)

    async def keep(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            for instance in self._instances.values():
                kept = _KEPT_WITHOUT_SECONDS if self.of(instance.id) is None else _KEPT_SECONDS
                if loop.time() - self._read_at.get(instance.id, -kept) >= kept:
                    await self.refresh(instance)
            await asyncio.sleep(0.5)

    async def refresh(self, instance: Instance) -> None:
        """Read one now. While the provider doesn't answer, what it said before holds: the move itself compares and swaps."""
        if instance.dns is None:
            return
        before = self.of(instance.id)
        await self._read(instance, instance.dns, before)
        if self.of(instance.id) != before:
            self.changed.add(instance.id)

    async def _read(self, instance: Instance, dns: DnsName, before: Record | None) -> None:
        try:
            record = await self._zones.read(dns.provider, dns.record, dns.type)
            if record is None:
                raise Permanent(f"{dns.record} {dns.type} doesn't exist")
            self._held[instance.id] = record
        except Transient as fault:
            if instance.id not in self._read_at:
                logger.warning("%s: the DNS record can't be read yet: %s", instance.id, fault)
        except AgentError as fault:
            self._held[instance.id] = None
            if before is not None or instance.id not in self._read_at:
                logger.warning("%s: the DNS record can't be read: %s", instance.id, fault)
        self._read_at[instance.id] = asyncio.get_running_loop().time()
