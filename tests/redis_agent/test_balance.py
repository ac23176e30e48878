"""Which member reads which partition: everything once, evenly, and nothing moves without need."""

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from redis_agent.log.balance import Slot, balance, hand_over, share

MEMBERS = st.lists(st.sampled_from([f"member-{n}" for n in range(7)]), min_size=1, unique=True)
SLOTS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9)), unique=True)


@st.composite
def groups(draw: st.DrawFn) -> tuple[dict[Slot, str], list[Slot], list[str]]:
    """Slots, some of them held by members who may be gone, and the members who live."""
    slots = draw(SLOTS)
    holders = st.one_of(st.none(), st.sampled_from([f"member-{n}" for n in range(7)]))
    held = {slot: holder for slot in slots if (holder := draw(holders)) is not None}
    return held, slots, draw(MEMBERS)


def counts(given_: dict[Slot, str], members: list[str]) -> list[int]:
    """How many each member has."""
    count = Counter(given_.values())
    return [count[member] for member in members]


@given(groups())
def test_every_slot_is_given_once_to_a_living_member(group: tuple[dict[Slot, str], list[Slot], list[str]]) -> None:
    held, slots, members = group
    result = balance(held, slots, members)
    assert sorted(result) == sorted(slots)
    assert set(result.values()) <= set(members)


@given(groups())
def test_members_differ_by_one_at_most(group: tuple[dict[Slot, str], list[Slot], list[str]]) -> None:
    held, slots, members = group
    shares = counts(balance(held, slots, members), members)
    assert max(shares) - min(shares) <= 1


@given(groups())
def test_no_more_slots_stay_in_place_under_any_other_even_spread(
    group: tuple[dict[Slot, str], list[Slot], list[str]],
) -> None:
    held, slots, members = group
    result = balance(held, slots, members)
    stayed = sum(1 for slot, holder in held.items() if result[slot] == holder)
    share_, larger = divmod(len(slots), len(members))
    had = sorted(counts(held, members), reverse=True)
    assert stayed == sum(min(count, share_ + (rank < larger)) for rank, count in enumerate(had))


@given(groups())
def test_a_balanced_group_is_left_alone(group: tuple[dict[Slot, str], list[Slot], list[str]]) -> None:
    held, slots, members = group
    result = balance(held, slots, members)
    assert balance(result, slots, list(reversed(members))) == result


def test_a_group_without_members_is_given_nothing() -> None:
    assert balance({("a", 0): "gone"}, [("a", 0)], []) == {}


@settings(deadline=None)
@given(groups(), st.randoms(use_true_random=False))
def test_turn_by_turn_members_reach_an_even_spread_and_never_hold_a_slot_together(
    group: tuple[dict[Slot, str], list[Slot], list[str]], chance: Random
) -> None:
    held, slots, members = group
    held = {slot: who for slot, who in held.items() if who in members}
    for _ in range(4):
        for member in chance.sample(members, len(members)):
            mine = hand_over(held, balance(held, slots, members), member)
            assert all(held.get(slot, member) == member for slot in mine)
            held = {slot: who for slot, who in held.items() if who != member} | dict.fromkeys(mine, member)
    for member in members:
        assert hand_over(held, balance(held, slots, members), member) == {s for s, who in held.items() if who == member}
    assert sorted(held) == sorted(slots)


@given(st.dictionaries(st.sampled_from("xyz"), st.frozensets(st.sampled_from("abcd"))))
def test_topics_are_shared_among_those_who_subscribed(subscriptions: dict[str, frozenset[str]]) -> None:
    partitions = {"a": 3, "b": 4, "c": 5, "d": 1}
    result = share({}, partitions, subscriptions)
    assert all(topic in subscriptions[member] for (topic, _), member in result.items())
    wanted = {topic for topics in subscriptions.values() for topic in topics}
    assert sorted(result) == sorted((topic, n) for topic in wanted for n in range(partitions[topic]))
