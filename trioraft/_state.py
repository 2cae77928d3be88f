"""What a server keeps besides its log: who it is, its term and its vote."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from trioraft._config import RELUCTANCE, Config
from trioraft._errors import ProtocolError, StorageError
from trioraft._limits import APPEND_WINDOW
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration
from trioraft._rules.node import Disk, Node, Settings
from trioraft._wire.codec import configuration_of
from trioraft._wire.strict import MALFORMED, counting_converter, pack, unpack
from trioraft.abc import Recovered

_FORMAT: Final = 1


@frozen
class HardState:
    """Written whole whenever a part of it changes."""

    name: str
    incarnation: str
    """Drawn when the directory was first opened."""
    starts: int = 0
    """How often it has been opened."""
    stickiness: float = 0.0
    """Seconds: the longest that this server has said it stands by a leader."""
    genesis: Configuration | None = None
    """The cluster's first configuration; None until it has formed."""
    term: int = 0
    voted_for: ServerId | None = None
    restored: str = ""
    """The digest of the snapshot that the cluster started from; empty: it started from nothing."""
    listens: str = ""
    """Where it listened when it was first started."""
    expelled: str = ""
    """Why this incarnation must never take part again; empty: it may."""
    format: int = _FORMAT

    @property
    def id(self) -> ServerId:
        """Who this server is."""
        return ServerId(self.name, self.incarnation)

    def encode(self) -> bytes:
        """The state as bytes."""
        return pack(_CONVERTER.unstructure(self))

    @classmethod
    def decode(cls, data: bytes) -> HardState:
        """The state that the bytes hold.

        Raises:
            StorageError: another version wrote them, or nothing that makes sense.
        """
        try:
            fields = unpack(data)
            version = fields.get("format") if isinstance(fields, dict) else None
            if version != _FORMAT:
                raise StorageError(
                    f"the data directory is of format {version!r}; this version reads {_FORMAT}"
                )
            return _CONVERTER.structure(fields, cls)
        except (ProtocolError, *MALFORMED) as error:
            raise StorageError(f"the stored state can't be read: {error}") from error


_CONVERTER = counting_converter()


def first_node(state: HardState, recovered: Recovered, config: Config) -> Node:
    """The protocol state with which a server starts: what its disk held, and nothing else.

    Raises:
        StorageError: a configuration in the log can't be read (seed G-04: it is never left out).
    """
    genesis = state.genesis or Configuration("", ())
    try:
        found = [genesis, *map(configuration_of, recovered.configurations)]
    except ProtocolError as error:
        raise StorageError(str(error)) from error
    return Node(
        state.id,
        Settings(
            config.heartbeat_interval,
            config.election_timeout,
            APPEND_WINDOW,
            config.max_clock_drift,
            config.trailing_entries,
            RELUCTANCE[config.leads],
        ),
        found[-1],
        term=state.term,
        voted_for=state.voted_for,
        log=Log(recovered.terms, recovered.last_index, *recovered.base),
        disk=Disk(index=recovered.last_index),
        earlier=tuple(found[:-1]),
    )
