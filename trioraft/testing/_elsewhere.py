"""A history applied once more, in processes that hash strings in another way.

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

from trioraft._commands import Applied, Vocabulary, stamped_data, stamped_time
from trioraft._wire.strict import pack, unpack
from trioraft.abc import Entry, Kind, StateMachine
from trioraft.testing._operations import Raised, plain

_HASH_SEEDS: Final = ("1", "2")


def differs_elsewhere(machine: Callable[[], StateMachine], history: Sequence[Entry]) -> str | None:
    """Whether a machine comes to other results where strings have other hashes, and where.

    Args:
        machine: a class or a function that can be imported; nothing else can be looked at.
        history: the entries that were applied, in order.

    Returns:
        What differs, in words; None if nothing does, or the machine can't be imported.
    """
    name = getattr(machine, "__qualname__", "<locals>")
    module = getattr(machine, "__module__", "__main__")
    if "<" in name or module == "__main__":
        return None
    entries = [
        [entry.index, entry.term, stamped_time(entry.payload), stamped_data(entry.payload)]
        for entry in history
        if entry.kind is Kind.COMMAND
    ]
    given = pack([list(filter(None, sys.path)), module, name, entries])
    one, other = (_ask(given, seed) for seed in _HASH_SEEDS)
    if one is None or other is None:
        return None
    for (index, *_), mine, theirs in zip(entries, one, other, strict=False):
        if mine != theirs:
            return (
                f"entry {index} comes to {mine} where PYTHONHASHSEED is {_HASH_SEEDS[0]}, and to "
                f"{theirs} where it is {_HASH_SEEDS[1]}: its apply follows the order of a set"
            )
    if one[-1] != other[-1]:
        return (
            "what `save` gives depends on PYTHONHASHSEED, though all commands came to the same: "
            "the state follows the order of a set"
        )
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
    for index, term, time, data in entries:
        try:
            result = vocabulary.decode(data).apply(machine, Applied(index, term, time))
        except Exception as error:  # noqa: BLE001  a result like any other
            result = Raised.of(error)
        results.append(_ordered(plain(result)))
    return pack([*results, hashlib.sha256(machine.save()).hexdigest()])


def _ordered(value: Any) -> str:
    """A plain value in words that follow the order of no dictionary."""
    if isinstance(value, Mapping):
        items = sorted(f"{_ordered(key)}: {_ordered(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_ordered, value))})"
    return repr(value)


if __name__ == "__main__":
    sys.stdout.buffer.write(_answer(sys.stdin.buffer.read()))
