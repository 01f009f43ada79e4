"""Closed forms of the ideal gas against quadrature, iteration, integration and minimisation."""

import math

import numpy as np
import pytest
from scipy import integrate, linalg, optimize

from thermolab.phenomena.ideal_gas import theory

TEMPERATURES = (0.02, 0.1, 0.5, 1.0, 4.0)


# --- von Mises-Fisher -------------------------------------------------------------------------------------------------
def by_quadrature(temperature, dim):
    """U, S and E|∇L|² of exp(-(1 + cos θ)/T) on the sphere, by integration over the angle from the minimum."""
    area = 2 * math.pi ** ((dim - 1) / 2) / math.gamma((dim - 1) / 2)  # of the sphere of one dimension less

    def integral(f):
        def inner(a):  # a = π - θ, weight sin^{D-2}, loss 1 - cos a
            return f(a) * math.exp(-(1 - math.cos(a)) / temperature) * math.sin(a) ** (dim - 2)

        return integrate.quad(inner, 0, math.pi, epsabs=0, epsrel=1e-12, limit=500)[0]

    z = integral(lambda a: 1.0)
    energy = integral(lambda a: 1 - math.cos(a)) / z
    return energy, math.log(area * z) + energy / temperature, integral(lambda a: math.sin(a) ** 2) / z


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_three_dimensions_in_closed_form(temperature):
    k = 1 / temperature
    langevin = 1 / math.tanh(k) - 1 / k
    log_sinh = k + math.log1p(-math.exp(-2 * k)) - math.log(2)
    assert theory.energy_vmf(temperature, 3) == pytest.approx(1 - langevin, rel=1e-12)
    assert theory.entropy_vmf(temperature, 3) == pytest.approx(math.log(4 * math.pi / k) + log_sinh - k * langevin, rel=1e-12)
    assert theory.gradient_squared_vmf(temperature, 3) == pytest.approx(2 * temperature * langevin, rel=1e-12)


@pytest.mark.parametrize("dim", [3, 4, 10, 32])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_any_dimension_by_quadrature(temperature, dim):
    energy, entropy, gradient_squared = by_quadrature(temperature, dim)
    assert theory.energy_vmf(temperature, dim) == pytest.approx(energy, rel=1e-10)
    assert theory.entropy_vmf(temperature, dim) == pytest.approx(entropy, rel=1e-10, abs=1e-10)
    assert theory.gradient_squared_vmf(temperature, dim) == pytest.approx(gradient_squared, rel=1e-10)


@pytest.mark.parametrize("dim", [3, 10, 32])
def test_the_cold_limit(dim):
    """The next order in T is (D - 3)/4 T relative to U: 1e-3 at these temperatures."""
    t = 1e-4 / dim
    assert theory.energy_vmf(t, dim) == pytest.approx(theory.energy_small_t(t, dim), rel=1e-4)
    assert theory.entropy_vmf(t, dim) == pytest.approx(theory.entropy_small_t(t, dim), abs=1e-3)
    assert theory.gradient_squared_vmf(t, dim) == pytest.approx((dim - 1) * t, rel=1e-4)
    assert theory.energy_small_t(0.1, dim) == (dim - 1) * 0.05
    assert theory.entropy_small_t(1.0, dim) == pytest.approx((dim - 1) / 2 * (1 + math.log(2 * math.pi)))


def test_the_hot_limit():
    """At infinite temperature the direction is uniform: U = 1, S the logarithm of the area, here 4π."""
    assert theory.energy_vmf(1e6, 3) == pytest.approx(1, abs=1e-6)
    assert theory.entropy_vmf(1e6, 3) == pytest.approx(math.log(4 * math.pi), abs=1e-9)


@pytest.mark.parametrize("dim", [3, 10])
def test_temperature_is_the_slope_of_energy_in_entropy(dim):
    t, h = 0.3, 1e-4
    du, ds = (f(t + h, dim) - f(t - h, dim) for f in (theory.energy_vmf, theory.entropy_vmf))
    assert du / ds == pytest.approx(t, rel=1e-6)


def test_vmf_is_mended_where_the_small_form_fails():
    """Measured beforehand on the sphere at D = 10: U over its small-T form is 1 - 0.361 at T = 0.2, 1 - 0.895 at T = 2."""
    assert theory.energy_vmf(0.2, 10) / theory.energy_small_t(0.2, 10) == pytest.approx(0.639, abs=0.01)
    assert theory.energy_vmf(2.0, 10) / theory.energy_small_t(2.0, 10) == pytest.approx(0.105, abs=0.01)


# --- the leading order ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", theory.PROTOCOLS)
def test_the_leading_order_is_self_consistent(protocol):
    """T = η_eff σ²/2 with η_eff = η/r² under a fixed learning rate, and λ = p(T, r*)."""
    eta, lam, dim, sigma = 0.02, 0.005, 7, 1.3
    t, r = (f(protocol, eta, lam, dim, sigma) for f in (theory.temperature, theory.radius))
    assert t == pytest.approx((eta / r**2 if protocol == "lr" else eta) * sigma**2 / 2, rel=1e-12)
    assert theory.pressure(t, r, dim) == pytest.approx(lam, rel=1e-12)


def test_functions_broadcast():
    eta, lam = np.array([0.01, 0.02])[:, None], np.array([0.1, 0.2, 0.3])
    for protocol in theory.PROTOCOLS:
        assert theory.temperature(protocol, eta, lam, 3, 1.0).shape == (2, 3)
        assert theory.radius(protocol, eta, lam, 3, 1.0).shape == (2, 3)
        state = theory.isotropic_state(protocol, eta, lam, 3, 1.0)
        assert {v.shape for v in state.values()} <= {(2, 3), (3,), (1, 3)}
        assert state["r"][1, 2] == pytest.approx(float(theory.isotropic_state(protocol, 0.02, 0.3, 3, 1.0)["r"]), rel=1e-12)


@pytest.mark.parametrize("protocol", ["elr", "lr"])
@pytest.mark.parametrize("dim", [3, 10])
def test_slopes_are_the_derivatives_of_the_full_entropy(protocol, dim):
    """At η = 1e-4 the finite-step and hot-end corrections are of relative order 1e-4."""

    def full_entropy(x):
        state = theory.isotropic_state(protocol, math.exp(x[0]), math.exp(x[1]), dim, 1.0)
        return float(theory.full_entropy(state["S"], state["r"], dim))

    derivative = optimize.approx_fprime(np.log([1e-4, 1e-3]), full_entropy, 1e-5)
    expected = theory.slopes(protocol, dim)
    np.testing.assert_allclose(derivative, [expected["eta"], expected["lam"]], atol=2e-3 * (dim - 1))


def test_slopes_on_the_sphere():
    """S_full at a given radius: (D - 1)/2 in log η through T, D - 1 in log r."""
    dim, h = 6, 1e-6
    expected = theory.slopes("sphere", dim)

    def full_entropy(eta, radius):
        return theory.full_entropy(theory.entropy_small_t(theory.temperature("sphere", eta, 0, dim, 1.0), dim), radius, dim)

    d_eta = full_entropy(0.01 * math.exp(h), 2.0) - full_entropy(0.01, 2.0)
    d_radius = full_entropy(0.01, 2.0 * math.exp(h)) - full_entropy(0.01, 2.0)
    np.testing.assert_allclose([d_eta / h, d_radius / h], [expected["eta"], expected["radius"]], rtol=1e-6)


@pytest.mark.parametrize("dim", [3, 10])
@pytest.mark.parametrize("t", [0.01, 0.5])
def test_gibbs_is_least_in_the_stationary_state(dim, t):
    """At given T and p over every temperature and radius that a state could have: at T itself and r² = T(D - 1)/p."""
    p = 0.03

    def potential(x):
        own, radius = np.exp(x)
        entropy = theory.full_entropy(theory.entropy_vmf(own, dim), radius, dim)
        return float(theory.gibbs(theory.energy_vmf(own, dim), entropy, t, p, radius)) / t

    found = optimize.minimize(potential, np.log([3 * t, 0.4]), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    np.testing.assert_allclose(np.exp(found.x), [t, math.sqrt(t * (dim - 1) / p)], rtol=1e-4)
    assert theory.pressure(t, np.exp(found.x[1]), dim) == pytest.approx(p, rel=1e-3)


# --- finite steps -----------------------------------------------------------------------------------------------------
def next_squared_radius(protocol, v, eta, lam, moment):
    """|w|² after a step from |w|² = v with a tangent gradient of E|g|² = moment/v."""
    if protocol == "lr":
        return v * (1 - eta * lam) ** 2 + eta**2 * moment / v
    return v * (1 - eta * v * lam) ** 2 + (eta * v) ** 2 * moment / v


@pytest.mark.parametrize(("eta", "lam", "moment"), [(0.1, 0.03, 31.0), (0.01, 0.1, 2.0), (0.3, 0.5, 1.0)])
@pytest.mark.parametrize("protocol", ["elr", "lr"])
def test_the_finite_step_radius_is_a_fixed_point(protocol, eta, lam, moment):
    r = theory.finite_step_radius(protocol, eta, lam, moment)
    assert next_squared_radius(protocol, r**2, eta, lam, moment) == pytest.approx(r**2, rel=1e-12)
    v = (0.5 * r) ** 2
    for _ in range(int(25 / min(eta**2 * moment, 4 * eta * lam))):  # relaxation times
        v = next_squared_radius(protocol, v, eta, lam, moment)
    assert v == pytest.approx(r**2, rel=1e-9)


@pytest.mark.parametrize("protocol", ["elr", "lr"])
def test_the_finite_step_radius_tends_to_the_leading_form(protocol):
    """r* of the paper with (D - 1)σ² = E|g|²; the next order is η²E|g|²/8 and ηλ/8."""
    eta, lam, dim, sigma = 1e-3, 0.1, 10, 1.5
    exact = theory.finite_step_radius(protocol, eta, lam, (dim - 1) * sigma**2)
    assert exact == pytest.approx(theory.radius(protocol, eta, lam, dim, sigma), rel=5e-5)


def test_no_radius_where_the_steps_outrun_the_decay():
    assert np.isnan(theory.finite_step_radius("elr", 1.0, 0.1, 1.1))
    assert np.isfinite(theory.finite_step_radius("elr", 1.0, 0.1, 0.9))
    assert np.isfinite(theory.finite_step_radius("lr", 1.0, 0.1, 1e6))
    state = theory.isotropic_state("elr", np.array([0.4, 0.1]), 0.01, 10, 1.0)  # without a warning: a grid may hold such cells
    for name in ("r", "U", "S", "T_step"):
        assert np.isfinite(state[name]).tolist() == [False, True]


@pytest.mark.parametrize(("eta", "radius", "moment"), [(0.1, 1.0, 2.0), (0.02, 3.0, 31.0), (1e-4, 0.5, 9.0)])
def test_the_pressure_is_that_of_a_step(eta, radius, moment):
    """(|w before the projection| - r)/(η r³) for a tangent step η r² g with |g|² = moment/r²."""
    w, g = np.array([radius, 0.0]), np.array([0.0, math.sqrt(moment) / radius])
    stretched = np.longdouble(np.sum((w - eta * radius**2 * g) ** 2, dtype=np.longdouble)) ** 0.5
    expected = float((stretched - radius) / (eta * radius**3))
    # the definition is a small difference of order η² E|g|²/2: it keeps the digits that this leaves
    assert theory.finite_step_pressure(eta, radius, moment) == pytest.approx(expected, rel=1e-13 / (eta**2 * moment))
    assert theory.finite_step_pressure(1e-4, radius, 9.0) == pytest.approx(theory.pressure(4.5e-4 / 9, radius, 10), rel=1e-6)


@pytest.mark.parametrize("protocol", theory.PROTOCOLS)
def test_the_stationary_state_solves_its_equations(protocol):
    eta, lam, dim, sigma = 0.08, 0.05, 8, 1.2
    s = {k: float(v) for k, v in theory.isotropic_state(protocol, eta, lam, dim, sigma).items()}
    moment = (dim - 1) * sigma**2 + s["gradient_squared"]
    energy, entropy, gradient_squared = by_quadrature(s["T_step"], dim)
    assert (s["U"], s["S"], s["gradient_squared"]) == pytest.approx((energy, entropy, gradient_squared), rel=1e-9)
    assert s["eta_eff"] == pytest.approx(eta / s["r"] ** 2 if protocol == "lr" else eta, rel=1e-12)
    assert s["T"] == pytest.approx(s["eta_eff"] * sigma**2 / 2, rel=1e-12)
    if protocol == "sphere":
        a = eta**2 * moment
        q = 2 - math.sqrt(1 + a)
        assert s["p"] == pytest.approx((math.sqrt(1 + a) - 1) / (eta * s["r"] ** 2), rel=1e-9)
    else:
        v = s["r"] ** 2
        assert next_squared_radius(protocol, v, eta, lam, moment) == pytest.approx(v, rel=1e-9)
        q = 1 - eta * lam * (1 if protocol == "lr" else v)
        assert s["p"] == lam
    # the mean cosine to the minimum, c = 1 - U, is kept by a step: c (1 - q) = η_eff E(1 - c²)
    assert (1 - s["U"]) * (1 - q) == pytest.approx(s["eta_eff"] * gradient_squared, rel=1e-9)


@pytest.mark.parametrize("protocol", theory.PROTOCOLS)
@pytest.mark.parametrize("eta_eff", [0.02, 0.1])
def test_step_temperature_for_small_noise(protocol, eta_eff):
    """T → η σ²/2/(1 - η/2): a step on a parabola of curvature 1, whose variance is exact."""
    sigma, dim, lam = 1e-3, 5, 1e-5
    # under a fixed learning rate η/r² is about √(2ηλ/E|g|²)
    eta = eta_eff**2 * (dim - 1) * sigma**2 / (2 * lam) if protocol == "lr" else eta_eff
    s = theory.isotropic_state(protocol, eta, lam, dim, sigma)
    assert float(s["eta_eff"]) == pytest.approx(eta_eff, rel=0.1)
    eta_eff = float(s["eta_eff"])
    variance = eta_eff**2 * sigma**2 / (1 - (1 - eta_eff) ** 2)  # of x ← (1 - η) x + η σ ξ
    assert float(s["T_step"]) == pytest.approx(variance, rel=1e-4)
    assert variance == pytest.approx(eta_eff * sigma**2 / 2 / (1 - eta_eff / 2), rel=1e-12)


def test_the_radius_measured_beforehand():
    """η 0.1, λ 0.03: r over the leading form is 1.021, 1.026, 1.032, 1.052 at D 4, 10, 16, 32, within 0.8 %."""
    for dim, measured in ((4, 1.021), (10, 1.026), (16, 1.032), (32, 1.052)):
        r = float(theory.isotropic_state("elr", 0.1, 0.03, dim, 1.0)["r"])
        assert r / theory.radius("elr", 0.1, 0.03, dim, 1.0) == pytest.approx(measured, rel=0.008)


# --- relaxation -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("start", [0.3, 3.0])
@pytest.mark.parametrize("protocol", ["elr", "lr"])
def test_relaxation_solves_its_equation(protocol, start):
    eta, lam, moment = 0.05, 0.02, 7.0
    star = math.sqrt(eta * moment / (2 * lam)) if protocol == "elr" else (eta * moment / (2 * lam)) ** 0.25

    def slope(_, v):
        if protocol == "elr":
            return eta**2 * moment * v - 2 * eta * lam * v**2
        return eta**2 * moment / v - 2 * eta * lam * v

    time = np.array([0.0, 5.0, 50.0, 300.0, 3000.0])
    v = integrate.solve_ivp(slope, (0, time[-1]), [(start * star) ** 2], t_eval=time, rtol=1e-11, atol=1e-13).y[0]
    found = theory.relaxation(protocol, time, start * star, eta, lam, moment)
    np.testing.assert_allclose(found, np.sqrt(v), rtol=1e-8)
    assert found[0] == pytest.approx(start * star, rel=1e-14)
    assert found[-1] == pytest.approx(star, rel=1e-3)


@pytest.mark.parametrize("start", [0.5, 2.0])
@pytest.mark.parametrize("protocol", ["elr", "lr"])
def test_relaxation_follows_the_steps(protocol, start):
    """The recursion of |w|² step by step; they differ by the order of a step, ηλr² and η²E|g|², here below 1e-3."""
    eta, lam, moment = 0.01, 0.005, 2.0
    star = theory.finite_step_radius(protocol, eta, lam, moment)
    v, time = (start * star) ** 2, np.array([100, 1000, 5000, 20_000])
    path = []
    for t in range(1, time[-1] + 1):
        v = next_squared_radius(protocol, v, eta, lam, moment)
        if t in time:
            path.append(math.sqrt(v))
    np.testing.assert_allclose(theory.relaxation(protocol, time, start * star, eta, lam, moment), path, rtol=1e-3)


@pytest.mark.parametrize("protocol", ["elr", "lr"])
def test_the_relaxation_time_is_that_of_a_small_deviation(protocol):
    eta, lam, dim, sigma = 0.05, 0.02, 8, 1.1
    tau, moment = theory.relaxation_time(protocol, eta, lam, dim, sigma), (dim - 1) * sigma**2
    star = theory.radius(protocol, eta, lam, dim, sigma)
    late = theory.relaxation(protocol, tau, star * math.exp(1e-6), eta, lam, moment)
    assert math.log(late / star) == pytest.approx(1e-6 / math.e, rel=1e-4)
    assert theory.relaxation_time("sphere", eta, lam, dim, sigma) == 0


# --- anisotropic noise ------------------------------------------------------------------------------------------------
def test_the_anisotropic_shift_is_that_of_gaussians():
    """In the harmonic well dx = -x dt + √(2T s) dW has the covariance of a Lyapunov equation; the rest is ½ log det."""
    s, t = np.array([0.2, 0.7, 1.1, 2.0]), 0.05
    covariance = linalg.solve_continuous_lyapunov(np.eye(4), 2 * t * np.diag(s))
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    assert entropy - theory.entropy_small_t(t, 5) == pytest.approx(theory.anisotropic_entropy_shift(s), rel=1e-12)
    assert theory.anisotropic_entropy_shift(np.ones(4)) == 0


@pytest.mark.parametrize("dim", [3, 10])
def test_power_spectra(dim):
    s = theory.power_spectrum(dim, 1.5)
    assert s.shape == (dim - 1,)
    assert s.mean() == pytest.approx(1, rel=1e-12)
    assert s[0] / s[1] == pytest.approx(2**1.5, rel=1e-12)
    np.testing.assert_allclose(theory.power_spectrum(dim, 0), 1)
    assert theory.anisotropic_entropy_shift(s) < 0


# --- batches without replacement --------------------------------------------------------------------------------------
def by_covariances(rate, length, epochs):
    """Variances before each step of the last of many epochs, from the covariance matrix of all steps; C = 1."""
    epoch = np.full((length, length), -1 / (length - 1))
    np.fill_diagonal(epoch, 1.0)
    noise = linalg.block_diag(*[epoch] * epochs)
    steps = np.arange(length * epochs)
    out = []
    for t in steps[-length:]:
        weight = np.where(steps < t, (1 - rate) ** np.maximum(t - 1 - steps, 0), 0.0)
        out.append(weight @ noise @ weight)
    return out


@pytest.mark.parametrize(("rate", "length"), [(0.1, 2), (0.3, 7), (1.0, 5), (1.7, 4)])
def test_the_variance_over_an_epoch_is_that_of_the_covariances(rate, length):
    found = theory.epoch_variance(rate, length)
    np.testing.assert_allclose(found, by_covariances(rate, length, 160 // length), rtol=1e-12, atol=1e-12)


def test_slow_directions_feel_a_third_of_an_epoch():
    """Of independent batches; and a twelfth of its square at the ends. Relative corrections are of order ηhM and 1/M."""
    rate, length = 1e-5, 500
    ratio = theory.epoch_variance(rate, length) * theory.contraction(rate)
    assert ratio.mean() == pytest.approx(rate * length / 3, rel=5 / length)
    assert ratio[0] == pytest.approx((rate * length) ** 2 / 12, rel=5 / length)
    fifty = theory.epoch_variance(0.002, 50) * theory.contraction(0.002)
    assert (fifty.mean(), fifty[0]) == pytest.approx((0.033, 8.5e-4), rel=0.02)
