"""Holds training against PyTorch: the same weights and batches must give the same gradients, losses and final weights.

    reference_test.py BUILD_FOLDER

Tolerances: gradients of the first step 1e-5 (relative L2 norm of each tensor) and ten losses 1e-5 in 32-bit floats; the
weights and losses of a whole run 1e-8 in 64-bit floats.
"""

import itertools
import math
import pathlib
import subprocess
import sys
import tempfile

import torch
from networks import ConvNet, ToyNet
from safetensors.torch import load_file
from torch import nn

torch.set_num_threads(1)

MODELS = {
    "cnn": (ConvNet, nn.CrossEntropyLoss(), "configs/mnist.toml", 128),
    "toy": (ToyNet, nn.BCEWithLogitsLoss(), "configs/mnist_toy.toml", 256),
}
SAMPLES = 1000
# BatchNorm takes away any bias before it: the gradients of these biases are rounding and nothing else, and Adam, which divides
# by their size, turns them into steps. No two programs agree on where such a bias goes, nor on the mean that follows it;
# nothing depends on it.
ADRIFT = {"conv1.bias", "conv2.bias", "norm1.running_mean", "norm2.running_mean"}


def part(trace, prefix):
    return {name[len(prefix):]: value for name, value in trace.items() if name.startswith(prefix)}


def make_optimizer(kind, model, rate):
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=0.01)
    return torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)


def factor(model_kind, step, steps_per_epoch, total):
    if model_kind == "toy":
        return math.prod(0.2 for milestone in (1, 2) if step // steps_per_epoch >= milestone)
    warm = max(1, math.floor(total * 0.1))
    return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, total - warm))))


def train(model_kind, optimizer_kind, trace, epochs, batch, clip):
    """The run that the trace describes, by PyTorch: its losses, and the model at the end."""
    network, loss_function, _, _ = MODELS[model_kind]
    model = network().to(trace["start.conv1.weight"].dtype)
    model.load_state_dict(part(trace, "start."), strict=True)
    rate = 3e-3 if model_kind == "cnn" else 1.5e-3
    optimizer = make_optimizer(optimizer_kind, model, rate)
    per_epoch = -(-SAMPLES // batch)
    losses = []
    for step in range(len(trace["losses"])):
        data = part(trace, f"batch.{step}.")
        for group in optimizer.param_groups:
            group["lr"] = rate * factor(model_kind, step, per_epoch, per_epoch * epochs)
        optimizer.zero_grad()
        loss = loss_function(model(data["images"]), data["labels"])
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64), model


def worst(ours, theirs):
    """Largest relative L2 distance of any tensor."""
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    return max(float((ours[k].double() - theirs[k].double()).norm() / theirs[k].double().norm().clamp_min(1e-30)) for k in ours)


def first_gradients(model_kind, trace, dtype, reduction):
    """Of the mean loss at the starting weights, by PyTorch: of torch's mean, or of its sum, divided afterwards."""
    network, loss_function, _, _ = MODELS[model_kind]
    model = network().to(dtype)
    model.load_state_dict({k: v.to(dtype) if v.is_floating_point() else v for k, v in part(trace, "start.").items()})
    data = {k: v.to(dtype) if v.is_floating_point() else v for k, v in part(trace, "batch.0.").items()}
    output = model(data["images"])
    type(loss_function)(reduction=reduction)(output, data["labels"]).backward()
    terms = output.numel() if model_kind == "toy" else len(output)
    return {name: p.grad / (terms if reduction == "sum" else 1) for name, p in model.named_parameters()}


def check_gradients(model_kind, trace):
    """Ours against PyTorch's from the same sum of losses: 1e-5 for each tensor. Against PyTorch's from its mean: 1e-5 as well
    where 32 bits can tell. BatchNorm's backward cancels digits, so that PyTorch's own two ways, and both and the gradient
    in 64 bits, are further apart than that in the toy network; there ours must be about as near to the truth as PyTorch's.
    """
    ours = part(trace, "gradient.")
    dtype = ours["conv1.weight"].dtype
    from_sum, from_mean = (first_gradients(model_kind, trace, dtype, way) for way in ("sum", "mean"))
    truth = first_gradients(model_kind, trace, torch.float64, "mean")
    distance = worst(ours, from_sum)
    assert distance <= (1e-5 if dtype == torch.float32 else 1e-8), f"gradients: {distance}"
    for name in ours if dtype == torch.float32 else ():
        apart, scale = float((ours[name] - from_mean[name]).norm()), float(truth[name].norm())
        if apart <= 1e-5 * scale:
            continue
        error, theirs = (float((side[name].double() - truth[name]).norm()) for side in (ours, from_mean))
        assert error <= 4 * theirs, f"gradient of {name}: {error} from the truth, PyTorch's {theirs}"
    return distance


def compare(tool, folder, model_kind, optimizer_kind, precision, epochs, clip=0.0):
    _, _, config, batch = MODELS[model_kind]
    out = folder / "trace.safetensors"
    settings = {
        "config.optimizer": optimizer_kind, "config.batch_size": batch, "config.train_samples": SAMPLES,
        "config.weight_decay": 0.01, "config.milestones": [1, 2], "config.patience": 0,
        "trainer.init.max_epochs": epochs, "trainer.init.precision": precision, "trainer.init.numerics": "ordinary",
        "trainer.init.gradient_clip_val": clip, "trainer.init.memory_format": "contiguous",  # as PyTorch's own
    }
    subprocess.run([tool, config, out, *(f"{k}={v}" for k, v in settings.items())], check=True)
    trace = load_file(out)
    losses, model = train(model_kind, optimizer_kind, trace, epochs, batch, clip)
    adrift = ADRIFT if (model_kind, optimizer_kind) == ("toy", "adamw") else set()
    ours, theirs = part(trace, "end."), model.state_dict()
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    found = {
        "gradients": check_gradients(model_kind, trace),
        "ten losses": float((trace["losses"] - losses)[:10].abs().max()),
        "all losses": float((trace["losses"] - losses).abs().max()),
        "weights": worst(*({k: v for k, v in side.items() if k not in adrift} for side in (ours, theirs))),
    }
    assert precision == "32-true" or worst(ours, theirs) <= 1e-6, "a bias before BatchNorm drifted far"
    limits = {"gradients": 1e-5, "ten losses": 1e-5} if precision == "32-true" else dict.fromkeys(found, 1e-8)
    line = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
    print(f"{model_kind} {optimizer_kind} {precision}{' clipped' if clip else ''}, {len(losses)} steps: {line}", flush=True)
    assert len(losses) == epochs * -(-SAMPLES // batch), len(losses)
    for name, limit in limits.items():
        assert found[name] <= limit, f"{name}: {found[name]} is over {limit}"


def main():
    tool = pathlib.Path(sys.argv[1]) / "trace_tool"
    with tempfile.TemporaryDirectory() as folder:
        for model_kind, optimizer_kind in itertools.product(MODELS, ("adamw", "sgd")):
            compare(tool, pathlib.Path(folder), model_kind, optimizer_kind, "32-true", 3)
            compare(tool, pathlib.Path(folder), model_kind, optimizer_kind, "64-true", 6)
        compare(tool, pathlib.Path(folder), "cnn", "adamw", "32-true", 3, clip=0.5)
        compare(tool, pathlib.Path(folder), "cnn", "adamw", "64-true", 3, clip=0.5)


if __name__ == "__main__":
    main()
