"""The roles, in a host that only takes notes."""
