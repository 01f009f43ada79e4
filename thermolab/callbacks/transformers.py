"""A `Watch` for the Trainer of Hugging Face's transformers.

    trainer = Trainer(model, args, train_dataset=dataset, callbacks=[WatchCallback(out="results")])

Batches are collated as the Trainer's are, and the loss is the model's own, `model(**batch).loss`. Limit: one process; a loss
function that was given to the Trainer is not known here. Install with `pip install "thermolab[transformers]"`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainerCallback

from thermolab.instruments.noticed import summed
from thermolab.instruments.watch import Watch

FILE = "watch.pt"  # in the folder of a checkpoint


class WatchCallback(TrainerCallback):
    """Reads the model while it is trained. settings: as of `Watch`; `watch` is there from the start of training.

    Its state is kept in each checkpoint, and taken up where training resumes from it.
    """

    def __init__(self, **settings):
        self.settings = settings
        self.watch: Watch | None = None

    def on_train_begin(self, args, state, control, model=None, optimizer=None, train_dataloader=None, **others) -> None:
        """Make the Watch, or take up the one of the checkpoint."""
        while getattr(optimizer, "optimizer", None) is not None:  # accelerate wraps it
            optimizer = optimizer.optimizer
        self.watch = Watch(model, optimizer, None, train_dataloader, **self.settings)
        if args.max_grad_norm:
            self.watch.add_note(
                f"the Trainer clips gradients at norm {args.max_grad_norm:g}: T and snr are those before clipping"
            )
        if args.gradient_accumulation_steps > 1:
            self.watch.add_note(summed(args.gradient_accumulation_steps))
        kept = _folder(args, state) / FILE
        if state.global_step and kept.is_file():
            self.watch.load_state_dict(torch.load(kept, weights_only=True))

    def on_optimizer_step(self, args, state, control, **others) -> None:
        """A step of the Watch for each of the optimiser; the gradients are still there."""
        if self.watch is not None:
            self.watch.step()

    def on_save(self, args, state, control, **others) -> None:
        """Keep the state in the checkpoint that was just written."""
        if self.watch is not None and state.is_world_process_zero and _folder(args, state).is_dir():
            torch.save(self.watch.state_dict(), _folder(args, state) / FILE)

    def on_train_end(self, args, state, control, **others) -> None:
        """Write the file, if there is a folder."""
        if self.watch is not None and self.watch.out is not None and self.watch.rows:
            self.watch.save()


def _folder(args, state) -> Path:
    return Path(args.output_dir, f"checkpoint-{state.global_step}")
