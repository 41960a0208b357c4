"""The endpoint for monitoring, when the configuration asks for one. Only then is its library imported."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fabrik_node.api.server import LocalApi
from fabrik_node.config import MetricsConfig
from fabrik_node.node.node import Node
from fabrik_node.service.reading import Reader
from fabrik_node.service.service import Service

if TYPE_CHECKING:
    from fabrik_node.metrics.endpoint import Endpoint

__all__ = ["serve_metrics"]

_log = logging.getLogger("fabrik_node")


async def serve_metrics(config: MetricsConfig, node: Node, reader: Reader, api: LocalApi, service: Service) -> Endpoint | None:
    """None when no address is configured. Raises :class:`~fabrik_node.errors.PortInUse`."""
    address = config.address()
    if address is None:
        return None
    from fabrik_node.metrics.endpoint import Endpoint
    from fabrik_node.metrics.figures import Figures

    endpoint = Endpoint(Figures(node, reader, lambda: api.counters), address)
    service.metrics_url = await endpoint.open()
    _log.info("metrics at %s", service.metrics_url, extra={"fields": {"url": service.metrics_url}})
    return endpoint
