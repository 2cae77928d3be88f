"""The trace of a server: its lines, and that they replay."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from tests.server.puppets import Puppet, append
from tests.server.test_elections import wreck
from tests.server.worlds import (
    Cluster,
    Say,
    a_cluster,
    a_running_cluster,
    in_virtual_time,
    run_seeded,
)
from trioraft import Config, InternalError
from trioraft._trace import replay

KEYS = {
    "seq",
    "at",
    "node",
    "event",
    "term",
    "role",
    "voted_for",
    "commit",
    "applied",
    "last_index",
    "last_term",
    "snapshot_index",
    "configuration",
    "outgoing",
    "learners",
    "peer",
    "message",
}
EVENTS = {"send", "receive", "role", "append", "cut", "persist", "apply", "snapshot", "restart"}


async def start_traced(cluster: Cluster, directory: Path) -> None:
    for name in cluster.names:
        await cluster.start(name, config=Config(trace=directory / f"{name}.jsonl"))


def strictly(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def lines_of(directory: Path, name: str) -> list[str]:
    return (directory / f"{name}.jsonl").read_text().splitlines()


def test_every_line_has_the_documented_keys_and_is_strict_json(tmp_path: Path) -> None:
    @in_virtual_time
    async def check() -> None:
        async with a_cluster(3) as cluster:
            await start_traced(cluster, tmp_path)
            leader = await cluster.settled()
            for number in range(5):
                await leader.do(Say(f"{number}"))
            await cluster.settled()
            await cluster.crash(*cluster.names)

    check()
    events = set()
    for name in ("n1", "n2", "n3"):
        lines = [strictly(text) for text in lines_of(tmp_path, name)]
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
        assert lines[0]["event"] == "restart"
        assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
        for line in lines:
            assert set(line) == KEYS
            assert line["event"] in EVENTS
            assert line["node"] == name
            assert line["role"] in ("follower", "candidate", "leader")
            assert line["configuration"] == ["n1", "n2", "n3"]
            assert line["outgoing"] == line["learners"] == []
            assert isinstance(line["message"]["type"], str)
            assert re.fullmatch("[a-z_]+", line["message"]["type"])
            events.add(line["event"])
    assert events == EVENTS - {"cut", "snapshot"}


def test_messages_have_the_papers_field_names(tmp_path: Path) -> None:
    @in_virtual_time
    async def check() -> None:
        async with a_cluster(3) as cluster:
            await start_traced(cluster, tmp_path)
            leader = await cluster.settled()
            await leader.do(Say("x"))
            await cluster.settled()
            await cluster.crash(*cluster.names)

    check()
    sent: dict[str, Any] = {}
    for name in ("n1", "n2", "n3"):
        for line in map(strictly, lines_of(tmp_path, name)):
            if line["event"] == "send":
                assert line["peer"] in ("n1", "n2", "n3")
                sent[line["message"]["type"]] = line["message"]
    assert {"term", "last_log_index", "last_log_term"} <= set(sent["request_vote"])
    assert {"term", "vote_granted"} <= set(sent["request_vote_reply"])
    assert {"term", "prev_log_index", "prev_log_term", "leader_commit", "entries"} <= set(
        sent["append_entries"]
    )
    assert {"term", "success", "match_index"} <= set(sent["append_entries_reply"])
    assert "pre_vote" in sent
    assert "pre_vote_reply" in sent


@pytest.mark.parametrize("seed", range(3))
def test_a_trace_replays_to_the_same_states(seed: int, tmp_path: Path) -> None:
    last: dict[str, Any] = {}

    async def main() -> None:
        async with a_cluster(3, seed=seed) as cluster:
            await start_traced(cluster, tmp_path)
            await cluster.settled()
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cluster.chatter, "client", stop)
                cluster.isolate((await cluster.leader()).name)
                await trio.sleep(1)
                cluster.heal()
                await trio.sleep(1)
                stop.set()
            await cluster.settled()
            for server in cluster.up:
                last[server.name] = server._core.node
            await cluster.crash(*cluster.names)

    run_seeded(seed, main)
    for name, node in last.items():
        assert replay(lines_of(tmp_path, name)) == node


def test_a_trace_of_several_lives_replays(tmp_path: Path) -> None:
    async def main() -> None:
        async with a_cluster(5, seed=3) as cluster:
            for name in cluster.names:
                trace = Config(trace=tmp_path / f"{name}.jsonl")
                cluster_start = cluster.start
                await cluster_start(name, config=trace)
            cluster.config = Config()
            make = cluster.make

            def traced(name: str, **changes: Any) -> Any:
                return make(name, **{"config": Config(trace=tmp_path / f"{name}.jsonl")} | changes)

            cluster.make = traced  # type: ignore[method-assign]
            await wreck(cluster, Random(4), turns=15)
            cluster.heal()
            await cluster.start()
            await cluster.settled()
            await cluster.crash(*cluster.names)

    run_seeded(3, main)
    restarts = 0
    for number in range(1, 6):
        lines = lines_of(tmp_path, f"n{number}")
        restarts += sum(json.loads(line)["event"] == "restart" for line in lines)
        replay(lines)
    assert restarts > 5


@pytest.mark.parametrize("what", ["digest", "term", "dropped"])
def test_a_tampered_trace_is_refused_with_the_lines_number(what: str, tmp_path: Path) -> None:
    @in_virtual_time
    async def check() -> None:
        async with a_cluster(1) as cluster:
            await start_traced(cluster, tmp_path)
            await cluster.settled()
            await cluster.say("x")
            await cluster.crash("n1")

    check()
    lines = [json.loads(text) for text in lines_of(tmp_path, "n1")]
    inputs = [place for place, line in enumerate(lines) if line["event"] == "receive"]
    place = inputs[len(inputs) // 2]
    named = lines[place]["seq"]
    if what == "digest":
        lines[place]["message"]["digest"] = "0" * 16
    elif what == "term":
        place = next(i for i in inputs if lines[i]["message"]["type"] == "persisted")
        named = lines[place]["seq"]
        lines[place]["message"]["write"] += 1
    else:
        place = next(i for i in inputs if lines[i]["message"]["type"] == "election_timeout")
        named = lines[next(i for i in inputs if i > place)]["seq"]
        del lines[place]
    with pytest.raises(InternalError, match=f"line {named} "):
        replay(json.dumps(line) for line in lines)


def test_a_server_without_a_trace_writes_none(tmp_path: Path) -> None:
    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(1) as cluster:
            await cluster.say("x")

    check()
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    @in_virtual_time
    async def check() -> None:
        async with a_cluster(1) as cluster:
            await cluster.start("n1", config=Config(trace=tmp_path / "no" / "such" / "place"))
            assert isinstance(await cluster.ended("n1"), FileNotFoundError)

    check()


def test_a_trace_tells_of_cuts(tmp_path: Path) -> None:
    @in_virtual_time
    async def check() -> None:
        async with a_cluster(3) as cluster:
            await start_traced(cluster, tmp_path)
            leader = await cluster.settled()
            cluster.isolate(leader.name)
            with trio.move_on_after(0.05):
                await leader.do(Say("lost"))
            await cluster.until(lambda: len(cluster.leaders) > 1)
            cluster.heal()
            await cluster.say("kept")
            await cluster.settled()
            await cluster.crash(*cluster.names)

    check()
    texts = [text for name in ("n1", "n2", "n3") for text in lines_of(tmp_path, name)]
    cuts = [line for line in map(json.loads, texts) if line["event"] == "cut"]
    assert len(cuts) == 1
    assert cuts[0]["message"]["last_kept"] == 1


def test_a_trace_ends_with_the_event_that_broke_an_invariant_and_replays_it(
    tmp_path: Path,
) -> None:
    @in_virtual_time
    async def check() -> None:
        async with a_running_cluster(3) as cluster:
            await cluster.crash(*cluster.names)
            await cluster.start("n2", config=Config(trace=tmp_path / "n2.jsonl"))
            async with Puppet(cluster, "n1").dial("n2") as line:
                assert (await line.ask(append(30, (0, 0)))).success
            async with Puppet(cluster, "n3").dial("n2") as line:
                await line.send(append(30, (0, 0)))
                assert isinstance(await cluster.ended("n2"), InternalError)

    check()
    lines = lines_of(tmp_path, "n2")
    last = strictly(lines[-1])
    assert (last["event"], last["peer"]) == ("receive", "n3")
    assert last["message"]["digest"] is None
    with pytest.raises(InternalError, match="both lead in term 30"):
        replay(lines)
    replay(lines[:-1])
