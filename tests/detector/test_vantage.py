"""Whose rows are scored."""

from detector.core.vantage import Vantages, choose

HOME = "dc-east"
SITE = ("orders", HOME)


def test_the_vantage_at_home_is_chosen_while_it_delivers() -> None:
    assert choose(HOME, {"dc-east": 100, "alpha": 100}, 104, 5) == HOME
    assert choose(HOME, {"dc-east": 98, "alpha": 104}, 104, 5) == "alpha"


def test_without_one_at_home_the_first_by_name_is_chosen() -> None:
    assert choose(HOME, {"west": 104, "south": 103, "alpha": 90}, 104, 5) == "south"
    assert choose(HOME, {}, 104, 5) is None


def test_another_vantage_takes_over_once_home_is_silent_and_home_takes_it_back() -> None:
    vantages = Vantages(None, 5)
    assert vantages.counts(SITE, HOME, 100)
    assert not vantages.counts(SITE, "west", 101)
    assert not vantages.counts(SITE, "west", 105)
    assert vantages.counts(SITE, "west", 106)
    assert vantages.counts(SITE, HOME, 107)
    assert not vantages.counts(SITE, "west", 108)


def test_a_forced_vantage_is_the_only_one_that_counts() -> None:
    vantages = Vantages("west", 5)
    assert not vantages.counts(SITE, HOME, 100)
    assert vantages.counts(SITE, "west", 100)


def test_sites_do_not_share_what_was_heard() -> None:
    vantages = Vantages(None, 5)
    vantages.counts(SITE, HOME, 100)
    assert vantages.counts(("orders", "dc-west"), HOME, 100)
