"""All bugs that are planted, each one that some implementation had."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug
from tests.planted.disks import DISKS
from tests.planted.elections import ELECTIONS
from tests.planted.membership_lives import MEMBERSHIP_LIVES
from tests.planted.membership_rules import MEMBERSHIP_RULES
from tests.planted.membership_services import MEMBERSHIP_SERVICES
from tests.planted.reads import READS
from tests.planted.replication import REPLICATION
from tests.planted.services import SERVICES
from tests.planted.sessions import SESSIONS
from tests.planted.snapshots import SNAPSHOTS
from tests.planted.snapshots_rules import SNAPSHOT_RULES

BUGS: Final[tuple[Bug, ...]] = (
    *ELECTIONS,
    *REPLICATION,
    *DISKS,
    *SERVICES,
    *READS,
    *SESSIONS,
    *SNAPSHOTS,
    *SNAPSHOT_RULES,
    *MEMBERSHIP_RULES,
    *MEMBERSHIP_SERVICES,
    *MEMBERSHIP_LIVES,
)
