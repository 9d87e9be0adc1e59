"""Fixtures and settings that hold for every test."""

import pytest
from hypothesis import settings

pytest_plugins = ["tests.servers.fixtures"]

# A shared machine is slow at times; slowness has its own tests and is not a property.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")


@pytest.fixture
def anyio_backend() -> str:
    """Run `async def` tests on asyncio, the loop the service runs on."""
    return "asyncio"
