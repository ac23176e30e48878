"""Which site has which slot of the arrays. Slots are given out in order and reused when a site was silent for long."""

from redis_agent.model import Datacenter, InstanceId, SiteId

Pair = tuple[str, str]


class Sites:
    """Slots of at most `room` sites, and when each was last heard (microseconds since 1970)."""

    def __init__(self, room: int) -> None:
        self._slots: dict[Pair, int] = {}
        self._names: list[Pair | None] = []
        self._free: list[int] = []
        self._room = room

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, pair: Pair) -> int | None:
        """The site's slot, or None."""
        return self._slots.get(pair)

    def name(self, slot: int) -> SiteId:
        """Whose slot that is. Raises KeyError for one that nobody has."""
        pair = self._names[slot]
        if pair is None:
            raise KeyError(slot)
        return SiteId(InstanceId(pair[0]), Datacenter(pair[1]))

    def add(self, pair: Pair) -> int | None:
        """A slot for a new site; None when there is no room."""
        if self._free:
            slot = self._free.pop()
        elif len(self._names) < self._room:
            slot = len(self._names)
            self._names.append(None)
        else:
            return None
        self._slots[pair] = slot
        self._names[slot] = pair
        return slot

    def remove(self, slot: int) -> None:
        """Free the slot."""
        pair = self._names[slot]
        if pair is not None:
            del self._slots[pair]
            self._names[slot] = None
            self._free.append(slot)

    def taken(self) -> list[int]:
        """All slots in use."""
        return list(self._slots.values())
