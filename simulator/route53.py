"""Route 53's REST API over `Zone`s, faithful where a failover leans on it, and able to fail on command.

A plain `boto3.client("route53", endpoint_url=server.endpoint_url, …)` works against it. Operations:
ChangeResourceRecordSets, ListResourceRecordSets, GetChange, GetHostedZone, ListHostedZonesByName. Credentials are not
looked at; what was signed more than five minutes off the server's time is refused. Why not moto: it is INSYNC at once, lets CNAME and A stand side by side, and never throttles.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from simulator.http_listener import HttpListener
from simulator.records import RecordKey, listing_order, normalised
from simulator.route53_wire import (
    ApiError,
    change_response,
    error_response,
    hosted_zone_response,
    hosted_zones_response,
    parse_change_request,
    record_sets_response,
)
from simulator.token_bucket import TokenBucket
from simulator.zone import AppliedBatch, BatchRefused, Zone

SIGNED_WITHIN = timedelta(minutes=5)
MAX_PAGE = 300
"""Record sets in one page of ListResourceRecordSets, whatever was asked for."""
MAX_ZONES_PAGE = 100
CALLS_KEPT = 10_000

Operation = Callable[[web.Request, bytes], bytes]


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One request: when (monotonic seconds), which operation, and the error code it got, or None.

    A lost response counts as what would have been answered."""

    at: float
    operation: str
    error_code: str | None


@dataclass(frozen=True, slots=True)
class _PlannedError:
    code: str
    operation: str | None


class Route53Server:
    """Answers for `zones` on host:port.

    `delay_seconds` comes between doing what was asked and answering. `calls` is what was asked, oldest first. The clock
    is that of the zones' `now`: give a DnsServer of the same zone the same one.
    """

    def __init__(
        self,
        zones: Sequence[Zone],
        host: str,
        port: int = 0,
        *,
        burst: float = 50,
        refill_per_second: float = 10,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.zones = {zone.zone_id: zone for zone in zones}
        self.delay_seconds = 0.0
        self.calls: deque[ApiCall] = deque(maxlen=CALLS_KEPT)
        self._clock = clock
        self._wall = wall
        self._bucket = TokenBucket(burst, refill_per_second, clock)
        self._responses_to_lose = 0
        self._planned_errors: list[_PlannedError] = []
        self._listener = HttpListener(self._routes(), host, port)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def endpoint_url(self) -> str:
        return f"http://{self._listener.host}:{self._listener.port}"

    async def start(self) -> None:
        """Raises OSError if the address can't be bound."""
        await self._listener.start()

    async def stop(self) -> None:
        await self._listener.stop()

    def lose_next_responses(self, n: int = 1) -> None:
        """The next `n` ChangeResourceRecordSets are carried out, and the connection is cut without an answer."""
        self._responses_to_lose += n

    def throttle_next(self, n: int = 1) -> None:
        """The next `n` requests of any kind are answered Throttling, and do nothing."""
        self.fail_next("Throttling", n)

    def fail_next(self, code: str, n: int = 1, operation: str | None = None) -> None:
        """The next `n` requests (of `operation`, if given) are answered with the error `code`, and do nothing."""
        self._planned_errors.extend([_PlannedError(code, operation)] * n)

    @property
    def hold_pending(self) -> bool:
        """While true, changes stay PENDING in every zone and no DNS server sees them."""
        return any(zone.held for zone in self.zones.values())

    @hold_pending.setter
    def hold_pending(self, hold: bool) -> None:
        for zone in self.zones.values():
            if hold:
                zone.hold(self._clock())
            else:
                zone.release(self._clock())

    def _routes(self) -> list[web.RouteDef]:
        def route(method: str, path: str, name: str, operation: Operation) -> web.RouteDef:
            async def serve(request: web.Request) -> web.StreamResponse:
                return await self._serve(name, operation, request)

            return web.route(method, f"/2013-04-01/{path}", serve)

        return [
            route("POST", "hostedzone/{id}/rrset/", "ChangeResourceRecordSets", self._change_record_sets),
            route("POST", "hostedzone/{id}/rrset", "ChangeResourceRecordSets", self._change_record_sets),
            route("GET", "hostedzone/{id}/rrset", "ListResourceRecordSets", self._list_record_sets),
            route("GET", "hostedzone/{id}", "GetHostedZone", self._get_zone),
            route("GET", "hostedzonesbyname", "ListHostedZonesByName", self._list_zones),
            route("GET", "change/{id}", "GetChange", self._get_change),
        ]

    async def _serve(self, name: str, operation: Operation, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        error: ApiError | None = None
        try:
            self._check_date(request)
            self._fail_if_due(name)
            answer = operation(request, body)
        except ApiError as raised:
            error = raised
            answer = error_response(raised, str(uuid.uuid4()))
        self.calls.append(ApiCall(self._clock(), name, error.code if error else None))
        if name == "ChangeResourceRecordSets" and error is None and self._responses_to_lose:
            self._responses_to_lose -= 1
            _cut(request)
        await asyncio.sleep(self.delay_seconds)
        headers = {"Date": format_datetime(self._wall(), usegmt=True)}
        status = error.status if error else 200
        return web.Response(body=answer, status=status, content_type="text/xml", headers=headers)

    def _check_date(self, request: web.Request) -> None:
        signed = request.headers.get("X-Amz-Date")
        if signed is None:
            return
        off = datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) - self._wall()
        if abs(off) > SIGNED_WITHIN:
            late = "Signature expired" if off < timedelta() else "Signature not yet current"
            raise ApiError("SignatureDoesNotMatch", f"{late}: {signed} is {abs(off).total_seconds():.0f} s off")

    def _fail_if_due(self, name: str) -> None:
        if not self._bucket.take():
            raise ApiError("Throttling", "Rate exceeded")
        for index, planned in enumerate(self._planned_errors):
            if planned.operation in {None, name}:
                del self._planned_errors[index]
                raise ApiError(planned.code, _message_of(planned.code))

    def _change_record_sets(self, request: web.Request, body: bytes) -> bytes:
        zone = self._zone(request)
        changes, comment = parse_change_request(body)
        try:
            batch = zone.apply(changes, self._clock(), comment)
        except BatchRefused as refusal:
            raise ApiError("InvalidChangeBatch", f"[{', '.join(refusal.messages)}]") from refusal
        return self._change_info("ChangeResourceRecordSetsResponse", zone, batch)

    def _get_change(self, request: web.Request, _: bytes) -> bytes:
        change_id = request.match_info["id"]
        for zone in self.zones.values():
            for batch in zone.history:
                if batch.change_id == change_id:
                    return self._change_info("GetChangeResponse", zone, batch)
        raise ApiError("NoSuchChange", f"Could not find resource with ID: {change_id}")

    def _change_info(self, root_name: str, zone: Zone, batch: AppliedBatch) -> bytes:
        now = self._clock()
        accepted_at = datetime.now(UTC) - timedelta(seconds=now - batch.accepted_at)
        status = zone.status(batch.change_id, now)
        return change_response(root_name, batch.change_id, status, accepted_at, batch.comment)

    def _list_record_sets(self, request: web.Request, _: bytes) -> bytes:
        accepted = self._zone(request).accepted
        name, record_type = request.query.get("name", ""), request.query.get("type", "")
        if record_type and not name:
            raise ApiError("InvalidInput", "A record type needs a record name beside it")
        start = listing_order(RecordKey(normalised(name), record_type)) if name else ("", "")
        found = [accepted[key] for key in sorted(accepted, key=listing_order) if listing_order(key) >= start]
        size = _max_items(request, MAX_PAGE)
        return record_sets_response(found[:size], found[size] if len(found) > size else None, size)

    def _get_zone(self, request: web.Request, _: bytes) -> bytes:
        return hosted_zone_response(self._zone(request))

    def _list_zones(self, request: web.Request, _: bytes) -> bytes:
        def order(name: str, zone_id: str) -> tuple[str, str]:
            return listing_order(RecordKey(normalised(name), ""))[0], zone_id

        asked = request.query.get("dnsname", "")
        start = order(asked, request.query.get("hostedzoneid", "")) if asked else ("", "")
        ordered = sorted(self.zones.values(), key=lambda zone: order(zone.name, zone.zone_id))
        found = [zone for zone in ordered if order(zone.name, zone.zone_id) >= start]
        size = _max_items(request, MAX_ZONES_PAGE)
        return hosted_zones_response(found[:size], found[size] if len(found) > size else None, asked, size)

    def _zone(self, request: web.Request) -> Zone:
        zone_id = request.match_info["id"]
        if zone_id not in self.zones:
            raise ApiError("NoSuchHostedZone", f"No hosted zone found with ID: {zone_id}")
        return self.zones[zone_id]


def _max_items(request: web.Request, limit: int) -> int:
    asked = request.query.get("maxitems", str(limit))
    if not (asked.isascii() and asked.isdigit() and int(asked) > 0):
        raise ApiError("InvalidInput", f"Invalid MaxItems '{asked}': must be a number from 1 to {limit}")
    return min(int(asked), limit)


def _message_of(code: str) -> str:
    return "Rate exceeded" if code.startswith("Throttling") else f"{code}, as the simulator was told"


def _cut(request: web.Request) -> None:
    """Ends the connection under a request: the client sees it closed, and can't know what was done."""
    if request.transport is not None:
        request.transport.abort()
