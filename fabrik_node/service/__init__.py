"""Use cases. The only thing that the command line, the local API and later surfaces call."""
