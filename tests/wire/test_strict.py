"""The converter that believes nothing, on types that users may give their commands."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from trioraft import ProtocolError
from trioraft._wire.strict import MALFORMED, counting_converter, pack, strict_converter, unpack

CONVERTER = strict_converter(forbid_extra_keys=True)


@attrs.frozen
class Inner:
    number: int = 0


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (list[str], ["a", "b"]),
        (tuple[int, ...], (1, 2)),
        (tuple[int, str], (1, "a")),
        (tuple[()], ()),
        (set[str], {"a"}),
        (frozenset[int], frozenset({1, 2})),
        (dict[str, int], {"a": 1}),
        (list[tuple[int, ...]], [(1,), ()]),
        (list[Inner], [Inner(1)]),
        (dict[str, list[Inner]], {"a": [Inner(2)]}),
        (str | None, None),
        (bytes, b"\xff"),
        (float, -0.5),
        (int, -7),
        (bool, True),
    ],
)
def test_what_is_right_comes_back(cls: Any, value: object) -> None:
    plain = unpack(pack(CONVERTER.unstructure(value, unstructure_as=cls)))
    assert CONVERTER.structure(plain, cls) == value


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (list[str], "ab"),
        (list[str], {"a": 1}),
        (tuple[str, ...], "ab"),
        (tuple[str, str], "ab"),
        (tuple[str, str], ["a"]),
        (tuple[str, str], ["a", "b", "c"]),
        (tuple[()], ["a"]),
        (set[str], "ab"),
        (set[Any], [[]]),
        (frozenset[int], [1, True]),
        (list[int], ["1"]),
        (dict[str, int], {"a": "1"}),
        (dict[str, int], {b"a": 1}),
        (dict[str, int], 5),
        (dict[str, int], [["a", 1]]),
        (list[int], None),
        (list[Inner], [{"number": 1, "more": 2}]),
        (Inner, {"numbr": 1}),
        (Inner, [1]),
        (Inner, None),
        (str | None, 5),
        (int, True),
        (float, 1),
        (bytes, 10**10),
        (bool, "no"),
    ],
)
def test_what_is_wrong_is_refused(cls: Any, value: object) -> None:
    with pytest.raises(MALFORMED):
        CONVERTER.structure(value, cls)


@pytest.mark.parametrize("value", [-1, 2**63, True, 1.0, "1"])
def test_what_counts_is_natural(value: object) -> None:
    with pytest.raises(MALFORMED):
        counting_converter().structure(value, int)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**100, object(), {1, 2}, 1j])
def test_what_has_no_form_is_not_packed(value: object) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        pack(value)


def test_only_one_whole_value_is_unpacked() -> None:
    assert unpack(pack({"a": [1, b"x", None]})) == {"a": [1, b"x", None]}
    for data in (b"", b"\xc1", b"\x01\x02", b"\x92\x01", b"\x81\x01\x02"):
        with pytest.raises(ProtocolError, match=r"no msgpack: \w"):
            unpack(data)
