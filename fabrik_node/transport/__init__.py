"""Peers over TLS and WebSocket: the asyncio shell around ``fabrik_sync``, which decides everything but when bytes move.

The only room that imports ``fabrik_sync``, ``websockets`` and ``cryptography``. Plain sockets on loopback only, and only when asked for.
"""
