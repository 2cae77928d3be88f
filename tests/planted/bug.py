"""A planted bug: what to change where, who had it, and what is to notice it."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parent.parent.parent
"""The directory that holds the package and its tests."""


@frozen
class Change:
    """One piece of a file's text in place of another."""

    file: str
    """Relative to the package: "_rules/elections.py"."""
    old: str
    """Stands in the file exactly once."""
    new: str

    def applied(self, text: str) -> str:
        """The text with the change made.

        Raises:
            ValueError: what is to be replaced is not there, or not once: the package has moved on.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.file}: this stands there {count} times, not once:\n{self.old}")
        return text.replace(self.old, self.new)


@frozen
class Bug:
    """A bug, as data."""

    name: str
    file: str
    old: str
    new: str
    story: str
    """What is wrong, and who had it where that is known."""
    directed: str | None = None
    """A test that notices it: pytest's name for it.  None: chance alone finds it soon."""
    profile: str = "harsh"
    """Faults under which it shows soonest: one of `profiles.ALL`, tried behind "harsh"."""
    unseen: str = ""
    """Why no simulated run can show it, if none can; only a few seeds are tried then."""
    also: tuple[Change, ...] = ()
    """What else must change, where two places guard against the same bug."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """All that it takes."""
        return (Change(self.file, self.old, self.new), *self.also)

    def plant(self, package: Path) -> None:
        """Make the changes in the package that lies in this directory.

        Raises:
            ValueError: the package has moved on.
        """
        for change in self.changes:
            path = package / change.file
            path.write_text(change.applied(path.read_text()))
