"""The server's services, each on its own."""
