"""Slack, PagerDuty and the mail server, met by the clients that the notifier uses."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from email.message import EmailMessage
from typing import Any

import aiosmtplib
import httpx
import pytest

from simulator.receivers import AlertState, Fate, MailBox, PagerDutyEvents, SlackWebhook

HOST = "127.0.0.1"
KEY = "R" * 32


def with_slack(check: Callable[[SlackWebhook, httpx.AsyncClient], Awaitable[None]]) -> None:
    async def run() -> None:
        slack = SlackWebhook(HOST)
        await slack.start()
        try:
            async with httpx.AsyncClient(timeout=2.0) as client:
                await check(slack, client)
        finally:
            await slack.stop()
            await slack.stop()

    asyncio.run(run())


def with_pagerduty(check: Callable[[PagerDutyEvents, httpx.AsyncClient], Awaitable[None]], limit: int = 120) -> None:
    async def run() -> None:
        pagerduty = PagerDutyEvents(HOST, calls_per_window=limit)
        await pagerduty.start()
        try:
            async with httpx.AsyncClient(timeout=2.0) as client:
                await check(pagerduty, client)
        finally:
            await pagerduty.stop()
            await pagerduty.stop()

    asyncio.run(run())


def with_mail_box(check: Callable[[MailBox], Awaitable[None]]) -> None:
    async def run() -> None:
        box = MailBox(HOST)
        await box.start()
        try:
            await check(box)
        finally:
            await box.stop()
            await box.stop()

    asyncio.run(run())


def event(action: str = "trigger", dedup_key: str | None = "orders/east", **changes: object) -> dict[str, Any]:
    body: dict[str, Any] = {"routing_key": KEY, "event_action": action}
    if dedup_key is not None:
        body["dedup_key"] = dedup_key
    if action == "trigger":
        body["payload"] = {"summary": "orders is down", "source": "redis-agent", "severity": "critical"}
    return body | changes


def payload(**changes: object) -> Mapping[str, object]:
    return {"summary": "orders is down", "source": "redis-agent", "severity": "critical"} | changes


def mail(subject: str = "orders is down") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "agent@example.com", "ops@example.com", subject
    message.set_content("orders is down: é\n.\nend")
    return message


async def send(box: MailBox, message: EmailMessage, **options: Any) -> Any:
    return await aiosmtplib.send(message, hostname=HOST, port=box.port, timeout=2.0, start_tls=False, **options)


def test_slack_answers_ok_and_keeps_what_was_posted() -> None:
    async def check(slack: SlackWebhook, client: httpx.AsyncClient) -> None:
        before = time.monotonic()
        response = await client.post(slack.url, json={"text": "orders is down"})
        assert (response.status_code, response.text) == (200, "ok")
        (post,) = slack.posts
        assert (post.payload, post.status, before <= post.at <= time.monotonic()) == (
            {"text": "orders is down"},
            200,
            True,
        )
        assert slack.accepted == [{"text": "orders is down"}]

    with_slack(check)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"not json", "invalid_payload"),
        (b"[]", "invalid_payload"),
        (b"{}", "invalid_payload"),
        (b'{"text": ""}', "invalid_payload"),
        (b'{"blocks": [{}]}', "invalid_blocks"),
        (b'{"blocks": [' + b",".join([b'{"type": "divider"}'] * 51) + b"]}", "invalid_blocks"),
        (b'{"blocks": [{"type": "header", "text": {"text": "' + b"x" * 151 + b'"}}]}', "invalid_blocks"),
        (b'{"blocks": [{"type": "section", "text": {"text": "' + b"x" * 3001 + b'"}}]}', "invalid_blocks"),
    ],
)
def test_slack_refuses_what_it_could_not_show(body: bytes, text: str) -> None:
    async def check(slack: SlackWebhook, client: httpx.AsyncClient) -> None:
        response = await client.post(slack.url, content=body)
        assert (response.status_code, response.text) == (400, text)
        assert (len(slack.posts), slack.accepted) == (1, [])

    with_slack(check)


def test_slack_says_too_many_and_error_as_often_as_it_was_told() -> None:
    async def check(slack: SlackWebhook, client: httpx.AsyncClient) -> None:
        slack.answer_next(429, 2, retry_after_seconds=7)
        slack.answer_next(500)
        responses = [await client.post(slack.url, json={"text": "x"}) for _ in range(4)]
        assert [response.status_code for response in responses] == [429, 429, 500, 200]
        assert [response.headers.get("Retry-After") for response in responses] == ["7", "7", None, None]
        assert (len(slack.posts), len(slack.accepted)) == (4, 1)

    with_slack(check)


def test_a_black_hole_takes_the_request_and_never_answers() -> None:
    async def check(slack: SlackWebhook, client: httpx.AsyncClient) -> None:
        slack.black_hole = True
        with pytest.raises(httpx.ReadTimeout):
            await client.post(slack.url, json={"text": "x"}, timeout=0.1)
        await asyncio.sleep(0.05)  # for the server to notice that nobody waits any more
        slack.black_hole = False
        assert (await client.post(slack.url, json={"text": "y"})).status_code == 200
        assert slack.accepted == [{"text": "y"}]

    with_slack(check)


def test_stop_does_not_wait_for_a_black_hole() -> None:
    async def check(slack: SlackWebhook, client: httpx.AsyncClient) -> None:
        slack.black_hole = True
        asking = asyncio.ensure_future(client.post(slack.url, json={"text": "x"}))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await slack.stop()
        assert time.monotonic() - began < 1.0
        with pytest.raises(httpx.RemoteProtocolError):
            await asking

    with_slack(check)


def test_pagerduty_accepts_a_trigger_and_follows_the_alert_to_its_end() -> None:
    async def check(pagerduty: PagerDutyEvents, client: httpx.AsyncClient) -> None:
        response = await client.post(pagerduty.url, json=event())
        assert response.status_code == 202
        assert response.json() == {"status": "success", "message": "Event processed", "dedup_key": "orders/east"}
        for action in ("trigger", "acknowledge", "trigger"):
            await client.post(pagerduty.url, json=event(action))
        assert pagerduty.alerts == {(KEY, "orders/east"): AlertState.ACKNOWLEDGED}
        await client.post(pagerduty.url, json=event("resolve"))
        fates = [Fate.OPENED, Fate.REPEATED, Fate.ACKNOWLEDGED, Fate.REPEATED, Fate.RESOLVED]
        assert [arrived.fate for arrived in pagerduty.events] == fates
        assert pagerduty.alerts == {(KEY, "orders/east"): AlertState.RESOLVED}
        await client.post(pagerduty.url, json=event())
        assert pagerduty.events[-1].fate is Fate.OPENED

    with_pagerduty(check)


def test_an_acknowledge_or_resolve_without_an_open_alert_is_dropped_and_still_gets_202() -> None:
    async def check(pagerduty: PagerDutyEvents, client: httpx.AsyncClient) -> None:
        await client.post(pagerduty.url, json=event())
        for body in (event("resolve", "another"), event("resolve", routing_key="S" * 32), event("acknowledge", "none")):
            assert (await client.post(pagerduty.url, json=body)).status_code == 202
            assert pagerduty.events[-1].fate is Fate.DROPPED
        assert pagerduty.alerts == {(KEY, "orders/east"): AlertState.TRIGGERED}

    with_pagerduty(check)


def test_a_trigger_without_a_dedup_key_always_opens_a_new_alert() -> None:
    async def check(pagerduty: PagerDutyEvents, client: httpx.AsyncClient) -> None:
        keys = [(await client.post(pagerduty.url, json=event(dedup_key=None))).json()["dedup_key"] for _ in range(2)]
        assert keys[0] != keys[1]
        assert [arrived.fate for arrived in pagerduty.events] == [Fate.OPENED, Fate.OPENED]

    with_pagerduty(check)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (event(routing_key=""), "'routing_key' is missing"),
        (event(routing_key="short"), "should be 32 characters"),
        (event(event_action="explode"), "'event_action'"),
        (event(payload=None), "'payload' is missing"),
        (event(payload=payload(summary="")), "'payload.summary' is missing"),
        (event(payload=payload(source="")), "'payload.source' is missing"),
        (event(payload=payload(severity="")), "'payload.severity' is missing"),
        (event(payload=payload(severity="fatal")), "'payload.severity' is invalid"),
        (event(payload=payload(summary="x" * 1025)), "longer than 1024"),
        (event(dedup_key="x" * 256), "at most 255"),
        (event("resolve", None), "'dedup_key' is missing"),
        ([], "not a JSON object"),
    ],
)
def test_pagerduty_refuses_an_event_that_breaks_its_rules(body: object, complaint: str) -> None:
    async def check(pagerduty: PagerDutyEvents, client: httpx.AsyncClient) -> None:
        response = await client.post(pagerduty.url, json=body)
        answer = response.json()
        assert (response.status_code, answer["status"]) == (400, "invalid event")
        assert (len(answer["errors"]), complaint in answer["errors"][0]) == (1, True)
        assert pagerduty.events[-1].fate is Fate.INVALID
        assert pagerduty.alerts == {}

    with_pagerduty(check)


def test_pagerduty_turns_away_what_it_was_told_to_and_what_is_over_the_limit_of_a_key() -> None:
    async def check(pagerduty: PagerDutyEvents, client: httpx.AsyncClient) -> None:
        pagerduty.answer_next(503)
        pagerduty.answer_next(429)
        statuses = [(await client.post(pagerduty.url, json=event())).status_code for _ in range(5)]
        assert statuses == [503, 429, 202, 202, 429]
        assert (await client.post(pagerduty.url, json=event(routing_key="S" * 32))).status_code == 202
        assert pagerduty.events[0].fate is Fate.NOT_TAKEN

    with_pagerduty(check, limit=2)


def test_an_event_of_more_than_512_kilobytes_is_not_taken() -> None:
    async def check(pagerduty: PagerDutyEvents, client: httpx.AsyncClient) -> None:
        details = payload(custom_details="x" * 512 * 1024)
        assert (await client.post(pagerduty.url, json=event(payload=details))).status_code == 413
        assert pagerduty.alerts == {}

    with_pagerduty(check)


def test_the_mail_box_keeps_the_envelope_and_the_message() -> None:
    async def check(box: MailBox) -> None:
        await send(box, mail(), recipients=["ops@example.com", "boss@example.com"])
        (arrived,) = box.mails
        assert (arrived.mail_from, arrived.rcpt_tos) == ("agent@example.com", ("ops@example.com", "boss@example.com"))
        assert arrived.message["Subject"] == "orders is down"
        assert arrived.message.get_content() == "orders is down: é\n.\nend\n"

    with_mail_box(check)


def test_the_mail_box_says_try_again_as_often_as_it_was_told() -> None:
    async def check(box: MailBox) -> None:
        box.refuse_next(2)
        for _ in range(2):
            with pytest.raises(aiosmtplib.SMTPDataError) as caught:
                await send(box, mail())
            assert caught.value.code == 451
        await send(box, mail())
        assert (box.attempts, len(box.mails)) == (3, 1)

    with_mail_box(check)


def test_a_refused_recipient_does_not_stop_the_others() -> None:
    async def check(box: MailBox) -> None:
        box.refused_recipients.add("gone@example.com")
        refused, _ = await send(box, mail(), recipients=["gone@example.com", "ops@example.com"])
        assert refused["gone@example.com"].code == 550
        assert box.mails[0].rcpt_tos == ("ops@example.com",)

    with_mail_box(check)


def test_a_stalled_greeting_makes_the_client_time_out() -> None:
    async def check(box: MailBox) -> None:
        box.stall_greeting = True
        client = aiosmtplib.SMTP(hostname=HOST, port=box.port, timeout=0.1, start_tls=False)
        with pytest.raises(aiosmtplib.SMTPTimeoutError):
            await client.connect()
        client.close()
        _, held = await asyncio.open_connection(HOST, box.port)
        await box.stop()
        held.close()

    with_mail_box(check)


def test_stop_cuts_a_conversation_under_way() -> None:
    async def check(box: MailBox) -> None:
        reader, writer = await asyncio.open_connection(HOST, box.port)
        assert (await reader.readline()).startswith(b"220 mail.simulator.test")
        await box.stop()
        with pytest.raises(ConnectionResetError):
            writer.write(b"NOOP\r\n")
            await writer.drain()
            assert await reader.read() == b""
            writer.write(b"NOOP\r\n")
            await writer.drain()
        writer.close()

    with_mail_box(check)
