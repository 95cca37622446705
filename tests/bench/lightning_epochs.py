"""The peer in whole runs: the mnist experiment as a user of PyTorch Lightning writes it, on two processes.

    lightning_epochs.py FASHION_FOLDER cnn|toy BATCH EPOCHS SEED OUT

A side of a benchmark (interleaved.py): waits before an epoch until it is told to go on. BATCH is global. The networks,
losses, augmentation and optimizers are those of configs/fashion_mnist.toml and configs/mnist_toy.toml; 48,000 images
train and 12,000 validate.
"""

import gzip
import math
import pathlib
import random
import sys
import time

import numpy as np
import pytorch_lightning as pl
import torch
from interleaved import Line
from torch import nn
from torch.utils.data import DataLoader, Dataset

TRAINED = 48_000


def read_idx(path, header):
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


class Clothes(Dataset):
    """Images of 28 by 28 floats, changed sample by sample."""

    def __init__(self, images, labels, augment):
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment == "toy" and random.random() < 0.4:
            image = image[::-1]
        if self.augment == "cnn":
            down, right = random.randrange(5), random.randrange(5)
            image = np.pad(image, 2)[down:down + 28, right:right + 28]
        return torch.from_numpy(image.astype(np.float32) / 255).unsqueeze(0), int(self.labels[index])


class Experiment(pl.LightningModule):
    def __init__(self, kind, steps):
        super().__init__()
        self.kind, self.steps = kind, steps
        if kind == "toy":
            self.model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2),
                                       nn.Conv2d(32, 10, 3), nn.BatchNorm2d(10), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                                       nn.Flatten())
        else:
            self.model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(),
                                       nn.MaxPool2d(2), nn.Flatten(), nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 10))

    def loss_of(self, output, labels):
        if self.kind == "toy":
            return nn.functional.binary_cross_entropy_with_logits(output, nn.functional.one_hot(labels, 10).float())
        return nn.functional.cross_entropy(output, labels)

    def training_step(self, batch, _):
        loss = self.loss_of(self.model(batch[0]), batch[1])
        self.log("loss/train", loss)
        return loss

    def validation_step(self, batch, _):
        output = self.model(batch[0])
        self.log("loss/validate", self.loss_of(output, batch[1]), sync_dist=True)
        self.log("accuracy/validate", (output.argmax(1) == batch[1]).float().mean(), sync_dist=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 1.5e-3 if self.kind == "toy" else 3e-3, weight_decay=0.01)
        if self.kind == "toy":
            schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 8], 0.2)
            return {"optimizer": optimizer, "lr_scheduler": schedule}
        warm = max(1, self.steps // 10)

        def rate(step):
            after = max(0, step - warm) / max(1, self.steps - warm)
            return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * after)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Player(pl.Callback):
    """Lets the trainer do as many epochs as the script says, and stops it when there are no more to do."""

    def __init__(self):
        self.line = Line()
        self.asked = self.done = 0

    def on_train_epoch_start(self, trainer, _):
        self.answer(trainer)
        if self.done == self.asked:
            self.asked, self.done, self.start = self.line.told(), 0, time.perf_counter()
            trainer.should_stop = self.asked == 0
        self.done += 1

    def on_train_end(self, trainer, _):
        self.answer(trainer)

    def answer(self, trainer):
        """The epoch before this moment was the last that was asked for."""
        if self.asked and self.done == self.asked:
            self.line.say(seconds=time.perf_counter() - self.start,
                          accuracy=float(trainer.callback_metrics["accuracy/validate"]))


def main():
    folder, kind, batch, epochs, seed, out = sys.argv[1:]
    batch, epochs = int(batch), int(epochs)
    pl.seed_everything(int(seed), workers=True, verbose=False)
    torch.set_num_threads(1)
    images = read_idx(pathlib.Path(folder) / "train-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = read_idx(pathlib.Path(folder) / "train-labels-idx1-ubyte.gz", 8)
    train = DataLoader(Clothes(images[:TRAINED], labels[:TRAINED], kind), batch // 2, shuffle=True)
    validate = DataLoader(Clothes(images[TRAINED:], labels[TRAINED:], None), batch // 2)
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=epochs, num_sanity_val_steps=0,
                         enable_progress_bar=False, enable_model_summary=False, default_root_dir=out,
                         logger=pl.loggers.TensorBoardLogger(out), callbacks=[Player()])
    model = Experiment(kind, epochs * -(-TRAINED // batch))
    trainer.validate(model, validate, verbose=False)
    trainer.fit(model, train, validate)


if __name__ == "__main__":
    main()
