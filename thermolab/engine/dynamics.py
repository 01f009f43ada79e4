"""How weights move, given a gradient: SGD with weight decay under three protocols.

With the gradient g, the radius r = |w|, learning rate η and weight decay λ (arXiv:2511.07308):

* "lr", fixed learning rate:             w <- w - η (g + λ w)
* "elr", fixed effective learning rate:  w <- w - η r² (g + λ w)
* "sphere", fixed radius:                w <- r (w - η r² g) / |w - η r² g|

For a scale-invariant loss η_eff = η/r² under "lr" and η_eff = η under the other two.
"""

from __future__ import annotations

import torch

PROTOCOLS = ("elr", "lr", "sphere")


def check_protocol(protocol: str) -> str:
    """The protocol, or a ValueError that names the allowed ones."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} is unknown; allowed: {', '.join(PROTOCOLS)}")
    return protocol


def update(protocol: str, w, g, eta, lam, radius) -> torch.Tensor:
    """One step, in place.

    w, g: [R, P]; eta, lam, radius (of the fixed sphere): [R]. Returns the pressure [R] of the step: on the sphere
    (|w| before the projection - r)/(η r³) (arXiv:2511.07308), otherwise the weight decay λ, which is set from outside.
    """
    if protocol == "lr":
        w.mul_((1 - eta * lam)[:, None]).addcmul_(g, -eta[:, None])
        return lam
    r = torch.linalg.vector_norm(w, dim=1)
    step = eta * r * r
    if protocol == "elr":
        w.mul_((1 - step * lam)[:, None]).addcmul_(g, -step[:, None])
        return lam
    # |w - step g|² = r² + step²|g|² because g is tangent; the form below keeps its digits when the step is small.
    stretch = (step / r) ** 2 * (g * g).sum(1)
    w.addcmul_(g, -step[:, None])
    w.mul_((radius / torch.linalg.vector_norm(w, dim=1))[:, None])
    return stretch / (1 + torch.sqrt(1 + stretch)) / (eta * r * r)
