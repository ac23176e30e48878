"""Real child processes under the supervisor: started again when they die, stopped in order, never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from redis_agent.supervisor import Child, Supervisor

PROGRAMS = {
    "steady": "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))",
    "stubborn": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "slow": "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(2), sys.exit(0)))",
    "wrong": "import sys; sys.exit(2)",
    "frail": "import sys; sys.exit(3)",
}
# Says that it runs, waits, and says when it ended by itself.
FRAME = """
import os, pathlib, sys, time
book = pathlib.Path(sys.argv[1])
def write(line):
    with book.open("a") as file:
        file.write(line + chr(10))
write(f"started {name} {{os.getpid()}}")
try:
    {program}
    write("ready {name}")
    while True:
        time.sleep(0.05)
finally:
    write("ended {name}")
"""


class Yard:
    """A place for children: their programs, what they wrote, what the supervisor said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.book = directory / "book"
        self.book.touch()
        self.said: list[str] = []
        for name, program in PROGRAMS.items():
            (directory / f"{name}_child.py").write_text(FRAME.format(name=name, program=program))

    def child(self, name: str, output: Path | None = None) -> Child:
        return Child(name, f"{name}_child", [str(self.book)], {"PYTHONPATH": str(self.directory)}, output)

    @property
    def lines(self) -> list[str]:
        return self.book.read_text().splitlines()

    async def until(self, what: Callable[[], bool], within_seconds: float = 60.0) -> None:
        async with asyncio.timeout(within_seconds):
            while not what():  # noqa: ASYNC110 - other processes' doings
                await asyncio.sleep(0.02)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def supervise(yard: Yard, names: list[str], check: Callable[[Supervisor], Awaitable[None]], **options: Path) -> None:
    async def whole() -> None:
        supervisor = Supervisor([yard.child(name, **options) for name in names], yard.said.append)
        await supervisor.start()
        try:
            await check(supervisor)
        finally:
            await supervisor.stop()

    asyncio.run(whole())


def test_a_child_that_is_killed_is_started_again(yard: Yard) -> None:
    async def check(supervisor: Supervisor) -> None:
        await yard.until(lambda: "ready steady" in yard.lines)
        first = supervisor.pid("steady")
        os.kill(first, signal.SIGKILL)
        await yard.until(lambda: yard.lines.count("ready steady") == 2)
        assert supervisor.pid("steady") != first
        assert supervisor.restarts == {"steady": 1}

    supervise(yard, ["steady"], check)
    assert yard.said == ["steady ended with signal SIGKILL; starting it again in 0.5 s"]


def test_one_that_keeps_dying_is_started_less_and_less_often(yard: Yard) -> None:
    async def check(_: Supervisor) -> None:
        await yard.until(lambda: len(yard.said) >= 4)

    supervise(yard, ["frail"], check)
    waits = [f"frail ended with exit code 3; starting it again in {wait} s" for wait in ("0.5", "1", "2", "4")]
    assert yard.said[:4] == waits


def test_one_that_says_its_configuration_is_wrong_is_given_up(yard: Yard) -> None:
    async def check(supervisor: Supervisor) -> None:
        async with asyncio.timeout(60):
            assert "wrong can't run with this configuration" in await supervisor.gave_up
        assert supervisor.restarts == {"wrong": 0, "steady": 0}

    supervise(yard, ["wrong", "steady"], check)
    assert sum(line.startswith("started wrong") for line in yard.lines) == 1
    assert yard.said == []


def test_children_are_stopped_from_the_last_to_the_first_each_waited_for(yard: Yard) -> None:
    async def check(_: Supervisor) -> None:
        await yard.until(lambda: {"ready steady", "ready slow"} <= set(yard.lines))

    supervise(yard, ["steady", "slow"], check)
    assert [line for line in yard.lines if line.startswith("ended")] == ["ended slow", "ended steady"]


def test_one_that_does_not_heed_sigterm_is_killed(yard: Yard) -> None:
    pids: list[int] = []

    async def check(supervisor: Supervisor) -> None:
        await yard.until(lambda: "ready stubborn" in yard.lines)
        pids.append(supervisor.pid("stubborn"))

    supervise(yard, ["stubborn"], check)
    assert yard.said == ["stubborn did not end within 6 s; killing it"]
    assert not Path(f"/proc/{pids[0]}").exists()


def test_one_that_waits_for_its_restart_is_not_started_while_the_others_stop(yard: Yard) -> None:
    starts: list[int] = []

    def count() -> int:
        return sum(line.startswith("started frail") for line in yard.lines)

    async def check(_: Supervisor) -> None:
        await yard.until(lambda: "ready slow" in yard.lines and len(yard.said) >= 2)
        starts.append(count())  # it waits for a second; slow takes two to end

    supervise(yard, ["frail", "slow"], check)
    assert yard.lines[-1] == "ended slow"
    assert [count()] == starts


def test_one_that_cannot_be_started_now_is_started_later(yard: Yard, tmp_path: Path) -> None:
    output = tmp_path / "logs" / "child.log"
    output.parent.mkdir()

    async def check(supervisor: Supervisor) -> None:
        await yard.until(lambda: "ready steady" in yard.lines)
        output.unlink()
        output.parent.rmdir()
        os.kill(supervisor.pid("steady"), signal.SIGKILL)
        await yard.until(lambda: any("can't be started" in line for line in yard.said))
        output.parent.mkdir()
        await yard.until(lambda: yard.lines.count("ready steady") == 2)

    supervise(yard, ["steady"], check, output=output)


def _children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


def _wait_until(what: Callable[[], bool], within_seconds: float) -> bool:
    deadline = time.monotonic() + within_seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.05)
    return what()


def test_services_end_when_their_supervisor_is_killed(fleet_file: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "redis_agent.cli",
        "up",
        "--config",
        str(fleet_file),
        "--only",
        "collector,notifier",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as up:
        assert _wait_until(lambda: len(_children_of(up.pid)) == 2, 60)
        services = _children_of(up.pid)
        time.sleep(3)  # they have found out whose children they are
        assert all(_runs(pid) for pid in services)
        up.kill()
    assert _wait_until(lambda: not any(_runs(pid) for pid in services), 30), "services outlived their supervisor"
