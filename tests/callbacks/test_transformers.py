"""A Watch in the Trainer of transformers, with a small GPT-2 that is built from its configuration."""

import pytest
import torch

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
pytest.importorskip("accelerate", reason="the extra [transformers] is not installed")

from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from thermolab.callbacks.transformers import WatchCallback

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
TOKENS = torch.randint(32, (40, 8), generator=torch.Generator().manual_seed(0))
SAMPLES = [{"input_ids": t, "labels": t} for t in TOKENS]


def fit(folder, callbacks, resume=None, steps=8, **settings):
    set_seed(5)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=1, n_head=2))
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "logging_strategy": "no"}
    args = TrainingArguments(str(folder), max_steps=steps, per_device_train_batch_size=4, **quiet, **settings)
    Trainer(model, args, train_dataset=SAMPLES, callbacks=callbacks).train(resume_from_checkpoint=resume)
    return model


def test_the_weights_are_the_same_and_the_loop_is_read(tmp_path):
    plain = fit(tmp_path / "plain", [], save_strategy="no")
    callback = WatchCallback(every=2, out=tmp_path, observe=["U", "r", "T", "snr", "sharpness"])
    watched = fit(tmp_path / "watched", [callback], save_strategy="no")
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    found = callback.watch.record()
    assert found.sizes["time"] == 4
    assert bool((found["T"] > 0).all())
    assert bool((found["lambda_max"] > 0).all())
    said = " ".join(callback.watch.notes)
    assert said.startswith("AdamW")
    assert "clips gradients at norm 1" in said
    assert "a schedule" in said
    assert "dropout is at work" in said
    assert (tmp_path / "results.nc").is_file()


def test_it_goes_on_from_a_checkpoint(tmp_path):
    whole = WatchCallback(every=1)
    fit(tmp_path, [whole], save_strategy="steps", save_steps=4)
    again = WatchCallback(every=1)
    fit(tmp_path, [again], save_strategy="no", resume=str(tmp_path / "checkpoint-4"))
    assert again.watch.steps == 8
    assert again.watch.rows == whole.watch.rows
