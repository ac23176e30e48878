"""One named thread behind which a blocking library lives, seen from asyncio."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class WorkerThread:
    """Runs calls one after the other on a thread of its own; the event loop waits without blocking."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `call` on the thread and give what it gives or raises.

        A cancelled caller still waits for the call to end: the thread owns its state, and nothing may be left half done.
        """
        return await self._outcome(self._pool.submit(call, *args, **kwargs), None)

    async def run_or_undo(
        self, call: Callable[[], R], undo: Callable[[], None], interrupt: Callable[[], None] | None = None
    ) -> R:
        """As `run`; when the caller is cancelled after the call began, `undo` runs next: nobody saw what it gave.

        `interrupt` is called first then, on the caller's thread: it may make a call that waits return early.
        """
        return await self._outcome(self._pool.submit(call), undo, interrupt)

    async def _outcome(
        self, future: Future[R], undo: Callable[[], None] | None, interrupt: Callable[[], None] | None = None
    ) -> R:
        waiter = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            if not future.cancel():
                if interrupt is not None:
                    interrupt()
                # Submitted before waiting, so that it runs next whatever becomes of the caller.
                last = waiter if undo is None else asyncio.wrap_future(self._pool.submit(undo))
                await asyncio.wait([waiter, last])
                if not waiter.cancelled():
                    waiter.exception()  # seen; the caller is gone
            raise

    def close(self) -> None:
        """End the thread after the call in progress. Safe twice."""
        self._pool.shutdown(wait=True)
