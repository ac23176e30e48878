"""Story 3: what looks like a dead datacenter and is none. Nothing is moved, and where the votes were enough, the journal says why."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from redis_agent.model import EventKind, FailoverEvent
from simulator.proxy import LinkMode
from simulator.world import CONTROLLER, EAST, REPLICATION, SITES, VANTAGES, WEST
from tests.e2e.child import eventually
from tests.e2e.scene import Scene, ToldJournal, play, votes_on

QUIET_SECONDS = 3.0
"""Six times the confirm time."""


async def all_counted(scene: Scene, vantage: str, verdict: str) -> None:
    """Wait until that vantage's votes count so, on every site."""

    def counted(status: Mapping[str, Any]) -> bool:
        return all(votes_on(status, site).get(vantage) == verdict for site in SITES)

    await eventually(scene.status, counted)


async def quiet(scene: Scene) -> None:
    """A while later nothing has moved and nobody wanted to move it."""
    await asyncio.sleep(QUIET_SECONDS)
    journal = await scene.journal()
    assert not journal.failovers
    assert (await scene.status())["failover"] is None
    scene.not_moved()


@pytest.mark.parametrize("vantage", ["witness", EAST, WEST])
def test_a_vantage_that_is_cut_off_alone_is_not_believed(vantage: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        await scene.world.cut_off(vantage)
        await all_counted(scene, vantage, "cannot_tell")
        await quiet(scene)
        status = await scene.status()
        assert [site["health"] for site in status["sites"]] == ["up", "up"]
        assert status["refusals"] == []
        assert (await scene.journal()).events == {}
        for site in SITES:
            await scene.world.links[(vantage, site)].set_mode(LinkMode.OPEN)
        await all_counted(scene, vantage, "up")

    play(story, tmp_path)


def test_the_controllers_own_view_is_no_vote(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        for site in SITES:
            await scene.world.links[(CONTROLLER, site)].set_mode(LinkMode.BLACK_HOLE)
        await quiet(scene)
        assert [site["health"] for site in (await scene.status())["sites"]] == ["up", "up"]

    play(story, tmp_path)


def test_when_every_vantage_sees_nothing_nobody_can_tell(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        for vantage in VANTAGES:
            await scene.world.cut_off(vantage)
        for vantage in VANTAGES:
            await all_counted(scene, vantage, "cannot_tell")
        await quiet(scene)
        assert [site["health"] for site in (await scene.status())["sites"]] == ["unknown", "unknown"]

    play(story, tmp_path)


def test_when_both_sites_are_dark_nothing_is_done(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        for site in SITES:
            await scene.world.lose(site)
        for vantage in VANTAGES:
            await all_counted(scene, vantage, "cannot_tell")
        await quiet(scene)

    play(story, tmp_path)


def test_without_any_votes_nothing_is_done(tmp_path: Path) -> None:
    """The collectors end, and their last votes age."""

    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        for vantage in VANTAGES:
            scene.processes[f"collector-{vantage}"].kill()
        await scene.world.lose(EAST)
        for vantage in VANTAGES:
            await all_counted(scene, vantage, "cannot_tell")
        await quiet(scene)

    play(story, tmp_path)


# --- a quorum says down, and it is not dead


async def refused(scene: Scene) -> FailoverEvent:
    """The decision not to act, once it stands in the journal; nothing was moved."""
    journal = await eventually(scene.journal, lambda found: bool(found.blocked))
    await asyncio.sleep(QUIET_SECONDS)
    assert not (await scene.journal()).failovers
    scene.not_moved()
    return journal.blocked[next(iter(journal.blocked))]


async def hide_from(scene: Scene, *vantages: str) -> None:
    """These don't see dc-east any more."""
    for vantage in vantages:
        await scene.world.links[(vantage, EAST)].set_mode(LinkMode.BLACK_HOLE)


def test_a_site_that_its_own_vantage_sees_serving_is_not_left(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        await scene.world.links[(REPLICATION, EAST)].set_mode(LinkMode.BLACK_HOLE)
        await hide_from(scene, WEST, "witness")
        event = await refused(scene)
        assert event.reason.startswith("dc-east is down, and traffic stays: ")
        assert "the vantage inside dc-east still sees it serving: cut off from outside, not dead" in event.reason
        assert {vote.vantage: vote.counted.value for vote in event.votes if vote.site.datacenter == EAST} == {
            EAST: "up",
            WEST: "down",
            "witness": "down",
        }

    play(story, tmp_path)


def test_a_site_that_its_replica_still_hears_is_not_left_and_the_refusal_ends_when_it_is_seen_again(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        scene.start_controller()
        await scene.all_up()
        await hide_from(scene, *VANTAGES)
        event = await refused(scene)
        assert "dc-west still replicates from dc-east" in event.reason
        assert (await scene.status())["refusals"]

        for vantage in VANTAGES:
            await scene.world.links[(vantage, EAST)].set_mode(LinkMode.OPEN)
        ended: ToldJournal = await eventually(scene.journal, lambda journal: not journal.blocked)
        kinds = [each.kind for each in ended.events[event.failover]]
        assert kinds[-1] is EventKind.ENDED
        assert kinds.count(EventKind.ENDED) == 1
        assert ended.events[event.failover][-1].reason == "dc-east is up"
        assert list(ended.events) == [event.failover]
        assert (await scene.status())["refusals"] == []
        scene.not_moved()

    # INFO counts whole seconds, and votes come once a second: it takes that long to see that the replica still hears.
    play(story, tmp_path, confirm=4.0)
