"""Commands and queries out of JSON: a value has the type that its field says, or it is refused."""

from __future__ import annotations

import base64
from collections import abc, deque
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Final, Literal, Union, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import StructureHandlerNotFoundError
from cattrs.strategies import configure_union_passthrough

from trioraft._commands import Vocabulary
from trioraft._errors import CommandRejected
from trioraft._json import brief, clipped, parse
from trioraft._wire.strict import MALFORMED

_NOUNS: Final = {"apply": "command", "answer": "query"}
_MOST_COMPLAINTS: Final = 3

Verb = Literal["apply", "answer"]


def read_call(vocabulary: Vocabulary, verb: Verb, text: bytes) -> Any:
    """The command (`"apply"`) or query (`"answer"`) that a JSON text holds.

    It is an object with one key, the command's name; under that an object with its fields.

    Raises:
        CommandRejected: it holds none that the machine knows; the message says what is wrong.
    """
    noun = _NOUNS[verb]
    match parse(text):
        case dict() as outer if len(outer) == 1:
            ((name, fields),) = outer.items()
        case _:
            raise CommandRejected(f'no {noun}: expected {{"NAME": {{"FIELD": VALUE, ...}}}}')
    cls = vocabulary.named(name, verb)
    if cls is None:
        raise CommandRejected(f"the machine has no {noun} {name!r:.100}")
    if type(fields) is not dict:
        raise CommandRejected(f"the fields of {name!r} must be an object")
    try:
        return _CONVERTER.structure(fields, cls)
    except (StructureHandlerNotFoundError, *MALFORMED) as error:
        raise CommandRejected(f"a malformed {noun}: {_complaints(name, error)}") from error


def _complaints(name: str, error: Exception) -> str:
    """What is wrong, and where."""
    try:
        found = cattrs.transform_error(error, path=name, format_exception=_complaint)
    except RecursionError:
        return "nested too deep"
    told = [" at ".join(clipped(part) for part in text.rsplit(" @ ", 1)) for text in found]
    more = [f"and {len(told) - _MOST_COMPLAINTS} more"] if len(told) > _MOST_COMPLAINTS else []
    return "; ".join([*told[:_MOST_COMPLAINTS], *more])


def _complaint(error: BaseException, _: Any) -> str:
    match error:
        case KeyError():
            return "this field is missing"
        case cattrs.ForbiddenExtraKeysError(extra_fields=extra):
            return f"there is no field {', '.join(sorted(map(repr, extra))):.100}"
        case StructureHandlerNotFoundError():
            return "this field's type has no form in JSON"
        case RecursionError():
            return "nested too deep"
        case _:
            return brief(error)


def _exactly(wanted: type, value: Any, _: Any) -> Any:
    if type(value) is not wanted:
        raise TypeError(f"expected {_NAMES[wanted]}, got {_NAMES[type(value)]}")
    return value


_NAMES: Final[Mapping[type, str]] = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    type(None): "null",
    list: "an array",
    dict: "an object",
}


def _to_float(value: Any, _: Any) -> float:
    """Few writers of JSON tell 1 from 1.0, and no digit is lost on the way, or it is refused."""
    if type(value) is int:
        number = float(value)
        if int(number) != value:
            raise ValueError(f"{value!r:.40} is no number that a float can hold")
        return number
    checked: float = _exactly(float, value, None)
    return checked


def _to_str(value: Any, _: Any) -> str:
    text: str = _exactly(str, value, None)
    text.encode("utf-8")  # half a surrogate pair is no text
    return text


def _to_bytes(value: Any, _: Any) -> bytes:
    return base64.b64decode(_to_str(value, None), validate=True)


def _to_enum(value: Any, cls: type[Enum]) -> Enum:
    member = cls(value)
    if type(member.value) is not type(value):
        raise ValueError(f"{value!r:.40} is no {cls.__name__}")
    return member


def _to_literal(value: Any, cls: Any) -> Any:
    if (type(value), value) not in [(type(wanted), wanted) for wanted in get_args(cls)]:
        raise ValueError(f"expected one of {get_args(cls)}, got {value!r:.40}")
    return value


def _from_array(cls: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    made, types = _ARRAYS[get_origin(cls) or cls], get_args(cls) or (Any, ...)
    is_record = get_origin(cls) is tuple and types[1:] != (...,)

    def structure(value: Any, _: Any) -> Any:
        _exactly(list, value, None)
        if is_record and len(value) != len(types):
            raise ValueError(f"expected {len(types)} items, got {len(value)}")
        wanted = types if is_record else types[:1] * len(value)
        return made(converter.structure(item, of) for item, of in zip(value, wanted, strict=True))

    return structure


def _from_pairs(cls: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    """An object, or an array of pairs where keys are no strings."""
    key_type, value_type = get_args(cls) or (str, Any)

    def structure(value: Any, _: Any) -> Any:
        pairs = list(_exactly(dict, value, None).items()) if key_type is str or value == {} else []
        if key_type is not str and value != {}:
            pairs = [_exactly(list, pair, None) for pair in _exactly(list, value, None)]
        made = {}
        for pair in pairs:
            if len(pair) != 2:
                raise ValueError(f"expected pairs of a key and a value, got {len(pair)} items")
            made[converter.structure(pair[0], key_type)] = converter.structure(pair[1], value_type)
        if len(made) < len(pairs):
            raise ValueError("a key stands there twice")
        return made

    return structure


def _from_object(cls: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """Only that: an empty array has no keys that are unknown, either."""
    generated = converter.gen_structure_attrs_fromdict(cls)
    return lambda value, _: generated(_exactly(dict, value, None), cls)


_ARRAYS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    list: list,
    abc.MutableSequence: list,
    tuple: tuple,
    abc.Sequence: tuple,
    set: set,
    abc.MutableSet: set,
    frozenset: frozenset,
    abc.Set: frozenset,
    deque: deque,
}
_OBJECTS: Final = (dict, abc.Mapping, abc.MutableMapping)


def _new_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    primitives = Union[str, int, float, bool, None]  # noqa: UP007  # what cattrs takes
    configure_union_passthrough(primitives, converter)
    for primitive in (int, bool):
        converter.register_structure_hook(primitive, partial(_exactly, primitive))
    converter.register_structure_hook(float, _to_float)
    converter.register_structure_hook(str, _to_str)
    converter.register_structure_hook(bytes, _to_bytes)
    converter.register_structure_hook_func(_is_a(Enum), _to_enum)
    converter.register_structure_hook_func(_is_made_of(Literal), _to_literal)
    converter.register_structure_hook_factory(_is_made_of(*_ARRAYS), _from_array)
    converter.register_structure_hook_factory(_is_made_of(*_OBJECTS), _from_pairs)
    converter.register_structure_hook_factory(attrs.has, _from_object)
    return converter


def _is_a(base: type) -> Callable[[Any], bool]:
    return lambda cls: isinstance(cls, type) and issubclass(cls, base)


def _is_made_of(*origins: Any) -> Callable[[Any], bool]:
    return lambda cls: (get_origin(cls) or cls) in origins


_CONVERTER: Final = _new_converter()
