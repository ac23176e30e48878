"""The acting half against real Redis servers and Route 53: nothing unwritten is done, the switch holds it, an abort gives back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from controller.core.failover import CONTROLLER
from controller.core.policy import Order
from redis_agent import pause
from redis_agent.errors import Fenced, LogUnavailable, Refused
from redis_agent.model import EventKind, FailoverEvent, Fence, Kind, Stage, Verdict
from redis_agent.testing_process import until
from tests.controller.faltering import Falters, Fault
from tests.controller.stage import Play, client, play
from tests.controller.values import WEST, known

UP, DOWN = Verdict.UP, Verdict.DOWN
Scene = Callable[[Play], Awaitable[None]]
ORDER = Order(WEST, Kind.PLANNED, "as the test wants it", "ann")


def act(directory: Path, scene: Scene, falters: Falters = lambda _: Fault.NONE) -> None:
    async def run() -> None:
        async with asyncio.timeout(90), play(directory, falters) as stage:
            await scene(stage)

    asyncio.run(run())


def test_a_dead_site_is_left_in_five_steps_with_one_dns_change(tmp_path: Path) -> None:
    async def scene(stage: Play) -> None:
        stage.say(DOWN)
        failover = await stage.decide()
        stage.east.freeze()
        await stage.driver.drive(failover, stage.instance)
        ended = stage.failover(failover)
        assert (ended.stage, ended.fence) == (Stage.DONE, Fence.UNREACHABLE)
        assert [phase.name for phase in ended.phases[-5:]] == [
            "fenced",
            "promoted",
            "accepted",
            "authoritative",
            "verified",
        ]
        assert await stage.role(stage.west) == "master"
        assert len(stage.zone.history) == 1
        assert known(await stage.replayed()) == known(stage.journal.journal)

    act(tmp_path, scene)


def test_every_action_has_its_intent_in_the_journal_before_it(tmp_path: Path) -> None:
    async def scene(stage: Play) -> None:
        stage.say(DOWN)
        failover = await stage.decide()
        await stage.driver.drive(failover, stage.instance)
        kinds = stage.kinds(failover)
        assert kinds[0] == (EventKind.DECIDED, Stage.FENCING)
        assert [stage_ for kind, stage_ in kinds if kind is EventKind.INTENT] == [
            Stage.FENCING,
            Stage.PROMOTING,
            Stage.REDIRECTING,
            Stage.PROPAGATING,
            Stage.VERIFYING,
        ]
        assert [kind for kind, _ in kinds[1:]] == [EventKind.INTENT, EventKind.OUTCOME] * 4 + [
            EventKind.INTENT,
            EventKind.ENDED,
        ]

    act(tmp_path, scene)


@pytest.mark.parametrize("stage_", [Stage.FENCING, Stage.PROMOTING, Stage.REDIRECTING])
@pytest.mark.parametrize("fault", [Fault.LOST, Fault.ANSWER_LOST])
def test_an_intent_that_the_log_does_not_confirm_is_not_acted_on(tmp_path: Path, stage_: Stage, fault: Fault) -> None:
    away = asyncio.Event()
    tried = 0

    def falters(event: FailoverEvent) -> Fault:
        nonlocal tried
        held = (event.kind, event.stage) == (EventKind.INTENT, stage_) and away.is_set()
        tried += held
        return fault if held else Fault.NONE

    async def scene(stage: Play) -> None:
        away.set()
        stage.say(DOWN)
        failover = await stage.decide()
        driving = asyncio.create_task(stage.driver.drive(failover, stage.instance))
        await until(lambda: tried > 3)
        assert stage.failover(failover).stage is stage_
        done = {
            Stage.FENCING: await stage.required_replicas(stage.east) != "0",
            Stage.PROMOTING: await stage.role(stage.west) == "master",
            Stage.REDIRECTING: bool(stage.zone.history),
        }
        assert not done[stage_]
        away.clear()
        await driving
        assert stage.failover(failover).stage is Stage.DONE
        assert len(stage.zone.history) == 1
        assert known(await stage.replayed()) == known(stage.journal.journal)

    act(tmp_path, scene, falters)


def test_an_outcome_that_the_log_does_not_confirm_is_written_until_it_does_and_the_record_moves_once(
    tmp_path: Path,
) -> None:
    faults = [Fault.LOST, Fault.ANSWER_LOST] * 5

    def falters(event: FailoverEvent) -> Fault:
        return faults.pop() if event.kind is EventKind.OUTCOME and faults else Fault.NONE

    async def scene(stage: Play) -> None:
        stage.say(DOWN)
        failover = await stage.decide()
        await stage.driver.drive(failover, stage.instance)
        assert not faults
        assert stage.failover(failover).stage is Stage.DONE
        assert len(stage.zone.history) == 1
        assert known(await stage.replayed()) == known(stage.journal.journal)

    act(tmp_path, scene, falters)


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.ANSWER_LOST])
def test_a_decision_that_the_log_may_have_taken_is_taken_back_before_anything_else(
    tmp_path: Path, fault: Fault
) -> None:
    """Else a successor would find it after a restart and act on it, hours later."""
    faults = [fault, fault, Fault.LOST]

    async def scene(stage: Play) -> None:
        stage.say(DOWN)
        with pytest.raises(LogUnavailable):
            await stage.decide()
        assert not faults
        (ended,) = stage.journal.journal.failovers.values()
        assert (ended.stage, ended.begun) == (Stage.ABORTED, False)
        successor = await stage.replayed()
        assert [each.stage for each in successor.failovers.values()] == [Stage.ABORTED]
        assert successor.open(stage.instance.id) is None
        assert successor.last_moved(stage.instance.id) is None

    act(tmp_path, scene, lambda _: faults.pop(0) if faults else Fault.NONE)


# --- the kill switch


def test_paused_between_the_written_intent_and_the_action_nothing_is_done(tmp_path: Path) -> None:
    directory = tmp_path / "pause"

    def falters(event: FailoverEvent) -> Fault:
        if (event.kind, event.stage) == (EventKind.INTENT, Stage.REDIRECTING) and not resumed.is_set():
            pause.pause(directory, None, "wait")
        return Fault.NONE

    resumed = asyncio.Event()

    async def scene(stage: Play) -> None:
        stage.say(DOWN)
        failover = await stage.decide()
        driving = asyncio.create_task(stage.driver.drive(failover, stage.instance))
        await until(
            lambda: stage.failover(failover).stage is Stage.REDIRECTING and pause.reason(directory, "") is not None
        )
        await asyncio.sleep(0.5)
        assert not stage.zone.history
        resumed.set()
        pause.resume(directory, None)
        await driving
        assert stage.failover(failover).stage is Stage.DONE
        assert len(stage.zone.history) == 1

    act(tmp_path, scene, falters)


def test_paused_no_step_is_begun(tmp_path: Path) -> None:
    async def scene(stage: Play) -> None:
        stage.say(DOWN)
        failover = await stage.decide()
        pause.pause(tmp_path / "pause", "orders", "wait")
        driving = asyncio.create_task(stage.driver.drive(failover, stage.instance))
        await asyncio.sleep(0.5)
        assert stage.kinds(failover) == [(EventKind.DECIDED, Stage.FENCING)]
        driving.cancel()

    act(tmp_path, scene)


# --- before the promotion there is a way back


def test_a_source_that_is_up_again_before_the_promotion_keeps_its_traffic_and_is_not_fenced(
    tmp_path: Path,
) -> None:
    async def scene(stage: Play) -> None:
        stage.say(DOWN)
        failover = await stage.decide()
        stage.say(UP)
        await stage.driver.drive(failover, stage.instance)
        ended = stage.failover(failover)
        assert (ended.stage, ended.reason) == (Stage.ABORTED, "nothing was moved: dc-east is up again")
        assert ended.owes_unfencing  # an answer may have been lost before this controller took it up
        assert await stage.required_replicas(stage.east) == "0"
        await stage.driver.unfence(ended, stage.instance)
        assert await stage.required_replicas(stage.east) == "0"
        assert not stage.failover(failover).owes_unfencing
        assert await stage.role(stage.west) == "slave"
        assert not stage.zone.history

    act(tmp_path, scene)


def test_taken_up_without_votes_it_waits_for_them_before_the_promotion(tmp_path: Path) -> None:
    async def scene(stage: Play) -> None:
        stage.say(DOWN)
        failover = await stage.decide()
        stage.say(Verdict.CANNOT_TELL)
        driving = asyncio.create_task(stage.driver.drive(failover, stage.instance))
        await until(lambda: stage.failover(failover).stage is Stage.PROMOTING)
        await asyncio.sleep(0.5)
        assert await stage.role(stage.west) == "slave"
        stage.say(DOWN)
        await driving
        assert stage.failover(failover).stage is Stage.DONE

    act(tmp_path, scene)


def test_once_the_target_is_primary_there_is_no_way_back(tmp_path: Path) -> None:
    """The promotion was done, and a crash lost its outcome; meanwhile the source came back."""

    async def scene(stage: Play) -> None:
        stage.say(DOWN)
        failover = await stage.decide()
        promoting = replace(stage.failover(failover), stage=Stage.PROMOTING)
        await stage.journal.note(promoting, EventKind.OUTCOME, "the source was fenced")
        async with client(stage.west) as west:
            await west.replicaof("NO", "ONE")
        stage.say(UP)
        await stage.driver.drive(failover, stage.instance)
        assert stage.failover(failover).stage is Stage.DONE

    act(tmp_path, scene)


def test_an_ordered_emergency_is_not_called_off_because_the_source_is_up(tmp_path: Path) -> None:
    async def scene(stage: Play) -> None:
        stage.say(UP)
        failover = await stage.decide(actor="ann")
        await stage.driver.drive(failover, stage.instance)
        assert stage.failover(failover).stage is Stage.DONE

    act(tmp_path, scene)


# --- orders


def test_of_two_orders_at_once_one_begins_and_the_other_is_refused(tmp_path: Path) -> None:
    async def scene(stage: Play) -> None:
        stage.say(UP)
        both = [stage.orders.begin(stage.instance, ORDER) for _ in range(2)]
        first, second = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(first, str)
        assert isinstance(second, Refused)
        await until(lambda: stage.failover(first).stage.ended)
        assert len(stage.journal.journal.failovers) == 1
        assert len(stage.zone.history) == 1

    act(tmp_path, scene)


def test_an_operator_who_goes_away_does_not_stop_what_they_ordered(tmp_path: Path) -> None:
    async def scene(stage: Play) -> None:
        stage.say(UP)
        ordering = asyncio.create_task(stage.orders.begin(stage.instance, ORDER))
        await asyncio.sleep(0)
        ordering.cancel()
        await until(lambda: any(f.stage is Stage.DONE for f in stage.journal.journal.failovers.values()))

    act(tmp_path, scene)


def test_an_operator_called_controller_is_still_an_operator(tmp_path: Path) -> None:
    async def scene(stage: Play) -> None:
        stage.say(UP)
        failover = await stage.orders.begin(stage.instance, replace(ORDER, actor=CONTROLLER))
        assert stage.failover(failover).actor == "operator controller"
        await until(lambda: stage.failover(failover).stage.ended)

    act(tmp_path, scene)


def test_a_second_controller_ends_the_first_at_its_next_step(tmp_path: Path) -> None:
    async def scene(stage: Play) -> None:
        stage.say(DOWN)
        failover = await stage.decide()
        await stage.replayed()
        with pytest.raises(Fenced):
            await stage.driver.drive(failover, stage.instance)
        assert await stage.required_replicas(stage.east) == "0"
        assert not stage.zone.history

    act(tmp_path, scene)
