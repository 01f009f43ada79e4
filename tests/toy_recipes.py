"""Recipes whose jobs are small, for the tests of workers: they square, sleep, say where they are, or fail."""

import os
import time
from functools import partial

from thermolab.engine.recipe import Jobs, Recipe
from thermolab.systems.isotropic import IsotropicNoise


@Recipe
def squares(n=3):
    """Two rounds of jobs; the second needs the results of the first."""
    first = yield Jobs(pow, [{"base": i, "exp": 2} for i in range(n)])
    second = yield Jobs(pow, [{"base": i, "exp": 2} for i in first])
    return first, second


@Recipe
def sleeping(seconds, n=3):
    yield Jobs(partial(time.sleep, seconds), [{}] * n)
    return seconds


@Recipe
def bad_dimension():
    yield Jobs(IsotropicNoise, [{"dim": 3}, {"dim": 2}, {"dim": 4}])


@Recipe
def process_ids():
    return (yield Jobs(os.getpid, [{}, {}]))
