"""Story 7: what operators order. Exit codes are those of the contract."""

import re
from pathlib import Path

from redis_agent import pause
from redis_agent.model import EventKind, Stage
from simulator.proxy import LinkMode
from simulator.world import EAST, SITES, WEST
from tests.e2e.child import eventually
from tests.e2e.scene import Scene, play

DONE, FAILED, USAGE, REFUSED, UNREACHABLE = 0, 1, 2, 3, 4
PLANNED = ("failover", "orders", "--to", WEST, "--planned", "--reason", "as the test wants it")


# --- planned


def test_a_planned_switchover_loses_no_acknowledged_write_and_changes_the_name_once(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        code, out, err = await scene.cli(*PLANNED, "--yes")
        assert code == DONE, err
        await scene.client_at(WEST)
        ended = await scene.ended()
        assert ended.stage is Stage.DONE
        assert ended.id in out
        scene.moved_once()

        await scene.world.client.stop()
        assert await scene.role(WEST) == "master"
        kept = await keys(scene, WEST)
        last = {f"order:{ack.number % 1000}": ack.number for ack in scene.world.client.log.acks}
        # A write whose answer was lost may be there, too; an acknowledged one must be, or a later one in its place.
        lost = {key: number for key, number in last.items() if kept.get(key, 0) < number}
        assert not lost
        assert len(last) > 10

    play(story, tmp_path, mode="observe")


async def keys(scene: Scene, site: str) -> dict[str, int]:
    """The client's keys at that site."""
    async with scene.server(site) as client:
        names = [key async for key in client.scan_iter("order:*", count=1000)]
        values = await client.mget(names)
    return {name.decode(): int(value or 0) for name, value in zip(names, values, strict=True)}


def test_a_planned_switchover_that_cannot_be_in_step_is_aborted_and_the_source_takes_writes_again(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        short = scene.variant("short", failover={"step_seconds": 1.0})
        scene.start_controller(configuration=short)
        await scene.all_up()
        # The replica stops receiving, and nobody has noticed yet when the order comes.
        await scene.world.links[("replication", EAST)].set_mode(LinkMode.BLACK_HOLE)
        code, _, err = await scene.cli(*PLANNED, "--yes")
        assert code == FAILED
        assert "bytes behind" in err
        ended = await scene.ended()
        assert ended.stage is Stage.ABORTED
        await scene.client_at(EAST)
        journal = await eventually(scene.journal, lambda found: not found.failovers[ended.id].owes_unfencing)
        assert journal.events[ended.id][-1].kind is EventKind.UNFENCED
        scene.not_moved()
        assert await scene.role(WEST) == "slave"

    play(story, tmp_path, mode="observe")


def test_a_dry_run_tells_the_plan_and_changes_nothing(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        code, out, err = await scene.cli(*PLANNED, "--dry-run")
        assert code == DONE, err
        assert f"{EAST} → {WEST}" in out
        assert re.search(r"DNS +orders\.\S+ CNAME dc-east\.\S+ → dc-west\.\S+, ttl 1 s", out)
        assert re.search(r"epoch +0 → 1", out)
        assert (await scene.journal()).events == {}
        scene.not_moved()
        assert await scene.role(WEST) == "slave"

    play(story, tmp_path, mode="observe")


# --- what is refused, not found, or not reached


def test_an_order_that_is_unsafe_is_refused_with_every_reason(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        code, _, err = await scene.cli("failover", "orders", "--to", EAST, "--reason", "x", "--yes")
        assert (code, "orders is already in dc-east" in err) == (REFUSED, True)

        await scene.world.lose(WEST)
        await eventually(scene.status, lambda status: status["sites"][1]["health"] == "down")
        pause.pause(scene.fleet.failover.pause_dir, None, "maintenance")
        code, _, err = await scene.cli(*PLANNED, "--yes")
        assert code == REFUSED
        assert "paused: maintenance" in err
        assert "dc-west is not up by quorum: 0 of 2 needed vantages say so" in err
        scene.not_moved()

    play(story, tmp_path, mode="observe")


def test_what_is_not_there_is_one_what_is_wrong_is_two_and_nobody_there_is_four(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        controller = scene.start_controller()
        await scene.all_up()
        code, _, err = await scene.cli("failover", "strangers", "--to", WEST, "--reason", "x", "--yes")
        assert (code, "no instance 'strangers'" in err) == (FAILED, True)
        code, _, err = await scene.cli("failover", "orders", "--to", "dc-north", "--reason", "x", "--yes")
        assert (code, "no site in 'dc-north'" in err) == (FAILED, True)
        code, _, err = await scene.cli("approve", "fo-none")
        assert (code, "no failover 'fo-none'" in err) == (FAILED, True)
        code, _, _ = await scene.cli("failover", "orders", "--reason", "x")
        assert code == USAGE
        controller.kill()
        code, _, err = await scene.cli(*PLANNED, "--yes")
        assert code == UNREACHABLE
        assert "controller" in err
        scene.not_moved()

    play(story, tmp_path, collectors=False, mode="observe")


# --- and back


def test_traffic_comes_back_by_a_planned_move_and_the_old_fence_is_lifted(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        assert (await scene.cli(*PLANNED, "--yes"))[0] == DONE
        await scene.client_at(WEST)
        assert await scene.required_replicas(EAST) > 0
        # An operator makes the old site a replica of the new one.
        await scene.replicate(EAST, WEST)
        await eventually(scene.status, lambda status: status["sites"][0]["role"] == "replica")
        code, _, err = await scene.cli("failover", "orders", "--to", EAST, "--planned", "--reason", "back", "--yes")
        assert code == DONE, err
        await scene.client_at(EAST)
        assert await scene.required_replicas(EAST) == 0
        assert scene.changes == 2
        assert scene.epoch.startswith('"epoch=2 ')
        assert {await scene.role(site) for site in SITES} == {"master"}

    play(story, tmp_path, collectors=False, mode="observe")
