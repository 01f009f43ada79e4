import pytest

from thermolab.engine import recipe


@pytest.fixture
def two_workers(monkeypatch):
    """A pool of this test's own, gone after it."""
    monkeypatch.setenv("THERMOLAB_WORKERS", "2")
    recipe._stop_workers(recipe._pool())
    yield
    recipe._stop_workers(recipe._pool())
