"""Pure rules: what stages, claims, leases and runs mean. No I/O, no asyncio, no clock."""
