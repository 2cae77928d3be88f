"""Names and addresses, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping

from trioraft._errors import ProtocolError
from trioraft._rules.membership import Configuration
from trioraft.abc import Transport


def check_names(
    name: str, initial: Mapping[str, str], hints: Mapping[str, str], transport: Transport
) -> None:
    """See that a server's own arguments make sense together.

    Raises:
        ValueError: they don't; it says which name or address is at fault.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"a server's name must be a string that is not empty, not {name!r}")
    for other, address in [*initial.items(), *hints.items()]:
        if not isinstance(other, str) or not other:
            raise ValueError(f"a server's name must be a string that is not empty, not {other!r}")
        if not isinstance(address, str):
            raise ValueError(f"the address of {other} must be a string, not {address!r}")
        try:
            transport.check_address(address)
        except ValueError as error:
            raise ValueError(f"the address of {other}: {error}") from error
    if initial and name not in initial:
        raise ValueError(f"initial_cluster must name this server, {name}: it has {list(initial)}")
    if len(set(initial.values())) < len(initial):
        raise ValueError(f"two servers of initial_cluster have one address: {dict(initial)}")


def check_genesis(configuration: Configuration, transport: Transport) -> None:
    """See that a configuration from elsewhere names members that can be dialled.

    Raises:
        ProtocolError: an address can't be read here.
    """
    for member in configuration.voters:
        try:
            transport.check_address(member.address)
        except ValueError as error:
            raise ProtocolError(f"a genesis with a bad address: {error}") from error
