"""Story 4: what the controller may do by itself: observing, asking for approval, paused; and what it does afterwards."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from redis_agent.log import Outgoing
from redis_agent.log.opening import log_of
from redis_agent.model import ControlRecord, EventKind, FailoverId, Origin, Pause, Stage
from redis_agent.topics import CONTROL
from redis_agent.wire import control_to
from simulator.proxy import LinkMode
from simulator.world import EAST, WEST
from tests.e2e.child import eventually
from tests.e2e.scene import Scene, ToldJournal, play

DONE, REFUSED = 0, 3


async def awaiting(scene: Scene) -> FailoverId:
    """The failover that waits for approval, once there is one."""
    journal = await eventually(scene.journal, lambda found: bool(found.failovers))
    (failover,) = journal.failovers.values()
    assert failover.stage is Stage.AWAITING_APPROVAL
    return failover.id


# --- observe


def test_observing_it_tells_once_what_it_would_not_do_and_tells_when_that_is_over(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        await scene.world.lose(EAST)
        journal = await eventually(scene.journal, lambda found: bool(found.blocked))
        (event,) = journal.blocked.values()
        assert "mode is observe: an operator must order it" in event.reason
        assert (await scene.status())["refusals"] == ["mode is observe: an operator must order it"]
        await asyncio.sleep(2)
        assert (await scene.journal()).events == {event.failover: (event,)}
        scene.not_moved()

        await scene.world.bring_back(EAST)
        ended = await eventually(scene.journal, lambda found: not found.blocked)
        # As it returns, the reasons may change once more: its replica hears it before the vantages do.
        assert ended.events.keys() == {event.failover}
        kinds = [each.kind for each in ended.events[event.failover]]
        assert (kinds[-1], kinds.count(EventKind.ENDED)) == (EventKind.ENDED, 1)
        assert not ended.failovers
        scene.not_moved()
        assert await scene.role(WEST) == "slave"

    play(story, tmp_path, mode="observe")


# --- approve


def test_what_needs_approval_waits_for_it_and_then_goes_on_as_the_operators(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        await scene.world.lose(EAST)
        failover = await awaiting(scene)
        await asyncio.sleep(2)
        scene.not_moved()
        assert await scene.role(WEST) == "slave"

        code, out, err = await scene.cli("approve", failover, "--comment", "go ahead")
        assert code == DONE, err
        assert failover in out
        ended = await scene.ended()
        assert (ended.id, ended.stage) == (failover, Stage.DONE)
        assert not ended.unasked
        await scene.client_at(WEST)
        scene.moved_once()

        code, _, err = await scene.cli("approve", failover)
        assert (code, err) == (REFUSED, f"{failover} is done, not awaiting approval\n")

    play(story, tmp_path, mode="approve")


def test_what_needs_approval_is_withdrawn_when_the_site_is_up_again_and_may_be_asked_for_again_at_once(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        await scene.world.lose(EAST)
        first = await awaiting(scene)
        await scene.world.bring_back(EAST)
        ended = await scene.ended()
        assert (ended.id, ended.stage, ended.reason) == (first, Stage.ABORTED, "dc-east is up again")
        scene.not_moved()

        await scene.world.lose(EAST)
        again = await eventually(scene.journal, lambda found: len(found.events) == 2)
        assert [failover.stage for failover in again.failovers.values()] == [Stage.AWAITING_APPROVAL]
        assert {events[-1].stage for events in again.events.values()} == {Stage.ABORTED, Stage.AWAITING_APPROVAL}

    # The cooldown is long: it is for what moved something.
    play(story, tmp_path, mode="approve", cooldown=3600.0)


def test_an_approval_outlives_the_controller(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        first = scene.start_controller()
        await scene.all_up()
        await scene.world.lose(EAST)
        failover = await awaiting(scene)
        first.kill()
        scene.start_controller("successor")
        await scene.ready("successor")
        await eventually(scene.status, lambda status: status["sites"][0]["health"] == "down")
        code, _, err = await scene.cli("approve", failover)
        assert code == DONE, err
        await scene.client_at(WEST)
        scene.moved_once()

    play(story, tmp_path, mode="approve")


# --- the kill switch


@pytest.mark.parametrize("away", [False, True], ids=["", "without a controller to ask"])
def test_paused_a_failover_that_was_decided_goes_no_further_until_it_is_resumed(tmp_path: Path, away: bool) -> None:
    """Set between the decision and the DNS change. The command needs neither the controller nor the log."""

    async def story(scene: Scene) -> None:
        first = scene.start_controller()
        await scene.all_up()
        # Where nobody answers the promotion waits, and the switch has time to come.
        await scene.world.links[("controller", WEST)].set_mode(LinkMode.BLACK_HOLE)
        await scene.world.lose(EAST)
        await eventually(scene.journal, lambda found: any(f.stage is Stage.PROMOTING for f in found.failovers.values()))
        if away:
            first.kill()
        code, _, err = await scene.cli("pause", "--reason", "wait a moment")
        assert code == DONE, err
        if away:
            scene.start_controller("successor")
            await scene.ready("successor")
        # An attempt that was under way when the switch was set ends within two seconds.
        await asyncio.sleep(3)
        await scene.world.links[("controller", WEST)].set_mode(LinkMode.OPEN)
        await asyncio.sleep(3)
        assert await scene.role(WEST) == "slave"
        scene.not_moved()
        status = await scene.status()
        assert (status["paused"], status["pause_reason"]) == (True, "wait a moment")

        code, _, err = await scene.cli("resume")
        assert code == DONE, err
        ended = await scene.ended()
        assert ended.stage is Stage.DONE
        await scene.client_at(WEST)
        scene.moved_once()

    play(story, tmp_path, collectors=False)


def test_paused_beforehand_nothing_is_decided(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        await scene.cli("pause", "--instance", "orders", "--reason", "maintenance")
        await scene.world.lose(EAST)
        journal = await eventually(scene.journal, lambda found: bool(found.blocked))
        assert not journal.failovers
        assert "paused: maintenance" in next(iter(journal.blocked.values())).reason
        scene.not_moved()
        await scene.cli("resume", "--instance", "orders")
        assert (await scene.ended()).stage is Stage.DONE
        ended = await eventually(scene.journal, lambda found: not found.blocked)
        assert len(ended.failovers) == 1
        await scene.client_at(WEST)
        scene.moved_once()

    play(story, tmp_path, collectors=False)


def test_paused_from_one_machine_the_controller_of_another_is_paused_and_so_is_its_successor(tmp_path: Path) -> None:
    """The switch of the log, for a controller that has a directory of its own."""

    async def story(scene: Scene) -> None:
        elsewhere = scene.variant("elsewhere", failover={"pause_dir": str(tmp_path / "elsewhere")})
        first = scene.start_controller("controller", elsewhere)
        await scene.all_up()
        code, _, err = await scene.cli("pause", "--reason", "maintenance")
        assert code == DONE, err
        await eventually(scene.status, lambda status: status["pause_reason"] == "maintenance")
        assert not list((tmp_path / "elsewhere").iterdir())
        first.kill()
        scene.start_controller("successor", elsewhere)
        await scene.ready("successor")
        await scene.world.lose(EAST)
        journal = await eventually(scene.journal, lambda found: bool(found.blocked))
        assert "paused: maintenance" in next(iter(journal.blocked.values())).reason
        assert not journal.failovers
        scene.not_moved()
        code, _, err = await scene.cli("resume")
        assert code == DONE, err
        assert (await scene.ended()).stage is Stage.DONE
        scene.moved_once()

    play(story, tmp_path, collectors=False)


@pytest.mark.parametrize(
    ("key", "schema", "pauses"),
    [("pause/@fleet", "redis_agent.v2.ControlRecord", True), ("leader/orders", CONTROL.schema, False)],
    ids=["a switch of a newer version", "a key of a newer version"],
)
def test_what_a_newer_version_wrote_to_control_is_told_and_a_switch_of_it_pauses(
    key: str, schema: str, pauses: bool, tmp_path: Path
) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        log = log_of(scene.fleet.log)
        value = control_to(ControlRecord(Origin("newer", 1), datetime.now(UTC), "kim", Pause(paused=False, reason="")))
        headers = (("schema", schema.encode()),)
        await (await log.writer()).append([Outgoing(CONTROL, key, value.SerializeToString(), headers)])

        async def told() -> str:
            return (await scene.cli("status"))[1]

        says = schema if pauses else f"'{key}' is none of this version's"
        await eventually(told, lambda text: "error: control" in text and says in text)
        status = await scene.status()
        assert status["paused"] is pauses
        assert ("can't be read" in (status["pause_reason"] or "")) is pauses
        await log.close()
        if pauses:
            await scene.world.lose(EAST)
            journal = await eventually(scene.journal, lambda found: bool(found.blocked))
            assert not journal.failovers
            scene.not_moved()
            code, _, err = await scene.cli("resume")
            assert code == DONE, err
            await eventually(told, lambda text: "error: control" not in text)
        else:
            await scene.world.lose(EAST)
        assert (await scene.ended()).stage is Stage.DONE
        scene.moved_once()

    play(story, tmp_path, collectors=False)


# --- afterwards


def late(journal: ToldJournal, failover: FailoverId) -> int:
    """How often its old site was fenced late."""
    return sum(1 for event in journal.events[failover] if event.kind is EventKind.FENCED_LATE)


def test_an_old_site_that_returns_is_fenced_in_each_of_its_lives(tmp_path: Path) -> None:
    """A fence is gone when its server restarts; a site that returns once more as a primary is fenced once more."""

    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        await scene.world.lose(EAST)
        failover = await scene.ended()
        await scene.client_at(WEST)
        east = scene.world.servers[EAST]
        for life in (1, 2):
            await scene.world.bring_back(EAST)
            await eventually(lambda: scene.required_replicas(EAST), lambda required: required > 0)
            journal = await eventually(scene.journal, lambda found, n=life: late(found, failover.id) >= n)  # type: ignore[misc]
            assert late(journal, failover.id) == life
            if life == 1:
                await scene.world.lose(EAST)
                await eventually(scene.status, lambda status: status["sites"][0]["health"] != "up")
                east.thaw()
                await east.stop()
                await east.start()
                assert await scene.required_replicas(EAST) == 0
        scene.moved_once()

    play(story, tmp_path, collectors=False)
