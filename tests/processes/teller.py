"""One client as a process of its own: says one thing after the other, and prints what is done."""

from __future__ import annotations

import os
import sys

import trio

import trioraft
from tests.processes.node import Lines, Say


async def main(who: str, addresses: list[str]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell, who, addresses)
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            async for _ in stdin:
                pass
        nursery.cancel_scope.cancel()  # whoever has started this is gone


async def tell(who: str, addresses: list[str]) -> None:
    async with trioraft.open_client(addresses) as client:
        number = 0
        while True:
            text = f"{who} {number}"
            index = await client.do(Say(text))
            print(text, index, flush=True)
            if number % 10 == 0:
                answer = await client.read(Lines())
                assert text in answer.value, f"{text!r} is done, and not to be seen"
                assert answer.index >= index
            number += 1


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2:])
