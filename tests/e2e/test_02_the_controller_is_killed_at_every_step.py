"""Story 2: SIGKILL at each entry of the journal, just before it and just after it. One DNS change, and the failover ends."""

from pathlib import Path

import pytest

from redis_agent.model import EventKind, Stage
from simulator.ports import free_ports
from simulator.world import EAST, WEST
from tests.e2e.child import eventually
from tests.e2e.scene import Scene, play

DOOMED = Path(__file__).with_name("doomed_controller.py")
ENTRIES = [
    (EventKind.DECIDED, Stage.FENCING),
    (EventKind.INTENT, Stage.FENCING),
    (EventKind.OUTCOME, Stage.PROMOTING),
    (EventKind.INTENT, Stage.PROMOTING),
    (EventKind.OUTCOME, Stage.REDIRECTING),
    (EventKind.INTENT, Stage.REDIRECTING),
    (EventKind.OUTCOME, Stage.PROPAGATING),
    (EventKind.INTENT, Stage.PROPAGATING),
    (EventKind.OUTCOME, Stage.VERIFYING),
    (EventKind.INTENT, Stage.VERIFYING),
    (EventKind.ENDED, Stage.DONE),
]


@pytest.mark.long
@pytest.mark.matrix(8)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("kind", "stage"), ENTRIES, ids=[f"{kind.value}-{stage.value}".replace(" ", "-") for kind, stage in ENTRIES]
)
def test_killed_there_its_successor_ends_the_failover_with_one_dns_change(
    kind: EventKind, stage: Stage, moment: str, tmp_path: Path
) -> None:
    async def story(scene: Scene) -> None:
        doomed = scene.start("doomed", str(DOOMED), kind.name, stage.name, moment, "--config", str(scene.configuration))
        await scene.all_up()
        await scene.world.lose(EAST)
        assert await doomed.code() == -9

        scene.start_controller()
        ended = await scene.ended()
        assert ended.stage is Stage.DONE
        await scene.client_at(WEST)
        # Long enough for the successor to look at what there is, and to find nothing left to do.
        await scene.ready("controller")
        await eventually(scene.status, lambda status: status["active_datacenter"] == WEST)
        assert list((await scene.journal()).failovers) == [ended.id]
        scene.moved_once()

    play(story, tmp_path, collectors=False)


def test_of_two_controllers_the_second_fences_the_first_and_one_moves_the_name(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        first = scene.start_controller("first")
        await scene.all_up()
        (port,) = free_ports(1)
        grpc = {"ports": {**scene.fleet.grpc.ports, "controller": port}}
        second = scene.start_controller("second", scene.variant("second", grpc=grpc))
        await scene.ready("second")
        await scene.world.lose(EAST)

        assert await first.code() == 1
        (last,) = [line for line in first.said.splitlines() if " ERROR " in line]
        assert "taken over by a newer process" in last
        assert "Traceback" not in first.said
        assert (await scene.ended()).stage is Stage.DONE
        await scene.client_at(WEST)
        assert second.ready
        assert len((await scene.journal()).failovers) == 1
        scene.moved_once()

    play(story, tmp_path)
