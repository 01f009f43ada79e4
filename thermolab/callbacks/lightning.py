"""A `Watch` for the Trainer of Lightning.

    trainer = Trainer(callbacks=[WatchCallback(loss_fn, out="results")])

The module's `forward` is called, not its `training_step`: loss_fn(module(inputs), targets) has to be what it trains. Limit:
automatic optimisation with one optimiser, in one process. Install with `pip install "thermolab[lightning]"`.
"""

from __future__ import annotations

from collections.abc import Callable

from pytorch_lightning import Callback, LightningModule, Trainer

from thermolab.instruments.noticed import summed
from thermolab.instruments.watch import Watch


class WatchCallback(Callback):
    """Reads the module while it is trained. loss_fn and settings: as of `Watch`; `watch` is there from the start of training.

    Its state goes into Lightning's checkpoints. Raises ValueError, one line, for more than one optimiser.
    """

    def __init__(self, loss_fn: Callable | str, **settings):
        self.loss_fn, self.settings = loss_fn, settings
        self.watch: Watch | None = None
        self._kept: dict | None = None
        self._done = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the Watch, or take up the one of a checkpoint."""
        if len(trainer.optimizers) != 1:
            raise ValueError(f"the module has {len(trainer.optimizers)} optimisers; allowed: one, which a Watch can read")
        self.watch = Watch(pl_module, trainer.optimizers[0], self.loss_fn, trainer.train_dataloader, **self.settings)
        if trainer.gradient_clip_val:
            self.watch.add_note(
                f"the Trainer clips gradients at {trainer.gradient_clip_val:g}: T and snr are those before clipping"
            )
        if trainer.accumulate_grad_batches > 1:
            self.watch.add_note(summed(trainer.accumulate_grad_batches))
        if self._kept is not None:
            self.watch.load_state_dict(self._kept)
        self._done = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int) -> None:
        """A step of the Watch for each of the optimiser, of which several batches may share one."""
        if self.watch is not None and trainer.global_step > self._done:
            self._done = trainer.global_step
            self.watch.step()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file, if there is a folder."""
        if self.watch is not None and self.watch.out is not None and self.watch.rows:
            self.watch.save()

    def state_dict(self) -> dict:
        """For the checkpoint."""
        return {} if self.watch is None else self.watch.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """From the checkpoint, before training starts."""
        self._kept = state_dict or None
