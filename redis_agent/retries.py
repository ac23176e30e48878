"""Trying again what is transient: how long to wait is tenacity's, saying so once however often it fails is ours.

async for attempt in patiently("waiting for the journal", LogUnavailable):
    with attempt:
        await journal.open(log)
"""

import logging
from collections.abc import Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential
from tenacity.stop import stop_base, stop_never

logger = logging.getLogger(__name__)
FIRST_SECONDS = 0.5
LONGEST_SECONDS = 10.0


def patiently(
    doing: str,
    *kinds: type[Exception],
    first_seconds: float = FIRST_SECONDS,
    longest_seconds: float = LONGEST_SECONDS,
    stop: stop_base = stop_never,
) -> AsyncRetrying:
    """Attempts until one isn't ended by an error of `kinds`, with twice the pause after each; `stop` raises the last one."""
    return AsyncRetrying(
        retry=retry_if_exception_type(kinds),
        wait=wait_exponential(multiplier=first_seconds, max=longest_seconds),
        stop=stop,
        before_sleep=said_once(f"{doing}: %s"),
        reraise=True,
    )


class Once:
    """Says something when it differs from what it said before."""

    def __init__(self, say: Callable[[str], None] = logger.warning) -> None:
        self._say = say
        self._said = ""

    def __call__(self, text: str) -> None:
        """Say it, unless it was said last. Empty: what comes next is news whatever it is."""
        if text != self._said:
            self._said = text
            if text:
                self._say(text)


def said_once(text: str, say: Callable[[str], None] = logger.warning) -> Callable[[RetryCallState], None]:
    """For `before_sleep`: says the error, put into `text`, when it is another than before."""
    once = Once(say)

    def tell(state: RetryCallState) -> None:
        once(text % (state.outcome.exception() if state.outcome is not None else ""))

    return tell
