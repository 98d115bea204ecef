"""What the project's own tests set, a gate leaves alone: it uses all threads, and may need no torch at all."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def _quiet_and_offline():
    """Instead of the one for the project's own tests."""
