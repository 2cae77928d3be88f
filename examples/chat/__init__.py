"""A chat room on three servers that agree, whichever of them you talk to.

Read it in this order: `room` (what the servers agree on), `node` (one server of the room), `web`
and `visitor` (what a browser gets from it), `page.html`, `cluster` (all servers, one process or
several), `terminal` (the room without a browser).
"""
