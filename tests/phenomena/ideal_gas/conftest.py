import pytest
from phenomena.ideal_gas import made_up

from thermolab.phenomena.ideal_gas import reference


@pytest.fixture
def found():
    """All datasets of the notebook, made up so that each claim comes out as registered."""
    return made_up.everything()


@pytest.fixture(scope="session")
def small_reference():
    rates = (1e-4, 1e-3, 0.01, 0.02, 0.05, 0.08)
    return reference.sphere.run(rates, burn_in=100, window=256, samples=60, n_seeds=2)
