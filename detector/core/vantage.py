"""A site is often seen by several vantages; one of them is scored.

The one in the site's own datacenter while it delivers, else the alphabetically first that delivered lately.
"""

from collections.abc import Mapping


def choose(home: str, heard: Mapping[str, int], now: int, fresh: int) -> str | None:
    """The vantage to score, of those `heard` (their last instants) within `fresh` before `now`; None when none was.

    Instants in microseconds since 1970. A vantage is at home where it has the datacenter's name.
    """
    lately = [vantage for vantage, at in heard.items() if now - at <= fresh]
    if home in lately:
        return home
    return min(lately, default=None)


class Vantages:
    """Who was heard of each site. `forced` is the only one that counts, where given."""

    def __init__(self, forced: str | None, fresh: int) -> None:
        self._forced = forced
        self._fresh = fresh
        self._heard: dict[tuple[str, str], dict[str, int]] = {}

    def counts(self, site: tuple[str, str], vantage: str, at: int) -> bool:
        """Note a row of that vantage, and say whether it is the one to score."""
        if self._forced is not None:
            return vantage == self._forced
        heard = self._heard.get(site)
        if heard is None:
            heard = self._heard[site] = {}
        heard[vantage] = max(at, heard.get(vantage, 0))
        return vantage == site[1] or choose(site[1], heard, at, self._fresh) == vantage

    def forget(self, site: tuple[str, str]) -> None:
        """Nobody was heard of that site."""
        self._heard.pop(site, None)
