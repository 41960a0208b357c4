"""The build agent: claims items, runs commands for them in worktrees, keeps their leases, and merges what they made.

It sees the node, git and the arbiter only through :mod:`fabrik_node.ports`. Everything here is about one host: what other
hosts may conclude of it is the node's business. How it stays in control of its processes: docs/decisions/0005-run-supervision.md.

Deliberately absent: containers (what a command hands to another daemon is out of reach), prompts, model calls, and any
rule about which claim wins.
"""
