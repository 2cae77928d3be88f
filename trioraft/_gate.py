"""Who may talk to a server: what it makes of the Hello of another one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from attrs import frozen

from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration
from trioraft._wire.codec import PROTOCOL_VERSION, Hello

_LOG: Final = logging.getLogger("trioraft.server")


@frozen
class Objection:
    """Why a server is not welcome."""

    reason: str
    expels: bool = False
    """It must never take part again under this incarnation."""


class Gate:
    """Lets in whoever belongs here, and remembers what members have said of themselves."""

    def __init__(
        self,
        me: Hello,
        initial: Collection[str],
        known: Callable[[], Sequence[Configuration]],
        waits: Callable[[], bool],
        invited: Callable[[int], None],
    ) -> None:
        """Begin; in an unformed server `known` gives none.  See `Handshake` for the rest."""
        self._me = me
        self._initial = initial
        self._known = known
        self._waits = waits
        self._invited = invited
        self._ignorance = _Ignorance(self._look_for_ignorance)
        """Who does not know which command, by the hellos and the configuration of now."""
        self._judged: Configuration | None = None
        """That configuration."""
        self._hellos: dict[str, Hello] = {}
        """The last Hello of each member, by name."""
        self._banned: set[ServerId] = set()
        """Who has been found to run on an old disk, or on a copy of one."""

    def ban(self, peer: ServerId) -> None:
        """Talk to this incarnation no more."""
        self._banned.add(peer)

    def knows(self, server: ServerId | None) -> bool:
        """Whether that is a member, and its word counts."""
        known = self._known()
        return server is not None and any(one.member(server) is not None for one in known)

    def may_be_taken_in_again(self, hello: Hello) -> bool:
        """Whether somebody of the same cluster asks who is here, and this server was removed.

        It may know nobody of today's members, and has to tell its incarnation to be taken in.  If
        it has not heard that it was removed, it believes who shows newer members, one of them by
        an incarnation that is known here: a member's is told to members alone.
        """
        known = self._known()
        if not known or not hello.probes or hello.cluster != known[-1].cluster:
            return False
        if self._waits():
            return True
        shown = _newer(hello, known[0])
        return (
            shown is not None
            and shown.member(self._me.id) is None
            and any(self.knows(member.id) for member in shown.members)
        )

    def is_banned(self, peer: ServerId) -> bool:
        """Whether it was banned here."""
        return peer in self._banned

    @property
    def ignorance(self) -> Mapping[str | None, str | None]:
        """A member that is known not to understand a command, by its last Hello or the cluster.

        By the command's name; None: all understand it.  Good until something else is done.

        To such a member an entry with the command would be unreadable, and it would have to stop:
        a rolling upgrade must not stop the servers that are not upgraded yet.
        """
        configurations = self._known()
        newest = configurations[-1] if configurations else None
        if newest is not self._judged:
            self._judged = newest
            self._ignorance.clear()
        return self._ignorance

    def _look_for_ignorance(self, command: str | None) -> str | None:
        for member in () if self._judged is None else self._judged.members:
            hello = self.hello_of(member.id)
            known = member.commands if hello is None else hello.commands
            if member.id != self._me.id and command not in known:
                return member.id.name
        return None

    def remember(self, hello: Hello) -> None:
        """Keep what counts of a Hello; of strangers, who may be many, nothing."""
        known = self._known()
        members = known[-1].names if known else self._initial
        if hello.name in members:
            self._hellos[hello.name] = hello
            self._ignorance.clear()

    def newest_hello_of(self, name: str) -> Hello | None:
        """What the member of that name said of itself last, in whichever incarnation."""
        return self._hellos.get(name)

    def hello_of(self, server: ServerId) -> Hello | None:
        """What a member said of itself last, if it has said anything to this server."""
        hello = self._hellos.get(server.name)
        return hello if hello is not None and hello.id == server else None

    def objection(self, hello: Hello) -> Objection | None:
        """Why this server and that one may not talk: cluster, name, incarnation or version."""
        name = hello.name
        if hello.version != PROTOCOL_VERSION:
            return Objection(
                f"{name} speaks version {hello.version}, this server version {PROTOCOL_VERSION}"
            )
        if name == self._me.name:
            return Objection(f"two servers have the name {name}")
        before = self.hello_of(hello.id) or hello
        was_used = hello.starts < before.starts or (
            hello.starts == before.starts and hello.nonce != before.nonce
        )
        if was_used or hello.id in self._banned:
            return Objection(
                f"another server runs, or has run, on a copy of the disk of {name}, or the disk "
                "is an old state of itself",
                expels=True,
            )
        known = self._known()
        return self._among(known, hello) if known else self._among_unformed(hello)

    def _among(self, known: Sequence[Configuration], hello: Hello) -> Objection | None:
        """Only members may talk to members, by this server's configuration or a newer one.

        One from before the newest may be in force yet: whoever it names is heard, or an election
        might never be won (etcd-io/etcd#10998).
        """
        name, shown, cluster = hello.name, _newer(hello, known[0]), known[-1].cluster
        if hello.cluster not in (None, cluster):
            return Objection(
                f"{name} belongs to the cluster {hello.cluster}, this server to {cluster}"
            )
        if shown is not None and shown.member(self._me.id) is not None:
            # It knows the incarnation of this server: it is as good as one of those known here.
            self._invited(shown.index)
            return None
        if any(one.member(hello.id) is not None for one in known):
            return None
        namesake = known[-1].named(name)
        if namesake is None:
            return Objection(f"{name} is no member of this cluster, and waits to be taken in")
        # Told to nobody: an incarnation is all that a stranger lacks to pass for a member.
        _LOG.warning("%s: %r comes as %r, not %r", self._me.name, name, hello.id, namesake.id)
        return Objection(
            f"the cluster knows {name} by another incarnation than {hello.incarnation}: was its "
            "data directory wiped, or is it another's?  add_peer takes it in anew"
        )

    def _among_unformed(self, hello: Hello) -> Objection | None:
        if hello.cluster is not None:
            return None
        if set(hello.initial) != set(self._initial):
            theirs, ours = ", ".join(hello.initial), ", ".join(sorted(self._initial))
            return Objection(
                f"{hello.name} names the initial cluster ({theirs}), this server ({ours})"
            )
        if hello.restored != self._me.restored:
            return Objection(
                f"{hello.name} starts from {_start_of(hello)}, this server from "
                f"{_start_of(self._me)}: all must be given the same, on empty data directories"
            )
        if hello.name not in self._initial:
            return Objection(f"{hello.name} is not in the initial cluster that it names itself")
        return None


class _Ignorance(dict[str | None, str | None]):
    """Looks for what it does not hold yet."""

    def __init__(self, look: Callable[[str | None], str | None]) -> None:
        super().__init__()
        self._look = look

    def __missing__(self, command: str | None) -> str | None:
        found = self[command] = self._look(command)
        return found


def _newer(hello: Hello, committed: Configuration) -> Configuration | None:
    """The configuration by which somebody is a member, if it is newer than the committed one.

    What came after that one here may be cut, whatever its index.
    """
    shown = hello.configuration
    if (
        shown is not None
        and shown.index > committed.index
        and shown.cluster == committed.cluster
        and shown.member(hello.id) is not None
    ):
        return shown
    return None


def _start_of(hello: Hello) -> str:
    return f"the snapshot {hello.restored:.12}" if hello.restored else "nothing"
