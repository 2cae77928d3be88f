"""How a history is written in a file.

A history is a file of JSON lines, one operation a line:

    {"client": "c1", "called": 0.5, "returned": 0.75, "input": {"put": {"key": "x", "value": 1}},
     "output": null}

`returned` is null, and there is no output, when nobody knows what became of the operation.  What
`apply` raised stands in the place of the output: `"raised": {"type": "ValueError", "message":
"..."}`.  The input is a command's or query's name and its fields, or any plain value.

Bytes are written as `{"base64": "..."}`, infinities and NaN as `{"float": "inf"}`, and a dictionary
that is no JSON object, or would look like one of these three, as `{"dict": [[key, value], ...]}`.
Lists and tuples are one thing, and read back as tuples.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from trioraft._commands import _NAME, Vocabulary, name_of
from trioraft._errors import TrioraftError
from trioraft._wire.strict import MALFORMED, strict_converter
from trioraft.testing._operations import Operation, Raised, plain

_CONVERTER: Final = strict_converter(forbid_extra_keys=True)
_TAGS: Final = frozenset(("base64", "float", "dict"))
_ODD_FLOATS: Final = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_KEYS: Final = frozenset(("client", "called", "returned", "input", "output", "raised"))


class HistoryUnreadable(TrioraftError):
    """A file holds no history.

    Attributes:
        file: the path of the file.
        line: the number of the line that is wrong, from 1.
    """

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}, line {line}: {reason}")
        self.file = file
        self.line = line


def write(path: str | os.PathLike[str], operations: Iterable[Operation]) -> None:
    """Write operations to a file, or nothing if one of them has no form there.

    Raises:
        TypeError: an input or output has no form in the file.
        OSError: the file can't be written.
    """
    lines = [json.dumps(to_json(operation)) + "\n" for operation in operations]
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(lines)


def read(path: str | os.PathLike[str], commands: Sequence[type[Any]]) -> Iterator[Operation]:
    """The operations in a file, in its order.

    Raises:
        HistoryUnreadable: a line is no operation.
        OSError: the file can't be read.
    """
    reader = _Reader(commands)
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                operation = reader.operation(line)
            except MALFORMED as error:
                raise HistoryUnreadable(os.fspath(path), number, _reason(error)) from error
            yield operation


def to_json(operation: Operation) -> dict[str, Any]:
    """An operation as it stands in a file.

    Raises:
        TypeError: its input or output has no form there.
    """
    line: dict[str, Any] = {"client": operation.client, "called": operation.called}
    line["returned"] = None if operation.is_unknown else operation.returned
    line["input"] = input_to_json(operation.input)
    return line if operation.is_unknown else line | output_to_json(operation.output)


def output_to_json(output: Any) -> dict[str, Any]:
    """A plain output as it stands in a file.

    Raises:
        TypeError: it has no form there.
    """
    if isinstance(output, Raised):
        return {"raised": {"type": output.type_name, "message": output.message}}
    return {"output": value_to_json(output)}


def input_to_json(given: Any) -> Any:
    """An input as it stands in a file.

    Raises:
        TypeError: it has no form there.
    """
    name = name_of(given)
    if name is None:
        return value_to_json(plain(given))
    return {name: value_to_json(_CONVERTER.unstructure(given))}


def value_to_json(value: Any) -> Any:
    """A plain value as it stands in a file.

    Raises:
        TypeError: it has no form there.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": repr(value)}
        case bytes():
            return {"base64": base64.b64encode(value).decode()}
        case tuple() | list():
            return [value_to_json(item) for item in value]
        case dict():
            is_object = all(type(key) is str for key in value)
            if is_object and not (len(value) == 1 and _TAGS.intersection(value)):
                return {key: value_to_json(item) for key, item in value.items()}
            pairs = [[value_to_json(key), value_to_json(item)] for key, item in value.items()]
            return {"dict": pairs}
    raise TypeError(f"a history has no form for {type(value).__name__} objects")


class _Reader:
    """Believes nothing that stands in a file."""

    def __init__(self, commands: Sequence[type[Any]]) -> None:
        Vocabulary(commands)  # refuses what is no command, and two of one name
        self._classes = {cls.__dict__[_NAME]: cls for cls in commands}

    def operation(self, line: bytes) -> Operation:
        given = json.loads(line.decode(), object_pairs_hook=_object, parse_constant=_no_such_number)
        if not isinstance(given, dict):
            raise TypeError("expected an object")
        if not given.keys() <= _KEYS:
            raise ValueError(f"unknown keys: {', '.join(sorted(given.keys() - _KEYS))}")
        return Operation(
            _text(given["client"]),
            _time(given["called"]),
            math.inf if given["returned"] is None else _time(given["returned"]),
            self._input(given["input"]),
            _output(given),
        )

    def _input(self, given: Any) -> Any:
        if not self._classes:
            return plain(_value(given))
        if not isinstance(given, dict) or len(given) != 1:
            raise TypeError("the input: expected a command's name and its fields")
        ((name, fields),) = given.items()
        if name not in self._classes:
            raise ValueError(f"the input: the machine has no command {name!r}")
        return _CONVERTER.structure(_value(fields), self._classes[name])


def _output(given: Mapping[str, Any]) -> Any:
    if given["returned"] is None:
        if "output" in given or "raised" in given:
            raise ValueError("an operation that never returned can't have an output")
        return None
    if ("output" in given) == ("raised" in given):
        raise ValueError("an operation that returned has an output, or else raised")
    if "output" in given:
        return _value(given["output"])
    match given["raised"]:
        case {"type": str(type_name), "message": str(message), **more} if not more:
            return Raised(type_name, message)
    raise TypeError("raised: expected a type and a message")


def _value(given: Any) -> Any:
    if isinstance(given, list):
        return [_value(item) for item in given]
    if not isinstance(given, dict):
        return given
    if len(given) == 1 and _TAGS.intersection(given):
        match given:
            case {"base64": str(text)}:
                return base64.b64decode(text, validate=True)
            case {"float": "inf" | "-inf" | "nan" as name}:
                return _ODD_FLOATS[name]
            case {"dict": list(pairs)}:
                return {plain(_value(key)): _value(item) for key, item in pairs}
        raise ValueError(f"{next(iter(given))!r} stands before something else than it should")
    return {key: _value(item) for key, item in given.items()}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return made


def _no_such_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise TypeError(f"the client: expected a text, got {type(given).__name__}")
    return given


def _time(given: Any) -> float:
    if type(given) not in (int, float) or not math.isfinite(given):
        raise TypeError(f"expected a time in seconds, got {given!r:.40}")
    return float(given)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error) or type(error).__name__
