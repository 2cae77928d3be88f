"""`trioraft serve`: a server of a cluster as a process."""

from __future__ import annotations

import argparse
import logging
import signal
from typing import Any, Final, get_args

import trio

from trioraft._cli.common import Unusable, addresses, complain, load
from trioraft._config import Config, Leads
from trioraft._errors import ProtocolError, StorageError
from trioraft._garbage import collect_seldom
from trioraft._limits import DEFAULT_ELECTION_TIMEOUT, DEFAULT_HEARTBEAT_INTERVAL
from trioraft._server import Server
from trioraft._transport.conversation import bare_errors
from trioraft._transport.websocket import WebSocketTransport

MACHINE: Final = "trioraft.recipes.kv:KeyValues"

_SERVE: Final = """\
Run a server of a cluster until it is told to stop by SIGTERM or SIGINT (Ctrl-C).  The same port
answers the other servers, plain HTTP, and the other commands here.
"""
_EXITS: Final = """\
exit status:
  0  it was stopped in good order
  1  it failed, or was told twice to stop; one line says why
  2  the arguments can't be used
"""
_LEVELS: Final = ("debug", "info", "warning", "error")

_log = logging.getLogger("trioraft.serve")


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve",
        help="run a server",
        description=_SERVE,
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("--name", required=True, help="its name in the cluster; it never changes")
    option("--data", required=True, metavar="DIR", help="the data directory")
    option("--listen", required=True, metavar="ADDRESS", help="ws://HOST:PORT, where to listen")
    option(
        "--initial-cluster",
        type=addresses,
        default={},
        metavar="NAME=ADDRESS,...",
        help="the first members, this one included; used once, on an empty data directory, and "
        "the same on all of them",
    )
    option(
        "--restore",
        metavar="FILE",
        help="start a new cluster from what `trioraft snapshot --save` wrote; used once, "
        "on an empty data directory, and the same file on all of --initial-cluster",
    )
    option(
        "--peers",
        type=addresses,
        default={},
        metavar="NAME=ADDRESS,...",
        help="addresses that differ from those the cluster knows",
    )
    option(
        "--machine",
        default=MACHINE,
        metavar="MODULE:CLASS",
        help="the class of the state machine (%(default)s)",
    )
    option(
        "--heartbeat-interval",
        type=float,
        default=DEFAULT_HEARTBEAT_INTERVAL,
        metavar="SECONDS",
        help="between two signs of life of an idle leader (%(default)s)",
    )
    option(
        "--election-timeout",
        type=float,
        default=DEFAULT_ELECTION_TIMEOUT,
        metavar="SECONDS",
        help="without a leader until one is elected; at least three heartbeat intervals, and the "
        "same on every server (%(default)s)",
    )
    leads = "whether it is to lead if others can (%(default)s)"
    option("--leads", choices=get_args(Leads), default="readily", help=leads)
    option("--trace", metavar="FILE", help="append one JSON line for each event of the protocol")
    option("--log-level", choices=_LEVELS, default="info", help="to stderr (%(default)s)")
    parser.set_defaults(run=_serve)


def _serve(given: argparse.Namespace) -> int:
    server = _make(given)
    logging.basicConfig(
        level=given.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    collect_seldom()
    try:
        with bare_errors():
            return trio.run(_until_told, server)
    except (StorageError, ProtocolError, OSError) as error:
        _log.debug("the server failed", exc_info=True)
        complain(f"{type(error).__name__}: {error}")
        return 1


def _make(given: argparse.Namespace) -> Server:
    made = load("--machine", given.machine)
    try:
        machine = made() if isinstance(made, type) else made
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise Unusable(f"--machine: {given.machine} can't be made: {what}") from error
    if not all(hasattr(machine, needed) for needed in ("commands", "save", "recover")):
        raise Unusable(f"--machine: {given.machine} has no commands, save and recover")
    try:
        return Server(
            given.name,
            given.data,
            WebSocketTransport(given.listen),
            machine,
            initial_cluster=given.initial_cluster,
            peers=given.peers,
            restore=given.restore,
            config=Config(
                heartbeat_interval=given.heartbeat_interval,
                election_timeout=given.election_timeout,
                leads=given.leads,
                trace=given.trace,
            ),
        )
    except (ValueError, TypeError) as error:
        raise Unusable(str(error)) from error


async def _until_told(server: Server) -> int:
    """Run the server until a signal says no.  A second one does not wait for good order."""
    with trio.CancelScope() as at_once:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_heed_signals, server, at_once)
            await server.serve(task_status=_Announcement(server))
            nursery.cancel_scope.cancel()
    if at_once.cancel_called:
        complain("told twice to stop: stopped at once")
        return 1
    _log.info("%s has stopped", server.name)
    return 0


async def _heed_signals(server: Server, at_once: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            told = False
            async for number in signals:
                _log.info("%s: %s", server.name, signal.Signals(number).name)
                if told:
                    at_once.cancel()
                told = True
                nursery.start_soon(server.stop)


class _Announcement(trio.TaskStatus[None]):
    def __init__(self, server: Server) -> None:
        self._server = server

    def started(self, value: None = None) -> None:
        _log.info("%s listens at %s", self._server.name, self._server.transport.address)
