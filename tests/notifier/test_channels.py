"""Each way to tell, against a fake of its vendor: what is taken, what is worth another try, what is final."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest

from notifier.core.outbox import Attempt, Fate
from notifier.edges.mail import Mail, MailServer
from notifier.edges.pagerduty import PagerDuty
from notifier.edges.slack import Slack
from redis_agent.model import AlertState, Severity
from simulator.mail_box import MailBox
from simulator.pagerduty_events import AlertState as Incident
from simulator.pagerduty_events import Fate as PagerDutyFate

from .conftest import HOST, ROUTING_KEY, SECRET, Fakes, Vendors, alert, notification, resolved

PATIENCE_SECONDS = 1.0
Check = Callable[[Vendors, httpx.AsyncClient], Awaitable[None]]


def with_vendors(vendors: Fakes, check: Check) -> None:
    async def run() -> None:
        async with vendors() as fakes, httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
            await check(fakes, client)

    asyncio.run(run())


def slack_of(fakes: Vendors, client: httpx.AsyncClient) -> Slack:
    return Slack(client, f"http://{HOST}:{fakes.slack.port}/services/{SECRET}")


def pager_of(fakes: Vendors, client: httpx.AsyncClient) -> PagerDuty:
    return PagerDuty(client, fakes.pagerduty.url, ROUTING_KEY)


def mail_to(box: MailBox, *to: str) -> Mail:
    server = MailServer(HOST, box.port, "none", None, None, PATIENCE_SECONDS)
    return Mail(server, "redis-agent@example.test", to or ("oncall@example.test",))


# --- Slack


def test_slack_shows_what_was_sent(vendors: Fakes) -> None:
    async def check(fakes: Vendors, client: httpx.AsyncClient) -> None:
        attempt = await slack_of(fakes, client).send(notification(alert(), alert("anomaly/2", title="another")))
        assert attempt == Attempt(Fate.DELIVERED, "200 ok")
        (shown,) = fakes.slack.accepted
        assert shown["text"] == "[WARNING] another (and 1 more)"
        assert ["another" in block["text"]["text"] for block in shown["blocks"]] == [False, True]

    with_vendors(vendors, check)


@pytest.mark.parametrize("alerts", [1, 7, 49, 50, 300])
def test_slack_takes_alerts_of_any_length_and_number(vendors: Fakes, alerts: int) -> None:
    async def check(fakes: Vendors, client: httpx.AsyncClient) -> None:
        long = [alert(f"a{n}", title="t" * 100_000, detail="d" * 100_000) for n in range(alerts)]
        assert (await slack_of(fakes, client).send(notification(*long))).fate is Fate.DELIVERED
        assert len(fakes.slack.accepted) == 1

    with_vendors(vendors, check)


# --- what all of HTTP has in common, told of Slack and PagerDuty


def test_429_is_worth_another_try_after_as_long_as_it_says(vendors: Fakes) -> None:
    async def check(fakes: Vendors, client: httpx.AsyncClient) -> None:
        fakes.slack.answer_next(429, retry_after_seconds=7)
        fakes.pagerduty.answer_next(429)
        for channel, wait in ((slack_of(fakes, client), timedelta(seconds=7)), (pager_of(fakes, client), None)):
            attempt = await channel.send(notification())
            assert (attempt.fate, attempt.retry_after) == (Fate.RETRY, wait)
            assert attempt.detail.startswith("429")
            assert (await channel.send(notification())).fate is Fate.DELIVERED

    with_vendors(vendors, check)


@pytest.mark.parametrize(
    ("status", "fate"), [(500, Fate.RETRY), (503, Fate.RETRY), (400, Fate.REJECTED), (404, Fate.REJECTED)]
)
def test_what_the_server_has_is_tried_again_and_what_we_have_is_final(vendors: Fakes, status: int, fate: Fate) -> None:
    async def check(fakes: Vendors, client: httpx.AsyncClient) -> None:
        fakes.slack.answer_next(status)
        fakes.pagerduty.answer_next(status)
        for channel in (slack_of(fakes, client), pager_of(fakes, client)):
            attempt = await channel.send(notification())
            assert (attempt.fate, attempt.retry_after) == (fate, None)
            assert attempt.detail.startswith(str(status))

    with_vendors(vendors, check)


def test_a_black_hole_is_given_up_and_tried_again(vendors: Fakes) -> None:
    async def check(fakes: Vendors, client: httpx.AsyncClient) -> None:
        fakes.slack.black_hole = fakes.pagerduty.black_hole = True
        for channel in (slack_of(fakes, client), pager_of(fakes, client)):
            began = time.monotonic()
            assert (await channel.send(notification())).fate is Fate.RETRY
            assert time.monotonic() - began < PATIENCE_SECONDS + 2

    with_vendors(vendors, check)


def test_nobody_there_is_tried_again_and_no_secret_is_in_what_is_told(vendors: Fakes) -> None:
    async def check(fakes: Vendors, client: httpx.AsyncClient) -> None:
        slack, pager = slack_of(fakes, client), pager_of(fakes, client)
        await fakes.slack.stop()
        await fakes.pagerduty.stop()
        for attempt in (await slack.send(notification()), await pager.send(notification())):
            assert attempt.fate is Fate.RETRY
            assert "SECRET" not in attempt.detail
            assert ROUTING_KEY not in attempt.detail

    with_vendors(vendors, check)


def test_an_address_that_is_none_is_final_and_not_told(vendors: Fakes) -> None:
    async def check(_fakes: Vendors, client: httpx.AsyncClient) -> None:
        attempt = await Slack(client, "http://slack.test:SECRET/").send(notification())
        assert attempt.fate is Fate.REJECTED
        assert "SECRET" not in attempt.detail

    with_vendors(vendors, check)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("5", 5, 5),
        (" 5 ", 5, 5),
        ("Wed, 21 Oct 2099 07:28:00 GMT", None, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None, None),
        ("-3", None, None),
        ("soon", None, None),
        ("99999999999999999999", None, None),
        ("²", None, None),
    ],
)
def test_a_retry_after_that_is_no_sensible_wait_is_left_to_our_own_back_off(
    header: str, least: float | None, most: float | None
) -> None:
    async def run() -> None:
        headers = [(b"Retry-After", header.encode("latin-1"))]
        transport = httpx.MockTransport(lambda _request: httpx.Response(429, headers=headers))
        async with httpx.AsyncClient(transport=transport) as client:
            attempt = await Slack(client, "http://slack.test/services/x").send(notification())
        assert attempt.fate is Fate.RETRY
        seconds = attempt.retry_after.total_seconds() if attempt.retry_after is not None else None
        assert seconds == least == most

    asyncio.run(run())


def test_a_retry_after_may_be_a_date() -> None:
    async def run() -> None:
        soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
        transport = httpx.MockTransport(lambda _request: httpx.Response(503, headers={"Retry-After": soon}))
        async with httpx.AsyncClient(transport=transport) as client:
            attempt = await Slack(client, "http://slack.test/services/x").send(notification())
        assert attempt.retry_after is not None
        assert 30 < attempt.retry_after.total_seconds() <= 60

    asyncio.run(run())


# --- PagerDuty


def test_pagerduty_opens_an_incident_and_closes_the_same(vendors: Fakes) -> None:
    async def check(fakes: Vendors, client: httpx.AsyncClient) -> None:
        pager = pager_of(fakes, client)
        grave = alert(severity=Severity.CRITICAL)
        assert (await pager.send(notification(grave))).fate is Fate.DELIVERED
        assert fakes.pagerduty.alerts == {(ROUTING_KEY, "anomaly/1"): Incident.TRIGGERED}
        (first,) = fakes.pagerduty.events
        assert first.body is not None
        payload = first.body["payload"]
        assert (payload["severity"], payload["source"], payload["class"]) == ("critical", "orders", "anomaly")
        assert payload["custom_details"] == {"detail": grave.detail}
        assert (await pager.send(notification(grave))).fate is Fate.DELIVERED
        assert (await pager.send(notification(resolved(grave, 9), name="orders#2@pager"))).fate is Fate.DELIVERED
        assert [e.fate for e in fakes.pagerduty.events] == [
            PagerDutyFate.OPENED,
            PagerDutyFate.REPEATED,
            PagerDutyFate.RESOLVED,
        ]

    with_vendors(vendors, check)


def test_a_retry_goes_on_where_it_stopped_and_pages_nobody_twice(vendors: Fakes) -> None:
    async def check(fakes: Vendors, client: httpx.AsyncClient) -> None:
        pager = pager_of(fakes, client)
        told = notification(alert("a"), resolved(alert("a"), 2), alert("b"))
        fakes.pagerduty.calls_per_window = 2
        assert (await pager.send(told)).fate is Fate.RETRY
        fakes.pagerduty.calls_per_window = 120
        assert (await pager.send(told)).fate is Fate.DELIVERED
        fates = [(e.dedup_key, e.fate) for e in fakes.pagerduty.events if e.fate is not PagerDutyFate.NOT_TAKEN]
        assert fates == [("a", PagerDutyFate.OPENED), ("a", PagerDutyFate.RESOLVED), ("b", PagerDutyFate.OPENED)]

    with_vendors(vendors, check)


def test_an_event_that_pagerduty_will_never_take_does_not_stop_the_others(vendors: Fakes) -> None:
    async def check(fakes: Vendors, client: httpx.AsyncClient) -> None:
        fakes.pagerduty.answer_next(400)
        attempt = await pager_of(fakes, client).send(notification(alert("bad"), alert("good")))
        assert attempt.fate is Fate.REJECTED
        assert fakes.pagerduty.alerts == {(ROUTING_KEY, "good"): Incident.TRIGGERED}

    with_vendors(vendors, check)


def test_pagerduty_takes_texts_of_any_length(vendors: Fakes) -> None:
    async def check(fakes: Vendors, client: httpx.AsyncClient) -> None:
        long = alert("anomaly/" + "n" * 400, title="t" * 100_000, detail="ü" * 600_000)
        assert (await pager_of(fakes, client).send(notification(long))).fate is Fate.DELIVERED
        (event,) = fakes.pagerduty.events
        assert event.body is not None
        assert len(event.body["payload"]["summary"]) == 1024
        assert len(event.dedup_key) == 255

    with_vendors(vendors, check)


# --- mail


def test_a_mail_says_what_happened_and_belongs_to_its_groups_thread(vendors: Fakes) -> None:
    async def check(fakes: Vendors, _client: httpx.AsyncClient) -> None:
        mail = mail_to(fakes.mail)
        first, second = notification(), notification(resolved(alert(), 60), name="orders#2@mail")
        assert (await mail.send(first)).fate is Fate.DELIVERED
        assert (await mail.send(second)).fate is Fate.DELIVERED
        one, two = (received.message for received in fakes.mail.mails)
        assert one["Subject"] == "[WARNING] orders/dc-east does not behave normally"
        assert (one["From"], one["To"]) == ("redis-agent@example.test", "oncall@example.test")
        assert one["Auto-Submitted"] == "auto-generated"
        assert one["Message-ID"] != two["Message-ID"]
        assert one["References"] == two["References"] == "<orders@redis-agent>"
        assert "PING takes 40 ms" in one.get_content()

    with_vendors(vendors, check)


def test_a_mail_that_is_not_taken_now_comes_again_under_the_same_id(vendors: Fakes) -> None:
    async def check(fakes: Vendors, _client: httpx.AsyncClient) -> None:
        mail = mail_to(fakes.mail)
        fakes.mail.refuse_next()
        refused = await mail.send(notification())
        assert refused.fate is Fate.RETRY
        assert refused.detail.startswith("451")
        await mail.send(notification())
        await mail.send(notification())
        first, second = fakes.mail.mails
        assert first.message["Message-ID"] == second.message["Message-ID"]

    with_vendors(vendors, check)


def test_one_recipient_who_is_refused_does_not_make_it_fail(vendors: Fakes) -> None:
    async def check(fakes: Vendors, _client: httpx.AsyncClient) -> None:
        fakes.mail.refused_recipients.add("gone@example.test")
        attempt = await mail_to(fakes.mail, "oncall@example.test", "gone@example.test").send(notification())
        assert attempt.fate is Fate.DELIVERED
        assert "refused: gone@example.test" in attempt.detail
        assert fakes.mail.mails[0].rcpt_tos == ("oncall@example.test",)

    with_vendors(vendors, check)


def test_if_every_recipient_is_refused_it_is_final(vendors: Fakes) -> None:
    async def check(fakes: Vendors, _client: httpx.AsyncClient) -> None:
        fakes.mail.refused_recipients.add("gone@example.test")
        attempt = await mail_to(fakes.mail, "gone@example.test").send(notification())
        assert attempt.fate is Fate.REJECTED
        assert fakes.mail.mails == []

    with_vendors(vendors, check)


def test_an_address_that_would_be_two_is_refused(vendors: Fakes) -> None:
    async def check(fakes: Vendors, _client: httpx.AsyncClient) -> None:
        two = "a@b.test>\r\nRCPT TO:<evil@example.test"
        assert (await mail_to(fakes.mail, two).send(notification())).fate is Fate.REJECTED
        assert fakes.mail.mails == []

    with_vendors(vendors, check)


def test_a_server_that_does_not_greet_is_given_up_and_tried_again(vendors: Fakes) -> None:
    async def check(fakes: Vendors, _client: httpx.AsyncClient) -> None:
        fakes.mail.stall_greeting = True
        began = time.monotonic()
        assert (await mail_to(fakes.mail).send(notification())).fate is Fate.RETRY
        assert time.monotonic() - began < PATIENCE_SECONDS + 5

    with_vendors(vendors, check)


def test_no_mail_server_is_tried_again(vendors: Fakes) -> None:
    async def check(fakes: Vendors, _client: httpx.AsyncClient) -> None:
        mail = mail_to(fakes.mail)
        await fakes.mail.stop()
        assert (await mail.send(notification())).fate is Fate.RETRY

    with_vendors(vendors, check)


@pytest.mark.parametrize(
    "title",
    [
        "x\r\nBcc: evil@example.test",
        "x\u2028Bcc: evil@example.test",
        "x\x0bBcc: y\x85z",
        "nul \x00 ü 漢字",
        "t" * 100_000,
    ],
)
def test_a_title_never_makes_a_header_and_always_arrives(vendors: Fakes, title: str) -> None:
    async def check(fakes: Vendors, _client: httpx.AsyncClient) -> None:
        attempt = await mail_to(fakes.mail).send(notification(alert(title=title, detail=title)))
        assert attempt.fate is Fate.DELIVERED
        (received,) = fakes.mail.mails
        assert received.message["Bcc"] is None
        assert received.rcpt_tos == ("oncall@example.test",)
        assert len(received.message["Subject"]) <= 200

    with_vendors(vendors, check)


def test_names_of_any_length_give_ids_that_arrive_whole(vendors: Fakes) -> None:
    async def check(fakes: Vendors, _client: httpx.AsyncClient) -> None:
        name = "n" * 63
        told = notification(alert(state=AlertState.FIRING), name=f"{name}#12@{name}ü")
        assert (await mail_to(fakes.mail).send(told)).fate is Fate.DELIVERED
        (received,) = fakes.mail.mails
        assert received.message["Message-ID"] == f"<{name}.12.{name}..20261103120000@redis-agent>"

    with_vendors(vendors, check)
