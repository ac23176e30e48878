"""Which member of a group reads which partition: sticky, even, decided from values alone."""

from collections.abc import Mapping, Sequence

Slot = tuple[str, int]  # topic name, partition


def balance(held: Mapping[Slot, str], slots: Sequence[Slot], members: Sequence[str]) -> dict[Slot, str]:
    """Give every slot to one of `members`, moving as few as an even spread allows.

    Members end with floor or ceiling of slots/members each. Slots held by nobody living go to whoever has least.
    """
    if not members:
        return {}
    room = _rooms(held, slots, sorted(members))
    given: dict[Slot, str] = {}
    for slot in sorted(slots):
        holder = held.get(slot)
        if holder is not None and room.get(holder, 0) > 0:
            given[slot] = holder
            room[holder] -= 1
    for slot in sorted(slots):
        if slot not in given:
            neediest = max(sorted(room), key=lambda member: room[member])
            given[slot] = neediest
            room[neediest] -= 1
    return given


def share(
    held: Mapping[Slot, str], partitions: Mapping[str, int], subscriptions: Mapping[str, frozenset[str]]
) -> dict[Slot, str]:
    """Give every partition of each topic to a member that subscribed to the topic.

    Topics that the same members read are balanced together. Topics that nobody reads are left out.
    """
    together: dict[frozenset[str], list[Slot]] = {}
    for topic, count in partitions.items():
        readers = frozenset(member for member, topics in subscriptions.items() if topic in topics)
        together.setdefault(readers, []).extend((topic, partition) for partition in range(count))
    given: dict[Slot, str] = {}
    for readers, slots in together.items():
        given |= balance(held, slots, sorted(readers))
    return given


def hand_over(held: Mapping[Slot, str], given: Mapping[Slot, str], member: str) -> set[Slot]:
    """What `member` holds after its turn: what it was given and nobody living holds, and it lets go of the rest.

    Partitions move in two turns, the holder's and then the receiver's, so that no two members work on one at a time.
    """
    return {slot for slot, who in given.items() if who == member and held.get(slot, member) == member}


def _rooms(held: Mapping[Slot, str], slots: Sequence[Slot], members: Sequence[str]) -> dict[str, int]:
    # The members that hold most get the larger shares, so that nothing moves without need.
    each, larger = divmod(len(slots), len(members))
    counts = {member: sum(1 for slot in slots if held.get(slot) == member) for member in members}
    ranked = sorted(members, key=lambda member: (-counts[member], member))
    return {member: each + (1 if rank < larger else 0) for rank, member in enumerate(ranked)}
