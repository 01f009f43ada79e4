"""What is noticed of somebody's training loop, in words: its optimiser, a schedule of its rates, clipped gradients, dropout."""

from __future__ import annotations

from collections import deque

import torch
from torch import nn

from thermolab.instruments import mobility
from thermolab.instruments.undisturbed import DRAWING, DROPOUT

KEPT = 20  # lengths of gradients that are compared
ALIKE = 1e-4  # relative: clip_grad_norm_ leaves all clipped gradients as long as each other within 1e-6/norm
NORMS = {2.0: "norm", float("inf"): "largest value"}


def summed(batches: int) -> str:
    """A note on a loop whose steps take the mean of several batches."""
    return f"a step takes the mean of {batches} batches: T and snr are those of one, T {batches} times that of the loop"


class Noticed:
    """Collects notes on a loop, each once. optimizer: that of the loop."""

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer, self.notes = optimizer, []
        self._rates = first = mobility.rates(optimizer)
        self._lengths = {order: deque(maxlen=KEPT) for order in NORMS}
        self.add(str(first))
        if not first.known:
            self.add(f"no mobility is known of {first.name}: T is nan; known are SGD, Adam and AdamW")

    def add(self, note: str) -> None:
        """A note, unless it is there."""
        if note not in self.notes:
            self.notes.append(note)

    def see(self, parameters: list[nn.Parameter], step: int) -> None:
        """A step of the loop has been taken: look at its rates, and at the gradients that the optimiser had."""
        now = mobility.rates(self.optimizer)
        if now.eta != self._rates.eta:
            self.add("the learning rate changes in the course of the loop: a schedule; eta has its values")
        if now.lam != self._rates.lam:
            self.add("the weight decay changes in the course of the loop; lam has its values")
        self._rates = now
        if step > KEPT and step % 10:
            return
        gradients = [p.grad for p in parameters if p.grad is not None and not p.grad.is_sparse]
        if gradients:
            with torch.no_grad():
                for order, lengths in self._lengths.items():
                    each = torch.stack([n.to(gradients[0].device) for n in torch._foreach_norm(gradients, order)])
                    lengths.append(float(torch.linalg.vector_norm(each.float(), order)))

    def compare(self, fresh: list[tuple[float, float]]) -> None:
        """Fresh gradients beside those of the loop: were those clipped?

        They were where several have the greatest length, a number of two digits as people choose them, and fresh ones are
        longer. Where the loop hardly moves its gradients are alike too, but at no such number.
        """
        for (order, name), column in zip(NORMS.items(), zip(*fresh, strict=True), strict=False):
            lengths = self._lengths[order]
            top = max(lengths, default=0.0)
            alike = sum(length > top * (1 - ALIKE) for length in lengths)
            if top and alike >= 3 and max(column) > top * (1 + 10 * ALIKE) and abs(float(f"{top:.1e}") - top) < ALIKE * top:
                self.add(f"gradients are clipped at {name} {top:.3g}: T and snr are those before clipping")

    def look(self, model: nn.Module) -> None:
        """What the mode of the model means for the readings."""
        layers = (m for m in model.modules() if isinstance(m, DROPOUT + DRAWING) and m.training)
        if any(m.p > 0 if isinstance(m, DROPOUT) else getattr(m, "dropout", 0) > 0 for m in layers):
            self.add("dropout is at work: its noise is part of T and snr; the sharpness is that without it")
