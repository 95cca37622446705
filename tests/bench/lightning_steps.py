"""The peer in steps: the MLP 784-64-10 as a user of PyTorch Lightning trains it, on one process or on several by DDP.

    lightning_steps.py DATA.h5 BATCH RANKS OUT [start]

A side of a benchmark (interleaved.py): waits before a step until it is told to go on. BATCH is global. With `start` it is
none, but prints `first_step_s` once its first step is done.
"""

import sys
import time

import h5py
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Mlp(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, _):
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("loss/train", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-3, weight_decay=0.01, fused=True)


class Player(pl.Callback):
    """Lets the trainer do as many steps as the script says, and stops it when there are no more to do."""

    def on_train_start(self, trainer, _):
        from interleaved import Line
        self.line = Line()
        self.wait(trainer)

    def wait(self, trainer):
        self.asked, self.done, self.start = self.line.told(), 0, time.perf_counter()
        trainer.should_stop = self.asked == 0

    def on_train_batch_end(self, trainer, module, outputs, *_):
        self.done += 1
        if self.done == self.asked:
            self.line.say(seconds=time.perf_counter() - self.start, loss=float(outputs["loss"]))
            self.wait(trainer)


class First(pl.Callback):
    def on_train_batch_end(self, *_):
        print("first_step_s", flush=True)


def main():
    data, batch, ranks, out, *words = sys.argv[1:]
    torch.set_num_threads(1)
    with h5py.File(data) as file:
        images = torch.from_numpy(file["images"][:]).float().div(255).unsqueeze(1).repeat(10, 1, 1, 1)
        labels = torch.from_numpy(file["labels"][:]).long().repeat(10)
    loader = DataLoader(TensorDataset(images, labels), int(batch) // int(ranks), drop_last=True)
    trainer = pl.Trainer(accelerator="cpu", devices=int(ranks), strategy="ddp" if int(ranks) > 1 else "auto", max_epochs=-1,
                         min_steps=0, num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False,
                         enable_checkpointing=False, default_root_dir=out, logger=pl.loggers.TensorBoardLogger(out),
                         callbacks=[First() if words else Player()])
    trainer.fit(Mlp(), loader)


if __name__ == "__main__":
    main()
