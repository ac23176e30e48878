"""The kill switch: files that work without the log and the network, and fail closed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_agent import pause


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    directory = tmp_path / "state" / "pause"
    pause.prepare(directory)
    return directory


@pytest.fixture
def in_the_way(tmp_path: Path) -> Iterator[Path]:
    """A file where the directory should be."""
    path = tmp_path / "pause"
    path.write_text("")
    yield path


def test_nothing_is_paused_at_first(switch: Path) -> None:
    assert pause.reason(switch, "orders") is None


def test_one_instance_is_paused_by_itself(switch: Path) -> None:
    pause.pause(switch, "orders", "maintenance")
    assert pause.reason(switch, "orders") == "maintenance"
    assert pause.reason(switch, "sessions") is None


def test_the_fleet_pauses_every_instance(switch: Path) -> None:
    pause.pause(switch, None, "big maintenance")
    assert pause.reason(switch, "orders") == "big maintenance"


def test_the_fleets_reason_comes_first(switch: Path) -> None:
    pause.pause(switch, "orders", "small")
    pause.pause(switch, None, "big")
    assert pause.reason(switch, "orders") == "big"
    pause.resume(switch, None)
    assert pause.reason(switch, "orders") == "small"


def test_resuming_says_whether_it_was_set(switch: Path) -> None:
    pause.pause(switch, "orders", "maintenance")
    assert pause.resume(switch, "orders")
    assert not pause.resume(switch, "orders")
    assert pause.reason(switch, "orders") is None


def test_pausing_makes_the_directory(tmp_path: Path) -> None:
    pause.pause(tmp_path / "new" / "pause", None, "first")
    assert pause.reason(tmp_path / "new" / "pause", "orders") == "first"


def test_a_file_that_somebody_touched_by_hand_pauses_too(switch: Path) -> None:
    (switch / "fleet").touch()
    assert pause.reason(switch, "orders") == "no reason given"


def test_a_switch_that_is_not_there_counts_as_set(tmp_path: Path) -> None:
    found = pause.reason(tmp_path / "nowhere", "orders")
    assert found is not None
    assert "can't be read" in found


def test_a_switch_that_cannot_be_listed_counts_as_set(in_the_way: Path) -> None:
    found = pause.reason(in_the_way, "orders")
    assert found is not None
    assert "can't be read" in found


def test_a_reason_that_cannot_be_read_counts_as_set(switch: Path) -> None:
    (switch / "orders").mkdir()
    found = pause.reason(switch, "orders")
    assert found is not None
    assert "can't be read" in found


def test_a_reason_in_strange_bytes_counts_as_set(switch: Path) -> None:
    (switch / "orders").write_bytes(b"\xff\xfe maintenance")
    assert pause.reason(switch, "orders")


def test_a_dangling_link_counts_as_set(switch: Path) -> None:
    (switch / "fleet").symlink_to(switch / "gone")
    assert pause.reason(switch, "orders")
