"""Simulated clusters, in which your own state machine is tested; and suites for what you supply.

The fixture `raft_simulation` (a `RaftSimulation`) comes with the package as a pytest plugin.
`simulated_cluster` is for tests that say themselves what happens when.  Everything here runs in
virtual time under `seeded_run`, and most of it under Trio's `MockClock` as well.
"""

from trioraft.testing._clock import SimulatedClock as SimulatedClock
from trioraft.testing._cluster import NotInTime as NotInTime
from trioraft.testing._cluster import SimulatedCluster as SimulatedCluster
from trioraft.testing._cluster import simulated_cluster as simulated_cluster
from trioraft.testing._counterexample import Counterexample as Counterexample
from trioraft.testing._counterexample import Step as Step
from trioraft.testing._disk import Crash as Crash
from trioraft.testing._disk import DiskFault as DiskFault
from trioraft.testing._disk import SimulatedFiles as SimulatedFiles
from trioraft.testing._disks import PropertyBroken as PropertyBroken
from trioraft.testing._fixture import RaftSimulation as RaftSimulation
from trioraft.testing._fixture import SimulationFailed as SimulationFailed
from trioraft.testing._history import History as History
from trioraft.testing._history_file import HistoryUnreadable as HistoryUnreadable
from trioraft.testing._hop import SimulatedHop as SimulatedHop
from trioraft.testing._host import SimulatedHost as SimulatedHost
from trioraft.testing._kinds import FAULTS as FAULTS
from trioraft.testing._linearizability import Verdict as Verdict
from trioraft.testing._linearizability import check as check
from trioraft.testing._model import MachineModel as MachineModel
from trioraft.testing._model import Model as Model
from trioraft.testing._network import MemoryNetwork as MemoryNetwork
from trioraft.testing._network import MemoryTransport as MemoryTransport
from trioraft.testing._operations import Operation as Operation
from trioraft.testing._operations import Raised as Raised
from trioraft.testing._ordering import Start as Start
from trioraft.testing._picture import render_svg as render_svg
from trioraft.testing._plan import CALM as CALM
from trioraft.testing._plan import HARSH as HARSH
from trioraft.testing._plan import Fault as Fault
from trioraft.testing._plan import Profile as Profile
from trioraft.testing._runs import seeded_run as seeded_run
from trioraft.testing._storage_suite import check_storage as check_storage
from trioraft.testing._timeline import render_text as render_text
from trioraft.testing._transport_suite import check_transport as check_transport
from trioraft.testing._websockets import MemoryWebSocketTransport as MemoryWebSocketTransport
