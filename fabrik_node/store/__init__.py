"""The durable state of one node: SQLite behind the ``OpStore`` port, the owner lock of a home, and the exported event stream.

The only room that touches sqlite (besides ``records``, when it comes). Imports ``ports`` and what is below it; never a sibling.
"""
