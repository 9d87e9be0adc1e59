"""Fixtures that every test may use."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run `async def` tests on asyncio, the loop the service runs on."""
    return "asyncio"
