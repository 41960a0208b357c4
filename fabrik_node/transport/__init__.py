"""Peers over WebSocket: the asyncio shell around ``fabrik_sync``, which decides everything but when bytes move.

The only room that imports ``fabrik_sync`` and ``websockets``. Plain sockets, and so loopback only, in this version.
"""
