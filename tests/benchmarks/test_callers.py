"""Those who put a load on a cluster, here on one server in the same process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

import trioraft
from trioraft._bench import callers, foreign, node, speaking
from trioraft._bench.cluster import free_ports
from trioraft._bench.foreign import _cut, _frame
from trioraft._bench.loop import KEYS, closed_loop
from trioraft.recipes.kv import Get, KeyValues


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """Of a server that leads."""
    address = f"ws://127.0.0.1:{free_ports(1)[0]}"
    transport = trioraft.WebSocketTransport(address)
    server = trioraft.Server("n1", None, transport, KeyValues(), initial_cluster={"n1": address})
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        while server.state != "leader" or not server.last_applied:
            await trio.sleep(0.01)
        yield address
        nursery.cancel_scope.cancel()


@pytest.fixture
async def orders(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[trio.lowlevel.FdStream]:
    """Goes to where a process is told what to do; it ends when this is closed."""
    ours, theirs = os.pipe()
    for module in (callers, node):
        monkeypatch.setattr(module, "own_stdin", lambda: trio.lowlevel.FdStream(ours))
    async with trio.lowlevel.FdStream(theirs) as stream:
        yield stream


def given(address: str, what: str) -> dict[str, Any]:
    loads = {"in_flight": 3, "seconds": 0.1, "value": 8, "clients": 2, "batch": 3}
    return {"what": what, "addresses": [address], "leader": address, **loads}


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("what", ["put", "linearizable", "lease", "single"])
async def test_a_load(
    what: str,
    address: str,
    orders: trio.lowlevel.FdStream,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with trio.fail_after(10):
        await callers._main(given(address, what))
    started, result = told(capsys)
    assert started == {"started": True}
    assert result["count"] > 0
    assert result["errors"] == 0
    assert 0.1 <= result["seconds"] < 5
    assert 0 < result["p50"] <= result["p99"] <= result["longest"]


async def test_keys_are_there_before_they_are_read(
    address: str, orders: trio.lowlevel.FdStream, capsys: pytest.CaptureFixture[str]
) -> None:
    with trio.fail_after(30):
        await callers._main(given(address, "fill"))
    assert told(capsys) == [{"filled": True}]
    async with trioraft.open_client([address]) as client:
        for key in (KEYS[0], KEYS[-1]):
            assert (await client.read(Get(key))).value is not None


async def test_a_load_that_nobody_knows(address: str, orders: trio.lowlevel.FdStream) -> None:
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True, allow_unwrapped=True):
        await callers._main(given(address, "nonsense"))


async def test_an_error_is_counted_and_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    async def refused(number: int) -> None:
        raise trioraft.Busy("come again")

    result = await closed_loop(refused, 2, 0.1)
    assert result["count"] == 0
    assert 2 <= result["errors"] <= 40
    assert told(capsys) == [{"started": True}]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_frames(size: int) -> None:
    payload = os.urandom(size)
    frame = bytearray(_frame(payload))
    at = len(frame) - size - 4
    assert frame[1] & 0x80
    assert frame[at : at + 4] == bytes(4)
    # A server sends the same without a mask; nothing is taken for a frame that is cut short.
    served = frame[:1] + bytes([frame[1] & 0x7F]) + frame[2:at] + payload
    for end in {0, 1, min(9, len(served) - 1), len(served) - 1}:
        assert _cut(served[:end]) is None
    served += b"next"
    assert _cut(served) == payload
    assert served == b"next"


def test_another_kind_of_frame_is_not_understood() -> None:
    with pytest.raises(RuntimeError, match="0x88"):
        _cut(bytearray(b"\x88\x00"))


async def test_a_server_that_refuses_a_foreign_client() -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(RuntimeError, match="refuses"), flatten_subgroups=True
    ):
        async with trio.open_nursery() as nursery:
            port = await _plain_server(nursery)
            await foreign.load(given(f"ws://127.0.0.1:{port}", "single"))


async def _plain_server(nursery: trio.Nursery) -> int:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\n\r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, refuse, listeners)
    port: int = listeners[0].socket.getsockname()[1]
    return port


# -- orders ----------------------------------------------------------------------------------------


async def test_a_node_takes_orders(
    tmp_path: Path, orders: trio.lowlevel.FdStream, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = {"n1": f"ws://127.0.0.1:{free_ports(1)[0]}"}
    configured = {"name": "n1", "directory": str(tmp_path), "cluster": cluster, "config": {}}
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, orders:
            nursery.start_soon(node._main, configured)
            await trio.sleep(0.6)
            load = {"order": "load", "in_flight": 2, "seconds": 0.1, "value": 8}
            for order in ({"order": "status"}, load):
                await orders.send_all(json.dumps(order).encode() + b"\n")
    listens, status, started, result = told(capsys)
    assert listens == {"listens": cluster["n1"]}
    assert status["leads"]
    assert status["leader"] == "n1"
    assert started == {"started": True}
    assert result["count"] > 0


async def test_a_caller_is_told_to_go_on(
    address: str, orders: trio.lowlevel.FdStream, capsys: pytest.CaptureFixture[str]
) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, orders:
            nursery.start_soon(callers._main, given(address, "failover"))
            await trio.sleep(0.3)
            await orders.send_all(b'{"order": "go"}\n')
            async with trioraft.open_client([address]) as client:
                while (await client.read(Get("failover"))).value.value != "after":
                    await trio.sleep(0.01)
    assert {"started": True} in told(capsys)


async def test_a_process_that_fails_is_told() -> None:
    async with speaking.child([sys.executable, "-c", "print('{}')"]) as process:
        assert await process.hear() == {}
        with pytest.raises(RuntimeError, match="a process has failed"):
            await process.hear()
