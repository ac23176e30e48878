"""`redis-agent` as a person or a script meets it: real processes, their exit codes, stdout for data, stderr for the rest."""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from redis_agent import telemetry, topics
from redis_agent.errors import Refused
from redis_agent.fleet import GrpcSection
from redis_agent.log import Outgoing
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.model import Datacenter as Dc
from redis_agent.model import InstanceId, Observation, Observations, Origin, Pause, Reason, SiteId, Vantage, Verdict
from redis_agent.rpc.channel import abort
from redis_agent.rpc.server import Server
from redis_agent.testing import contents
from redis_agent.v1 import (
    alert_pb2,
    alert_service_pb2,
    alert_service_pb2_grpc,
    failover_pb2,
    observation_pb2,
    types_pb2,
)
from redis_agent.v1 import failover_service_pb2 as pb
from redis_agent.v1 import failover_service_pb2_grpc as pb_grpc
from redis_agent.wire import decode_control, instant_to, observations_to

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 23, 2, 10, 0, tzinfo=UTC)
FAILOVER = "fo-20261123T021000-a1b2c3"
REFUSAL = "no-20261123T020500-d4e5f6"
ESCAPE = "\x1b["
Done = subprocess.CompletedProcess[str]


def cli(*arguments: object, config: Path | None = None, answer: str = "", **variables: str) -> Done:
    """One command, as a script runs it."""
    clean = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "COLUMNS")}
    whole = [sys.executable, "-m", "redis_agent.cli", *map(str, arguments)]
    whole += ["--config", str(config)] if config is not None else []
    environment = {**clean, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(whole, capture_output=True, text=True, input=answer, env=environment, timeout=120)
    assert ESCAPE not in done.stdout + done.stderr, "colour, though nobody looks"
    assert "Traceback" not in done.stderr, done.stderr
    return done


# --- help ---------------------------------------------------------------------------------------------------------

COMMANDS = ("demo", "up", "config", "status", "failover", "failovers", "approve", "alerts", "tail", "pause", "resume")


def test_help_lists_every_command() -> None:
    done = cli("--help")
    assert done.returncode == 0
    assert [name for name in COMMANDS if not re.search(rf"^│ {name} ", done.stdout, re.M)] == []


@pytest.mark.parametrize(
    "command", [*([name] for name in COMMANDS), ["config", "check"], ["config", "show"], ["config", "schema"]]
)
def test_every_command_has_help_that_fits_80_columns(command: list[str]) -> None:
    done = cli(*command, "--help", COLUMNS="80")
    assert done.returncode == 0
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "…" not in done.stdout


def test_no_command_and_an_unknown_one_are_usage() -> None:
    assert cli().returncode == 2
    done = cli("statsu")
    assert (done.returncode, done.stdout) == (2, "")
    assert "statsu" in done.stderr


def test_the_console_script_is_the_same() -> None:
    script = Path(sys.executable).with_name("redis-agent")
    done = subprocess.run([script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "failovers" in done.stdout


# --- config -------------------------------------------------------------------------------------------------------


def test_check_says_what_a_right_file_holds(fleet_file: Path) -> None:
    done = cli("config", "check", fleet_file)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{fleet_file}: right: 1 instance, 1 site, 1 datacenter\n"


def test_check_says_every_fault_on_a_line_of_its_own(fleet_file: Path, configuration: dict[str, Any]) -> None:
    configuration["collector"] = {"vantage": "DC!"}
    configuration["colour"] = "red"
    fleet_file.write_text(json.dumps(configuration))
    done = cli("config", "check", fleet_file)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2


def test_check_and_show_tell_a_variable_that_is_not_set_and_here_makes_it_a_fault(
    fleet_file: Path, configuration: dict[str, Any]
) -> None:
    configuration["grpc"]["api_key_env"] = "NOBODY_SETS_THIS"
    fleet_file.write_text(json.dumps(configuration))
    done = cli("config", "check", fleet_file)
    assert done.returncode == 0 and "NOBODY_SETS_THIS isn't set here; set it where the services run" in done.stderr
    assert cli("config", "check", "--here", fleet_file).returncode == 2
    assert cli("config", "check", "--here", fleet_file, NOBODY_SETS_THIS="0123456789abcdef").returncode == 0
    assert cli("config", "show", fleet_file).returncode == 0
    assert cli("status", config=fleet_file).returncode == 2


def test_show_prints_the_effective_configuration_without_secrets(
    fleet_file: Path, configuration: dict[str, Any]
) -> None:
    done = cli("config", "show", fleet_file, REDIS_AGENT__COLLECTOR__VANTAGE="witness")
    shown = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown["collector"]["vantage"] == "witness"
    assert shown["failover"]["mode"] == "observe"
    assert configuration["api"]["api_key"] not in done.stdout and shown["api"]["api_key"] == "**********"


def test_schema_prints_a_json_schema() -> None:
    done = cli("config", "schema")
    assert done.returncode == 0
    assert set(json.loads(done.stdout)["required"]) == {"datacenters", "instances", "collector"}


def test_the_file_is_found_by_option_by_variable_and_by_name(
    fleet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("config", "check", config=fleet_file).returncode == 0
    assert cli("config", "check", REDIS_AGENT_CONFIG=str(fleet_file)).returncode == 0
    monkeypatch.chdir(tmp_path)
    done = cli("config", "check")
    assert (done.returncode, done.stderr) == (
        2,
        "no configuration: give --config FILE, set REDIS_AGENT_CONFIG, or put redis-agent.yaml here\n",
    )
    shutil.copy(fleet_file, tmp_path / "redis-agent.json")
    assert cli("config", "check").returncode == 0


# --- nobody there -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "service"),
    [
        (["status"], "controller"),
        (["status", "orders", "--json"], "controller"),
        (["status", "--watch"], "controller"),
        (["failovers"], "controller"),
        (["failover", "orders", "--to", "dc-west", "--reason", "x", "--yes"], "controller"),
        (["approve", FAILOVER], "controller"),
        (["alerts"], "notifier"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_a_service_that_is_not_there_is_one_line_with_its_address_and_what_to_do(
    command: list[str], service: str, fleet_file: Path, configuration: dict[str, Any]
) -> None:
    done = cli(*command, config=fleet_file)
    address = f"127.0.0.1:{configuration['grpc']['ports'][service]}"
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        f"the {service} at {address} does not answer: Connection refused; "
        "if it isn't running, start it: redis-agent up --config FILE\n"
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["alerts", "--severity", "bad"], "--severity: 'bad' is none of info, warning, error, critical"),
        (["alerts", "--type", "bad"], "--type: 'bad' is none of anomaly, failover, blocked, finding"),
        (["status", "--watch", "--json"], "--watch and --json don't go together; for a stream: redis-agent tail"),
        (
            ["tail", "metric"],
            "no topic 'metric'; known: metrics, observations, findings, anomalies, failovers, alerts, control, deadletter",
        ),
        (["tail", "metrics", "--from", "then"], "--from: 'then' is neither beginning nor now"),
        (
            ["up", "--only", "colector"],
            "--only: no service colector; known: collector, detector, controller, notifier, gateway",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_line_and_exit_code_2(command: list[str], said: str, fleet_file: Path) -> None:
    done = cli(*command, config=fleet_file)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said}\n")


# --- tail ---------------------------------------------------------------------------------------------------------


def observed(number: int) -> Outgoing:
    site = SiteId(InstanceId("orders"), Dc("dc-east"))
    origin = Origin("collector@here/1", number)
    at = NOW + timedelta(seconds=number)
    told = Observation(site, Vantage("witness"), at, Verdict.CANNOT_TELL, Reason.OWN_STALL, "[stood] still", origin)
    said = observations_to(Observations(told.vantage, origin, (told,)))
    headers = telemetry.headers(topics.OBSERVATIONS, origin)
    return Outgoing(topics.OBSERVATIONS, told.vantage, said.SerializeToString(), headers)


def logged(configuration: dict[str, Any], records: list[Outgoing]) -> None:
    async def write() -> None:
        log = EmbeddedLog(Path(configuration["log"]["embedded"]["path"]))
        await log.prepare()
        await (await log.writer()).append(records)
        await log.close()

    asyncio.run(write())


def test_tail_prints_a_line_a_record_and_ends_at_its_limit(fleet_file: Path, configuration: dict[str, Any]) -> None:
    logged(configuration, [observed(number) for number in range(5)])
    done = cli("tail", "observations", "--from", "beginning", "--limit", 3, config=fleet_file)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert " witness " in lines[0] and '"evidence": "[stood] still"' in lines[0]


def test_tails_json_is_one_object_a_line_with_place_headers_and_value(
    fleet_file: Path, configuration: dict[str, Any]
) -> None:
    logged(configuration, [observed(number) for number in range(2)])
    done = cli("tail", "redis-agent.observations.v1", "--from", "beginning", "--limit", 2, "--json", config=fleet_file)
    first, second = map(json.loads, done.stdout.splitlines())
    assert second["offset"] > first["offset"]
    assert {key: first[key] for key in ("topic", "key", "headers")} == {
        "topic": "redis-agent.observations.v1",
        "key": "witness",
        "headers": {"schema": "redis_agent.v1.Observations", "source": "collector@here/1", "sequence": "0"},
    }
    (told,) = first["value"]["observations"]
    assert told["verdict"] == "cannot_tell" and told["at"] == "2026-11-23T02:10:00Z"


def test_tail_says_why_a_record_is_a_dead_letter_and_what_it_cannot_decode(
    fleet_file: Path, configuration: dict[str, Any]
) -> None:
    reason = (("deadletter-reason", b"not an Anomaly"), ("deadletter-topic", b"redis-agent.anomalies.v1"))
    logged(
        configuration,
        [Outgoing(topics.DEADLETTER, "orders", b"\xff", reason), Outgoing(topics.OBSERVATIONS, "orders", b"\xff\xff")],
    )
    done = cli("tail", "deadletter", "--from", "beginning", "--limit", 1, config=fleet_file)
    assert '"reason": "not an Anomaly", "topic": "redis-agent.anomalies.v1", "bytes": "ff"' in done.stdout
    done = cli("tail", "observations", "--from", "beginning", "--limit", 1, config=fleet_file)
    assert '"undecodable":' in done.stdout and '"bytes": "ffff"' in done.stdout


def test_tail_without_a_log_is_one_line(fleet_file: Path) -> None:
    done = cli("tail", "failovers", "--limit", 1, config=fleet_file)
    assert (done.returncode, done.stdout) == (4, "")
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_of_tail_may_leave(fleet_file: Path, configuration: dict[str, Any]) -> None:
    logged(configuration, [observed(number) for number in range(2000)])
    command = [sys.executable, "-m", "redis_agent.cli", "tail", "observations", "--from", "beginning"]
    with subprocess.Popen([*command, "-c", str(fleet_file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert b"Traceback" not in child.stderr.read()


# --- pause --------------------------------------------------------------------------------------------------------


def in_control(configuration: dict[str, Any]) -> dict[str, Pause | None]:
    """What the control topic says, by key."""

    async def read() -> dict[str, Pause | None]:
        log = EmbeddedLog(Path(configuration["log"]["embedded"]["path"]))
        found = {record.key: decode_control(record.value).pause for record in await contents(log, topics.CONTROL)}
        await log.close()
        return found

    return asyncio.run(read())


def test_a_pause_that_reaches_no_controller_says_so_and_leaves_no_log_behind(
    fleet_file: Path, configuration: dict[str, Any]
) -> None:
    directory = Path(configuration["failover"]["pause_dir"])
    for _ in range(2):
        unknown = cli("pause", "--reason", "x", config=fleet_file)
        assert unknown.returncode == 1
        assert "no controller and no log answers, and no controller ever used" in unknown.stderr
        assert not directory.exists()
    directory.mkdir()
    assert not Path(configuration["log"]["embedded"]["path"]).exists()
    again = cli("pause", "--reason", "we move [racks]", config=fleet_file)
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr.startswith("paused: the whole fleet (neither a controller nor the log answers")
    assert [path.read_text() for path in directory.iterdir()] == ["we move [racks]\n"]
    released = cli("resume", config=fleet_file)
    assert released.returncode == 4
    assert "released here; neither a controller nor the log answers" in released.stderr
    assert not list(directory.iterdir())


def test_without_a_controller_the_switch_is_set_and_released_here_and_in_the_log(
    fleet_file: Path, configuration: dict[str, Any]
) -> None:
    directory = Path(configuration["failover"]["pause_dir"])
    logged(configuration, [])
    assert cli("pause", "--reason", "racks", config=fleet_file).stderr == "paused: the whole fleet\n"
    assert cli("pause", "--reason", "x", "--instance", "orders", config=fleet_file).stderr == "paused: orders\n"
    assert {path.name for path in directory.iterdir()} == {"fleet", "orders"}
    assert in_control(configuration) == {
        "pause/@fleet": Pause(paused=True, reason="racks"),
        "pause/orders": Pause(paused=True, reason="x"),
    }
    assert cli("resume", config=fleet_file).stderr == "resumed: the whole fleet\n"
    assert cli("resume", "--instance", "orders", config=fleet_file).returncode == 0
    assert not list(directory.iterdir())
    assert in_control(configuration) == {
        "pause/@fleet": Pause(paused=False, reason=""),
        "pause/orders": Pause(paused=False, reason=""),
    }


def test_an_instance_that_nobody_knows_is_not_paused(fleet_file: Path) -> None:
    done = cli("pause", "--reason", "x", "--instance", "ordres", config=fleet_file)
    assert (done.returncode, done.stderr) == (1, "no instance 'ordres'; known: orders\n")


# --- with a controller and a notifier -----------------------------------------------------------------------------


def vote(vantage: str, verdict: Any, counted: Any) -> failover_pb2.VoteSeen:
    told = failover_pb2.VoteSeen(vantage=vantage, verdict=verdict, counted=counted, reason=types_pb2.REASON_NO_ROUTE)
    told.age.FromTimedelta(timedelta(seconds=0.4))
    return told


DOWN, TELLS = types_pb2.VERDICT_DOWN, types_pb2.VERDICT_CANNOT_TELL
PLAN = failover_pb2.Plan(
    instance="orders",
    source="dc-east",
    target="dc-west",
    kind=failover_pb2.FAILOVER_KIND_EMERGENCY,
    before=failover_pb2.DnsRecord(name="orders.example.com.", type="CNAME", value="east.example.com.", ttl=30, epoch=1),
    after=failover_pb2.DnsRecord(name="orders.example.com.", type="CNAME", value="west.example.com.", ttl=30, epoch=2),
    promote=True,
    checks=["dc-west is up [by 2]"],
    expected_loss="at most 0.2 s of writes",
)


def failover_at(stage: Any, *entries: str) -> pb.Failover:
    told = pb.Failover(
        id=FAILOVER,
        instance="orders",
        stage=stage,
        plan=PLAN,
        reason="dc-east is [down] by quorum of dc-west, witness",
        decided_at=instant_to(NOW),
    )
    for number, reason in enumerate(entries):
        told.events.add(
            kind=failover_pb2.EVENT_KIND_OUTCOME,
            stage=stage,
            at=instant_to(NOW + timedelta(seconds=number)),
            reason=reason,
        )
    if stage in (failover_pb2.STAGE_DONE, failover_pb2.STAGE_FAILED):
        told.ended_at.CopyFrom(instant_to(NOW + timedelta(seconds=9)))
    return told


class Controller(pb_grpc.FailoverServiceServicer):
    """Answers as the real one does; `ends` is how a failover that it begins ends."""

    def __init__(self, ends: Any = failover_pb2.STAGE_DONE) -> None:
        self.executed: list[pb.ExecuteFailoverRequest] = []
        self._asked = 0
        self._ends = ends

    async def GetFleetStatus(self, request: Any, context: Any) -> pb.GetFleetStatusResponse:
        status = pb.InstanceStatus(
            instance="orders",
            paused=True,
            pause_reason="we move [racks]",
            refusals=["the target is 7.5 s behind; at most 5 s may be lost, and nobody has said that more would do"],
            failover=failover_at(failover_pb2.STAGE_AWAITING_APPROVAL),
        )
        votes = [vote("dc-east", DOWN, TELLS), vote("dc-west", DOWN, DOWN), vote("witness", DOWN, DOWN)]
        role = observation_pb2.ROLE_PRIMARY
        status.sites.add(datacenter="dc-east", active=True, health=pb.SITE_HEALTH_DOWN, role=role, votes=votes)
        status.sites.add(datacenter="dc-west", health=pb.SITE_HEALTH_UNKNOWN)
        return pb.GetFleetStatusResponse(instances=[status])

    async def ListFailovers(self, request: Any, context: Any) -> pb.ListFailoversResponse:
        refused = pb.Failover(
            id=REFUSAL,
            instance="orders",
            stage=failover_pb2.STAGE_REFUSED,
            reason="dc-east is down, and traffic stays: mode observe",
            decided_at=instant_to(NOW),
        )
        return pb.ListFailoversResponse(failovers=[failover_at(failover_pb2.STAGE_AWAITING_APPROVAL), refused])

    async def PlanFailover(self, request: pb.PlanFailoverRequest, context: Any) -> pb.PlanFailoverResponse:
        if request.target != "dc-west":
            return pb.PlanFailoverResponse(refusals=["it is there already", "cooling down for 12 s"])
        return pb.PlanFailoverResponse(plan=PLAN)

    async def ExecuteFailover(self, request: pb.ExecuteFailoverRequest, context: Any) -> pb.ExecuteFailoverResponse:
        self.executed.append(request)
        return pb.ExecuteFailoverResponse(failover=failover_at(failover_pb2.STAGE_FENCING))

    async def ApproveFailover(self, request: pb.ApproveFailoverRequest, context: Any) -> pb.ApproveFailoverResponse:
        await abort(context, Refused(["it is done, not awaiting approval"]))

    async def GetFailover(self, request: pb.GetFailoverRequest, context: Any) -> pb.GetFailoverResponse:
        self._asked += 1
        if self._asked == 1:
            return pb.GetFailoverResponse(failover=failover_at(failover_pb2.STAGE_FENCING, "fenced"))
        return pb.GetFailoverResponse(failover=failover_at(self._ends, "fenced", "promoted [it]"))


def answering(ends: Any = failover_pb2.STAGE_DONE) -> Controller:
    return Controller(ends)  # type: ignore[abstract]


class Notifier(alert_service_pb2_grpc.AlertServiceServicer):
    """Answers with one alert."""

    async def ListAlerts(self, request: Any, context: Any) -> alert_service_pb2.ListAlertsResponse:
        alert = alert_pb2.Alert(
            id=f"failover/{FAILOVER}",
            severity=types_pb2.SEVERITY_CRITICAL,
            state=alert_pb2.ALERT_STATE_FIRING,
            title="orders needs your [approval] to move from dc-east to dc-west",
            at=instant_to(NOW),
        )
        reply = alert_service_pb2.ListAlertsResponse()
        history = reply.alerts.add(alert=alert)
        for receiver in ("chat", "pager"):
            history.deliveries.add(
                kind=alert_pb2.ALERT_EVENT_KIND_DELIVERED, notification=alert_pb2.Notification(receiver=receiver)
            )
        return reply


def with_services(
    configuration: dict[str, Any], check: Callable[[], None], controller: Controller | None = None
) -> None:
    async def whole() -> None:
        section = GrpcSection.model_validate(configuration["grpc"])
        servers = [Server(section, []) for _ in range(2)]
        pb_grpc.add_FailoverServiceServicer_to_server(controller or answering(), servers[0].grpc)
        alert_service_pb2_grpc.add_AlertServiceServicer_to_server(Notifier(), servers[1].grpc)
        await servers[0].start(section.port("controller"))
        await servers[1].start(section.port("notifier"))
        try:
            await asyncio.to_thread(check)
        finally:
            for server in servers:
                await server.stop(0.1)

    asyncio.run(whole())


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_the_terminal_and_cut_nothing(columns: int, fleet_file: Path, configuration: dict[str, Any]) -> None:
    def check() -> None:
        for command, wanted in {
            "status": [
                FAILOVER,
                "dc-east (active)",
                "dc-east: down, no route, 0.4 s",
                "paused: we move [racks]",
                "nobody",
            ],
            "failovers": [FAILOVER, REFUSAL, "dc-east → dc-west", "awaiting approval", "[down]"],
            "alerts": ["2026-11-23 02:10:00", "critical", "firing", "[approval]", "chat", "pager"],
        }.items():
            done = cli(command, config=fleet_file, COLUMNS=str(columns))
            assert done.returncode == 0, done.stderr
            assert max(len(line) for line in done.stdout.splitlines()) <= columns, done.stdout
            assert [text for text in wanted if text not in done.stdout] == [], done.stdout
            assert "…" not in done.stdout

    with_services(configuration, check)


def test_in_a_pipe_a_row_is_a_line(fleet_file: Path, configuration: dict[str, Any]) -> None:
    def check() -> None:
        told = "orders: not moved: the target is 7.5 s behind; at most 5 s may be lost, and nobody has said that more would do"
        assert told in cli("status", config=fleet_file).stdout.splitlines()
        title = "orders needs your [approval] to move from dc-east to dc-west"
        assert any(title in line for line in cli("alerts", config=fleet_file).stdout.splitlines())
        listed = cli("failovers", config=fleet_file)
        assert f"{FAILOVER}  orders  dc-east → dc-west  awaiting approval" in listed.stdout.splitlines()
        assert listed.stderr == "2 entries\n"

    with_services(configuration, check)


@pytest.mark.skipif(shutil.which("script") is None, reason="this machine has no script(1)")
def test_on_a_terminal_there_is_colour(fleet_file: Path, configuration: dict[str, Any]) -> None:
    def check() -> None:
        command = f"stty cols 80; {sys.executable} -m redis_agent.cli status --config {fleet_file}"
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, env=environment)
        assert f"{ESCAPE}31mdown" in done.stdout
        assert FAILOVER in done.stdout

    with_services(configuration, check)


def test_json_is_data_and_nothing_else(fleet_file: Path, configuration: dict[str, Any]) -> None:
    def check() -> None:
        for command in ("status", "failovers", "alerts"):
            done = cli(command, "--json", config=fleet_file)
            assert (done.returncode, done.stderr) == (0, "")
            assert len(json.loads(done.stdout)) >= 1

    with_services(configuration, check)


def order(*arguments: object, config: Path, answer: str = "") -> Done:
    return cli("failover", "orders", "--to", "dc-west", "--reason", "a drill", *arguments, config=config, answer=answer)


def test_a_dry_run_prints_the_plan_and_orders_nothing(fleet_file: Path, configuration: dict[str, Any]) -> None:
    controller = answering()

    def check() -> None:
        done = order("--dry-run", config=fleet_file)
        assert (done.returncode, done.stderr) == (0, "")
        assert "emergency orders: dc-east → dc-west" in done.stdout
        assert "DNS      orders.example.com. CNAME east.example.com. → west.example.com., ttl 30 s" in done.stdout
        assert "loss     at most 0.2 s of writes" in done.stdout
        assert "checks   dc-west is up [by 2]" in done.stdout

    with_services(configuration, check, controller)
    assert controller.executed == []


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_ordered(answer: str, fleet_file: Path, configuration: dict[str, Any]) -> None:
    controller = answering()

    def check() -> None:
        done = order(config=fleet_file, answer=answer)
        assert done.returncode == 1
        assert "Move orders to dc-west?" in done.stderr

    with_services(configuration, check, controller)
    assert controller.executed == []


def test_a_yes_orders_it_and_follows_it_to_its_end(fleet_file: Path, configuration: dict[str, Any]) -> None:
    controller = answering()

    def check() -> None:
        done = order(config=fleet_file, answer="y\n")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("emergency orders: dc-east → dc-west\n")
        assert done.stdout.splitlines()[-1] == f"{FAILOVER} done: dc-east is [down] by quorum of dc-west, witness"
        assert [line.split(": ")[1] for line in done.stderr.splitlines() if " outcome " in line] == [
            "fenced",
            "promoted [it]",
        ]

    with_services(configuration, check, controller)
    (executed,) = controller.executed
    assert (executed.instance, executed.target, executed.reason) == ("orders", "dc-west", "a drill")
    assert executed.actor and len(executed.request_id) == 36


def test_a_failover_that_fails_is_exit_code_1(fleet_file: Path, configuration: dict[str, Any]) -> None:
    def check() -> None:
        done = order("--yes", config=fleet_file)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"{FAILOVER} failed: ")

    with_services(configuration, check, answering(failover_pb2.STAGE_FAILED))


def test_what_policy_refuses_is_exit_code_3_with_every_reason(fleet_file: Path, configuration: dict[str, Any]) -> None:
    def check() -> None:
        done = cli("failover", "orders", "--to", "dc-east", "--reason", "x", "--yes", config=fleet_file)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == "it is there already; cooling down for 12 s\n"
        done = cli("approve", FAILOVER, config=fleet_file)
        assert (done.returncode, done.stderr) == (3, "it is done, not awaiting approval\n")

    with_services(configuration, check)


# --- up -----------------------------------------------------------------------------------------------------------


def test_up_with_a_wrong_file_starts_nothing(fleet_file: Path, configuration: dict[str, Any], tmp_path: Path) -> None:
    configuration["colour"] = "red"
    fleet_file.write_text(json.dumps(configuration))
    done = cli("up", config=fleet_file)
    assert (done.returncode, done.stdout) == (2, "")
    assert "colour: unknown key" in done.stderr
    assert not (tmp_path / "log.db").exists()


def test_up_ends_with_the_line_of_a_service_whose_port_is_taken(
    fleet_file: Path, configuration: dict[str, Any]
) -> None:
    port = configuration["grpc"]["ports"]["notifier"]
    with socket.create_server(("127.0.0.1", port)):
        done = cli("up", "--only", "collector,notifier", config=fleet_file)
    assert done.returncode == 2
    assert f"grpc.ports: 127.0.0.1:{port}: Address already in use; stop its owner" in done.stderr
    assert done.stderr.splitlines()[-1] == "notifier can't run with this configuration; see its lines above"
