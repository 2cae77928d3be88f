"""Those who ask a cluster from outside: a line to one server, and the client above it."""
