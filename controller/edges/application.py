"""What the edges need of the application above them, which they must not import."""

from datetime import datetime
from typing import Protocol

from controller.core.policy import Go, InstanceView, Order, Refusal
from controller.edges.journal import JournalLog
from controller.settings import Instance, Settings
from redis_agent.findings import OpenFindings
from redis_agent.instants import Instant
from redis_agent.model import Datacenter, FailoverId, InstanceId, Kind, SiteId


class Switch(Protocol):
    """What the servicer needs of the kill switch."""

    async def pause(self, instance: InstanceId | None, why: str, actor: str) -> str:
        """Set it; where it is set, in words. Raises NotFound, Refused."""

    async def resume(self, instance: InstanceId | None, actor: str) -> None:
        """Release it. Raises NotFound, Refused, Unreachable."""


class State(Protocol):
    """What the servicer needs of the fleet's state."""

    @property
    def settings(self) -> Settings:
        """What is configured."""

    @property
    def journal(self) -> JournalLog:
        """The journal."""

    @property
    def switch(self) -> Switch:
        """The kill switch."""

    @property
    def findings(self) -> OpenFindings:
        """What everybody finds."""

    @property
    def refusals(self) -> dict[InstanceId, tuple[str, ...]]:
        """Why traffic stays, while a site is down."""

    def changed_at(self, site: SiteId) -> datetime:
        """Since when a site's health is as it is, for people."""

    def view(self, instance: Instance, now: Instant, apart_from: FailoverId | None = None) -> InstanceView:
        """The instance as it stands."""


class Orders(Protocol):
    """What the servicer needs of the application: all of it that changes something."""

    @property
    def state(self) -> State:
        """The fleet's state."""

    def instance(self, instance_id: str) -> Instance:
        """The instance of that id. Raises NotFound."""

    async def plan(self, instance: Instance, target: Datacenter, kind: Kind | None) -> Go | Refusal:
        """What a failover ordered now would do. Raises NotFound."""

    async def begin(self, instance: Instance, order: Order) -> FailoverId:
        """Begin a failover. Raises Refused, NotFound, Transient."""

    async def approve(self, failover_id: FailoverId, actor: str, comment: str) -> None:
        """Let a waiting failover go on. Raises NotFound, Refused."""
