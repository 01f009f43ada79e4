"""A small perceptron as a landscape: gradients of L and of |∇L|² at many points at once, in float64, and exact flows on it.

The loss is |f − y|² (no 1/2); inputs and weights are drawn from normal distributions, targets are linear in the inputs, plus
noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import nn
from torch.func import functional_call, vmap

from thermolab.engine.rules import choice, integer, several
from thermolab.instruments import curvature
from thermolab.systems import models
from thermolab.systems.losses import squared_error
from thermolab.systems.replicas import Replicas

ACTIVATIONS = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "softplus": nn.Softplus, "gelu": nn.GELU}
Widths = Annotated[Sequence[int], several(integer(1), 2)]  # of a perceptron, from inputs to outputs
Smooth = Annotated[str, choice(*ACTIVATIONS)]
Samples = Annotated[int, integer(2)]  # N
NOISE = 0.5  # standard deviation of what the inputs do not explain of a target; of what they do it is about 1
PRECISE = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-14}


class Landscape:
    """Perceptron, data and a start of one seed.

    widths: of the perceptron, from inputs to outputs; activation: of ACTIVATIONS; n_data: N samples; seed: a
    number or several, of data and start.
    Attributes: replicas; x [N, n_in], y [N, n_out]; start [1, P], Gaussian at the usual scale of each layer.
    """

    def __init__(self, widths=(3, 6, 2), activation: str = "tanh", n_data: int = 24, seed=0, device: str = "cpu"):
        rng = np.random.default_rng(seed)
        layers = (ACTIVATIONS[activation]() if isinstance(layer, nn.ReLU) else layer for layer in models.mlp(widths))
        self.replicas = Replicas(nn.Sequential(*layers), "squared")
        x, noise = (rng.normal(size=(n_data, k)) for k in (widths[0], widths[-1]))
        y = x @ rng.normal(size=(widths[0], widths[-1])) / np.sqrt(widths[0]) + NOISE * noise
        self.x, self.y = (torch.from_numpy(t).to(device) for t in (x, y))
        self.start = self.replicas.start(torch.from_numpy(rng.normal(size=(1, self.replicas.n_parameters)))).to(device)

    def gradient(self, w: torch.Tensor, x=None, y=None) -> torch.Tensor:
        """∇L [R, P] at w [R, P]; x [R, B, n_in] and y [R, B, n_out] are the batch of each (default: all data)."""
        out = torch.empty_like(w)
        self.replicas.loss_and_gradient(w, *self._batches(w, x, y), out)
        return out

    def slopes(self, w: torch.Tensor, x=None, y=None) -> tuple[torch.Tensor, torch.Tensor]:
        """∇L and H ∇L, half the gradient of |∇L|², [R, P] each; arguments as for `gradient`."""
        x, y = self._batches(w, x, y)
        with torch.enable_grad():
            w = w.detach().requires_grad_()
            outputs = vmap(lambda p, x: functional_call(self.replicas.module, p, (x,)))(self.replicas.views(w), x)
            (gradient,) = torch.autograd.grad(squared_error(outputs, y).sum(), w, create_graph=True)
            (bend,) = torch.autograd.grad(gradient.square().sum() / 2, w)
        return gradient.detach(), bend

    def maps(self, w: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Of each linear map p = W h + b at w [1, P]: h [N, n_in] and the gradient of each sample's loss for p [N, n_out]."""
        views, h, inputs, outputs = iter(self.replicas.views(w).values()), self.x, [], []
        with torch.enable_grad():
            for layer in self.replicas.module:
                if isinstance(layer, nn.Linear):
                    inputs.append(h.detach())
                    h = nn.functional.linear(h, next(views)[0], next(views)[0]).requires_grad_()
                    outputs.append(h)
                else:
                    h = layer(h)
            slopes = torch.autograd.grad((h - self.y).square().sum(), outputs)
        return [*zip(inputs, slopes, strict=True)]

    def sharpness(self) -> float:
        """The largest eigenvalue of the Hessian at the start."""
        hessian = curvature.HessianProducts(self.replicas, self.start[0], self.x, self.y)
        return curvature.largest_eigenvalue(hessian).value

    def _batches(self, w, x, y):
        return (t.expand(len(w), *t.shape) for t in (self.x, self.y)) if x is None else (x, y)


def flow(force: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """Where dw/dt = force(w) leads from each row of start [R, P] in its own time [R, 1]. Raises RuntimeError if that diverges."""

    def speed(_, flat):
        return (time * force(torch.from_numpy(flat).to(start).view_as(start))).flatten().cpu().numpy()

    found = solve_ivp(speed, (0, 1), start.flatten().cpu().numpy(), **PRECISE)
    if not found.success:
        raise RuntimeError(f"the flow diverges: {found.message} Take a shorter time or smaller rates.")
    return torch.from_numpy(found.y[:, -1]).to(start).view_as(start)
