"""Accepting a connection, and being cancelled in the moment in which it comes."""

from __future__ import annotations

import asyncio
import select
import socket

import pytest

from fabrik_node.transport.listening import accepted

BOUND_S = 60.0


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_that_comes_while_its_taker_is_cancelled_is_lost_by_nobody(turns: int) -> None:
    """Whoever listens on has it still, or has got it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        taking = asyncio.create_task(accepted(listening))
        await asyncio.sleep(0)
        with socket.create_connection(listening.getsockname()):
            assert select.select([listening], [], [], BOUND_S)[0]
            for _ in range(turns):
                await asyncio.sleep(0)
            taking.cancel()
            await asyncio.wait({taking})
            sock = listening.accept()[0] if taking.cancelled() else taking.result()[0]
            sock.close()


async def test_connections_come_one_by_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        taking = asyncio.create_task(accepted(listening))
        await asyncio.sleep(0)
        for _ in range(3):
            with socket.create_connection(listening.getsockname()) as caller:
                sock, place = await asyncio.wait_for(taking, BOUND_S)
                with sock:
                    assert (place, sock.getblocking()) == (caller.getsockname(), False)
                taking = asyncio.create_task(accepted(listening))
        taking.cancel()
        await asyncio.wait({taking})
