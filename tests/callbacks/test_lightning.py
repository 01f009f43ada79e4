"""A Watch in Lightning's own loop: it disturbs nothing, counts steps of the optimiser, and goes on from a checkpoint."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("pytorch_lightning", reason="the extra [lightning] is not installed")

import pytorch_lightning as pl

from thermolab.callbacks.lightning import WatchCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning advises on workers and loggers
X, Y = torch.randn(48, 6, generator=torch.Generator().manual_seed(0)), torch.arange(48) % 3


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.2), nn.Linear(5, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def fit(folder, callbacks, epochs=4, resume=None, **settings):
    pl.seed_everything(3)
    module = Module()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=epochs, default_root_dir=folder, callbacks=callbacks, **quiet, **settings)
    trainer.fit(module, DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True), ckpt_path=resume)
    return module, trainer


def test_the_weights_are_the_same_and_the_readings_are_written(tmp_path):
    plain, _ = fit(tmp_path, [])
    callback = WatchCallback("cross-entropy", every=2, out=tmp_path, observe=["U", "T", "sharpness"])
    watched, _ = fit(tmp_path, [callback])
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    assert callback.watch.steps == 24
    assert len(callback.watch.rows) == 12
    assert (tmp_path / "results.nc").is_file()
    assert any("momentum 0.9" in note for note in callback.watch.notes)


def test_it_counts_steps_of_the_optimiser_and_says_that_gradients_are_clipped(tmp_path):
    callback = WatchCallback("cross-entropy", every=1)
    fit(tmp_path, [callback], epochs=2, accumulate_grad_batches=3, gradient_clip_val=0.1)
    assert callback.watch.steps == 4
    assert any("the Trainer clips gradients at 0.1" in note for note in callback.watch.notes)
    assert any("a step takes the mean of 3 batches" in note for note in callback.watch.notes)


def test_it_goes_on_from_a_checkpoint(tmp_path):
    first = WatchCallback("cross-entropy", every=2)
    _, trainer = fit(tmp_path, [first], epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = WatchCallback("cross-entropy", every=2)
    fit(tmp_path, [again], epochs=4, resume=tmp_path / "last.ckpt")
    assert again.watch.steps == 24
    assert again.watch.rows[:6] == first.watch.rows
    assert len(again.watch.rows) == 12
