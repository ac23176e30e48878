"""Samples read back from the log."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from detector.edges.history import History, Question, Series
from redis_agent.errors import NotFound, Refused
from redis_agent.log import Outgoing
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.topics import METRICS
from tests.detector.rows import START, Database, record

NOW = datetime.now(UTC)
SHIFT = NOW - timedelta(seconds=100) - START
ALL = Question("orders", "", NOW - timedelta(hours=1), NOW + timedelta(minutes=1), ("keys",), 0)


def rows(databases: Sequence[Database], ticks: int) -> list[dict[str, object]]:
    """Ticks of the last hundred seconds, one a second."""
    found = []
    for tick in range(ticks):
        for database in databases:
            row = database.row(tick)
            found.append({**row, "at": START + SHIFT + timedelta(seconds=tick)})
    return found


def asked(directory: Path, question: Question) -> list[Series]:
    databases = [
        Database("orders"),
        Database("orders", "dc-west"),
        Database("orders", vantage="witness"),
        Database("carts"),
    ]
    values = [record([row]) for row in rows(databases, 20)]

    async def run() -> list[Series]:
        log = EmbeddedLog(directory / "log.db")
        await log.prepare()
        writer = await log.writer()
        junk = [b"orders, but no arrow"]
        await writer.append([Outgoing(METRICS, "dc-east", value, spread="orders") for value in values + junk])
        history = History(log)
        try:
            return await history.ask(question)
        finally:
            history.close()
            await log.close()

    return asyncio.run(run())


def test_each_site_and_vantage_has_a_series_of_its_own(tmp_path: Path) -> None:
    found = asked(tmp_path, ALL)
    assert [(s.datacenter, s.vantage) for s in found] == [
        ("dc-east", "dc-east"), ("dc-east", "witness"), ("dc-west", "dc-east"),
    ]  # fmt: skip
    assert {s.unit for s in found} == {"1"}
    assert all(len(s.at) == len(s.value) == 20 for s in found)
    assert all(s.at == sorted(s.at) for s in found)
    assert all(value == pytest.approx(5000, rel=0.1) for s in found for value in s.value)


def test_a_datacenter_and_a_time_narrow_it_down(tmp_path: Path) -> None:
    since = START + SHIFT + timedelta(seconds=5)
    found = asked(tmp_path, replace(ALL, datacenter="dc-west", since=since, until=since + timedelta(seconds=4)))
    assert [len(s.at) for s in found] == [5]


def test_buckets_hold_means(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = replace(ALL, datacenter="dc-west")
    every = asked(tmp_path / "a", one)[0]
    coarse = asked(tmp_path / "b", replace(one, step_seconds=10))[0]
    assert 2 <= len(coarse.value) <= 3
    for at, value in zip(coarse.at, coarse.value, strict=True):
        inside = [v for t, v in zip(every.at, every.value, strict=True) if 0 <= t - at < 10_000_000]
        assert value == pytest.approx(sum(inside) / len(inside))


def test_all_metrics_are_given_without_names_and_missing_values_make_no_points(tmp_path: Path) -> None:
    names = {s.metric for s in asked(tmp_path, replace(ALL, datacenter="dc-west", metrics=()))}
    assert {"ping_seconds", "keys", "commands_processed_total"} <= names
    assert "primary_link_down_seconds" not in names


def test_questions_that_make_no_sense_are_refused_with_every_reason(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        asked(tmp_path, replace(ALL, until=ALL.since, metrics=("nonsense",)))
    assert len(refusal.value.reasons) == 2


def test_an_instance_without_samples_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nobody"):
        asked(tmp_path, replace(ALL, instance="nobody"))
