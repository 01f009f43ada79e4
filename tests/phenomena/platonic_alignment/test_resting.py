"""Where SGD comes to rest: the slow motion against the descent of F, against SGD, and with opposite noise."""

import numpy as np
import pytest

from thermolab.instruments.alignment import layer_cka
from thermolab.phenomena.common import linear_theory
from thermolab.phenomena.platonic_alignment import descent, resting, theory
from thermolab.systems import embedded_linear

pytestmark = pytest.mark.usefixtures("one_thread")

V, INPUTS = embedded_linear.target((2.0, 0.5), 3, seed=1), (1.3, 1.0, 0.7)
VIEW, X = embedded_linear.view(3, 2, seed=2), embedded_linear.probe(INPUTS, 32).numpy()
EQUAL, UNEQUAL = (0.8, 0.8), (1.5, 0.3)


def to_kernel(matrices, noise):
    rooted = X @ linear_theory.root(theory.kernel(V, noise, INPUTS))
    return layer_cka(descent.features(VIEW, matrices, X)[1:-1], [rooted])[:, 0]


def product(matrices):
    return np.linalg.multi_dot([VIEW.answers, *matrices[::-1], VIEW.inputs])


def test_equal_noise_rests_at_the_minimum_of_f_and_unequal_noise_beside_it():
    """From another minimum of L the slow motion comes to the same kernel as from that of F."""
    for noise, at in ((EQUAL, True), (UNEQUAL, False)):
        best, _ = theory.minimum(VIEW, V, noise, 4, INPUTS)
        other = [np.array([[1.2, 0.3], [0.1, 0.9]]) @ best[0], *best[1:]]
        other[1] = other[1] @ np.linalg.inv([[1.2, 0.3], [0.1, 0.9]])
        assert to_kernel(other, noise).min() < 0.99
        ends = [resting.moved(VIEW, m, V, noise, 0.7, inputs=INPUTS) for m in (best, other)]
        np.testing.assert_allclose(product(ends[1]), V, atol=1e-8)
        found = [to_kernel(end, noise) for end in ends]
        np.testing.assert_allclose(*found, atol=2e-3)
        assert (found[0].min() > 1 - 1e-6) == at
        if not at:
            assert found[0].min() < 0.99


def test_equal_noise_moves_as_f_descends():
    """One short step: -(η²/4) dE|g|²/dW per step along the minima of L, in units of B/η²."""
    best, _ = theory.minimum(VIEW, V, EQUAL, 3, INPUTS)
    r = np.array([[1.1, 0.2], [0.0, 0.8]])
    begin = [r @ best[0], best[1] @ np.linalg.inv(r), best[2]]
    time = 1e-6
    ended = resting.moved(VIEW, begin, V, EQUAL, time, inputs=INPUTS)
    lower = [theory.free_energy(VIEW, m, V, EQUAL, 0.0, INPUTS, 1)[1] for m in (begin, ended)]
    way = sum(np.square(a - b).sum() for a, b in zip(begin, ended, strict=True))
    assert (lower[0] - lower[1]) / way == pytest.approx(4 / time, rel=1e-3)  # steepest: dE|g|²·dθ = -4|dθ|²/time
    assert way > 0


def test_sgd_ends_where_predicted_and_stays_at_the_minimum_of_f_with_opposite_noise():
    data = resting.resting.run(5, 4, spectrum=(2.0, 1.0, 0.4), noise=(1.5, 0.8, 0.4), steps=6000, seed=3, n_seeds=1)
    a, b = (data["of"].values == net for net in "AB")
    worst = data["cka"].isel(layer=a, other=b, seed=0).min(("layer", "other"))
    assert dict(data.sizes) == {"law": 3, "seed": 1, "layer": 7, "other": 7}
    predicted, independent, opposite = worst.values
    assert 1 - opposite < 0.3 * (1 - predicted)
    # of single runs: over six seeds this scatters by 0.16 of what it is, with mean 0.05
    assert independent - predicted == pytest.approx(0, abs=0.4 * (1 - predicted))


def test_settings_that_are_refused():
    with pytest.raises(ValueError, match=r"spectrum=\(1.0, 0.0\) is not positive and finite; allowed: a list of 1 or more"):
        resting.resting.run(spectrum=(1.0, 0.0), noise=(1, 1))
    with pytest.raises(ValueError, match="steps=0 is out of range; allowed: a whole number, 1 or more"):
        resting.resting.run(steps=0)
