"""Figures of a running node for Prometheus. Off unless the configuration names an address.

May use: service, node, ports, prometheus_client, websockets (for HTTP). Deliberately absent: texts of items, keys' secrets, tokens, anything that can be changed.
"""
