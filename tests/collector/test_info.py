"""INFO texts as several servers give them -> what is kept of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.info import parse
from redis_agent.model import Replication, Role
from redis_agent.samples import METRICS

TEXTS = Path(__file__).with_name("info")


def text_of(name: str) -> bytes:
    """A captured INFO, with the line ends that came over the wire."""
    return (TEXTS / f"{name}.txt").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def lines(*given: str) -> bytes:
    return "\r\n".join(given).encode() + b"\r\n"


def test_every_metric_of_redis_7_is_found() -> None:
    info = parse(text_of("redis-7.0"))
    assert info.role is Role.PRIMARY
    assert info.run_id == "9133064ad125d9e088faee78970f53621b0fce91"
    missing = {name for name, value in info.metrics.items() if value is None}
    assert missing == {"primary_last_io_seconds", "primary_link_down_seconds", "aof_fsync_delayed_total"}, (
        "no replica, no AOF"
    )
    assert info.replication is None


def test_numbers_are_the_texts_own_in_the_units_that_the_schema_says() -> None:
    metrics = parse(text_of("redis-7.0")).metrics
    assert metrics["memory_used_bytes"] == 1_041_112
    assert metrics["fork_seconds"] == pytest.approx(0.000687)
    assert metrics["cpu_user_seconds_total"] == pytest.approx(0.009604)
    assert metrics["keys"] == 12, "summed over the databases"


def test_valkey_gives_the_same_metrics_as_redis() -> None:
    redis, valkey = parse(text_of("redis-7.0")), parse(text_of("valkey-9.1"))
    assert {n for n, v in valkey.metrics.items() if v is None} == {n for n, v in redis.metrics.items() if v is None}
    assert valkey.role is Role.PRIMARY


def test_redis_enterprise_leaves_out_fields_and_they_are_none_never_zero() -> None:
    info = parse(text_of("redis-enterprise"))
    assert info.role is Role.PRIMARY
    assert info.metrics["memory_used_bytes"] == 4_194_304
    assert info.metrics["keys"] == 250
    for absent in ("fork_seconds", "cpu_user_seconds_total", "aof_fsync_delayed_total", "memory_rss_bytes"):
        assert info.metrics[absent] is None, absent


def test_a_replica_with_its_link_up_tells_how_far_it_is() -> None:
    info = parse(lines("role:slave", "master_link_status:up", "master_last_io_seconds_ago:3", "slave_repl_offset:4711"))
    assert info.role is Role.REPLICA
    assert info.replication == Replication(link_up=True, last_io_seconds=3, offset=4711)


def test_a_replica_with_its_link_down_tells_since_when() -> None:
    info = parse(text_of("replica-link-down"))
    assert info.replication == Replication(link_up=False, last_io_seconds=42, offset=1_204)
    assert info.metrics["primary_link_down_seconds"] == 42


def test_a_replica_that_never_heard_from_its_primary_says_minus_one() -> None:
    info = parse(lines("role:slave", "master_link_status:down", "master_last_io_seconds_ago:-1"))
    assert info.replication == Replication(link_up=False, last_io_seconds=-1, offset=0)


def test_no_keys_is_zero_only_where_the_keyspace_was_told() -> None:
    assert parse(lines("# Keyspace")).metrics["keys"] == 0
    assert parse(lines("# Stats", "total_commands_processed:5")).metrics["keys"] is None
    assert parse(lines("# Keyspace", "db0:garbage")).metrics["keys"] is None


@pytest.mark.parametrize("value", ["", "abc", "inf", "-inf", "nan", "1e999", "²", "0x10"])
def test_what_is_not_a_finite_number_is_none(value: str) -> None:
    info = parse(lines("role:slave", f"used_memory:{value}", f"master_last_io_seconds_ago:{value}"))
    assert info.metrics["memory_used_bytes"] is None
    assert info.replication is not None
    assert info.replication.last_io_seconds == -1


def test_a_role_of_another_kind_is_unknown() -> None:
    assert parse(lines("role:sentinel")).role is Role.UNKNOWN
    assert parse(b"").role is Role.UNKNOWN


@given(st.binary(max_size=400))
def test_no_bytes_whatever_make_it_fail(garbage: bytes) -> None:
    assert set(parse(garbage).metrics) == {metric.name for metric in METRICS}


@given(
    st.lists(st.sampled_from([*(m.info for m in METRICS if m.info), "role", "db0", "# Keyspace"])),
    st.lists(st.text(max_size=12)),
)
def test_known_fields_with_any_value_never_make_it_fail(names: list[str], values: list[str]) -> None:
    text = lines(*(f"{name}:{value}" for name, value in zip(names, values, strict=False)))
    for value in parse(text).metrics.values():
        assert value is None or isinstance(value, float)
