"""Which of the servers that are left has the most, and what may be lost with the others."""

from __future__ import annotations

import os
from collections.abc import Sequence

from attrs import frozen

from trioraft._directory import Holding, look_at
from trioraft._errors import ProtocolError, StorageError
from trioraft._rules.ids import ServerId
from trioraft._rules.log import Log
from trioraft._rules.membership import Configuration
from trioraft._snapshots.form import Head, Summary
from trioraft._state import HardState
from trioraft._storage.inspection import is_data_directory
from trioraft._wire.codec import configuration_of


class Unfit(Exception):
    """What was named does not go together."""


@frozen
class Survivor:
    """A server of the old cluster, as its data directory has it."""

    directory: str
    state: HardState
    holding: Holding
    cluster: str
    """The old cluster's id."""
    configuration: Configuration
    """The newest that it knows."""

    @property
    def id(self) -> ServerId:
        """Who it was."""
        return self.state.id

    @property
    def last(self) -> tuple[int, int]:
        """Term and index of its last entry: who has the greatest has the most."""
        recovered = self.holding.log.recovered
        term = recovered.terms[-1][1] if recovered.terms else recovered.base[1]
        return term, recovered.last_index

    @property
    def highest_term(self) -> int:
        """The latest term that it has heard of."""
        return max(self.state.term, self.last[0])

    @property
    def head(self) -> Head | None:
        """That of the snapshot that a start begins with."""
        return _head_of(self.holding)

    @property
    def is_whole(self) -> bool:
        """Whether it has what comes before its log."""
        return self.head is not None or self.holding.log.recovered.base[0] == 0

    @property
    def committed(self) -> tuple[int, int]:
        """Index and term of the last entry that is committed for sure; zeros: it can't be known."""
        base, head = self.holding.log.recovered.base, self.head
        return base if head is None else max(base, (head.index, head.term))


def survivor_of(directory: str) -> Survivor:
    """Look into a data directory that nobody uses.

    Raises:
        Unfit: it is none, or its server never belonged to a cluster.
        StorageError: its log is damaged, or can't be read.
        OSError: it can't be read.
    """
    if not os.path.isdir(directory) or not is_data_directory(directory):
        raise Unfit(f"{directory} is no data directory")
    holding = look_at(directory)
    for flaw in holding.log.flaws:
        raise flaw
    if holding.log.recovered.state is None:
        raise Unfit(f"{directory} is one that no server has got far with")
    # Read once more: a state that can't be is a flaw to who looks, and here an error.
    state = HardState.decode(holding.log.recovered.state)
    if state.genesis is None:
        raise Unfit(f"{directory}: {state.name} belongs to no cluster yet")
    genesis = state.genesis
    return Survivor(directory, state, holding, genesis.cluster, _in_force(genesis, holding))


def _in_force(genesis: Configuration, holding: Holding) -> Configuration:
    """The newest configuration that a server knows, committed or not.

    Raises:
        StorageError: one can't be read.
    """
    found, head = [genesis], _head_of(holding)
    if head is not None and head.configuration is not None:
        found.append(head.configuration)
    try:
        found += map(configuration_of, holding.log.recovered.configurations)
    except ProtocolError as error:
        raise StorageError(str(error)) from error
    return max(found, key=lambda configuration: configuration.index)


def _head_of(holding: Holding) -> Head | None:
    used = holding.used
    return used.read.head if used is not None and isinstance(used.read, Summary) else None


# -- the choice ------------------------------------------------------------------------------------


@frozen
class Choice:
    """Whose log is kept."""

    survivors: Sequence[Survivor]
    winner: Survivor

    @property
    def why(self) -> str:
        """Why it is this one, in words."""
        if len(self.survivors) == 1:
            return "no other is at hand"
        same = [one for one in self.survivors if one.last == self.winner.last]
        term, index = self.winner.last
        has = f"entry {index} of term {term}"
        if len(same) == 1:
            return f"its log ends last, with {has}"
        return f"its log ends with {has}, and no other has more"

    @property
    def term(self) -> int:
        """The new cluster's first: later than any that was seen."""
        return 1 + max(survivor.highest_term for survivor in self.survivors)

    @property
    def committed(self) -> int:
        """The last entry that is committed for sure; 0: it can't be known."""
        return max(survivor.committed[0] for survivor in self.survivors)

    @property
    def has_all(self) -> bool:
        """Whether nothing that was acknowledged can be missing: a majority is here."""
        # One that is expelled has lost what it had promised: what it lacks says nothing.
        here = {survivor.id for survivor in self.survivors if not survivor.state.expelled}
        return self.winner.configuration.is_quorum(here)


def choose(survivors: Sequence[Survivor]) -> Choice:
    """The survivor that has the most.

    Raises:
        Unfit: they are not of one cluster, or not of one history.
        StorageError: it lacks what comes before its log.
    """
    _check_kinship(survivors)
    winner = max(survivors, key=lambda survivor: (*survivor.last, survivor.is_whole))
    if not winner.is_whole:
        raise winner.holding.flaws[-1]
    recovered = winner.holding.log.recovered
    log = Log(recovered.terms, recovered.last_index, *recovered.base)
    for other in survivors:
        index, term = other.committed
        if index > log.base_index and log.term_at(index) != term:
            raise Unfit(
                f"{other.id.name} has a snapshot of entry {index} and term {term}, which the log of"
                f" {winner.id.name} contradicts: one of the two is a copy from long ago, or has "
                "lost what it had promised; leave one out"
            )
    return Choice(survivors, winner)


def _check_kinship(survivors: Sequence[Survivor]) -> None:
    first = survivors[0]
    seen: dict[str, str] = {}
    for survivor in survivors:
        name = survivor.id.name
        if name in seen:
            raise Unfit(f"both {seen[name]} and {survivor.directory} are of {name}")
        seen[name] = survivor.directory
        if survivor.cluster != first.cluster:
            raise Unfit(
                f"{first.directory} is of the cluster {first.cluster}, "
                f"{survivor.directory} of the cluster {survivor.cluster}"
            )
