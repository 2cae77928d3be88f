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
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                raised = error
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseException:  # noqa: ASYNC103  what the body has raised is raised below
        # The body ended well, or was only cancelled: then the task that has ended it has the word.
        if raised is None or _own(raised) is None:
            with bare_errors():
                raise
    if raised is not None and (own := _own(raised)) is not None:
        raise own


def _own(error: BaseException) -> BaseException | None:
    """What a body has raised beside the news that it was cancelled."""
    if isinstance(error, BaseExceptionGroup):
        cancelled, own = error.split(trio.Cancelled)
        return own if cancelled is not None else error
    return None if isinstance(error, trio.Cancelled) else error
