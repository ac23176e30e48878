"""Route 53 as a real boto3 client sees it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from simulator.records import RecordKey, RecordSet
from simulator.route53 import Route53Server
from simulator.zone import Zone

ZONE_ID = "Z0EXAMPLE"
NAME = "redis.example.com."


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Api:
    """boto3 on a thread, so that the server on the loop can answer it. One attempt, no retries."""

    def __init__(self, server: Route53Server, read_timeout_seconds: float = 5.0) -> None:
        config = Config(retries={"total_max_attempts": 1}, read_timeout=read_timeout_seconds)
        self.client: Any = boto3.client(
            "route53",
            endpoint_url=server.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="y",
            config=config,
        )

    async def __call__(self, operation: str, **arguments: object) -> dict[str, Any]:
        answer: dict[str, Any] = await asyncio.to_thread(getattr(self.client, operation), **arguments)
        return answer

    async def change(self, *changes: dict[str, Any], comment: str = "test") -> dict[str, Any]:
        batch = {"Comment": comment, "Changes": list(changes)}
        return await self("change_resource_record_sets", HostedZoneId=ZONE_ID, ChangeBatch=batch)

    async def error(self, call: Awaitable[object]) -> dict[str, Any]:
        with pytest.raises(ClientError) as caught:
            await call
        response: dict[str, Any] = caught.value.response
        return response

    async def value(self) -> str:
        """What the record under test holds, as list_resource_record_sets tells it."""
        start = {"StartRecordName": NAME, "StartRecordType": "CNAME", "MaxItems": "1"}
        answer = await self("list_resource_record_sets", HostedZoneId=ZONE_ID, **start)
        value: str = answer["ResourceRecordSets"][0]["ResourceRecords"][0]["Value"]
        return value


def step(action: str, target: str, name: str = NAME, ttl: int = 30) -> dict[str, Any]:
    records = [{"Value": target}]
    return {
        "Action": action,
        "ResourceRecordSet": {"Name": name, "Type": "CNAME", "TTL": ttl, "ResourceRecords": records},
    }


def swap(old: str, new: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return step("DELETE", old), step("CREATE", new)


def with_server(check: Callable[[Route53Server, Api, Clock], Awaitable[None]], **limits: float) -> None:
    async def run() -> None:
        clock = Clock()
        records = [RecordSet(NAME, "CNAME", 30, ("east.example.net.",))]
        zone = Zone("example.com", ZONE_ID, propagation_seconds=10.0, records=records)
        server = Route53Server([zone], "127.0.0.1", clock=clock, **limits)  # type: ignore[arg-type]
        await server.start()
        api = Api(server)
        try:
            await check(server, api, clock)
        finally:
            api.client.close()
            await server.stop()
            await server.stop()

    asyncio.run(run())


def test_a_swap_is_pending_then_in_sync_and_its_comment_is_kept() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        answer = await api.change(*swap("east.example.net.", "west.example.net."), comment="failover fo-7")
        info = answer["ChangeInfo"]
        assert (info["Status"], info["Comment"]) == ("PENDING", "failover fo-7")
        assert abs(info["SubmittedAt"].timestamp() - time.time()) < 5
        assert await api.value() == "west.example.net."
        assert server.zones[ZONE_ID].propagated(clock.now)[RecordKey(NAME, "CNAME")].values == ("east.example.net.",)
        clock.now += 10.0
        assert (await api("get_change", Id=info["Id"]))["ChangeInfo"]["Status"] == "INSYNC"
        assert [batch.comment for batch in server.zones[ZONE_ID].history] == ["failover fo-7"]

    with_server(check)


def test_of_two_swaps_from_the_same_value_one_is_refused_and_changes_nothing() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        results = await asyncio.gather(
            api.change(*swap("east.example.net.", "west.example.net.")),
            api.change(*swap("east.example.net.", "north.example.net.")),
            return_exceptions=True,
        )
        (refusal,) = [result for result in results if isinstance(result, api.client.exceptions.InvalidChangeBatch)]
        assert refusal.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert refusal.response["Error"]["Message"] == (
            "[Tried to delete resource record set [name='redis.example.com.', type='CNAME'] "
            "but the values provided do not match the current values]"
        )
        assert len(server.zones[ZONE_ID].history) == 1

    with_server(check)


def test_a_refused_batch_names_every_fault() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        gone = step("DELETE", "x.example.net.", name="gone.example.com.")
        error = await api.error(api.change(step("CREATE", "west.example.net."), gone))
        assert error["Error"]["Code"] == "InvalidChangeBatch"
        assert "it already exists, Tried to delete" in error["Error"]["Message"]
        assert await api.value() == "east.example.net."

    with_server(check)


def test_upsert_overwrites_blindly() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        await api.change(step("UPSERT", "west.example.net.", ttl=5))
        assert await api.value() == "west.example.net."

    with_server(check)


def test_listing_is_paged_in_the_order_of_reversed_labels() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        for name in ("b.a.example.com.", "a.example.com.", "zz.example.com."):
            await api.change(step("CREATE", "x.example.net.", name=name))
        seen: list[tuple[str, str]] = []
        start: dict[str, str] = {}
        while True:
            page = await api("list_resource_record_sets", HostedZoneId=ZONE_ID, MaxItems="2", **start)
            seen += [(found["Name"], found["Type"]) for found in page["ResourceRecordSets"]]
            if not page["IsTruncated"]:
                break
            start = {"StartRecordName": page["NextRecordName"], "StartRecordType": page["NextRecordType"]}
        assert seen == [
            ("example.com.", "NS"),
            ("example.com.", "SOA"),
            ("a.example.com.", "CNAME"),
            ("b.a.example.com.", "CNAME"),
            (NAME, "CNAME"),
            ("zz.example.com.", "CNAME"),
        ]

    with_server(check)


def test_a_lost_response_leaves_the_change_applied_for_the_read_back_to_find() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        server.lose_next_responses(1)
        with pytest.raises(ConnectionClosedError):
            await api.change(*swap("east.example.net.", "west.example.net."))
        assert await api.value() == "west.example.net."
        await api.change(*swap("west.example.net.", "east.example.net."))

    with_server(check)


def test_a_late_answer_times_out_though_the_change_was_made() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        server.delay_seconds = 5.0
        hasty = Api(server, read_timeout_seconds=0.2)
        with pytest.raises(ReadTimeoutError):
            await hasty.change(*swap("east.example.net.", "west.example.net."))
        hasty.client.close()
        server.delay_seconds = 0.0
        assert await api.value() == "west.example.net."

    with_server(check)


def test_held_changes_stay_pending_until_released() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        server.hold_pending = True
        change_id = (await api.change(*swap("east.example.net.", "west.example.net.")))["ChangeInfo"]["Id"]
        clock.now += 3600.0
        assert (await api("get_change", Id=change_id))["ChangeInfo"]["Status"] == "PENDING"
        server.hold_pending = False
        assert (await api("get_change", Id=change_id))["ChangeInfo"]["Status"] == "INSYNC"

    with_server(check)


def test_requests_beyond_the_token_bucket_are_throttled_until_it_refills() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        for _ in range(3):
            await api("get_hosted_zone", Id=ZONE_ID)
        error = await api.error(api("get_hosted_zone", Id=ZONE_ID))
        assert (error["Error"]["Code"], error["Error"]["Message"]) == ("Throttling", "Rate exceeded")
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
        clock.now += 0.5
        await api("get_hosted_zone", Id=ZONE_ID)
        assert [call.error_code for call in server.calls] == [None, None, None, "Throttling", None]

    with_server(check, burst=3, refill_per_second=2)


@pytest.mark.parametrize(
    ("code", "status"),
    [("Throttling", 400), ("PriorRequestNotComplete", 400), ("ServiceUnavailable", 503), ("InternalError", 500)],
)
def test_planned_errors_come_as_often_as_asked_and_apply_nothing(code: str, status: int) -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        server.fail_next(code, 2, operation="ChangeResourceRecordSets")
        for _ in range(2):
            error = await api.error(api.change(*swap("east.example.net.", "west.example.net.")))
            assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
            assert await api.value() == "east.example.net."
        await api.change(*swap("east.example.net.", "west.example.net."))

    with_server(check)


def test_throttle_next_hits_any_operation() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        server.throttle_next(1)
        assert (await api.error(api("get_hosted_zone", Id=ZONE_ID)))["Error"]["Code"] == "Throttling"
        await api("get_hosted_zone", Id=ZONE_ID)

    with_server(check)


def test_what_does_not_exist_is_404() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        for code, call in (
            ("NoSuchHostedZone", api("get_hosted_zone", Id="Z0NONE")),
            ("NoSuchHostedZone", api("list_resource_record_sets", HostedZoneId="Z0NONE")),
            ("NoSuchChange", api("get_change", Id="/change/C0NONE")),
        ):
            error = await api.error(call)
            assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == (code, 404)

    with_server(check)


def test_input_that_makes_no_sense_is_invalid() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        weighted = step("CREATE", "x.example.net.", name="w.example.com.")
        weighted["ResourceRecordSet"] |= {"SetIdentifier": "a", "Weight": 1}
        for call in (
            api("list_resource_record_sets", HostedZoneId=ZONE_ID, StartRecordType="A"),
            api("list_resource_record_sets", HostedZoneId=ZONE_ID, MaxItems="none"),
            api.change(step("UPSERT", "x.example.net."), comment="c" * 257),
            api.change(weighted),
        ):
            error = await api.error(call)
            assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("InvalidInput", 400)

    with_server(check)


def test_a_zone_tells_its_name_servers_and_is_found_by_name() -> None:
    async def check(server: Route53Server, api: Api, clock: Clock) -> None:
        answer = await api("get_hosted_zone", Id=ZONE_ID)
        assert answer["HostedZone"]["Name"] == "example.com."
        assert answer["DelegationSet"]["NameServers"] == ["ns-1.simulator.test", "ns-2.simulator.test"]
        found = await api("list_hosted_zones_by_name", DNSName="example.com")
        assert [zone["Id"] for zone in found["HostedZones"]] == [f"/hostedzone/{ZONE_ID}"]
        assert (await api("list_hosted_zones_by_name", DNSName="example.org"))["HostedZones"] == []

    with_server(check)
