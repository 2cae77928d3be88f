"""Who a server is to others, and how a cluster forms.

An empty data directory belongs to no cluster: its server neither campaigns nor votes.  The member
whose name sorts first writes the genesis once every member of `initial_cluster` has told it, within
this process's lifetime, that it is as empty and names the same members.  Whoever belongs to a
cluster hands the genesis to the unformed servers that it names, by name and incarnation; so a wiped
disk under an old name is a stranger, and can't vote with amnesia.  A server that is taken in later
is handed the genesis, too, by a member that shows a configuration with its name and incarnation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Final, NoReturn

import trio
from attrs import evolve

from trioraft._clock import Clock
from trioraft._errors import ProtocolError
from trioraft._gate import Gate, Objection
from trioraft._limits import MAX_ERROR_CHARACTERS
from trioraft._rules.ids import ServerId
from trioraft._rules.membership import Configuration, Member
from trioraft._wire.asking import Caller
from trioraft._wire.codec import PROTOCOL_VERSION, Genesis, Hello, Refusal, decode, encode
from trioraft.abc import Connection

_LOG: Final = logging.getLogger("trioraft.server")


class Refused(ProtocolError):
    """The other server does not want to talk to this one."""


class Handshake:
    """What this server says of itself, and what it makes of the others' Hello."""

    def __init__(
        self,
        *,
        me: Hello,
        initial_cluster: Mapping[str, str],
        genesis: Configuration | None,
        known: Callable[[], Sequence[Configuration]],
        waits: Callable[[], bool],
        form: Callable[[Configuration], Awaitable[None]],
        invited: Callable[[int], None],
        expelled: Callable[[str], None],
        patience: float,
        clock: Clock,
        random: Random,
    ) -> None:
        """Begin.

        Args:
            me: who this server is; its cluster is ignored.
            initial_cluster: name to address; empty for a server that waits to be taken in.
            genesis: the cluster's first configuration, or None in an unformed server.
            known: in a formed server those that may be in force, the newest last.
            waits: whether a formed server is no member, by all that it holds and has heard.
            form: makes the first configuration durable.
            invited: told the index of a configuration that names this server, and is newer than
                any that it has.
            expelled: told why this incarnation must never take part again.
            patience: seconds that the other side's Hello may take.
            clock: this server's clock.
            random: draws the id of a new cluster.
        """
        self._me = me
        self._initial = dict(initial_cluster)
        self._known = known
        self._form = form
        self._invited = invited
        self._expelled = expelled
        self._patience = patience
        self._clock = clock
        self._random = random
        self._forming = trio.Lock()
        self._heard: dict[str, Hello] = {}
        self.gate = Gate(me, self._initial, lambda: known() if self.genesis else (), waits, invited)
        self.genesis = genesis
        self.formed = trio.Event()
        """Set once this server belongs to a cluster."""
        if genesis is not None:
            self.formed.set()

    @property
    def me(self) -> ServerId:
        """Who this server is."""
        return self._me.id

    @property
    def missing(self) -> tuple[str, ...]:
        """The initial servers that an unformed server still waits to hear of, sorted."""
        if self.genesis is not None:
            return ()
        return tuple(sorted(self._initial.keys() - self._heard.keys() - {self._me.name}))

    def listens_at(self, address: str) -> None:
        """Say this address from now on."""
        self._me = evolve(self._me, address=address)

    async def cluster(self) -> None:
        """Return once this server belongs to a cluster."""
        await self._try_to_form()  # a cluster of this server alone waits for nobody
        if self.genesis is None:
            _LOG.info("%s: no cluster yet; waits for %s", self._me.name, self._awaited())
        await self.formed.wait()

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
            case Refusal(reason, expelled_by):
                if self.gate.knows(expelled_by):
                    self._expelled(f"{name} says: {reason}")
                raise Refused(f"{name} refused: {reason}")
            case Genesis():
                await self._take(answer)
                return None
            case Hello() as hello:
                return await self._dialled(connection, name, hello)
            case other:
                raise ProtocolError(f"expected a Hello, got {type(other).__name__}")

    async def _dialled(self, connection: Connection, name: str, hello: Hello) -> ServerId | None:
        if hello.name != name:
            raise ProtocolError(f"expected {name}, reached {hello.name}")
        await self._welcome(connection, hello)
        if hello.cluster is not None:
            if self.genesis is None:
                raise ProtocolError(f"{name} belongs to a cluster that does not name this server")
            return hello.id
        if self.genesis is None:
            await self._note(hello)
            await self.formed.wait()
        await connection.send(encode(self._genesis()))
        return None

    async def probe(self, connection: Connection, name: str) -> Hello:
        """Ask who is at the other end, and nothing else.

        Raises:
            ProtocolError: it is not the one named, or belongs to another cluster; it says which.
        """
        with self._in_time() as scope:
            await connection.send(encode(self._hello(name, probes=True)))
            answer = decode(await connection.receive())
        if scope.cancelled_caught:
            raise ProtocolError(f"{name} did not answer the Hello in time")
        if isinstance(answer, Refusal):
            raise ProtocolError(f"{name} refused: {answer.reason}")
        if not isinstance(answer, Hello):
            raise ProtocolError(f"expected a Hello, got {type(answer).__name__}")
        if answer.name != name:
            raise ProtocolError(f"expected {name}, reached {answer.name}")
        if answer.version != PROTOCOL_VERSION:
            raise ProtocolError(f"{name} speaks version {answer.version}")
        mine = None if self.genesis is None else self.genesis.cluster
        if answer.cluster not in (None, mine):
            raise ProtocolError(f"{name} belongs to the cluster {answer.cluster}, not to {mine}")
        if answer.cluster is None and answer.restored:
            raise ProtocolError(f"{name} starts from a snapshot of its own, and can't be taken in")
        if self.gate.is_banned(answer.id):
            raise ProtocolError(f"{name} has been expelled: it needs an empty data directory")
        return answer

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
        if hello.expected != self._me.name:
            objection = Objection(f"this is {self._me.name}, not {hello.expected}")
            await self.refuse(connection, objection)
        if self.gate.may_be_taken_in_again(hello):
            # Who the others are is not for everybody who knows the cluster's id.
            await connection.send(encode(evolve(self._hello(None), configuration=None)))
            return None
        await self._welcome(connection, hello)
        if hello.cluster is None and self.genesis is not None:
            await connection.send(encode(self._genesis()))
            return None
        answer = self._hello(None)
        await connection.send(encode(answer))
        if hello.probes:
            return None
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
        mine = None if self.genesis is None else self.genesis.cluster
        objection = None
        if caller.version != PROTOCOL_VERSION:
            speaks = PROTOCOL_VERSION
            objection = f"a client speaks version {caller.version}, this server version {speaks}"
        elif mine is None:
            objection = f"{self._me.name} belongs to no cluster yet"
        elif caller.cluster not in (None, mine):
            objection = f"{self._me.name} belongs to the cluster {mine}, not {caller.cluster}"
        if objection is not None:
            await self.refuse(connection, Objection(objection))

    async def _welcome(self, connection: Connection, hello: Hello) -> None:
        """See that both may talk, and remember what the other one said of itself."""
        objection = self.gate.objection(hello)
        if objection is not None:
            self._heard.pop(hello.name, None)
            await self.refuse(connection, objection)
        self.gate.remember(hello)

    async def refuse(self, connection: Connection, objection: Objection) -> NoReturn:
        """Say why not, and raise it."""
        # A stranger's own words are in it, and a message that is too long can't be sent.
        reason = objection.reason[:MAX_ERROR_CHARACTERS]
        expelled_by = self._me.id if objection.expels else None
        await connection.send(encode(Refusal(reason, expelled_by)))
        raise ProtocolError(reason)

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
        if isinstance(given, Refusal):
            raise ProtocolError(f"refused: {given.reason}")
        if not isinstance(given, Genesis):
            raise ProtocolError(f"expected a Genesis, got {type(given).__name__}")
        await self._take(given)

    def _in_time(self) -> trio.CancelScope:
        return self._clock.until(self._clock.now() + self._patience)

    def _hello(
        self, expected: str | None, *, installs: bool = False, probes: bool = False
    ) -> Hello:
        newest = None if self.genesis is None else self._known()[-1]
        return evolve(
            self._me,
            cluster=None if newest is None else newest.cluster,
            initial=tuple(sorted(self._initial)),
            expected=expected,
            installs=installs,
            probes=probes,
            # The genesis every member has.
            configuration=newest if newest is not None and newest.index > 0 else None,
        )

    def _genesis(self) -> Genesis:
        assert self.genesis is not None
        newest = self._known()[-1]
        return Genesis(self.genesis, newest if newest.index > 0 else None)

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
            if self.genesis is not None or self.missing or first != self._me.name:
                return
            members = [self._me, *self._heard.values()]
            voters = tuple(
                Member(hello.id, self._initial[hello.name], hello.commands)
                for hello in sorted(members, key=lambda hello: hello.name)
            )
            cluster = f"{self._random.getrandbits(64):016x}"
            await self._adopt(Configuration(cluster, voters))

    async def _take(self, given: Genesis) -> None:
        """Take the genesis that a formed server hands over."""
        async with self._forming:
            if self.genesis is not None:
                return
            genesis, newest = given.configuration, given.newest
            if (newest or genesis).member(self._me.id) is None:
                raise ProtocolError("a genesis that does not name this server's incarnation")
            if self._me.restored and genesis.member(self._me.id) is None:
                # Its log begins with a state that is not this cluster's.
                raise ProtocolError("this server starts from a snapshot, and can't be taken in")
            await self._adopt(genesis)
            if newest is not None:
                self._invited(newest.index)

    async def _adopt(self, genesis: Configuration) -> None:
        await self._form(genesis)  # durable before anything is said of it
        self.genesis = genesis
        self.formed.set()
