"""Python reads what a run leaves: PyTorch's same network loads the weights strictly and predicts the same, TensorBoard's own
reader returns every scalar.

    python_reads_test.py BUILD_FOLDER
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import h5py
import torch
from programs import BUILD, run, train
from reference_test import ConvNet, ToyNet
from safetensors import safe_open
from safetensors.torch import load_file


def digits(path, first=0):
    with h5py.File(path) as file:
        images = torch.from_numpy(file["images"][first:]).float().div(255).unsqueeze(1)
        return images, torch.from_numpy(file["labels"][first:]).long()


def validation_loss(model, loss):
    """By PyTorch, of the 500 digits that the run held back."""
    images, labels = digits("data/mnist-train.h5", 5500)
    targets = labels if isinstance(loss, torch.nn.CrossEntropyLoss) else torch.nn.functional.one_hot(labels, 10).float()
    with torch.no_grad():
        return float(loss(model(images), targets))


def network_predicts_the_same(root, network, loss, config, values):
    folder = train(2, config, root, values)
    weights = folder / "checkpoints/last.safetensors"
    tensors = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("lab.")}
    model = network()
    model.load_state_dict(tensors, strict=True)
    model.eval()
    images, labels = digits("data/mnist-test.h5")
    with torch.no_grad():
        logits = torch.cat([model(chunk) for chunk in images.split(64)])
    out = root / "results.csv"
    done = run(2, "lab_infer", config, "-o", weights, "data/mnist-test.h5", out)
    assert done.returncode == 0, done.stderr
    ours = torch.tensor([int(line.split(",")[1]) for line in out.read_text().splitlines()[1:]])
    margin = logits.topk(2).values
    clear = (margin[:, 0] - margin[:, 1]) > 1e-6
    assert torch.equal(ours[clear], logits.argmax(1)[clear])
    hits = int((logits.argmax(1) == labels).sum())
    assert f"({hits} of 1000)" in done.stdout or clear.sum() < 1000, (hits, done.stdout)

    with safe_open(weights, "pt") as file:
        state = json.loads(file.metadata()["lab"])
    assert state["format"] == 2 and state["step"] > 0, state
    ours, theirs = state["values"]["loss/validate"], validation_loss(model, loss)
    print(f"{config}: loss/validate {ours}, by PyTorch from the file {theirs}", flush=True)
    assert abs(ours - theirs) <= 1e-6
    index = json.loads((folder / "checkpoints/index.json").read_text())
    listed = [entry["file"] for entry in index["checkpoints"]]
    assert listed[:2] == ["last.safetensors", "best.safetensors"] and len(listed) == 4, listed
    return folder


def main():
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        folder = network_predicts_the_same(root, ConvNet, torch.nn.CrossEntropyLoss(), "configs/mnist.toml", {"trainer.init.max_epochs": 2})
        network_predicts_the_same(root, ToyNet, torch.nn.BCEWithLogitsLoss(), "configs/mnist_toy.toml", {"trainer.init.max_epochs": 2})
        tensorboard_test = pathlib.Path(__file__).with_name("tensorboard_test.py")
        subprocess.run([sys.executable, tensorboard_test, folder], check=True)
    print(f"read by torch {torch.__version__} and tensorboard, built in {BUILD.name}")


if __name__ == "__main__":
    main()
