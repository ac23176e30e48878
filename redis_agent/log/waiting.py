"""Waiting for what other processes append to the embedded log.

A reader that waits asks SQLite's `data_version` every few milliseconds: one read of shared memory that tells when another
process committed, so a record reaches a waiting reader about one such pause after its commit. Only then is there a query.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from threading import Event

from redis_agent.clock import boot_seconds
from redis_agent.log import Delivered
from redis_agent.log.store import Store

_PAUSE_SECONDS = 0.005


class Waiting:
    """Waits for what others append, and knows since when a reader has stood at the end. `stop` ends a wait early."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stop = Event()
        self._at_end: float | None = None

    def stop(self) -> None:
        """End the wait that is on. From any thread; `resume` on the reader's own before the next."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether somebody ended the wait."""
        return self._stop.is_set()

    def resume(self) -> None:
        """Wait again from now on."""
        self._stop.clear()

    def records(self, fetch: Callable[[], list[Delivered]], limit: int, deadline: float) -> list[Delivered]:
        """Fetch, and while that gives nothing, again after each commit of others, until `deadline` on `boot_seconds`."""
        while True:
            seen, asked_at = self._store.version(), boot_seconds()
            found = fetch()
            if found:
                told = self._unread(found, asked_at)
                if len(found) < limit:
                    self._at_end = asked_at
                return told
            self._at_end = asked_at
            while self._store.version() == seen:
                self._at_end = boot_seconds()
                if self._at_end >= deadline or self._stop.wait(_PAUSE_SECONDS):
                    return []
            if boot_seconds() >= deadline:
                return []

    def _unread(self, found: list[Delivered], asked_at: float) -> list[Delivered]:
        if self._at_end is None:
            return found
        unread = timedelta(seconds=asked_at - self._at_end)
        return [replace(record, unread=unread) for record in found]
