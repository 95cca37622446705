"""The cnn experiment as a user of PyTorch Lightning writes it, with torchmetrics: the other side of lightning_test.py.

    lightning_cnn.py DATA.h5 CASES.json FOLDER

Of each case of the file it trains a run by Lightning's Trainer, all from the weights in FOLDER/start.safetensors, which it
writes first. FOLDER/NAME.json gets each step's loss and rate and each epoch's values, FOLDER/NAME.safetensors the weights
at the end, and those of their average.
"""

import contextlib
import json
import logging
import pathlib
import sys
import unittest.mock
import warnings

import h5py
import pytorch_lightning as pl
import torch
import torchmetrics.classification as tc
from networks import ConvNet
from pytorch_lightning.callbacks import EMAWeightAveraging
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

INIT = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")


def measures():
    counted = {"precision": tc.MulticlassPrecision, "recall": tc.MulticlassRecall, "f1": tc.MulticlassF1Score}
    return nn.ModuleDict({"accuracy": tc.MulticlassAccuracy(10, average="micro"),
                          **{name: metric(10) for name, metric in counted.items()}})


# With the values that lightning_tool.cpp gives them.
OTHERS = {
    "adam": (torch.optim.Adam, {"amsgrad": True}),
    "adagrad": (torch.optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"momentum": 0.5, "centered": True}),
    "adadelta": (torch.optim.Adadelta, {"rho": 0.8}),
    "adamax": (torch.optim.Adamax, {}),
    "nadam": (torch.optim.NAdam, {"decoupled_weight_decay": True}),
    "radam": (torch.optim.RAdam, {}),
}


class Cnn(pl.LightningModule):
    def __init__(self, config):
        super().__init__()
        self.c = config
        self.model = ConvNet()
        self.measures = nn.ModuleDict({"train_": measures(), "validate": measures()})
        areas = {"auroc": tc.MulticlassAUROC(10), "average_precision": tc.MulticlassAveragePrecision(10)}
        self.measures["validate"].update(areas)

    def step(self, batch, stage):
        images, labels = batch
        output = self.model(images)
        loss = nn.functional.cross_entropy(output, labels)
        tag = "loss/train_epoch" if stage == "train" else "loss/validate"
        self.log(tag, loss, on_step=False, on_epoch=True, batch_size=len(labels))
        for name, measure in self.measures["train_" if stage == "train" else stage].items():
            measure.update(output.detach().float() if output.dtype == torch.bfloat16 else output.detach(), labels)
            self.log(f"{name}/{stage}", measure, on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch, _):
        return self.step(batch, "train")

    def validation_step(self, batch, _):
        self.step(batch, "validate")

    def groups(self):
        if not self.c["groups"]:
            return self.model.parameters()
        first = self.model.conv1.weight
        return [{"params": [p for p in self.model.parameters() if p.dim() > 1 and p is not first]},
                {"params": [first], "lr": self.c["learning_rate"] / 10},
                {"params": [p for p in self.model.parameters() if p.dim() == 1], "weight_decay": 0.0}]

    def configure_optimizers(self):
        c = self.c
        if c["optimizer"] == "adamw":
            optimizer = torch.optim.AdamW(self.groups(), c["learning_rate"], weight_decay=c["weight_decay"])
        elif c["optimizer"] in OTHERS:
            kind, values = OTHERS[c["optimizer"]]
            optimizer = kind(self.groups(), c["learning_rate"], weight_decay=c["weight_decay"], **values)
        else:
            optimizer = torch.optim.SGD(self.groups(), c["learning_rate"], momentum=c["momentum"], nesterov=c["nesterov"],
                                        weight_decay=c["weight_decay"])
        if c["plateau"]:
            plateau = lr_scheduler.ReduceLROnPlateau(optimizer, factor=c["plateau"], patience=0, threshold=0.1)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "loss/validate"}}
        if c["schedule"] == "multi_step":
            return {"optimizer": optimizer, "lr_scheduler": lr_scheduler.MultiStepLR(optimizer, c["milestones"], c["gamma"])}
        if c["schedule"] == "cosine":
            cosine = lr_scheduler.LambdaLR(optimizer, lambda t: cosine_factor(t, c["period"]))
            if not c["groups"]:
                cosine = lr_scheduler.CosineAnnealingLR(optimizer, c["period"], 0.01 * c["learning_rate"])
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}
        return optimizer


def cosine_factor(t, period):
    """CosineAnnealingLR's, with a lowest rate that is a share of each group's."""
    return 0.01 + 0.99 * (1 + torch.cos(torch.tensor(torch.pi * t / period, dtype=torch.float64)).item()) / 2


class Records(pl.Callback):
    """What lab's metrics.csv and checkpoint have too."""

    def __init__(self):
        self.steps, self.epochs, self.batches = [], [], []
        self.rates, self.weights = [], {}

    def on_train_batch_end(self, trainer, module, outputs, batch, _):
        count = len(batch[1])
        loss = float(outputs["loss"].detach().double()) * trainer.accumulate_grad_batches  # by which it was divided
        self.batches.append((loss * count, count))
        if trainer.global_step > len(self.steps):
            sums, weights = zip(*self.batches)
            self.steps.append({"loss": sum(sums) / sum(weights), "rate": self.rates[0]})
            self.batches = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]

    def on_train_epoch_end(self, trainer, module):
        values = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
        if module.c["groups"]:
            values |= dict(zip(("lr/rest", "lr/first", "lr/no_decay"), self.rates))
        self.epochs.append(values)
        self.weights = {name: p.detach().clone() for name, p in module.model.named_parameters()}


@contextlib.contextmanager
def counting_in(precision):
    """torchmetrics divides its counts as 32-bit floats whatever they are of: by float(), and as the default type. In 64-true
    both are others here, so that more than seven digits can be compared."""
    if precision != "64-true":
        yield
        return
    torch.set_default_dtype(torch.float64)
    with unittest.mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        yield
    torch.set_default_dtype(torch.float32)


def run(name, case, data, folder):
    module = Cnn(case["config"])
    module.model.load_state_dict(load_file(folder / "start.safetensors"))
    records, ema = Records(), case["config"]["ema"]
    average = [EMAWeightAveraging(decay=ema)] if ema else []
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                         enable_model_summary=False, num_sanity_val_steps=0, callbacks=[*average, records],
                         default_root_dir=folder, **{key: case[key] for key in INIT if key in case})
    images, labels = data
    if case["precision"] == "64-true":
        images = images.double()
        module.measures.apply(lambda m: m.set_dtype(torch.float64) if hasattr(m, "set_dtype") else None)
    images = images / 255
    first, second = case["config"]["train_samples"], case["config"]["validation_samples"]
    sets = [DataLoader(TensorDataset(images[part], labels[part]), case["config"]["batch_size"])
            for part in (slice(first), slice(first, first + second))]
    with counting_in(case["precision"]):
        [before] = trainer.validate(module, sets[1], verbose=False)
        trainer.fit(module, *sets)
    ends = {f"end.{key}": value for key, value in records.weights.items()}
    if ema:  # Lightning has put it in the weights' place
        ends |= {f"ema.{key}": p.detach().clone() for key, p in module.model.named_parameters()}
    save_file(ends, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps({"before": before, "steps": records.steps, "epochs": records.epochs}))


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    path, cases, folder = map(pathlib.Path, sys.argv[1:])
    torch.manual_seed(1)
    save_file({name: p.detach() for name, p in ConvNet().named_parameters()}, folder / "start.safetensors")
    with h5py.File(path) as file:
        data = torch.from_numpy(file["images"][:600]).float().unsqueeze(1), torch.from_numpy(file["labels"][:600]).long()
    for name, case in json.loads(cases.read_text()).items():
        run(name, case, data, folder)


if __name__ == "__main__":
    main()
