"""Who a server is to others, and how a cluster forms.

An empty data directory belongs to no cluster: its server neither campaigns nor votes.  The member
whose name sorts first writes the genesis once every member of `initial_cluster` has told it, within
this process's lifetime, that it is as empty and names the same members.  Whoever belongs to a
cluster hands the genesis to the unformed servers that it names, by name and incarnation; so a wiped
disk under an old name is a stranger, and can't vote with amnesia.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Final, NoReturn

import trio
from attrs import evolve

from trioraft._clock import Clock
from trioraft._errors import ProtocolError
from trioraft._limits import MAX_ERROR_CHARACTERS
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._wire.asking import Caller
from trioraft._wire.codec import PROTOCOL_VERSION, Genesis, Hello, Refusal, decode, encode
from trioraft.abc import Connection

_LOG: Final = logging.getLogger("trioraft.server")


class Handshake:
    """What this server says of itself, and what it makes of the others' Hello."""

    def __init__(
        self,
        *,
        me: Hello,
        initial_cluster: Mapping[str, str],
        configuration: Configuration | None,
        form: Callable[[Configuration], Awaitable[None]],
        patience: float,
        clock: Clock,
        random: Random,
    ) -> None:
        """Begin.

        Args:
            me: who this server is; its cluster is ignored.
            initial_cluster: name to address; empty for a server that waits to be taken in.
            configuration: the newest one, or None in an unformed server.
            form: makes the first configuration durable.
            patience: seconds that the other side's Hello may take.
            clock: this server's clock.
            random: draws the id of a new cluster.
        """
        self._me = me
        self._initial = dict(initial_cluster)
        self._form = form
        self._patience = patience
        self._clock = clock
        self._random = random
        self._forming = trio.Lock()
        self._heard: dict[str, Hello] = {}
        self._hellos: dict[str, Hello] = {}
        """The last Hello of each member, by name."""
        self.configuration = configuration
        self.formed = trio.Event()
        """Set once this server belongs to a cluster."""
        if configuration is not None:
            self.formed.set()

    @property
    def missing(self) -> tuple[str, ...]:
        """The initial servers that an unformed server still waits to hear of, sorted."""
        if self.configuration is not None:
            return ()
        return tuple(sorted(self._initial.keys() - self._heard.keys() - {self._me.name}))

    def listens_at(self, address: str) -> None:
        """Say this address from now on."""
        self._me = evolve(self._me, address=address)

    def ignorant_of(self, command: str | None) -> str | None:
        """A member that is known not to understand a command, by its last Hello or the genesis.

        To such a member an entry with the command would be unreadable, and it would have to stop:
        a rolling upgrade must not stop the servers that are not upgraded yet.
        """
        members = () if self.configuration is None else self.configuration.voters
        for member in members:
            hello = self._hello_of(member.id)
            known = member.commands if hello is None else hello.commands
            if member.id != self._me.id and command not in known:
                return member.id.name
        return None

    async def cluster(self) -> Configuration:
        """The cluster's first configuration, once there is a cluster."""
        await self._try_to_form()  # a cluster of this server alone waits for nobody
        if self.configuration is None:
            _LOG.info("%s: no cluster yet; waits for %s", self._me.name, self._awaited())
        await self.formed.wait()
        assert self.configuration is not None
        return self.configuration

    # -- both sides ----------------------------------------------------------------------------

    async def dial(
        self, connection: Connection, name: str, *, installs: bool = False
    ) -> ServerId | None:
        """Introduce this server to the one named, over a stream that it opened.

        Args:
            connection: the stream.
            name: who should be at its other end.
            installs: the stream is to carry a snapshot, and nothing else.

        Returns:
            Who answered, if both belong to the cluster; None if there is nothing to talk about
            yet and the stream is of no more use.

        Raises:
            ProtocolError: one of the two refused the other; it says why.
        """
        with self._in_time() as scope:
            await connection.send(encode(self._hello(name, installs=installs)))
            answer = decode(await connection.receive())
        if scope.cancelled_caught:
            raise ProtocolError(f"{name} did not answer the Hello in time")
        match answer:
            case Refusal(reason):
                raise ProtocolError(f"{name} refused: {reason}")
            case Genesis(configuration):
                await self._take(configuration)
                return None
            case Hello() as hello:
                return await self._dialled(connection, name, hello)
            case other:
                raise ProtocolError(f"expected a Hello, got {type(other).__name__}")

    async def _dialled(self, connection: Connection, name: str, hello: Hello) -> ServerId | None:
        if hello.name != name:
            raise ProtocolError(f"expected {name}, reached {hello.name}")
        objection = self._objection(hello)
        if objection is not None:
            raise ProtocolError(objection)
        self._remember(hello)
        if hello.cluster is not None:
            if self.configuration is None:
                raise ProtocolError(f"{name} belongs to a cluster that does not name this server")
            return hello.id
        if self.configuration is None:
            await self._note(hello)
            await self.formed.wait()
        assert self.configuration is not None
        await connection.send(encode(Genesis(self.configuration)))
        return None

    async def first_word(self, connection: Connection) -> Hello | Caller:
        """Hear who opened a stream to this server: another one, or a client.

        Raises:
            ProtocolError: neither.
        """
        with self._in_time() as scope:
            first = decode(await connection.receive())
        if scope.cancelled_caught:
            raise ProtocolError("no Hello in time")
        if not isinstance(first, Hello | Caller):
            raise ProtocolError(f"expected a Hello, got {type(first).__name__}")
        return first

    async def accept(self, connection: Connection, hello: Hello) -> ServerId | None:
        """Answer a server that opened a stream to this one; returns and raises like `dial`."""
        objection: str | None = f"this is {self._me.name}, not {hello.expected}"
        if hello.expected == self._me.name:
            objection = self._objection(hello)
        if objection is not None:
            await self._refuse(connection, objection)
        self._remember(hello)
        if hello.cluster is None and self.configuration is not None:
            await connection.send(encode(Genesis(self.configuration)))
            return None
        answer = self._hello(None)
        await connection.send(encode(answer))
        if hello.cluster is not None and answer.cluster is not None:
            return hello.id
        if hello.cluster is None:
            await self._note(hello)
        await self._await_genesis(connection, at_once=hello.cluster is not None)
        return None

    async def admit(self, connection: Connection, caller: Caller) -> None:
        """See that a client has come to the right cluster.

        Raises:
            ProtocolError: it has not, and was told so.
        """
        mine = None if self.configuration is None else self.configuration.cluster
        objection = None
        if caller.version != PROTOCOL_VERSION:
            speaks = PROTOCOL_VERSION
            objection = f"a client speaks version {caller.version}, this server version {speaks}"
        elif mine is None:
            objection = f"{self._me.name} belongs to no cluster yet"
        elif caller.cluster not in (None, mine):
            objection = f"{self._me.name} belongs to the cluster {mine}, not {caller.cluster}"
        if objection is not None:
            await self._refuse(connection, objection)

    async def _refuse(self, connection: Connection, objection: str) -> NoReturn:
        # A stranger's own words are in it, and a message that is too long can't be sent.
        objection = objection[:MAX_ERROR_CHARACTERS]
        await connection.send(encode(Refusal(objection)))
        raise ProtocolError(objection)

    async def _await_genesis(self, connection: Connection, *, at_once: bool) -> None:
        """Take the genesis from a server that dialled this one.

        Args:
            connection: the stream to it.
            at_once: it belongs to a cluster, so it has one; else it waits for one as well.
        """
        with self._in_time() as scope:
            if not at_once:
                self._clock.move(scope, math.inf)
            given = decode(await connection.receive())
        if scope.cancelled_caught:
            raise ProtocolError("no Genesis in time")
        if not isinstance(given, Genesis):
            raise ProtocolError(f"expected a Genesis, got {type(given).__name__}")
        await self._take(given.configuration)

    def _in_time(self) -> trio.CancelScope:
        return self._clock.until(self._clock.now() + self._patience)

    def _hello(self, expected: str | None, *, installs: bool = False) -> Hello:
        me = self._me
        return Hello(
            cluster=None if self.configuration is None else self.configuration.cluster,
            name=me.name,
            incarnation=me.incarnation,
            starts=me.starts,
            nonce=me.nonce,
            address=me.address,
            version=me.version,
            commands=me.commands,
            initial=tuple(sorted(self._initial)),
            expected=expected,
            restored=me.restored,
            installs=installs,
        )

    # -- judging -------------------------------------------------------------------------------

    def _remember(self, hello: Hello) -> None:
        """Keep what counts of a Hello; of strangers, who may be many, nothing."""
        members = self._initial if self.configuration is None else self.configuration.names
        if hello.name in members:
            self._hellos[hello.name] = hello

    def _hello_of(self, server: ServerId) -> Hello | None:
        hello = self._hellos.get(server.name)
        return hello if hello is not None and hello.id == server else None

    def _objection(self, hello: Hello) -> str | None:
        """Why this server and that one may not talk: cluster, name, incarnation or version."""
        mine, name = self.configuration, hello.name
        if hello.version != PROTOCOL_VERSION:
            return f"{name} speaks version {hello.version}, this server version {PROTOCOL_VERSION}"
        if name == self._me.name:
            return f"two servers have the name {name}"
        before = self._hello_of(hello.id) or hello
        if hello.starts < before.starts or (
            hello.starts == before.starts and hello.nonce != before.nonce
        ):
            return f"another server runs, or has run, on a copy of the disk of {name}"
        if mine is None:
            return self._objection_unformed(hello)
        if hello.cluster not in (None, mine.cluster):
            return f"{name} belongs to the cluster {hello.cluster}, this server to {mine.cluster}"
        known = mine.named(name)
        if known is None:
            return f"{name} is no member of this cluster, and waits to be taken in"
        if known.id != hello.id:
            # Told to nobody: an incarnation is all that a stranger lacks to pass for a member.
            _LOG.warning("%s: %r comes as %r, not %s", self._me.name, name, hello.id, known.id)
            return (
                f"the cluster knows {name} by another incarnation than {hello.incarnation}: was "
                "its data directory wiped, or is it another's?"
            )
        return None

    def _objection_unformed(self, hello: Hello) -> str | None:
        if hello.cluster is None and set(hello.initial) != self._initial.keys():
            self._heard.pop(hello.name, None)
            theirs, ours = ", ".join(hello.initial), ", ".join(sorted(self._initial))
            return f"{hello.name} names the initial cluster ({theirs}), this server ({ours})"
        if hello.cluster is None and hello.restored != self._me.restored:
            self._heard.pop(hello.name, None)
            return (
                f"{hello.name} starts from {_start_of(hello)}, this server from "
                f"{_start_of(self._me)}: all must be given the same, on empty data directories"
            )
        if hello.cluster is None and hello.name not in self._initial:
            return f"{hello.name} is not in the initial cluster that it names itself"
        return None

    # -- forming -------------------------------------------------------------------------------

    async def _note(self, hello: Hello) -> None:
        """An initial server is there, and as empty as this one."""
        if hello.name not in self._heard:
            self._heard[hello.name] = hello
            _LOG.info("%s: met %s; waits for %s", self._me.name, hello.name, self._awaited())
        self._heard[hello.name] = hello
        await self._try_to_form()

    def _awaited(self) -> str:
        if not self._initial:
            return "a cluster to take it in"
        return ", ".join(self.missing) or f"{min(self._initial)} to write the genesis"

    async def _try_to_form(self) -> None:
        """Write the genesis, if all are there and this server's name sorts first."""
        async with self._forming:
            first = min(self._initial, default=None)
            if self.configuration is not None or self.missing or first != self._me.name:
                return
            members = [self._me, *self._heard.values()]
            voters = tuple(
                Member(hello.id, self._initial[hello.name], hello.commands)
                for hello in sorted(members, key=lambda hello: hello.name)
            )
            cluster = f"{self._random.getrandbits(64):016x}"
            await self._adopt(Configuration(cluster, voters))

    async def _take(self, configuration: Configuration) -> None:
        """Take the genesis that a formed server hands over."""
        async with self._forming:
            if self.configuration is not None:
                return
            if not configuration.voter(self._me.id):
                raise ProtocolError("a genesis that does not name this server's incarnation")
            await self._adopt(configuration)

    async def _adopt(self, configuration: Configuration) -> None:
        await self._form(configuration)  # durable before anything is said of it
        self.configuration = configuration
        self.formed.set()


def _start_of(hello: Hello) -> str:
    return f"the snapshot {hello.restored:.12}" if hello.restored else "nothing"
