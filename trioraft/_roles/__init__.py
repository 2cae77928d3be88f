"""Roles own time: one task per tenure, one cancel scope per wait.  They decide nothing."""

from trioraft._roles.candidate import Candidate as Candidate
from trioraft._roles.follower import Follower as Follower
from trioraft._roles.host import Host as Host
from trioraft._roles.leader import Leader as Leader
