"""What the page says of the fleet, in words and signs."""

from typing import Any

import pytest

from gateway.core import presentation
from gateway.core.presentation import STEPS, Step
from redis_agent import model as m
from redis_agent.rpc.plain import plain
from redis_agent.v1 import failover_service_pb2

from .conftest import anomaly, failover, instance, site, vote


def told(
    *changed: failover_service_pb2.InstanceStatus, open_anomalies: int = 0, findings: int = 0, **missing: str
) -> str:
    anomalies = [plain(anomaly())] * open_anomalies
    found = [{"text": "vantage witness says nothing any more"}] * findings
    return presentation.headline([plain(each) for each in changed], anomalies, found, missing).text


def with_sites(*sites: failover_service_pb2.SiteStatus) -> failover_service_pb2.InstanceStatus:
    status = instance()
    del status.sites[:]
    status.sites.extend(sites)
    return status


UP = site("dc-west", "up")


def test_what_matters_most_is_said() -> None:
    assert told(instance()) == "All sites are up"
    assert told(instance(), open_anomalies=1) == "All sites are up; 1 open anomaly"
    assert told(instance(), open_anomalies=2) == "All sites are up; 2 open anomalies"
    found = "All sites are up, but: vantage witness says nothing any more"
    assert told(instance(), findings=1) == found
    assert told(instance(), findings=3) == f"{found} (and 2 more)"
    assert told(with_sites(site("dc-east", "suspect"), UP), open_anomalies=1) == "Suspect: orders/dc-east"
    assert told(with_sites(site("dc-east", "down"), site("dc-west", "suspect"))) == "Down: orders/dc-east"
    moving = with_sites(site("dc-east", "down"), UP)
    moving.failover.CopyFrom(failover(4))
    assert told(moving) == "Moving orders from dc-east to dc-west: redirecting"


def test_what_is_not_known_is_never_called_well() -> None:
    assert told() == told(findings=1) == told(open_anomalies=1) == "Nothing is known yet"
    assert told(with_sites(site("dc-east", "unknown"), UP)) == "Not known: orders/dc-east"
    unheard = with_sites(UP, failover_service_pb2.SiteStatus(datacenter="dc-east"))
    assert told(unheard) == "Not known: orders/dc-east", "a health that this version doesn't know"
    assert told(controller="away") == "Whether sites are up is not known"
    assert "not known" in told(instance(), detector="away")
    assert told(instance(), notifier="away") == "All sites are up"


def test_only_what_is_bad_is_red() -> None:
    def colour(status: failover_service_pb2.InstanceStatus) -> str:
        return presentation.headline([plain(status)], [], [], {}).colour

    assert colour(instance()) == "positive"
    assert colour(with_sites(site("dc-east", "down"))) == "negative"
    assert colour(with_sites(site("dc-east", "suspect"))) == "warning"
    assert colour(with_sites(site("dc-east", "unknown"))) == "grey-7"


def test_a_failover_in_a_line_as_it_runs_and_when_it_is_over() -> None:
    assert presentation.move(plain(failover(4)), "orders") == "Moving orders from dc-east to dc-west: redirecting"
    done = plain(failover(8, m.Stage.DONE))
    assert presentation.move(done, "orders") == "12:00:04 emergency from dc-east to dc-west: done"
    refused = {**done, "plan": None, "stage": "refused"}
    assert presentation.move(refused, "orders") == "orders: not moved, refused"
    assert not presentation.is_running(None)


@pytest.mark.parametrize("seen", range(len(STEPS) + 1))
def test_the_step_after_the_last_that_was_seen_is_the_one_awaited(seen: int) -> None:
    steps = presentation.steps(plain(failover(seen)))
    assert [step.name for step in steps] == list(STEPS)
    assert [step.name for step in steps if step.seconds is not None] == list(STEPS[:seen])
    assert [step.name for step in steps if step.awaited] == list(STEPS[seen : seen + 1])


def test_a_step_that_was_left_out_is_not_awaited() -> None:
    status = failover(5)
    del status.phases[3]  # nothing to fence
    fenced, promoted, accepted = presentation.steps(plain(status))[3:6]
    assert fenced == Step("fenced", None, awaited=False)
    assert (promoted.seconds is not None, accepted.awaited) == (True, True)


def test_of_a_failover_that_is_over_nothing_is_awaited() -> None:
    assert [step for step in presentation.steps(plain(failover(3, m.Stage.ABORTED))) if step.awaited] == []


def test_a_vote_says_what_it_counts_as_and_why_it_is_not_up() -> None:
    def said(verdict: m.Verdict, counted: m.Verdict | None = None) -> str:
        return presentation.vote(plain(vote("dc-east", "witness", verdict, counted)))

    assert said(m.Verdict.UP) == "up"
    assert said(m.Verdict.DOWN) == "down: no answer from 10.0.0.1:12000 within 0.50 s"
    assert said(m.Verdict.UP, m.Verdict.CANNOT_TELL).startswith("said up, counts as cannot tell: ")
    silent = {**plain(vote("dc-east", "witness", m.Verdict.DOWN)), "why": ""}
    assert presentation.vote(silent) == "down: timeout"


def test_what_differs_at_every_look_is_no_reason_to_draw_anew() -> None:
    def seen(age: float, why: str, verdict: m.Verdict) -> list[dict[str, Any]]:
        status = plain(with_sites(site("dc-east", "up")))
        status["sites"][0]["votes"] = [{**plain(vote("dc-east", "witness", verdict)), "age": age, "why": why}]
        return presentation.steady([status])

    assert seen(0.1, "PONG in 0.3 ms", m.Verdict.UP) == seen(0.9, "PONG in 0.4 ms", m.Verdict.UP)
    assert seen(0.1, "refused", m.Verdict.DOWN) != seen(0.1, "timed out", m.Verdict.DOWN), "this is shown"
    assert seen(0.1, "x", m.Verdict.UP) != seen(0.1, "x", m.Verdict.DOWN)


def test_an_instant_is_told_as_the_time_of_day() -> None:
    assert presentation.clock("2026-11-03T12:34:56.789Z") == "12:34:56"
    assert presentation.clock(None) == "–"


def test_the_site_that_a_failover_left_refusing_writes_is_called_fenced() -> None:
    left = {"plan": {"source": "dc-east"}, "fence": "refuses_writes"}
    assert presentation.is_fenced(left, "dc-east")
    assert not presentation.is_fenced(left, "dc-west")
    assert not presentation.is_fenced({**left, "fence": "unreachable"}, "dc-east")
    assert not presentation.is_fenced(None, "dc-east")
