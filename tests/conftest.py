"""Settings of the whole test run: Hypothesis profiles, SIGINT as a terminal gives it, and jitter when it is asked for. Fixtures live beside the tests that need them."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", max_examples=150, deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("night", max_examples=5000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # below a shell that started the tests in its background; processes of the tests would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    if seed := os.environ.get("FABRIK_JITTER"):
        from jitter import Plugin

        config.pluginmanager.register(Plugin(seed), "jitter")
