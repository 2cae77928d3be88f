"""The neutral trace: one JSON line per event, for checkers that know nothing of this library.

Every input of the rules is a `receive` line: a message from a peer, or with `peer` null something
local (a time-out, a completed write, a batch of commands).  A recorded trace therefore replays
through `step` to the same states (`replay`), and each line carries a digest to compare.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
import cattrs
import outcome
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from trioraft._errors import InternalError
from trioraft._rules import effects as do
from trioraft._rules import events, messages
from trioraft._rules.effects import Effect
from trioraft._rules.events import Event, Proposed, Received
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Entries
from trioraft._rules.membership import Configuration, Member
from trioraft._rules.messages import Message
from trioraft._rules.node import Campaigning, Following, Leading, Node, Role
from trioraft._rules.step import step
from trioraft._wire.frames import Entry

_ROLES: Final = {Following: "follower", Campaigning: "candidate", Leading: "leader"}


def state_name(node: Node) -> str:
    """The state by goraft's name."""
    return _ROLES[type(node.role)]


class Trace:
    """Writes a server's trace to a file, a line at a time."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115  closed by close()
        self._seq = 0
        self._now = 0.0

    def restart(self, node: Node, now: float) -> None:
        """A server's life begins, with what its disk held."""
        self._now = now
        self._write("restart", node, 0, None, {"type": "restart", "node": _plain(node)})

    def stepped(
        self, before: Node, event: Event, after: Node, effects: Sequence[Effect], applied: int
    ) -> None:
        """The rules have taken an event."""
        self._now = event.now
        peer = event.sender.name if isinstance(event, Received) else None
        given = event.message if isinstance(event, Received) else event
        self._write("receive", after, applied, peer, _message(given) | _digest(after, event))
        if type(before.role) is not type(after.role) or before.term != after.term:
            self._write("role", after, applied, None, {"type": state_name(after)})
        for effect in effects:
            match effect:
                case do.WriteEntries(entries=entries, cuts=cuts):
                    if cuts:
                        cut = {"type": "cut", "last_kept": entries.first - 1}
                        self._write("cut", after, applied, None, cut)
                    self._append(after, applied, entries.first, entries.last)
                case do.Compact(index=index) | do.ReplaceLog(index=index):
                    compact = {"type": _snake_case(type(effect).__name__), "index": index}
                    self._write("snapshot", after, applied, None, compact)
                case do.AppendOwn(first=first, count=count):
                    self._append(after, applied, first, first + count - 1)
                case do.AppendConfiguration(configuration=configuration):
                    self._append(after, applied, configuration.index, configuration.index)
        if isinstance(event, events.Persisted):
            durable = {"type": "persist", "write": event.write, "durable": after.disk.index}
            self._write("persist", after, applied, None, durable)

    def broken(self, node: Node, event: Event, applied: int) -> None:
        """The rules have raised: without this line the trace would end before its point."""
        self._now = event.now
        peer = event.sender.name if isinstance(event, Received) else None
        given = event.message if isinstance(event, Received) else event
        message = _message(given) | _digest(node, event) | {"digest": None}
        self._write("receive", node, applied, peer, message)

    def sent(self, node: Node, to: ServerId, message: Message, applied: int) -> None:
        """A message leaves."""
        self._write("send", node, applied, to.name, _message(message))

    def applied(self, node: Node, entry: Entry, result: outcome.Outcome[Any] | None) -> None:
        """An entry was applied."""
        self._write("apply", node, entry.index, None, {"type": "apply", "index": entry.index})

    def restored(self, node: Node, index: int, term: int) -> None:
        """A snapshot was installed."""
        line = {"type": "install", "index": index, "term": term}
        self._write("snapshot", node, index, None, line)

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _append(self, node: Node, applied: int, first: int, last: int) -> None:
        entries = {"type": "append", "first": first, "last": last}
        self._write("append", node, applied, None, entries)

    def _write(
        self, event: str, node: Node, applied: int, peer: str | None, message: Mapping[str, Any]
    ) -> None:
        self._seq += 1
        line = {
            "seq": self._seq,
            "at": self._now,
            "node": node.me.name,
            "event": event,
            "term": node.term,
            "role": state_name(node),
            "voted_for": None if node.voted_for is None else node.voted_for.name,
            "commit": node.commit,
            "applied": applied,
            "last_index": node.log.last_index,
            "last_term": node.log.last_term,
            "snapshot_index": node.snapshot_index,
            "configuration": _names(node.configuration.voters),
            "outgoing": _names(node.configuration.outgoing),
            "learners": _names(node.configuration.learners),
            "peer": peer,
            "message": message,
        }
        self._file.write(json.dumps(line) + "\n")


def replay(lines: Iterable[str]) -> Node:
    """Take every recorded event again, through the rules of today.

    Returns:
        The last state.

    Raises:
        InternalError: a state comes out other than it was recorded; the line's `seq` is named.
    """
    node: Node | None = None
    for text in lines:
        line = json.loads(text)
        message = line["message"]
        if line["event"] == "restart":
            node = _CONVERTER.structure(message["node"], Node)
        elif line["event"] == "receive":
            assert node is not None, "a trace begins with a restart"
            node, _ = step(node, _event(line["at"], message))
            if _fingerprint(node) != message["digest"]:
                raise InternalError(f"line {line['seq']} replays to another state: {node}")
    assert node is not None, "an empty trace"
    return node


def _event(now: float, message: dict[str, Any]) -> Event:
    if "sender" in message:
        sender = _CONVERTER.structure(message["sender"], ServerId)
        return Received(now, sender, _CONVERTER.structure(message, _BY_TYPE[message["type"]]))
    event: Event = _CONVERTER.structure({**message, "now": now}, _BY_TYPE[message["type"]])
    return event


def _message(given: Any) -> dict[str, Any]:
    fields: dict[str, Any] = _plain(given)
    fields.pop("now", None)
    return {"type": _snake_case(type(given).__name__), **fields}


def _digest(after: Node, event: Event) -> dict[str, Any]:
    sender = {"sender": _plain(event.sender)} if isinstance(event, Received) else {}
    return {**sender, "digest": _fingerprint(after)}


def _fingerprint(node: Node) -> str:
    return hashlib.sha256(repr(_plain(node)).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return _CONVERTER.unstructure(value)


def _names(members: Sequence[Member]) -> list[str]:
    return [member.id.name for member in members]


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


_BY_TYPE: Final[dict[str, Any]] = {
    _snake_case(cls.__name__): cls
    for module in (events, messages)
    for cls in vars(module).values()
    if attrs.has(cls) and cls.__module__ == module.__name__
}


def _make_converter() -> cattrs.Converter:
    """Plain JSON; entries by their indexes and terms, and by what changes the members."""
    converter = make_converter()
    configurations = tuple[Configuration, ...]
    converter.register_unstructure_hook(
        Entries,
        lambda e: [e.first, e.last, list(e.runs), converter.unstructure(e.configurations)],
    )
    converter.register_structure_hook(
        Entries,
        lambda v, _: Entries(
            v[0],
            v[1],
            tuple((first, term) for first, term in v[2]),
            (),
            converter.structure(v[3], configurations),
        ),
    )
    # Whose commands they are is no rule's business, and no trace's.
    omitted = override(omit=True)
    converter.register_unstructure_hook(
        Proposed, make_dict_unstructure_fn(Proposed, converter, batch=omitted)
    )
    converter.register_structure_hook(
        Proposed, make_dict_structure_fn(Proposed, converter, batch=omitted)
    )
    converter.register_unstructure_hook(
        frozenset, lambda votes: sorted(map(converter.unstructure, votes), key=str)
    )
    configure_tagged_union(Role, converter, tag_name="role")
    return converter


_CONVERTER = _make_converter()
