"""What helps to test programs that use trioraft, and storages and transports of one's own."""

from trioraft.testing._disk import Crash as Crash
from trioraft.testing._disk import SimulatedFiles as SimulatedFiles
from trioraft.testing._network import MemoryNetwork as MemoryNetwork
from trioraft.testing._network import MemoryTransport as MemoryTransport
from trioraft.testing._storage_suite import check_storage as check_storage
from trioraft.testing._transport_suite import check_transport as check_transport
