"""What a server shows of itself to whoever looks: goraft's properties, and a status."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from trioraft._core import Core
from trioraft._handshake import Handshake
from trioraft._payloads import command_name
from trioraft._rules.node import Leading
from trioraft._status import PeerStatus, Status
from trioraft._trace import state_name
from trioraft._transport.peers import Peers
from trioraft._wire.frames import Entry, parse_entry


class View:
    """Looks, and changes nothing."""

    name: str
    """Its name in the cluster."""
    _began: bool
    _ended: trio.Event
    _core: Core
    _handshake: Handshake | None
    _peers: Peers | None

    def status(self) -> Status:
        """The server's state at a glance."""
        node, configuration = self._core.node, self._core.node.configuration
        return Status(
            name=self.name,
            cluster=configuration.cluster or None,
            state=self.state,
            term=node.term,
            leader=self.leader,
            voted_for=self.voted_for,
            commit_index=node.commit,
            last_applied=self._core.applier.applied,
            last_index=node.log.last_index,
            last_term=node.log.last_term,
            snapshot_index=node.snapshot_index,
            installing=next(iter(self._core.receiver.progress.fractions.values()), None),
            member_count=self.member_count,
            quorum_size=self.quorum_size,
            configuration_index=configuration.index,
            learners=tuple(member.id.name for member in configuration.learners),
            peers=tuple(self.peers.values()),
            missing=() if self._handshake is None else self._handshake.missing,
        )

    @property
    def state(self) -> str:
        """ "stopped", "follower", "candidate" or "leader"; a pre-vote is a candidate's."""
        return state_name(self._core.node) if self.running else "stopped"

    @property
    def running(self) -> bool:
        """Whether `serve` runs."""
        return self._began and not self._ended.is_set()

    @property
    def leader(self) -> str | None:
        """The name of the leader that this server knows."""
        return None if self._core.node.leader is None else self._core.node.leader.name

    @property
    def term(self) -> int:
        """The current term."""
        return self._core.node.term

    @property
    def voted_for(self) -> str | None:
        """Whom this server voted for in the current term."""
        return None if self._core.node.voted_for is None else self._core.node.voted_for.name

    @property
    def commit_index(self) -> int:
        """The last entry known to be committed."""
        return self._core.node.commit

    @property
    def last_applied(self) -> int:
        """The last entry that the machine has seen."""
        return self._core.applier.applied

    @property
    def member_count(self) -> int:
        """How many voters the cluster has; 0 before it has formed."""
        return len(self._core.node.configuration.voters)

    @property
    def quorum_size(self) -> int:
        """How many voters are a majority."""
        return self._core.node.configuration.quorum

    @property
    def peers(self) -> Mapping[str, PeerStatus]:
        """Every other server by its name."""
        role = self._core.node.role
        matches = {}
        if isinstance(role, Leading):
            matches = {progress.peer.name: progress.match_index for progress in role.progress}
        sending = self._core.sender.progress.fractions
        links = {} if self._peers is None else self._peers.links
        return {
            name: PeerStatus(
                name,
                link.address,
                link.peer is not None,
                link.error,
                matches.get(name),
                sending.get(name),
            )
            for name, link in links.items()
        }

    @property
    def log_entries(self) -> tuple[Entry, ...]:
        """The newest entries of the log, those that are in memory; for debugging."""
        return tuple(map(parse_entry, self._core.log.recent.frames))

    @property
    def is_log_empty(self) -> bool:
        """Whether the log holds nothing at all."""
        return self._core.node.log.last_index == 0

    @property
    def last_command_name(self) -> str | None:
        """The name of the last entry's command; None if it is no command, or not in memory."""
        entries = self._core.log.recent.frames[-1:]
        entry = parse_entry(entries[0]) if entries else None
        return None if entry is None else command_name(entry)
