"""--check-gradients on the experiments that ship, and training with sync_batchnorm on several ranks.

    gradient_check_test.py BUILD_FOLDER
"""

import pathlib
import re
import tempfile

from programs import run, settings, train
from safetensors.torch import load_file

CNN = ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
TOY = ["conv1.weight", "conv1.bias", "norm1.weight", "norm1.bias", "conv2.weight", "conv2.bias", "norm2.weight", "norm2.bias"]
SYNC = {"config.train_samples": 1001, "config.batch_size": 500, "trainer.init.numerics": "ordinary",
        "trainer.init.precision": "64-true", "trainer.init.sync_batchnorm": "true"}
CASES = {
    "cnn": ("configs/mnist.toml", CNN, {}),
    "cnn, 64 bits": ("configs/mnist.toml", CNN, {"trainer.init.precision": "64-true", "config.dropout": 0.5}),
    "cnn, several batches": ("configs/mnist.toml", CNN, {"trainer.init.accumulate_grad_batches": 3,
                                                         "trainer.init.numerics": "ordinary"}),
    "toy": ("configs/mnist_toy.toml", TOY, {"config.batch_size": 512, "trainer.init.precision": "64-true"}),
    "toy, one sample left and BatchNorm over all ranks": ("configs/mnist_toy.toml", TOY, SYNC),
}


def check(name, config, parameters, values, ranks, root):
    words = settings({"trainer.init.default_root_dir": root, **values})
    done = run(ranks, "lab_train", config, "-o", "--check-gradients", *words)
    assert done.returncode == 0, f"{name}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    rows = re.findall(r"^  (\S+) +(\S+)  ok$", done.stdout, re.M)
    assert [row[0] for row in rows] == 2 * parameters, done.stdout
    assert "DIFFERS" not in done.stdout and "step 0, " in done.stdout, done.stdout
    assert not list(pathlib.Path(root).iterdir()), "a check makes no run"
    print(f"{name}, {ranks} ranks: at most {max(float(row[1]) for row in rows)}", flush=True)


def trains_as_one_rank(root):
    values = {**SYNC, "trainer.init.max_epochs": 3}
    one, many = (load_file(train(ranks, "configs/mnist_toy.toml", root, values) / "checkpoints/last.safetensors")
                 for ranks in (1, 3))
    # A bias before BatchNorm has no gradient but rounding, which AdamW makes steps of; the running mean follows it.
    for name in one.keys() - {"conv1.bias", "conv2.bias", "norm1.running_mean", "norm2.running_mean"}:
        if not name.startswith("lab."):
            apart = float((one[name].double() - many[name].double()).norm() / one[name].double().norm())
            assert apart <= 1e-8, f"{name}: {apart}"


def main():
    with tempfile.TemporaryDirectory() as root:
        for name, (config, parameters, values) in CASES.items():
            for ranks in (0, 2, 3):
                check(name, config, parameters, values, ranks, root)
        refused = run(2, "lab_train", "configs/mnist_toy.toml", "-o", "--set", "trainer.init.sync_batchnorm=true")
        assert refused.returncode == 78 and "canonical" in refused.stderr, refused.stderr
        trains_as_one_rank(root)


if __name__ == "__main__":
    main()
