"""Tasks beside the body of a context manager."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from trioraft._transport.conversation import bare_errors


@asynccontextmanager
async def background() -> AsyncGenerator[trio.Nursery]:
    """A nursery for what runs beside the body, and ends with it.

    What the body raises comes out as it is, its own groups included; what a task raises ends the
    body and comes out bare: the nursery is nobody's business.
    """
    raised: BaseException | None = None
    try:
        with bare_errors():
            async with trio.open_nursery() as nursery:
                try:
                    yield nursery
                except BaseException as error:
                    raised = error
                    raise
                finally:
                    nursery.cancel_scope.cancel()
    except BaseException:
        # A cancelled body leaves the word to the task that has ended it.
        if raised is None or isinstance(raised, trio.Cancelled):
            raise
    if raised is not None:
        raise raised
