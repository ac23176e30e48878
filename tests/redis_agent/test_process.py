"""How a service lives and ends: real processes, and what their exit codes and last lines say."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from redis_agent.rpc.probe import ask
from redis_agent.testing_process import STOPPED_WITHIN_SECONDS
from simulator.ports import free_ports

SERVICES = ("collector", "detector", "controller", "notifier")
Start = Callable[..., "subprocess.Popen[str]"]

# A service of the test's own: `work` stands for its loop.
SERVICE = """
import asyncio, sys, time
from redis_agent import process
from redis_agent.errors import ConfigurationError, LogUnavailable
from redis_agent.rpc.server import Server

async def main(runtime):
    async def work():
        await runtime.ready()
        {work}
    runtime.listen_with(Server(runtime.fleet.grpc, []))
    await runtime.run(work)

sys.exit(process.run("collector", main))
"""


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, *map(str, arguments)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield begin
    for child in running:
        child.kill()
        child.communicate()


def ended(child: "subprocess.Popen[str]", within_seconds: float = 60.0) -> tuple[int, list[str]]:
    """Its exit code and its lines."""
    _, said = child.communicate(timeout=within_seconds)
    return child.returncode, said.splitlines()


def health(configuration: dict[str, Any], service: str = "collector") -> str:
    try:
        return ask(f"127.0.0.1:{configuration['grpc']['ports'][service]}", 1.0)
    except grpc.RpcError:
        return "nobody"


def wait_for(what: Callable[[], bool], within_seconds: float = 90.0) -> None:
    deadline = time.monotonic() + within_seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.05)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_service_becomes_ready_and_ends_with_0_within_5_seconds_of_being_asked(
    service: str, number: signal.Signals, start: Start, configuration: dict[str, Any], fleet_file: Path
) -> None:
    child = start("-m", service, "--config", fleet_file)
    wait_for(lambda: health(configuration, service) == "SERVING")
    asked = time.monotonic()
    child.send_signal(number)
    code, said = ended(child)
    assert (code, time.monotonic() - asked < STOPPED_WITHIN_SECONDS) == (0, True), said
    assert not [line for line in said if "Traceback" in line or "Warning" in line]


def test_a_service_whose_log_is_away_waits_says_so_and_still_ends_when_asked(
    start: Start, configuration: dict[str, Any], fleet_file: Path
) -> None:
    (nobody,) = free_ports(1)
    configuration["log"] = {"kafka": {"bootstrap_servers": f"127.0.0.1:{nobody}"}}
    fleet_file.write_text(json.dumps(configuration))
    child = start("-m", "collector", "--config", fleet_file)
    assert child.stderr is not None
    said = next(line for line in child.stderr if "waiting for the log" in line)
    assert "kafka" in said
    assert health(configuration) == "NOT_SERVING"
    asked = time.monotonic()
    child.terminate()
    code, rest = ended(child)
    assert (code, time.monotonic() - asked < STOPPED_WITHIN_SECONDS) == (0, True), rest


@pytest.mark.parametrize("service", [*SERVICES, "gateway"])
def test_a_port_in_use_is_one_line_that_names_it_and_what_to_do(
    service: str, start: Start, configuration: dict[str, Any], fleet_file: Path
) -> None:
    port = configuration["api"]["port"] if service == "gateway" else configuration["grpc"]["ports"][service]
    with socket.create_server(("127.0.0.1", port)):
        code, said = ended(start("-m", service, "--config", fleet_file))
    assert code == 2
    assert len(said) == 1 and f"127.0.0.1:{port}: Address already in use; stop its owner or choose another" in said[0]


def test_a_metrics_port_in_use_is_one_line_too(start: Start, configuration: dict[str, Any], fleet_file: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        configuration["telemetry"] = {"prometheus_port": port}
        fleet_file.write_text(json.dumps(configuration))
        code, said = ended(start("-m", "collector", "--config", fleet_file))
    assert code == 2
    assert said == [
        f"collector: metrics port {port}: Address already in use; "
        "stop its owner or choose another with telemetry.prometheus_port (each service takes one more than the last)"
    ]


def test_a_wrong_configuration_is_a_line_a_fault_and_starts_nothing(
    start: Start, configuration: dict[str, Any], fleet_file: Path, tmp_path: Path
) -> None:
    configuration["collector"] = {"vantage": "DC!", "colour": "red"}
    fleet_file.write_text(json.dumps(configuration, indent=1))
    code, said = ended(start("-m", "collector", "--config", fleet_file))
    assert code == 2
    assert [line.split(": ")[1] for line in said] == ["collector.vantage", "collector.colour"]
    assert not (tmp_path / "log.db").exists()


def own_service(tmp_path: Path, work: str) -> Path:
    path = tmp_path / "service.py"
    path.write_text(SERVICE.format(work=work))
    return path


@pytest.mark.parametrize(
    ("work", "code", "last"),
    [
        ("return", 0, "INFO ready"),
        ("raise LogUnavailable('the log is gone')", 1, "ERROR collector ends: the log is gone"),
        ("raise ConfigurationError(['a: wrong', 'b: wrong'])", 2, "b: wrong"),
        ("raise ValueError('a bug')", 1, "ValueError: a bug"),
    ],
)
def test_how_the_work_ends_is_the_exit_code(
    work: str, code: int, last: str, start: Start, fleet_file: Path, tmp_path: Path
) -> None:
    ended_with, said = ended(start(own_service(tmp_path, work), "--config", fleet_file))
    assert ended_with == code
    assert said[-1].endswith(last)


def test_callers_are_told_before_the_work_ends(
    start: Start, configuration: dict[str, Any], fleet_file: Path, tmp_path: Path
) -> None:
    work = "try: await asyncio.sleep(600)\n        finally: await asyncio.sleep(2.5)"
    child = start(own_service(tmp_path, work), "--config", fleet_file)
    wait_for(lambda: health(configuration) == "SERVING")
    child.terminate()
    wait_for(lambda: health(configuration) != "SERVING", 2.0)
    assert health(configuration) == "NOT_SERVING"  # it still answers: its work isn't over
    assert ended(child)[0] == 0


def test_work_that_does_not_end_is_left_after_4_seconds_as_if_it_had_been_killed(
    start: Start, configuration: dict[str, Any], fleet_file: Path, tmp_path: Path
) -> None:
    work = "try: await asyncio.sleep(600)\n        finally: await asyncio.sleep(600)"
    child = start(own_service(tmp_path, work), "--config", fleet_file)
    wait_for(lambda: health(configuration) == "SERVING")
    child.terminate()
    code, said = ended(child)
    assert code == 0
    assert "did not end within 4 s; leaving it" in said[-1]


def test_work_that_fails_while_it_stops_is_told(
    start: Start, configuration: dict[str, Any], fleet_file: Path, tmp_path: Path
) -> None:
    work = "try: await asyncio.sleep(600)\n        finally: raise LogUnavailable('the last batch was not taken')"
    child = start(own_service(tmp_path, work), "--config", fleet_file)
    wait_for(lambda: health(configuration) == "SERVING")
    child.terminate()
    code, said = ended(child)
    assert code == 1
    assert said[-1].endswith("failed while stopping: the last batch was not taken")


def test_an_otlp_endpoint_that_nobody_answers_does_not_keep_a_service_from_ending(
    start: Start, configuration: dict[str, Any], fleet_file: Path
) -> None:
    (nobody,) = free_ports(1)
    configuration["telemetry"] = {"otlp_endpoint": f"http://127.0.0.1:{nobody}"}
    fleet_file.write_text(json.dumps(configuration))
    child = start("-m", "collector", "--config", fleet_file)
    wait_for(lambda: health(configuration) == "SERVING")
    time.sleep(2)  # there are spans to hand over
    asked = time.monotonic()
    child.terminate()
    code, said = ended(child)
    assert (code, time.monotonic() - asked < STOPPED_WITHIN_SECONDS) == (0, True), said


def test_every_record_of_a_process_has_an_identity_of_its_own() -> None:
    from redis_agent.process import Origins

    first, second = Origins("collector"), Origins("collector")
    assert [first.next().sequence for _ in range(3)] == [1, 2, 3]
    assert first.source != second.source and first.source.startswith("collector@")
