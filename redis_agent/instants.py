"""Moments of the monotonic clock as plain values: what pure cores reckon durations with; reading the clock is `clock`'s."""

from datetime import timedelta
from typing import NewType

Instant = NewType("Instant", timedelta)
"""A moment on the monotonic clock of this machine. Only differences mean anything, and only within one process."""


def after(moment: Instant, span: timedelta) -> Instant:
    """That long after it; a negative span is before it."""
    return Instant(moment + span)
