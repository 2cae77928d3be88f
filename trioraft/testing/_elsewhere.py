"""A history applied once more, in processes of its own that hash strings in another way.

All servers of a simulation live in one process, so a machine whose results follow the order of a
set of strings would do the same on all of them, and something else on the next machine.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from trioraft._applier import reply_of
from trioraft._commands import Applied, Vocabulary
from trioraft._payloads import command_data
from trioraft._sessions import Code
from trioraft._wire.stamps import stamped_time
from trioraft._wire.strict import pack, unpack
from trioraft.abc import Entry, Kind, StateMachine
from trioraft.testing._bookkeeping import has_effect
from trioraft.testing._operations import Raised, plain
from trioraft.testing._states import state_of

_HASH_SEEDS: Final = ("1", "2", "1")


def differs_elsewhere(
    machine: Callable[[], StateMachine], history: Sequence[Entry], results: Sequence[object]
) -> str | None:
    """Whether a machine comes to other results in other processes, and where.

    Args:
        machine: a class or a function that can be imported; nothing else can be looked at.
        history: the entries that were applied, in order.
        results: what they came to here, in plain form.

    Returns:
        What differs, in words; None if nothing does, or the machine can't be imported there.
    """
    name = getattr(machine, "__qualname__", "<locals>")
    module = getattr(machine, "__module__", "__main__")
    if "<" in name or module == "__main__":
        return None
    commands = [
        (entry, data)
        for entry, result in zip(history, results, strict=True)
        if (data := command_data(entry)) is not None and has_effect(entry, result)
    ]
    entries = [
        [entry.index, entry.term, stamped_time(entry.payload), data, entry.kind is Kind.CALL]
        for entry, data in commands
    ]
    given = pack([list(filter(None, sys.path)), module, name, entries])
    answers = [_ask(given, seed) for seed in _HASH_SEEDS]
    if None in answers:
        return None
    vocabulary = Vocabulary(machine().commands)
    read = [f"entry {entry.index}, {vocabulary.decode(data)}," for entry, data in commands]
    here = [_told(results[e.index - 1], kept=e.kind is Kind.CALL) for e, _ in commands]
    return _first_difference([*read, "what `save` gives at the end"], here, answers)


def _first_difference(
    names: Sequence[str], here: Sequence[str], answers: Sequence[Any]
) -> str | None:
    """The first command that does not come to one thing in all processes, and the likely reason."""
    for number, name in enumerate(names):
        one, other, one_again = (answer[number] for answer in answers)
        if one != one_again:
            why = "it follows the time, chance, an address or the like: the same hash seed, twice"
            return f"{name} comes to {one} in one process, to {one_again} in another; {why}"
        if one != other:
            seeds = f"PYTHONHASHSEED={_HASH_SEEDS[0]}", f"PYTHONHASHSEED={_HASH_SEEDS[1]}"
            why = "it follows the order of a set, or a hash"
            return f"{name} comes to {one} with {seeds[0]}, to {other} with {seeds[1]}: {why}"
        if number < len(here) and one != here[number]:
            why = "something outlives the machine, in a class or a module"
            return f"{name} came to {here[number]} here, to {one} in a process of its own: {why}"
    return None


def _ask(given: bytes, hash_seed: str) -> list[str] | None:
    """What the commands come to in another process, and a fingerprint of the state at the end."""
    answer = subprocess.run(  # noqa: S603  our own module, in our own interpreter
        [sys.executable, "-m", __name__],
        input=given,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=False,
    )
    if answer.returncode:
        return None
    results: list[str] = unpack(answer.stdout)
    return results


def _answer(given: bytes) -> bytes:
    """The other side: apply, and say what everything came to."""
    path, module, name, entries = unpack(given)
    sys.path[:0] = [entry for entry in path if entry not in sys.path]
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    machine = found()
    vocabulary = Vocabulary(machine.commands)
    results = []
    for index, term, time, data, kept in entries:
        command = vocabulary.decode(data)
        value, error = None, None
        try:
            value = command.apply(machine, Applied(index, term, time))
        except Exception as raised:  # noqa: BLE001  a result like any other
            error = raised
        came: object = value if error is None else Raised.of(error)
        if kept:
            came = reply_of(vocabulary, index, term, type(command), value, error)
        results.append(_told(plain(came), kept=kept))
    return pack([*results, hashlib.sha256(state_of(machine)).hexdigest()])


def _told(result: Any, *, kept: bool) -> str:
    """A result in words; one that a session has kept is told like any other."""
    if not kept:
        return _ordered(result)
    value = plain(unpack(result["data"], any_keys=True))
    return _ordered(value if result["code"] == Code.VALUE else Raised(*value))


def _ordered(value: Any) -> str:
    """A plain value in words that follow the order of no dictionary."""
    if isinstance(value, Mapping):
        items = sorted(f"{_ordered(key)}: {_ordered(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_ordered, value))})"
    return repr(value)


if __name__ == "__main__":
    answer_file = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a machine may print
    with answer_file:
        answer_file.write(_answer(sys.stdin.buffer.read()))
