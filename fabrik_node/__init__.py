"""fabrik-node: one node per host; a signed, self-healing replica of a build-agent pipeline."""

__version__ = "0.1.0"
