"""A failover's life. The table of stages is whole, and whatever one tick loses, the end is the same."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.failover import STEPS, Effect, Failover, Outcome, advance, first_stage, objection
from controller.core.health import Health
from redis_agent.instants import after
from redis_agent.model import Fence, Kind, Phase, Stage
from tests.controller.values import FAILOVER, NOON, PLAN, POLICY, seconds

SEEN = Outcome(Effect.SEEN, "there it is")
NOT_YET = Outcome(Effect.NOT_YET, "no sign of it")
IMPOSSIBLE = Outcome(Effect.IMPOSSIBLE, "it can't be")
PLANNED = replace(FAILOVER, plan=replace(PLAN, kind=Kind.PLANNED), actor="ann")


def test_every_stage_has_a_step_or_is_an_end_or_waits_for_people() -> None:
    ends = {stage for stage in Stage if stage.ended}
    assert set(STEPS) | ends | {Stage.AWAITING_APPROVAL} == set(Stage)
    assert not set(STEPS) & ends


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage not in STEPS])
def test_an_outcome_outside_a_step_raises(stage: Stage) -> None:
    with pytest.raises(ValueError, match="no outcome is expected"):
        advance(replace(FAILOVER, stage=stage), SEEN, POLICY, NOON)


# --- one step


def moved(failover: Failover, stage: Stage, outcome: Outcome, waited: float = 0) -> Failover:
    return advance(replace(failover, stage=stage), outcome, POLICY, after(NOON, seconds(waited)))


@pytest.mark.parametrize(
    ("stage", "following"),
    [
        (Stage.FENCING, Stage.PROMOTING),
        (Stage.PROMOTING, Stage.REDIRECTING),
        (Stage.REDIRECTING, Stage.PROPAGATING),
        (Stage.PROPAGATING, Stage.VERIFYING),
        (Stage.VERIFYING, Stage.DONE),
    ],
)
def test_what_was_seen_moves_it_on(stage: Stage, following: Stage) -> None:
    assert moved(FAILOVER, stage, SEEN).stage is following


ACTIVE_ACTIVE = replace(FAILOVER, plan=replace(PLAN, promote=False))


def test_where_nothing_is_promoted_nothing_is_fenced_and_the_record_is_the_first_step() -> None:
    assert first_stage(PLAN) is Stage.FENCING
    assert first_stage(ACTIVE_ACTIVE.plan) is Stage.REDIRECTING


def test_where_nothing_is_promoted_a_record_that_cannot_be_moved_leaves_all_as_it_was() -> None:
    assert moved(ACTIVE_ACTIVE, Stage.REDIRECTING, IMPOSSIBLE).stage is Stage.ABORTED
    assert not replace(ACTIVE_ACTIVE, stage=Stage.ABORTED, begun=True).owes_unfencing


@pytest.mark.parametrize("stage", STEPS)
def test_what_was_not_seen_yet_is_waited_for(stage: Stage) -> None:
    failover = replace(FAILOVER, stage=stage)
    assert advance(failover, NOT_YET, POLICY, NOON) is failover


# Stage, planned or not, what came of it, and where it goes then. Patience: 1 s for the fence of an emergency, else 30 s.
GIVING_UP = [
    (Stage.FENCING, FAILOVER, NOT_YET, 1, Stage.PROMOTING),
    (Stage.FENCING, FAILOVER, IMPOSSIBLE, 0, Stage.ABORTED),
    (Stage.FENCING, PLANNED, NOT_YET, 1, Stage.FENCING),
    (Stage.FENCING, PLANNED, NOT_YET, 30, Stage.ABORTED),
    (Stage.FENCING, PLANNED, IMPOSSIBLE, 0, Stage.ABORTED),
    (Stage.PROMOTING, FAILOVER, NOT_YET, 29, Stage.PROMOTING),
    (Stage.PROMOTING, FAILOVER, NOT_YET, 30, Stage.ABORTED),
    (Stage.PROMOTING, FAILOVER, IMPOSSIBLE, 0, Stage.ABORTED),
    (Stage.PROMOTING, PLANNED, NOT_YET, 30, Stage.ABORTED),
    (Stage.REDIRECTING, FAILOVER, NOT_YET, 86_400, Stage.REDIRECTING),
    (Stage.REDIRECTING, PLANNED, NOT_YET, 86_400, Stage.REDIRECTING),
    (Stage.REDIRECTING, FAILOVER, IMPOSSIBLE, 0, Stage.FAILED),
    (Stage.PROPAGATING, FAILOVER, NOT_YET, 30, Stage.FAILED),
    (Stage.VERIFYING, FAILOVER, NOT_YET, 30, Stage.FAILED),
]


@pytest.mark.parametrize(("stage", "failover", "outcome", "waited", "following"), GIVING_UP)
def test_giving_up_is_a_table(
    stage: Stage, failover: Failover, outcome: Outcome, waited: float, following: Stage
) -> None:
    assert moved(failover, stage, outcome, waited).stage is following


def test_whether_the_source_was_fenced_is_kept() -> None:
    assert moved(FAILOVER, Stage.FENCING, SEEN).fence is Fence.REFUSES_WRITES
    assert moved(FAILOVER, Stage.FENCING, NOT_YET, 1).fence is Fence.UNREACHABLE


def test_an_end_says_why_and_when() -> None:
    ended = moved(FAILOVER, Stage.PROMOTING, IMPOSSIBLE, 2)
    assert ended.ended == after(NOON, seconds(2))
    assert ended.reason == "the target was not promoted: it can't be"


def test_phases_are_measured_from_the_first_sight_of_the_fault() -> None:
    assert moved(FAILOVER, Stage.FENCING, SEEN, 1).phases == (Phase("fenced", 5.0),)


def test_the_id_of_the_dns_change_is_kept_to_the_end() -> None:
    redirected = moved(FAILOVER, Stage.REDIRECTING, replace(SEEN, change_id="C1"))
    assert advance(redirected, SEEN, POLICY, NOON).change_id == "C1"


# --- before the step from which there is no way back


@pytest.mark.parametrize(
    ("health", "effect"),
    [
        (Health.DOWN, None),
        (Health.SUSPECT, None),
        (Health.UNKNOWN, Effect.NOT_YET),
        (Health.UP, Effect.IMPOSSIBLE),
    ],
)
def test_nobody_is_promoted_unasked_unless_a_quorum_still_says_that_the_source_is_down(
    health: Health, effect: Effect | None
) -> None:
    against = objection(FAILOVER, health)
    assert (against.effect if against is not None else None) is effect


@pytest.mark.parametrize(
    ("failover", "stage", "objects"),
    [
        (FAILOVER, Stage.FENCING, True),
        (FAILOVER, Stage.PROMOTING, True),
        (FAILOVER, Stage.REDIRECTING, False),
        (ACTIVE_ACTIVE, Stage.REDIRECTING, True),
        (ACTIVE_ACTIVE, Stage.PROPAGATING, False),
    ],
)
def test_a_source_that_is_up_again_is_an_objection_up_to_the_point_of_no_return(
    failover: Failover, stage: Stage, objects: bool
) -> None:
    assert (objection(replace(failover, stage=stage), Health.UP) is not None) is objects


@pytest.mark.parametrize("health", Health)
def test_what_an_operator_ordered_is_not_objected_to(health: Health) -> None:
    assert objection(PLANNED, health) is None


@pytest.mark.parametrize(
    ("stage", "begun", "fence", "owed"),
    [
        (Stage.ABORTED, True, Fence.REFUSES_WRITES, True),
        (Stage.ABORTED, True, Fence.NOT_TRIED, True),  # the answer was lost; the fence may stand
        (Stage.ABORTED, True, Fence.LIFTED, False),
        (Stage.ABORTED, False, Fence.NOT_TRIED, False),  # withdrawn before anything was done
        (Stage.DONE, True, Fence.REFUSES_WRITES, False),
        (Stage.FAILED, True, Fence.REFUSES_WRITES, False),
    ],
)
def test_only_what_was_aborted_gives_its_fence_back(stage: Stage, begun: bool, fence: Fence, owed: bool) -> None:
    assert replace(FAILOVER, stage=stage, begun=begun, fence=fence).owes_unfencing is owed


# --- a toy world


@dataclass
class Toy:
    """A world of four switches. `moves` counts DNS changes. Actions look first, as the real ones do."""

    source_alive: bool = False
    fenced: bool = False
    primary: bool = False
    moved: bool = False
    moves: int = 0

    def act(self, stage: Stage) -> Outcome:
        match stage:
            case Stage.FENCING:
                self.fenced = self.source_alive
                return SEEN if self.fenced else NOT_YET
            case Stage.PROMOTING:
                self.primary = True
            case Stage.REDIRECTING:
                self.moves += not self.moved
                self.moved = True
            case Stage.PROPAGATING | Stage.VERIFYING:
                return SEEN if self.moved and self.primary else NOT_YET
            case _:
                raise AssertionError(f"{stage} has no action")
        return SEEN


def run(toy: Toy, failover: Failover, lost: Callable[[int], str]) -> Failover:
    """Tick to the end, a second a tick. `lost(tick)`: "action", "outcome" (done, but nobody saw) or "" ."""
    now = NOON
    for tick in range(200):
        if failover.stage.ended:
            return failover
        now = after(now, seconds(1))
        if lost(tick) == "action":
            continue
        outcome = toy.act(failover.stage)
        if lost(tick) == "outcome":
            continue
        failover = advance(failover, outcome, POLICY, now)
    return failover


TICKS = range(12)


@pytest.mark.parametrize("kind", ["action", "outcome"])
@pytest.mark.parametrize("which", TICKS)
@pytest.mark.parametrize("failover", [FAILOVER, PLANNED], ids=["emergency", "planned"])
def test_any_one_tick_may_lose_its_action_or_its_outcome_and_the_end_is_the_same(
    failover: Failover, which: int, kind: str
) -> None:
    toy = Toy(source_alive=failover is PLANNED)
    ended = run(toy, failover, lambda tick: kind if tick == which else "")
    assert (ended.stage, toy.primary, toy.moves) == (Stage.DONE, True, 1)


@given(st.lists(st.sampled_from(["", "action", "outcome"]), max_size=25), st.booleans())
def test_whatever_is_lost_for_a_while_it_ends_with_one_dns_change(losses: list[str], source_alive: bool) -> None:
    toy = Toy(source_alive=source_alive)
    ended = run(toy, FAILOVER, lambda tick: losses[tick] if tick < len(losses) else "")
    assert (ended.stage, toy.primary, toy.moves) == (Stage.DONE, True, 1)


@given(st.lists(st.sampled_from([SEEN, NOT_YET, IMPOSSIBLE]), max_size=40), st.sampled_from([FAILOVER, PLANNED]))
def test_stages_only_go_forward_and_after_the_promotion_never_back(outcomes: list[Outcome], failover: Failover) -> None:
    order = [*STEPS, Stage.DONE]
    now = NOON
    for outcome in outcomes:
        if failover.stage.ended:
            break
        now = after(now, seconds(5))
        then = advance(failover, outcome, POLICY, now)
        if then.stage in order:
            assert order.index(then.stage) - order.index(failover.stage) in (0, 1)
        if then.stage is Stage.ABORTED:
            assert failover.stage in (Stage.FENCING, Stage.PROMOTING)
        failover = then
