"""Has SGD forgotten its start? What pulls the weights towards a point against what noise drives away from it.

A step w ← w − η g with E[g | w] = ∇L changes |w − c|², c any fixed point, by −2η (w − c)·∇L + η² |g|² on average. Where
nothing depends on time, that is 0:

    ⟨(w − c)·∇L⟩ = (η/2) ⟨|g|²⟩,

exactly, at any η, for any loss and any noise (Yaida, arXiv:1810.00004). With weight decay, g + λw and ∇L + λw stand in place
of g and ∇L; with momentum, v ← μv − ηg and w ← w + v, (1 + μ) |v|²/η² stands in place of |g|². About c = 0 a scale-invariant
loss leaves the law of the radius, about another c the directions count too.
Limit of validity: free weights, batches drawn independently with replacement, finite second moments. Not on a sphere: there
w·∇L = 0 and |w| is put back after each step. A ratio of 1 is necessary for a stationary state, not sufficient.
"""

from __future__ import annotations

from thermolab.instruments.autocorrelation import Mean, as_numbers, sample_mean


def stationarity(pull, gradient_squared, eta, *, time_ordered: bool = False) -> Mean:
    """The ratio 2⟨(w − c)·∇L⟩/(η⟨|g|²⟩): 1 in a stationary state, less while |w − c|² grows, more while it shrinks.

    pull: (w − c)·∇L at moments of a run [..., n], c fixed before the first of them; gradient_squared: |g|² of minibatches at the
    same moments [..., n]; eta: η, a scalar or one per leading index. time_ordered: the moments follow each other, and the error
    is widened by √τ of what the two sides differ by. The error of the ratio is that of leading order in 1/n.
    Returns `Mean` with the ratio, its standard error, n and τ. Raises ValueError for shapes that differ, or η or ⟨|g|²⟩ that are
    not positive. Source: Yaida, arXiv:1810.00004.

    >>> stationarity([1.0, 3.0], [200.0, 200.0], 0.02).value
    1.0
    """
    pull, squared, eta = map(as_numbers, (pull, gradient_squared, eta))
    if pull.shape != squared.shape:
        raise ValueError(f"pull {pull.shape} and gradient_squared {squared.shape} must have the same shape")
    drive = eta[..., None] / 2 * squared
    driven = drive.mean(-1, keepdims=True)
    if not (driven > 0).all():
        raise ValueError(f"eta={eta} and the mean of gradient_squared must be positive")
    ratio = pull.mean(-1, keepdims=True) / driven
    # a series whose mean is the ratio, and whose scatter is that of both sides
    return sample_mean(ratio + (pull - ratio * drive) / driven, time_ordered=time_ordered)
