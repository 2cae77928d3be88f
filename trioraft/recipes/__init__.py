"""State machines that many programs need, built on the public face of the library alone."""
