"""CollectorService: requests -> the service's state -> replies."""

from typing import Any, Protocol

import grpc

from redis_agent.errors import NotFound
from redis_agent.model import Observation, SiteId
from redis_agent.rpc.channel import abort
from redis_agent.v1 import collector_service_pb2 as pb
from redis_agent.v1 import collector_service_pb2_grpc as pb_grpc
from redis_agent.wire import observation_to, site_from, site_to

NAME = "redis_agent.v1.CollectorService"
Context = grpc.aio.ServicerContext[Any, Any]


class Watch(Protocol):
    """What the servicer needs of the service."""

    last: dict[SiteId, Observation]
    paused: bool

    @property
    def vantage(self) -> str:
        """Where it looks from."""

    @property
    def endpoints(self) -> dict[SiteId, str]:
        """What it looks at."""

    async def poll(self, site: SiteId) -> Observation:
        """Ask one site now."""


class Servicer(pb_grpc.CollectorServiceServicer):
    """Serves one vantage."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def ListTargets(self, request: pb.ListTargetsRequest, context: Context) -> pb.ListTargetsResponse:
        """Every site with what was last seen of it."""
        reply = pb.ListTargetsResponse(vantage=self._watch.vantage, paused=self._watch.paused)
        for site, endpoint in self._watch.endpoints.items():
            target = reply.targets.add(site=site_to(site), endpoint=endpoint)
            if (last := self._watch.last.get(site)) is not None:
                target.last.CopyFrom(observation_to(last))
        return reply

    async def ProbeNow(self, request: pb.ProbeNowRequest, context: Context) -> pb.ProbeNowResponse:
        """Ask one site at once."""
        site = site_from(request.site)
        if site not in self._watch.endpoints:
            await abort(context, NotFound(f"no site {site} in this fleet"))
        return pb.ProbeNowResponse(observation=observation_to(await self._watch.poll(site)))

    async def PauseCollection(self, request: pb.PauseCollectionRequest, context: Context) -> pb.PauseCollectionResponse:
        """Stop polling until resumed."""
        self._watch.paused = True
        return pb.PauseCollectionResponse()

    async def ResumeCollection(
        self, request: pb.ResumeCollectionRequest, context: Context
    ) -> pb.ResumeCollectionResponse:
        """Poll again."""
        self._watch.paused = False
        return pb.ResumeCollectionResponse()
