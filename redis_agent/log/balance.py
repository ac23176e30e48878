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


def _rooms(held: Mapping[Slot, str], slots: Sequence[Slot], members: Sequence[str]) -> dict[str, int]:
    # The members that hold most get the larger shares, so that nothing moves without need.
    share, larger = divmod(len(slots), len(members))
    counts = {member: sum(1 for slot in slots if held.get(slot) == member) for member in members}
    ranked = sorted(members, key=lambda member: (-counts[member], member))
    return {member: share + (1 if rank < larger else 0) for rank, member in enumerate(ranked)}
