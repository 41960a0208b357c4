"""The local API: what the command line and other programs of this user on this host talk to (docs/spec/local-api.md)."""

from fabrik_node.api.limits import Limits
from fabrik_node.api.server import LocalApi
from fabrik_node.api.use_cases import UseCases

__all__ = ["Limits", "LocalApi", "UseCases"]
