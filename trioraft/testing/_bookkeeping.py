"""What callers were told of their commands, against what the servers have applied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from trioraft._commands import Vocabulary
from trioraft._payloads import command_data
from trioraft._sessions import Code
from trioraft._wire.frames import Entry, Kind
from trioraft.testing._disks import broken

_APPLIED = (Code.VALUE, Code.RAISED)


class Bookkeeping:
    """Counts commands by their bytes; equal ones are told apart by nobody."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._done: Counter[bytes] = Counter()
        self._unknown: Counter[bytes] = Counter()

    def done(self, command: Any) -> None:
        """A caller has the command's result."""
        self._done[self._data(command)] += 1

    def unknown(self, command: Any) -> None:
        """A caller does not know what became of it."""
        self._unknown[self._data(command)] += 1

    def applied(self, history: Sequence[Entry], results: Sequence[object]) -> list[bytes | None]:
        """By entry, the command that it has the machine apply: a repeated one has it do nothing."""
        return [
            command_data(entry) if has_effect(entry, result) else None
            for entry, result in zip(history, results, strict=True)
        ]

    def check(self, commands: Sequence[bytes]) -> None:
        """What was applied is what was acknowledged, and perhaps some of what nobody knows of.

        Raises:
            PropertyBroken: it is not.
        """
        applied = Counter(commands)
        for data in sorted(applied.keys() | self._done.keys()):
            least, found = self._done[data], applied[data]
            if found < least:
                broken(f"{self._read(data)} was acknowledged {least} times, applied {found} times")
            if found > least + self._unknown[data]:
                broken(
                    f"{self._read(data)} was applied {found} times; {least} were acknowledged, "
                    f"and {self._unknown[data]} are unknown"
                )

    def _data(self, command: Any) -> bytes:
        return self._vocabulary.encode(command)[0]

    def _read(self, data: bytes) -> Any:
        return self._vocabulary.decode(data)


def has_effect(entry: Entry, result: Any) -> bool:
    """Whether an entry has the machine do something: the first of a command that came twice."""
    if entry.kind is not Kind.CALL:
        return True
    return result["code"] in _APPLIED and result["index"] == entry.index
