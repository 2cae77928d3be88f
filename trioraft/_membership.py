"""What the members' coming and going means for one server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from trioraft import _events as say
from trioraft._clock import Bell
from trioraft._rules.evolving import evolve
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.node import Leading, Node

_LOG: Final = logging.getLogger("trioraft.server")


class Membership:
    """Follows the configuration that is in force, and says when this server is out of it."""

    def __init__(self, hub: say.Hub, node: Callable[[], Node], follow: Callable[[], None]) -> None:
        """Begin.

        Args:
            hub: where it tells who comes and goes.
            node: the present protocol state.
            follow: called when streams are to be opened or closed.
        """
        self.removed = Bell()
        """Rung when this server is out; but it may be on its way in again."""
        self.reconfigured = Bell()
        """Rung for a leader, whose followers may be others now."""
        self.invited = 0
        """The newest configuration by which this server is a member, as far as others have said:
        it may have to catch up with the log before it finds itself there."""
        self._hub = hub
        self._node = node
        self._follow = follow
        self._is_member = self._was_member = self._was_out = self._began = False

    def invite(self, index: int) -> None:
        """Somebody has shown a configuration, the one of entry `index`, that names this server."""
        self.invited = max(self.invited, index)

    def begin(self, node: Node) -> None:
        """From here on the rules are at work."""
        self._began = True
        self._is_member = self._was_member = node.configuration.member(node.me) is not None
        for name in sorted(node.configuration.names - {node.me.name}):
            self._hub.emit(say.PeerAdded(name))
        self._follow()

    def stepped(self, before: Node, after: Node) -> None:
        """The rules have taken an event."""
        if after.configuration is not before.configuration:
            self._changed(before.configuration, after)
        elif after.tenure != before.tenure:
            self._follow()  # a leader keeps streams to who leaves, too
        if not self._is_member:
            was_out, self._was_out = self._was_out, self.is_out(after)
            if self._was_out and not was_out:
                _LOG.warning("%s: removed from the cluster", after.me.name)
                self.removed.ring()

    def known(self) -> tuple[Configuration, ...]:
        """The configurations whose members this server listens to, oldest first."""
        return welcome(self._node())

    def waits(self) -> bool:
        """Whether this server is no member, by all that it holds and has heard of.

        What is not committed may be cut: a member that is being removed is one as yet.
        """
        me, known = self._node().me, self.known()
        is_named = any(one.member(me) is not None for one in known)
        return self._began and not is_named and self.invited <= known[0].index

    def is_out(self, node: Node) -> bool:
        """Whether this server was a member, and has been removed for certain."""
        return (
            self._was_member
            and not self._is_member
            and max(node.configuration.index, self.invited) <= node.commit
            and not isinstance(node.role, Leading)
        )

    def _changed(self, old: Configuration, after: Node) -> None:
        new = after.configuration
        self._is_member = new.member(after.me) is not None
        self._was_member |= self._is_member
        self._was_out &= not self._is_member
        for name in sorted(new.names - old.names - {after.me.name}):
            self._hub.emit(say.PeerAdded(name))
        for name in sorted(old.names - new.names):
            self._hub.emit(say.PeerRemoved(name))
        _LOG.info("%s: members %s", after.me.name, described(new))
        self.reconfigured.ring()
        self._follow()


def welcome(node: Node) -> tuple[Configuration, ...]:
    """The configurations whose members a server listens to, oldest first.

    Those that may be in force, and for a leader those of the servers that are leaving, too.
    """
    if not node.earlier:
        return node.configurations
    role = node.role
    if isinstance(role, Leading) and any(progress.leaves_after for progress in role.progress):
        return node.configurations
    return node.possible


def linked(node: Node) -> dict[str, str]:
    """Name and address of everybody that a server keeps a stream to.

    Whoever has been removed, and knows it, disturbs nobody; who is being removed has to learn it.
    """
    newest = node.configuration
    takes_part = any(one.member(node.me) is not None for one in node.possible)
    if not takes_part and not isinstance(node.role, Leading):
        return {}
    found: dict[str, str] = {}
    for one in node.configurations:
        for name in sorted(one.names):
            member = one.named(name)
            if member is not None and (name in newest.names or member.id in node.followers):
                found[name] = member.address
    return found


def described(configuration: Configuration) -> str:
    """A configuration in one line."""
    parts = [f"voters {_names(configuration.voters)}"]
    if configuration.outgoing:
        parts.append(f"outgoing {_names(configuration.outgoing)}")
    if configuration.learners:
        parts.append(f"learners {_names(configuration.learners)}")
    return f"({'; '.join(parts)}) since entry {configuration.index}"


def _names(members: tuple[Member, ...]) -> str:
    return ", ".join(member.id.name for member in members)


def configured(node: Node, base: Configuration | None) -> Node:
    """A state that goes on from a snapshot in which `base` was in force; None: the first one."""
    if base is None:
        return node
    *earlier, present = (base, *(one for one in node.configurations if one.index > base.index))
    return evolve(node, configuration=present, earlier=tuple(earlier))
