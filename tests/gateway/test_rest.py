"""The REST routes of the gateway's process, before services that do as their protos say."""

import asyncio
import csv
import io
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import grpc
import httpx
import pyarrow as pa

from redis_agent.model import AlertKind, AnomalyState, Severity
from redis_agent.testing_process import STOPPED_WITHIN_SECONDS
from redis_agent.v1 import detector_service_pb2, failover_pb2

from .conftest import KEY, NOON, Gateway, Running, alert, anomaly, series

Check = Callable[[Gateway, httpx.AsyncClient], Awaitable[None]]
READS = (
    "/api/status",
    "/api/status/orders",
    "/api/alerts",
    "/api/anomalies",
    "/api/failover/orders",
    "/api/failovers/fo-1",
    "/api/metrics/orders",
)


def with_gateway(running: Running, check: Check) -> None:
    async def run() -> None:
        async with running() as gateway, httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
            client.headers["api-key"] = KEY
            await check(gateway, client)

    asyncio.run(run())


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer of that status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == status
    assert told["title"]
    assert told["detail"]
    return told


# --- who may ask


def test_every_route_is_open_to_the_key_in_each_form_and_to_nobody_else(running: Running) -> None:
    async def check(_gateway: Gateway, client: httpx.AsyncClient) -> None:
        del client.headers["api-key"]
        forms = [{"api-key": KEY}, {"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}]
        for route in READS:
            for form in forms:
                assert (await client.get(route, headers=form)).status_code == 200, route
                wrong = {name: value + "x" for name, value in form.items()}
                problem(await client.get(route, headers=wrong), 401)
            refused = await client.get(route)
            problem(refused, 401)
            assert refused.headers["www-authenticate"] == "Bearer"
        for method, route in (("POST", "/api/failover/orders"), ("GET", "/api/nothing"), ("DELETE", "/api/status")):
            problem(await client.request(method, route, content=b"not json"), 401)
        login = await client.get("/login", params={"key": KEY})
        assert login.cookies, "the page's cookie is for the page: a REST call that it opened could come from any page"
        problem(await client.get("/api/status"), 401)

    with_gateway(running, check)


def test_a_body_of_somebody_without_the_key_is_not_even_read(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        del client.headers["api-key"]
        for _ in range(3):
            problem(await client.post("/api/failover/orders", content=b"{" * 5_000_000), 401)
        assert gateway.behind.asked == []

    with_gateway(running, check)


def test_no_page_of_another_origin_may_ask(running: Running) -> None:
    async def check(_gateway: Gateway, client: httpx.AsyncClient) -> None:
        elsewhere = {"Origin": "https://evil.example.test", "Access-Control-Request-Method": "POST"}
        for answer in (
            await client.get("/api/status", headers=elsewhere),
            await client.options("/api/failover/orders", headers=elsewhere),
        ):
            assert [name for name in answer.headers if name.startswith("access-control-")] == []

    with_gateway(running, check)


# --- the routes


def test_the_status_of_all_and_of_one(running: Running) -> None:
    async def check(_gateway: Gateway, client: httpx.AsyncClient) -> None:
        (orders,) = (await client.get("/api/status")).json()["instances"]
        assert (orders["instance"], orders["active_datacenter"], orders["mode"]) == ("orders", "dc-east", "auto")
        east, _west = orders["sites"]
        assert (east["health"], east["active"], east["since"]) == ("up", True, "2026-11-03T12:00:00Z")
        assert [vote["vantage"] for vote in east["votes"]] == ["dc-east", "dc-west", "witness"]
        assert (east["votes"][0]["verdict"], east["votes"][0]["age"]) == ("up", 0.4)
        one = (await client.get("/api/status/orders")).json()
        assert one["sites"] == orders["sites"]
        assert [found["id"] for found in one["anomalies"]] == ["a-1"]
        assert "carts" in problem(await client.get("/api/status/carts"), 404)["detail"]

    with_gateway(running, check)


def test_the_status_of_one_says_null_and_not_none_open_when_the_detector_is_away(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        await gateway.services.stop("detector")
        one = await client.get("/api/status/orders")
        assert one.status_code == 200
        assert one.json()["anomalies"] is None

    with_gateway(running, check)


def test_the_alerts_with_filters_and_page_after_page(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        gateway.behind.alerts.insert(0, alert(9, AlertKind.FAILOVER, Severity.CRITICAL))
        whole = (await client.get("/api/alerts")).json()
        assert [a["id"] for a in whole["alerts"]] == [f"anomaly/a-{n}" for n in (9, 5, 4, 3, 2, 1)]
        assert whole["next_cursor"] is None
        assert whole["alerts"][0]["deliveries"][0]["detail"] == "200 ok"
        for query in ({"severity": "critical"}, {"alert_type": "failover"}):
            filtered = (await client.get("/api/alerts", params=query)).json()
            assert [a["kind"] for a in filtered["alerts"]] == ["failover"]
        first = (await client.get("/api/alerts", params={"limit": 4})).json()
        rest = (await client.get("/api/alerts", params={"limit": 4, "cursor": first["next_cursor"]})).json()
        assert [a["id"] for a in (*first["alerts"], *rest["alerts"])] == [a["id"] for a in whole["alerts"]]
        assert rest["next_cursor"] is None

    with_gateway(running, check)


def test_the_anomalies_of_all_of_one_and_those_that_are_open(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        gateway.behind.anomalies.append(anomaly("a-2", AnomalyState.CLOSED))

        async def ids(**query: str) -> list[str]:
            found = (await client.get("/api/anomalies", params=query)).json()["anomalies"]
            return [one["id"] for one in found]

        assert await ids() == ["a-1", "a-2"]
        assert await ids(open="true") == ["a-1"]
        assert await ids(instance="carts") == []

    with_gateway(running, check)


def test_a_failover_is_begun_and_the_answer_says_where_to_follow_it(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/failover/orders", json={"target_dc": "dc-west"})
        assert answer.status_code == 202
        assert answer.json() == {
            "status": "success",
            "message": "Failover initiated to dc-west",
            "failover": "fo-1",
            "location": "/api/failovers/fo-1",
        }
        assert answer.headers["location"] == "/api/failovers/fo-1"
        (order,) = gateway.behind.executed
        assert (order.instance, order.target, order.actor) == ("orders", "dc-west", "api")
        assert order.kind == failover_pb2.FAILOVER_KIND_UNSPECIFIED, "the controller finds the kind that fits"
        for planned in (True, False):
            wanted = {"target_dc": "dc-west", "planned": planned, "reason": "patching"}
            assert (await client.post("/api/failover/orders", json=wanted)).status_code == 202
        kinds = [failover_pb2.FAILOVER_KIND_PLANNED, failover_pb2.FAILOVER_KIND_EMERGENCY]
        assert [o.kind for o in gateway.behind.executed[1:]] == kinds
        assert gateway.behind.executed[1].reason == "patching"

    with_gateway(running, check)


def test_the_same_idempotency_key_begins_one_failover(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        async def order(key: str) -> str:
            headers = {"Idempotency-Key": key}
            answer = await client.post("/api/failover/orders", json={"target_dc": "dc-west"}, headers=headers)
            assert answer.status_code == 202
            return str(answer.json()["failover"])

        assert [await order("one"), await order("one"), await order("two")] == ["fo-1", "fo-1", "fo-2"]
        assert [r.request_id for r in gateway.behind.executed] == ["one", "two"]
        headers = {"Idempotency-Key": "k" * 201}
        long = await client.post("/api/failover/orders", json={"target_dc": "dc-west"}, headers=headers)
        assert "idempotency-key" in problem(long, 422)["detail"]

    with_gateway(running, check)


def test_a_dry_run_gives_the_plan_and_begins_nothing(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        answer = await client.post("/api/failover/orders", json={"target_dc": "dc-west", "dry_run": True})
        assert answer.status_code == 200
        assert answer.json()["plan"]["target"] == "dc-west"
        assert answer.json()["plan"]["checks"] == ["2 of 3 vantages say down", "dc-west is up"]
        assert gateway.behind.executed == []

    with_gateway(running, check)


def test_what_policy_refuses_is_409_with_every_reason(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        gateway.behind.refusals += ["paused: maintenance", "cooling down for 3000 s", "dc-west is not up"]
        for dry_run in (False, True):
            order = {"target_dc": "dc-west", "dry_run": dry_run}
            told = problem(await client.post("/api/failover/orders", json=order), 409)
            assert told["reasons"] == gateway.behind.refusals
        assert gateway.behind.executed == []

    with_gateway(running, check)


def test_nobody_can_be_moved_that_is_not_there_or_to_where_nothing_is(running: Running) -> None:
    async def check(_gateway: Gateway, client: httpx.AsyncClient) -> None:
        for dry_run in (False, True):
            order = {"target_dc": "dc-west", "dry_run": dry_run}
            assert "carts" in problem(await client.post("/api/failover/carts", json=order), 404)["detail"]
            order = {"target_dc": "dc-north", "dry_run": dry_run}
            assert "dc-north" in problem(await client.post("/api/failover/orders", json=order), 404)["detail"]

    with_gateway(running, check)


WRONG_ORDERS = (
    (b'{"target_dc": ""}', "target_dc"),
    (b"{}", "target_dc"),
    (b'{"target_dc": 5}', "target_dc"),
    (b'{"target_dc": "dc-west", "planned": "perhaps"}', "planned"),
    (b'{"target_dc": "dc-west", "force": true}', "force"),
    (b'{"target_dc": "dc-west", "reason": "' + b"x" * 2000 + b'"}', "reason"),
    (b"", "body"),
    (b"{not json", "body"),
    (b"[]", "body"),
)


def test_a_wrong_order_is_422_and_names_the_field(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        headers = {"Content-Type": "application/json"}
        for body, field in WRONG_ORDERS:
            told = problem(await client.post("/api/failover/orders", content=body, headers=headers), 422)
            assert [reason.partition(":")[0] for reason in told["reasons"]] == [field], body
        assert gateway.behind.asked == []

    with_gateway(running, check)


WRONG_QUESTIONS = (
    ("/api/alerts?limit=0", "limit"),
    ("/api/alerts?limit=1001", "limit"),
    ("/api/alerts?limit=many", "limit"),
    ("/api/alerts?severity=bad", "severity"),
    ("/api/alerts?alert_type=other", "alert_type"),
    ("/api/metrics/orders?hours=0", "hours"),
    ("/api/metrics/orders?hours=nan", "hours"),
    ("/api/metrics/orders?hours=25", "hours"),
    ("/api/metrics/orders?step=-1", "step"),
    ("/api/metrics/orders?format=xml", "format"),
)


def test_a_wrong_question_is_422_and_names_the_field(running: Running) -> None:
    async def check(_gateway: Gateway, client: httpx.AsyncClient) -> None:
        for route, field in WRONG_QUESTIONS:
            told = problem(await client.get(route), 422)
            assert [reason.partition(":")[0] for reason in told["reasons"]] == [field], route

    with_gateway(running, check)


def test_the_journal_of_an_instance_and_of_one_failover(running: Running) -> None:
    async def check(_gateway: Gateway, client: httpx.AsyncClient) -> None:
        (listed,) = (await client.get("/api/failover/orders")).json()["failovers"]
        one = (await client.get("/api/failovers/fo-1")).json()
        assert one == listed
        assert (one["stage"], one["ended_at"]) == ("done", "2026-11-03T12:00:09Z")
        assert [event["kind"] for event in one["events"]] == ["decided", "intent", "outcome"]
        problem(await client.get("/api/failover/carts"), 404)
        assert "fo-9" in problem(await client.get("/api/failovers/fo-9"), 404)["detail"]

    with_gateway(running, check)


# --- metrics


def test_the_history_of_metrics_is_asked_for_as_it_was_wanted(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        gateway.behind.series.append(series("keys", 7))
        query = {"hours": "2", "metric": ["keys", "memory_used_bytes"], "site": "dc-east", "step": "60"}
        told = (await client.get("/api/metrics/orders", params=query)).json()
        assert told["instance_id"] == "orders"
        assert [s["metric"] for s in told["series"]] == ["memory_used_bytes", "keys"]
        assert told["series"][0]["at"] == ["2026-11-03T12:00:00Z", "2026-11-03T12:00:01Z"]
        assert told["series"][0]["value"] == [1.0, 2.5]
        asked = gateway.behind.asked[-1]
        assert isinstance(asked, detector_service_pb2.QueryMetricsRequest)
        assert (asked.datacenter, asked.step_seconds) == ("dc-east", 60)
        assert list(asked.metrics) == ["keys", "memory_used_bytes"]
        assert asked.until.ToDatetime() - asked.since.ToDatetime() == timedelta(hours=2)

    with_gateway(running, check)


def test_no_samples_are_404_and_no_empty_list(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        problem(await client.get("/api/metrics/carts"), 404)
        gateway.behind.series.clear()
        for shape in ("json", "csv", "arrow"):
            problem(await client.get("/api/metrics/orders", params={"format": shape}), 404)

    with_gateway(running, check)


def test_what_is_no_number_is_null_in_json(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        gateway.behind.series[:] = [series("keys", 1, float("nan"), float("inf"))]
        told = (await client.get("/api/metrics/orders")).json()
        assert told["series"][0]["value"] == [1.0, None, None]

    with_gateway(running, check)


def test_the_history_as_csv_and_as_arrow(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        gateway.behind.series.append(series("keys", 7))
        expected = [
            (NOON, "dc-east", "witness", "memory_used_bytes", "By", 1.0),
            (NOON + timedelta(seconds=1), "dc-east", "witness", "memory_used_bytes", "By", 2.5),
            (NOON, "dc-east", "witness", "keys", "By", 7.0),
        ]
        answer = await client.get("/api/metrics/orders", params={"format": "csv"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        heading, *rows = csv.reader(io.StringIO(answer.text))
        assert heading == ["at", "datacenter", "vantage", "metric", "unit", "value"]
        assert [(datetime.fromisoformat(r[0]), *r[1:5], float(r[5])) for r in rows] == expected
        answer = await client.get("/api/metrics/orders", params={"format": "arrow"})
        assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
        table = pa.ipc.open_stream(answer.content).read_all()
        assert table.column_names == heading
        assert [tuple(row.values()) for row in table.to_pylist()] == expected

    with_gateway(running, check)


# --- when something is wrong behind


BEHIND = {
    "controller": ("/api/status", "/api/status/orders", "/api/failover/orders", "/api/failovers/fo-1"),
    "detector": ("/api/anomalies", "/api/metrics/orders"),
    "notifier": ("/api/alerts",),
}


def test_a_service_that_is_down_is_503_with_retry_after_and_comes_back_by_itself(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        for service, routes in BEHIND.items():
            await gateway.services.stop(service)
            for route in routes:
                answer = await client.get(route)
                assert service in problem(answer, 503)["detail"]
                assert int(answer.headers["retry-after"]) > 0
            if service == "controller":
                problem(await client.post("/api/failover/orders", json={"target_dc": "dc-west"}), 503)
            await gateway.services.start(service)
            deadline = time.monotonic() + 20
            while (await client.get(routes[0])).status_code != 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)

    with_gateway(running, check)


def test_a_service_that_stands_still_is_503_within_its_deadline(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        gateway.behind.stalled.add("controller")
        began = time.monotonic()
        problem(await client.get("/api/status"), 503)
        assert time.monotonic() - began < 15

    with_gateway(running, check)


FAULTS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 502,
    grpc.StatusCode.INTERNAL: 502,
    grpc.StatusCode.UNIMPLEMENTED: 502,
    grpc.StatusCode.DEADLINE_EXCEEDED: 503,
}


def test_what_fails_behind_is_told_in_http_s_terms(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        for code, status in FAULTS.items():
            gateway.behind.fault = (code, "what went wrong")
            assert "what went wrong" in problem(await client.get("/api/alerts"), status)["detail"]

    with_gateway(running, check)


# --- what is not there, and what is for machines


def test_what_is_not_there_is_a_problem_too(running: Running) -> None:
    async def check(_gateway: Gateway, client: httpx.AsyncClient) -> None:
        for route in ("/api/nothing", "/api/", "/api", "/api/status/orders/more"):
            problem(await client.get(route), 404)
        for method, route in (("DELETE", "/api/status"), ("GET", "/api/failover"), ("PUT", "/api/failover/orders")):
            problem(await client.request(method, route), 404 if route == "/api/failover" else 405)

    with_gateway(running, check)


def test_probes_and_the_description_are_open(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        del client.headers["api-key"]
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"status": "ok"}
        assert "redis_agent_deadletter_records" in (await client.get("/metrics")).text
        described = (await client.get("/openapi.json")).json()
        assert set(described["paths"]) == {
            "/api/status",
            "/api/status/{instance_id}",
            "/api/failover/{instance_id}",
            "/api/failovers/{failover_id}",
            "/api/alerts",
            "/api/anomalies",
            "/api/metrics/{instance_id}",
        }
        order = described["paths"]["/api/failover/{instance_id}"]["post"]
        assert order["security"] == [{"APIKeyHeader": []}]
        assert set(order["responses"]) >= {"202", "401", "404", "409", "422", "503"}
        assert list(order["responses"]["422"]["content"]) == ["application/problem+json"]
        await gateway.services.stop("controller")
        problem(await client.get("/readyz"), 503)
        assert (await client.get("/healthz")).status_code == 200

    with_gateway(running, check)


def test_asked_to_stop_it_ends_in_time(running: Running) -> None:
    async def check(gateway: Gateway, client: httpx.AsyncClient) -> None:
        gateway.behind.stalled.add("controller")
        asked = asyncio.ensure_future(client.get("/api/status"))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        assert await gateway.process.stop() == 0
        assert time.monotonic() - began < STOPPED_WITHIN_SECONDS
        await asyncio.gather(asked, return_exceptions=True)
        assert KEY not in gateway.process.said

    with_gateway(running, check)
