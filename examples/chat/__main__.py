"""`python -m examples.chat`: open the room; with `--join`, enter it from a terminal."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from . import cluster, terminal
from .node import HOST


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.chat", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep the history here")
    parser.add_argument("--processes", action="store_true", help="each server in its own process")
    parser.add_argument("--nodes", type=int, metavar="N", help="servers (default 3)")
    parser.add_argument(
        "--port", type=int, default=8000, help="first port for pages, or the next free (8000)"
    )
    parser.add_argument(
        "--join", type=address, metavar="HOST:PORT", help="enter a room that is open"
    )
    parser.add_argument("--name", default="somebody", help="your name, with --join")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.nodes not in (None, *range(1, 10)) or not 0 < args.port < 65_536:
        parser.error("--nodes is 1 to 9, --port 1 to 65535")
    return args


def address(text: str) -> tuple[str, int]:
    host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
    return host or HOST, int(port)


async def open_room(args: argparse.Namespace, directory: Path) -> None:
    plan = cluster.draw(directory, args.nodes, args.port)
    run: cluster.Run = cluster.in_a_child if args.processes else cluster.in_this_process
    async with trio.open_nursery() as nursery:
        up = await cluster.Cluster(plan, run, nursery).open()
        first, *others = (f"http://{HOST}:{plan.pages[name]}/" for name in up)
        print(f"chat room: {first}")
        print("\n".join(f"     also: {other}" for other in others))
        print(
            f"  history: {directory}" + ("" if args.data else ", until the end (--data keeps it)")
        )
        print("Ctrl-C closes the room.", flush=True)
        await trio.sleep_forever()


async def until_signalled(job: Callable[[], Awaitable[None]]) -> None:
    """Run the job; SIGINT and SIGTERM end it at once."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            await job()
            nursery.cancel_scope.cancel()


def main() -> None:
    args = arguments()
    status = 0
    try:
        with ExitStack() as stack:
            if args.join:
                host, port = args.join
                job = partial(terminal.join, host, port, args.name)
            elif args.child:
                job = partial(cluster.be_a_child, args.child, args.data)
            else:
                directory = args.data or Path(
                    stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-room-"))
                )
                stack.enter_context(cluster.claimed(directory))
                job = partial(open_room, args, directory)
            trio.run(until_signalled, job)
    except* (cluster.CannotOpenError, OSError) as errors:
        print(f"the room can't be opened: {cluster.reason(errors)}", file=sys.stderr)
        status = 1
    sys.exit(status)


if __name__ == "__main__":
    main()
