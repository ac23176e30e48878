"""The DNS side of an instance: its record at the provider, and what its name servers answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from controller.core.failover import Effect, Outcome
from controller.core.policy import same_name
from controller.edges import nameservers, redis_admin
from controller.edges.access import Access
from controller.edges.route53 import Route53
from redis_agent.errors import AgentError, Transient
from redis_agent.fleet import Route53Section
from redis_agent.model import FailoverId, Record


class Zones:
    """Every configured zone, by provider name."""

    def __init__(self, sections: Mapping[str, Route53Section]) -> None:
        self._clients = {name: Route53(section) for name, section in sections.items()}
        self._configured = {name: section.nameservers for name, section in sections.items()}

    async def read(self, provider: str, record: str, kind: str) -> Record | None:
        """The record as the provider holds it. Raises Transient, Permanent."""
        return await self._clients[provider].read(record, kind)

    async def move(self, provider: str, before: Record, after: Record, failover: FailoverId) -> Outcome:
        """Compare and swap at the provider."""
        return await self._clients[provider].move(before, after, failover)

    async def moved(self, provider: str, after: Record, failover: FailoverId) -> Outcome | None:
        """SEEN when this failover moved the record already; None when not, or when that can't be seen."""
        try:
            now = await self._clients[provider].read(after.name, after.type)
        except AgentError:
            return None
        if now is None or now.epoch != after.epoch or str(failover) not in (now.epoch_text or ""):
            return None
        return Outcome(Effect.SEEN, f"{after.name} was moved to {after.value} before (epoch {after.epoch})")

    async def visible(self, provider: str, after: Record, change_id: str) -> Outcome:
        """SEEN once every authoritative server answers the new value, and the provider says that all are in sync."""
        try:
            answers = await nameservers.values(await self._servers(provider), after.name, after.type)
            stale = {server: value for server, value in answers.items() if not _is(value, after.value)}
            if stale:
                told = ", ".join(f"{server} says {value or 'nothing'}" for server, value in stale.items())
                return Outcome(Effect.NOT_YET, told)
            if change_id and not await self._clients[provider].in_sync(change_id):
                return Outcome(Effect.NOT_YET, f"{change_id} is still pending")
        except AgentError as fault:
            return Outcome(Effect.NOT_YET, str(fault))
        return Outcome(Effect.SEEN, f"{len(answers)} authoritative servers answer {after.value}")

    async def write_through(self, provider: str, after: Record, target: Access, key: str) -> Outcome:
        """Follow the name as a client would, and write where it leads."""
        try:
            servers = await self._servers(provider)
            found = await nameservers.addresses(servers, after.name, after.value, after.type)
        except AgentError as fault:
            return Outcome(Effect.NOT_YET, str(fault))
        # By the address that the name gave; a certificate is still the site's.
        return await redis_admin.write(
            replace(target, host=found[0], certificate_name=target.certificate_name or target.host), key
        )

    async def _servers(self, provider: str) -> tuple[str, ...]:
        """Raises Transient when there are none: nobody asked is nobody who answered."""
        servers = self._configured[provider] or await self._clients[provider].nameservers()
        if not servers:
            raise Transient(f"{provider}: the provider names no name servers; list them under dns.{provider}")
        return servers

    async def close(self) -> None:
        """End the clients."""
        for client in self._clients.values():
            await asyncio.to_thread(client.close)


def _is(value: str | None, wanted: str) -> bool:
    return value is not None and same_name(value, wanted)
