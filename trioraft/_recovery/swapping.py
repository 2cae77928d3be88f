"""New data directories take the place of old ones, which stay under another name.

    DIR.after-CLUSTER     the new one, as long as it is being made
    DIR.before-CLUSTER    the old one

All new ones are whole and durable before the first old one is renamed.  So where there is a
DIR.before-CLUSTER, every DIR.after-CLUSTER is whole and only has to get its name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from trioraft._recovery.choosing import Unfit
from trioraft._storage.files import Files
from trioraft._storage.streams import telling


def after(directory: str, cluster: str) -> str:
    """Where the new one is made."""
    return f"{directory}.after-{cluster}"


def before(directory: str, cluster: str) -> str:
    """Where the old one stays."""
    return f"{directory}.before-{cluster}"


def swap(directory: str, cluster: str, files: Files) -> None:
    """Have the new one take its place, or go on with that.

    Raises:
        StorageError: the file system refuses.
    """
    new, parent = after(directory, cluster), os.path.dirname(directory)
    with telling(directory):
        if files.exists(directory):
            files.rename(directory, before(directory, cluster))
            files.sync_directory(parent)
        files.rename(new, directory)
        files.sync_directory(parent)


def interrupted(directories: Sequence[str]) -> str | None:
    """The cluster of a recovery that has renamed some of these directories, and not ended.

    Raises:
        Unfit: one has made new directories, and perhaps got no further.
        OSError: nobody can say what there is.
    """
    left = {one: _left_of(one) for one in directories}
    clusters = sorted({cluster for found in left.values() for cluster in found})
    for cluster in clusters:
        if any(os.path.isdir(before(one, cluster)) for one in directories):
            return cluster
    for directory, found in left.items():
        for cluster in found:
            raise Unfit(
                f"{after(directory, cluster)} is left of a recovery that was interrupted: if other "
                "directories were given then, give them all again, and it will be finished; else "
                "nothing has been changed by it, so remove it and begin anew"
            )
    return None


def unfinished(directories: Sequence[str], cluster: str) -> list[str]:
    """Those of the directories whose new one has not got its name yet."""
    return [one for one in directories if os.path.isdir(after(one, cluster))]


def _left_of(directory: str) -> list[str]:
    parent, name = os.path.split(directory)
    new = re.compile(re.escape(name) + r"\.after-([0-9a-f]{16})")
    return [match[1] for match in map(new.fullmatch, os.listdir(parent)) if match is not None]
