"""The command line. Thin: it reads arguments, asks the node through its socket, and shows the answer.

Imports click and the base modules only; what is heavy (the core, the store, asyncio) comes in through :mod:`~fabrik_node.cli.hooks`.
"""
