"""What callers get wrong: each is told at once, where it was done, and nothing else suffers."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest

import trioraft
from tests.client.worlds import client_of
from tests.server.worlds import Lines, Room, Say, a_running_cluster, in_virtual_time
from trioraft import Applied, AtLeast, Lease, Linearizable, Token
from trioraft._commands import Announcements, Vocabulary
from trioraft._limits import MAX_NESTING
from trioraft._wire.strict import is_deeper, pack


@trioraft.command("forget")
@attrs.frozen
class Forget:
    def apply(self, room: Any, applied: Applied) -> None:
        room.lines.clear()


@trioraft.query("places")
@attrs.frozen
class Places:
    def answer(self, room: Any) -> dict[int, str]:
        return dict(enumerate(room.lines))


@attrs.frozen
class Came:
    who: str


@attrs.frozen
class Went:
    who: str


@trioraft.command("visit")
@attrs.frozen
class Visit:
    who: str

    def apply(self, room: Any, applied: Applied) -> None:
        applied.announce(Came(self.who))
        applied.announce(Went(self.who))


class House(Room):
    commands = (*Room.commands, Forget, Places, Visit)
    changes: ClassVar = (Came, Went)


@pytest.mark.parametrize("naughty", [Linearizable, Lease, "lease", None, 5], ids=repr)
@in_virtual_time
async def test_what_is_no_consistency_is_a_type_error(naughty: Any) -> None:
    """A class in place of its instance must not be taken for `Anything`."""
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:
        for reader in (client, cluster["n1"], cluster["n2"]):
            with pytest.raises(TypeError, match=r"no consistency: give an instance"):
                await reader.read(Lines(), naughty)
        assert (await client.read(Lines())).value == []


@pytest.mark.parametrize("naughty", ["c/1", None, 5], ids=repr)
@in_virtual_time
async def test_what_is_no_token_is_a_type_error(naughty: Any) -> None:
    async with a_running_cluster(1) as cluster, client_of(cluster) as client:
        with pytest.raises(TypeError, match=r"Token\.parse"):
            AtLeast(naughty)
        if naughty is not None:
            with pytest.raises(TypeError, match=r"Token\.parse"):
                async with client.watch(naughty):
                    raise NotImplementedError


@in_virtual_time
async def test_nothing_and_numbered_maps_are_results_like_others() -> None:
    async with a_running_cluster(3, machine=House) as cluster, client_of(cluster) as client:
        assert await client.do(Say("a")) > 0
        assert (await client.read(Places())).value == {0: "a"}
        pending = client.prepare(Forget())
        assert await pending.do() is None
        assert await client.resume(pending.handle, Forget) is None
        assert (await client.read(Places())).value == {}


@in_virtual_time
async def test_changes_of_equal_fields_are_told_apart_by_their_names() -> None:
    async with a_running_cluster(3, machine=House) as cluster, client_of(cluster) as client:
        start = client.token
        await client.do(Visit("ann"))
        async with client.watch(start, of=Came | Went) as watch:
            found = [(await watch.__anext__()).value for _ in range(2)]
        assert found == [Came("ann"), Went("ann")]
        async with client.watch(start) as watch:
            assert (await watch.__anext__()).value == {"Came": {"who": "ann"}}
        async with client.watch(start, of=Came) as watch:
            assert (await watch.__anext__()).value == Came("ann")
            with pytest.raises(trioraft.ProtocolError, match="`of` names no class"):
                await watch.__anext__()
        with pytest.raises(TypeError, match="must be an attrs class"):
            async with client.watch(of=int):
                raise NotImplementedError


@in_virtual_time
async def test_an_answers_token_is_where_a_watch_goes_on() -> None:
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:
        await client.do(Say("before"))
        answer = await client.read(Lines())
        await client.do(Say("behind"))
        assert answer.token == Token(client.cluster, answer.index)
        assert (await cluster["n1"].read(Lines())).token.cluster == client.cluster
        async with client.watch(answer.token) as watch:
            assert (await watch.__anext__()).value == {"say": {"text": "behind"}}


def test_what_is_announced_is_refused_at_once() -> None:
    """So that a machine which announces first has changed nothing when that raises."""
    taken = Announcements(Vocabulary([Visit]), (Came,))
    applied = Applied(1, 1, 0.0, None, taken)
    applied.announce(Came("ann"))
    for naughty, error in ((Went("ann"), TypeError), (Came("x" * (1 << 20)), ValueError)):
        with pytest.raises(error):
            applied.announce(naughty)
    assert taken.datas == [pack(["Came", {"who": "ann"}])]


@trioraft.command("anything")
@attrs.frozen
class Anything:
    what: Any

    def apply(self, machine: object, applied: trioraft.Applied) -> None: ...


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {"a": inner, "b": 1}])
def test_nesting_is_bounded(make: Any) -> None:
    """What recurses over it in `apply` might reach the end of one server's stack."""
    value: Any = 1
    for _ in range(MAX_NESTING):
        value = make(value)
    assert not is_deeper(value, MAX_NESTING)
    assert is_deeper(make(value), MAX_NESTING)
    deep: Any = {}
    for _ in range(MAX_NESTING):
        deep = {"what": deep}
    with pytest.raises(trioraft.ProtocolError, match="nested deeper"):
        Vocabulary([Anything]).decode(pack(["anything", {"what": deep}]))
    with pytest.raises(trioraft.ProtocolError, match="expected str, got dict"):
        Vocabulary([Say]).decode(pack(["say", {"text": deep}]))


def test_the_class_of_a_machine_is_no_machine() -> None:
    with pytest.raises(TypeError, match="must be an object with `commands`"):
        trioraft.Server("n1", None, trioraft.WebSocketTransport("ws://127.0.0.1:7001"), Room)  # type: ignore[arg-type]


@in_virtual_time
async def test_one_address_is_no_list_of_addresses() -> None:
    with pytest.raises(TypeError, match="give a list"):
        async with trioraft.open_client("ws://127.0.0.1:7001"):
            raise NotImplementedError


@in_virtual_time
async def test_somebody_who_uses_up_a_session_costs_its_owner_nothing_but_a_new_one() -> None:
    """Clients trust each other; still, nobody hangs for ever because one is mistaken."""
    async with a_running_cluster(3) as cluster, client_of(cluster) as client:
        await client.do(Say("a"))
        victim = client._session
        assert victim is not None
        async with client_of(cluster, here="mem://other") as other:
            handle = pack([client.cluster, victim.id, 1 << 62, pack(["say", {"text": "b"}])])
            await other.resume(handle)
        await client.do(Say("c"))
        assert client._session is not victim
        assert (await client.read(Lines())).value == ["a", "b", "c"]
