"""Story 8: wall clocks that jump ten minutes or stand at 1970 or 2100, and processes that were paused, while a site dies.

Whichever service's clock it is: nothing is decided early, what is to be done is done, and the jump is told.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from redis_agent.findings import read
from redis_agent.log.opening import log_of
from redis_agent.model import Finding, FindingKind, FindingState, Stage
from simulator.world import EAST, VANTAGES, WEST
from tests.e2e.child import eventually
from tests.e2e.scene import Scene, all_counted_up, play
from tests.e2e.wall_clock import WallClock

CONFIRM_SECONDS = 2.0
JUMPS = {"ahead": 600.0, "back": -600.0}


def start(scene: Scene, service: str, clock: WallClock) -> None:
    """All services, those of that name by that clock."""
    for vantage in VANTAGES:
        own = str(scene.world.write_configuration(vantage))
        shifted = clock.variables if service == "collector" else {}
        scene.start(f"collector-{vantage}", "-m", "collector", "--config", own, variables=shifted)
    for name in ("controller", "notifier", *(["detector"] if service == "detector" else [])):
        shifted = clock.variables if service == name else {}
        scene.start(name, "-m", name, "--config", str(scene.configuration), variables=shifted)


async def found(scene: Scene, kind: FindingKind, service: str) -> list[Finding]:
    """What processes of that service found of that kind, whether it is over or not."""
    log = log_of(scene.fleet.log)
    try:
        known = (await read(log)).values()
    finally:
        await log.close()
    return [each for each in known if each.kind is kind and each.reporter.startswith(f"{service}@")]


async def moved_as_ever(scene: Scene) -> None:
    """It went to dc-west, once, after the time to confirm had passed and not before."""
    ended = await scene.ended()
    assert ended.stage is Stage.DONE, ended.reason
    await scene.client_at(WEST)
    scene.moved_once()
    confirming = {phase.name: phase.seconds for phase in ended.phases}["confirmed"]
    assert CONFIRM_SECONDS <= confirming < CONFIRM_SECONDS + 30


@pytest.mark.matrix(4)
@pytest.mark.parametrize("direction", JUMPS)
@pytest.mark.parametrize("service", ["collector", "controller", "notifier", "detector"])
def test_a_wall_clock_that_jumps_while_a_datacenter_dies_is_told_and_changes_nothing(
    service: str, direction: str, tmp_path: Path
) -> None:
    clock = WallClock(tmp_path / "wall.clock")

    async def story(scene: Scene) -> None:
        start(scene, service, clock)
        await scene.all_up()
        await scene.ready("notifier")
        if service == "detector":
            await scene.ready("detector")
        await scene.world.lose(EAST)
        await asyncio.sleep(CONFIRM_SECONDS / 2)
        clock.shift(JUMPS[direction])
        await moved_as_ever(scene)
        told = await eventually(lambda: found(scene, FindingKind.CLOCK_JUMP, service), bool)
        assert all(f"jumped {direction if direction == 'ahead' else 'back'} by 600 s" in each.text for each in told)
        posts = scene.world.slack

        async def posted() -> str:
            return str(posts.accepted)  # several alerts of one group are one message, with a block each

        await eventually(posted, lambda text: "orders was moved" in text and "jumped" in text)

    play(story, tmp_path, collectors=False, looking=False, confirm=CONFIRM_SECONDS)


@pytest.mark.parametrize("direction", JUMPS)
def test_a_wall_clock_that_jumps_while_all_is_well_moves_nothing_and_silences_nobody(
    direction: str, tmp_path: Path
) -> None:
    """The collectors' and the controller's at once; then the site dies, and is seen as soon as ever."""
    clock = WallClock(tmp_path / "wall.clock")

    async def story(scene: Scene) -> None:
        for vantage in VANTAGES:
            own = str(scene.world.write_configuration(vantage))
            scene.start(f"collector-{vantage}", "-m", "collector", "--config", own, variables=clock.variables)
        scene.start("controller", "-m", "controller", "--config", str(scene.configuration), variables=clock.variables)
        await scene.all_up()
        clock.shift(JUMPS[direction])
        for _ in range(20):
            await asyncio.sleep(0.2)
            status = await scene.status()
            assert {site["health"] for site in status["sites"]} == {"up"}
            assert {vote["counted"] for site in status["sites"] for vote in site["votes"]} == {"up"}
        assert not (await scene.journal()).failovers
        scene.not_moved()
        await scene.world.lose(EAST)
        await moved_as_ever(scene)

    play(story, tmp_path, collectors=False, looking=False, confirm=CONFIRM_SECONDS)


@pytest.mark.parametrize("moment", ["1970-01-01 00:00:30", "2100-06-01 12:00:00"])
def test_with_a_clock_at_another_age_the_site_is_moved_all_the_same_and_the_clock_is_told(
    moment: str, tmp_path: Path
) -> None:
    clock = WallClock(tmp_path / "wall.clock")
    clock.set(moment)

    async def story(scene: Scene) -> None:
        start(scene, "collector", clock)
        await scene.all_up()
        await scene.world.lose(EAST)
        await moved_as_ever(scene)
        told = await eventually(lambda: found(scene, FindingKind.CLOCK_SKEW, "collector"), bool)
        assert all(each.state is FindingState.OPEN and moment[:4] in each.text for each in told)
        seen = await eventually(lambda: found(scene, FindingKind.CLOCK_SKEW, "controller"), bool)
        assert all("its timestamps are off, its votes count" in each.text for each in seen)

    play(story, tmp_path, collectors=False, looking=False, confirm=CONFIRM_SECONDS)


@pytest.mark.parametrize("paused", [["collector-witness"], ["controller"], ["collector-witness", "controller"]])
def test_what_was_paused_is_believed_again_after_one_clean_poll(paused: list[str], tmp_path: Path) -> None:
    """As a virtual machine is that moves to another host: for longer than any vote counts, and then it goes on."""

    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        for name in paused:
            scene.processes[name].signal(signal.SIGSTOP)
        await asyncio.sleep(3 * scene.world.terms.interval + 12)
        for name in paused:
            scene.processes[name].signal(signal.SIGCONT)
        await eventually(scene.status, all_counted_up, within=4)
        assert not (await scene.journal()).failovers
        scene.not_moved()
        await scene.world.lose(EAST)
        await moved_as_ever(scene)

    play(story, tmp_path, confirm=CONFIRM_SECONDS)
