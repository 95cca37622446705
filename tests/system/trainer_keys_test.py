"""Every key of [trainer.init]: it changes what it should, and a wrong value is refused with its place and what would do.

    trainer_keys_test.py BUILD_FOLDER
"""

import csv
import json
import math
import pathlib
import re
import tempfile
import tomllib

import h5py
import numpy as np
from programs import run, settings, sha256
from safetensors.numpy import load_file

MNIST = "configs/mnist.toml"
SHORT = {"config.train_samples": 1024, "config.batch_size": 128, "trainer.init.max_epochs": 1, "trainer.init.threads": 1,
         "trainer.init.numerics": "ordinary"}


class Outcome:
    """A finished lab_train."""

    def __init__(self, root, values, ranks=0):
        self.done = run(ranks, "lab_train", MNIST, "-o", *settings({
            "trainer.init.default_root_dir": root, **SHORT, **values}))
        self.code, self.log = self.done.returncode, self.done.stderr

    @classmethod
    def of(cls, done):
        outcome = cls.__new__(cls)
        outcome.done, outcome.code, outcome.log = done, done.returncode, done.stderr
        return outcome

    @property
    def folder(self):
        assert self.code == 0, self.log
        return pathlib.Path(self.done.stdout.strip().splitlines()[-1].split("  ")[0])

    @property
    def record(self):
        return json.loads((self.folder / "run.json").read_text())

    @property
    def steps(self):
        return self.record["steps"]

    def points(self, tag):
        with open(self.folder / "metrics.csv", newline="") as file:
            return [float(row["value"]) for row in csv.DictReader(file) if row["tag"] == tag]

    @property
    def saved(self):
        return sorted(path.name for path in (self.folder / "checkpoints").glob("epoch=*"))

    @property
    def weights(self):
        return sha256(self.folder / "checkpoints/last.safetensors")

    @property
    def tensors(self):
        """Of the model, the optimizer and all else, without how many records there are."""
        return {name: (array.shape, array.tobytes()) for name, array in load_file(
            self.folder / "checkpoints/last.safetensors").items()}


def init(**values):
    return {f"trainer.init.{key}": str(value).lower() if isinstance(value, bool) else value
            for key, value in values.items()}


def effects(new):
    """Key by key, whether what it changes is so. `new(values)` is the outcome of a run."""
    plain = new({})
    assert plain.steps == 8 and len(plain.points("loss/train_step")) == 0
    assert plain.done.stdout.startswith("first validation") and "loss/validate" in plain.done.stdout, plain.done.stdout
    stop = {"config.patience": 1, "config.learning_rate": 1e-30, **init(max_epochs=4)}  # stops after its second epoch
    yield "max_epochs", new(init(max_epochs=2)).steps == 16
    yield "max_steps", new(init(max_steps=3)).steps == 3
    yield "min_epochs", (new(stop).steps, new({**stop, **init(min_epochs=3)}).steps) == (16, 24)
    yield "min_steps", new({**stop, **init(min_steps=25)}).steps == 32
    timed = new(init(max_epochs=100000, max_time="00:00:00:02"))
    yield "max_time", "max_time 00:00:00:02 is over" in timed.log and timed.steps > 8 and timed.saved
    yield "limit_train_batches", (new(init(limit_train_batches=3)).steps, new(init(limit_train_batches=0.5)).steps) == (3, 4)
    yield "limit_val_batches", (len(new({**init(limit_val_batches=0), "config.monitor": "loss/train_epoch"}).points(
        "loss/validate")) == 0
                                and new(init(limit_val_batches=1)).points("loss/validate")[0] != plain.points("loss/validate")[0])
    overfit = new(init(overfit_batches=1, max_epochs=2))
    yield "overfit_batches", overfit.steps == 2 and "not shuffled" in overfit.log
    quick = new(init(fast_dev_run=True))
    yield "fast_dev_run", (quick.steps, quick.saved, new(init(fast_dev_run=3)).steps) == (1, [], 3)
    yield "accumulate_grad_batches", new(init(accumulate_grad_batches=3)).steps == 3
    yield "log_every_n_steps", len(new(init(log_every_n_steps=2)).points("loss/train_step")) == 4
    yield "check_val_every_n_epoch", len(new(init(max_epochs=4, check_val_every_n_epoch=2)).points("loss/validate")) == 3
    often = new(init(val_check_interval=0.25))  # of 8 batches
    yield "val_check_interval", (len(often.points("loss/validate")), often.tensors) == (5, plain.tensors)
    yield "val_check_interval", (len(new(init(val_check_interval=3)).points("loss/validate")),
                                 len(new(init(val_check_interval=3, max_epochs=2, check_val_every_n_epoch=2,
                                              accumulate_grad_batches=2)).points("loss/validate"))) == (4, 4)
    for key, value in (("gradient_clip_val", 0.01), ("seed", 5), ("matmul_precision", "medium"),
                       ("precision", "64-true"), ("precision", "bf16-mixed"), ("precision", "16-mixed"), ("precision", "bf16-true")):
        yield key, new(init(**{key: value})).weights != plain.weights
    clipped = init(gradient_clip_val=0.01)
    yield "gradient_clip_algorithm", (new({**clipped, **init(gradient_clip_algorithm="value")}).weights
                                      != new(clipped).weights)
    yield "numerics", new({**init(numerics="canonical")}).weights != plain.weights
    yield "virtual_ranks", (new(init(numerics="canonical", virtual_ranks=4)).weights
                            != new(init(numerics="canonical")).weights)
    first = new(init(num_sanity_val_steps=0))
    yield "num_sanity_val_steps", (len(first.points("loss/validate")), len(plain.points("loss/validate")), first.tensors) == (
        1, 2, plain.tensors)
    yield "memory_format", "channels_last" in (new(init(memory_format="channels_last")).folder / "config.toml").read_text()
    yield "accelerator", new(init(accelerator="gpu")).code == 69
    yield "devices", new(init(devices=2)).code == 78 and new(init(devices=1)).code == 0
    yield "num_nodes", new(init(devices=1, num_nodes=2)).code == 78
    yield "threads", "2 threads" in new(init(threads=2)).log
    yield "enable_checkpointing", new(init(enable_checkpointing=False)).saved == []
    yield "checkpoint_every_n_steps", len(new(init(checkpoint_every_n_steps=3, checkpoint_keep=9)).saved) == 3
    yield "checkpoint_every_minutes", len(new(init(checkpoint_every_minutes=1e-6, checkpoint_keep=9)).saved) == 8
    yield "checkpoint_keep", len(new(init(max_epochs=4, checkpoint_keep=1)).saved) <= 2
    yield "checkpoint_every_n_epochs", new(init(
        max_epochs=5, checkpoint_every_n_epochs=3, checkpoint_keep=-1)).saved == [
            "epoch=2-step=24.safetensors", "epoch=4-step=40.safetensors"]
    top = new(init(max_epochs=4, checkpoint_keep=1, checkpoint_top_k=3, checkpoint_filename="mine-{epoch:02d}"))
    best = json.loads((top.folder / "run.json").read_text())["best"]["epoch"]
    yield "checkpoint_top_k", len(top.saved) in (3, 4)
    named = [file.name for file in (top.folder / "checkpoints").glob("mine-*.safetensors")]
    yield "checkpoint_filename", len(named) == 3 and f"mine-{best:02}.safetensors" in named
    yield "enable_model_summary", "Conv2d" in plain.log and "Conv2d" not in new(init(enable_model_summary=False)).log
    other = new({"trainer.init.default_root_dir": "elsewhere"})
    yield "default_root_dir", other.folder.parent.name == "elsewhere"


# What the other tests hold to what they should do.
ELSEWHERE = {
    "gradient_compression": "compression_test.py", "sync_batchnorm": "mpi tests, sync_batch_norm",
    "strategy": "mpi tests, sharded_optimizer", "enable_progress_bar": "unit_app, Progress",
    "on_checkpoint_error": "disk_test.py", "hang_seconds": "watchdog_test.py", "bucket_cap_mb": "nccl_test.py",
    "limit_test_batches": "measure_test.py, tests()",
    "limit_predict_batches": "here, predictions()", "detect_anomaly": "here, diverging()",
    "deterministic": "here, switches()", "benchmark": "here, switches()", "inference_mode": "here, switches()",
    "on_non_finite": "mpi tests, SkippedStepsTest",
}

# Key, wrong value, what the message says.
WRONG = [
    ("max_epochs", -2, "at least -1"), ("num_sanity_val_steps", -2, "at least -1"),
    ("max_steps", 1.5, "wants an integer"), ("min_epochs", -1, "at least 0"),
    ("min_steps", "x", "wants an integer"), ("max_time", "12 hours", "days, hours, minutes and seconds"),
    ("max_time", "00:00:00:00", "days, hours, minutes and seconds"),
    *[(key, value, "a number of batches, or a share of them from 0.0 to 1.0")
      for key in ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches")
      for value in (-1, 1.5, -0.5)],
    ("limit_train_batches", 0.01, "less than one"), ("fast_dev_run", -1, "true, false or a number of batches"),
    ("fast_dev_run", 0.5, "wants a boolean or integer"), ("accumulate_grad_batches", 0, "at least 1"),
    ("log_every_n_steps", 0, "at least 1"), ("check_val_every_n_epoch", 0, "at least 1"),
    ("val_check_interval", 0, "a number of batches from 1 on"), ("val_check_interval", 1.5, "a number of batches from 1 on"),
    ("val_check_interval", 44, "more than an epoch's 43 batches"), ("val_check_interval", 0.01, "less than one"),
    ("gradient_clip_val", -1, "at least 0"), ("gradient_clip_algorithm", "norms", 'did you mean "norm"'),
    ("gradient_compression", "fp16", '"none", "bf16"'), ("sync_batchnorm", 1, "wants a boolean"),
    ("strategy", "fsdp", '"ddp", "zero1"'), ("precision", "bf16", "bf16-mixed"),
    ("on_non_finite", "roll back", 'did you mean "roll_back"'),
    ("memory_format", "nhwc", "channels_last"), ("accelerator", "tpu", '"auto", "cpu", "gpu"'),
    ("matmul_precision", "low", "highest"), ("devices", 0, '"auto" or a number of ranks'),
    ("devices", "all", '"auto" or a number of ranks'), ("num_nodes", 0, "at least 1"),
    ("deterministic", "yes", 'true, false or "warn"'), ("benchmark", 1, "wants a boolean"),
    ("detect_anomaly", "x", "wants a boolean"), ("inference_mode", 1, "wants a boolean"),
    ("enable_model_summary", 1, "wants a boolean"), ("enable_progress_bar", 1, "wants a boolean"),
    ("enable_checkpointing", 1, "wants a boolean"), ("default_root_dir", "", "empty"),
    ("checkpoint_every_n_steps", -1, "at least 0"), ("checkpoint_every_minutes", -1, "at least 0"),
    ("checkpoint_keep", 0, "at least 1, or -1 for all"), ("checkpoint_top_k", -2, "at least 1, or -1 for all"),
    ("checkpoint_every_n_epochs", 0, "at least 1"), ("checkpoint_filename", "digits", "{epoch} or {step} in it"),
    ("checkpoint_filename", "{epoch}-{loss/valid}", "which is not measured"), ("on_checkpoint_error", "ignore", '"stop", "continue"'),
    ("hang_seconds", -1, "at least 0"), ("seed", -1, "at least 0"), ("numerics", "exact", "canonical"),
    ("virtual_ranks", 3, "a power of two"), ("threads", -1, "between 0 and 4096"), ("bucket_cap_mb", 0, "above 0"),
    # Lightning's that lab does not have: the reason and the nearest thing.
    ("logger", False, "metrics.csv, TensorBoard and ClearML"), ("callbacks", 1, "adds them to its plan"),
    ("profiler", "simple", "perf and nsys"), ("plugins", 1, "--backend"), ("barebones", True, "worth leaving out"),
    ("use_distributed_sampler", True, "its share of every batch"), ("model_registry", "x", "task.output_uri"),
    ("reload_dataloaders_every_n_epochs", 1, "epoch's number"), ("enable_autolog_hparams", True, "always recorded"),
    ("max_epoch", 2, 'did you mean "max_epochs"'),
]


def known_keys():
    text = run(0, "lab_train", "--help-config").stdout
    section = text[text.index("[trainer.init]"):text.index("[trainer.fit]")]
    return set(re.findall(r"^  (\w+) ", section, re.MULTILINE))


def refusals(root):
    for key, value, words in WRONG:
        wrong = run(0, "lab_train", MNIST, "-o", *settings(init(**{"default_root_dir": root, key: value})))
        place = f"--set trainer.init.{key}"
        assert wrong.returncode == 78 and words in wrong.stderr, (key, value, wrong.returncode, wrong.stderr)
        assert place in wrong.stderr or f"trainer.init.{key}" in wrong.stderr, (place, wrong.stderr)
    print(f"{len(WRONG)} wrong values refused", flush=True)


def predictions(root, weights):
    """limit_predict_batches: so many of the fixed chunks of 64."""
    table = root / "table.csv"
    done = run(2, "lab_infer", MNIST, "-o", *settings(init(limit_predict_batches=2)), weights, "data/mnist-test.h5", table)
    assert done.returncode == 0, done.stderr
    assert len(table.read_text().splitlines()) == 1 + 128, table.read_text()


def switches(root):
    """deterministic, benchmark, inference_mode: what is computed sees them."""
    with h5py.File(root / "points.h5", "w") as out:
        out["x"] = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
        out["labels"] = np.zeros(200, np.uint8)
    config = root / "points.toml"
    config.write_text(f'experiment = "points"\n[trainer.init]\nmax_epochs = 1\n[config]\ndata = "{root / "points.h5"}"\n')

    def points(ranks, values):
        done = run(ranks, "predict_tool", "train", config, "-o", *settings({"trainer.init.default_root_dir": root, **values}))
        return done, Outcome.of(done)

    for key, usual in (("inference_mode", True), ("benchmark", False)):
        tag = key.removesuffix("_mode")
        for value in (usual, not usual):
            for ranks in (1, 3):
                done, told = points(ranks, init(**{key: value}))
                assert done.returncode == 0, done.stderr
                assert told.points(f"{tag}/validate") == [value, value], (key, value, told.points(f"{tag}/validate"))
        assert told.points("inference/train") == [0], "training keeps what autograd needs"
    put = {"config.operation": "put"}  # which torch computes otherwise each time, it says
    for ranks in (1, 3):
        plain, _ = points(ranks, {**put, **init(deterministic=False)})
        assert plain.returncode == 0 and "deterministic implementation" not in plain.stderr, plain.stderr
        warned, _ = points(ranks, {**put, "trainer.init.deterministic": "warn"})
        assert warned.returncode == 0 and "put_ does not have a deterministic implementation" in warned.stderr, warned.stderr
        refused, _ = points(ranks, {**put, **init(deterministic=True)})
        assert refused.returncode == 78 and "put_ does not have a deterministic implementation" in refused.stderr, refused.stderr
        assert points(ranks, init(deterministic=True))[0].returncode == 0, "what has one is computed"
    print("deterministic, benchmark and inference_mode reach what is computed", flush=True)


def values_of_the_demo():
    """What torch-lab's demo has, but for how many samples there are."""
    demo, ours = (tomllib.loads(run(0, "lab_train", f"configs/{name}.toml", "--print-config").stdout)
                  for name in ("mnist_toy", "mnist"))
    carried = {"n_features": 32, "learning_rate": 1.5e-3, "weight_decay": 0.01, "batch_size": 2048, "patience": 5,
               "milestones": [5, 8], "gamma": 0.2, "monitor": "loss/validate", "flip": 0.4, "shift": 0, "model": "toy"}
    assert {key: demo["config"][key] for key in carried} == carried, demo["config"]
    for config in (demo, ours):
        assert config["task"]["project_name"] == "test" and config["trainer"]["init"]["enable_progress_bar"] is True, config
    text = run(0, "lab_train", "--help-config").stdout
    for key, usual in (("enable_progress_bar", "false"), ("max_epochs", "-1")):
        assert re.search(rf"^  {key} .*{usual}", text, re.MULTILINE), text


def demo_stays_above_its_floor(root):
    """No logit is below zero: nine of ten targets cost ln 2 at least."""
    toy = Outcome.of(run(2, "lab_train", "configs/mnist_toy.toml", "-o", *settings({
        "trainer.init.default_root_dir": root, "trainer.init.max_epochs": 3, "config.batch_size": 256, "config.n_features": 8})))
    losses = toy.points("loss/train_epoch") + toy.points("loss/validate")
    assert len(losses) == 7 and min(losses) > 0.9 * math.log(2) - 1e-6, losses


def dev_run(root):
    """--dev-run V: overfit_batches = V, in the project test, named dev_..., and which samples are used is said."""
    done = run(0, "lab_train", MNIST, "-o", "--dev-run", "2", *settings({
        "trainer.init.default_root_dir": root, **SHORT, "task.project_name": "mine"}))
    assert done.returncode == 0, done.stderr
    folder = pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0])
    assert folder.name.startswith("dev_mnist-mnist_offline"), folder
    config = (folder / "config.toml").read_text()
    assert 'project_name = "test"' in config and "overfit_batches = 2" in config and "log_every_n_steps = 1" in config
    assert "trains on the first 256 of 1024 samples, not shuffled, and validates on the first 256 of" in done.stderr, done.stderr


def diverging(root):
    """detect_anomaly: autograd says which operation made a NaN."""
    told = Outcome(root, {"config.learning_rate": 1e30, **init(detect_anomaly=True, max_epochs=3)})
    assert told.code in (65, 70) and ("anomaly" in told.log.lower() or "NaN" in told.log or "nan" in told.log), told.log


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        refusals(root)
        seen = set()
        for key, as_it_should in effects(lambda values: Outcome(root, {
                **values, **({"trainer.init.default_root_dir": root / "elsewhere"}
                             if "trainer.init.default_root_dir" in values else {})})):
            assert as_it_should, f"trainer.init.{key} does not change what it should"
            seen.add(key)
        print(f"{len(seen)} keys change what they should", flush=True)
        predictions(root, Outcome(root, {}).folder / "checkpoints/last.safetensors")
        diverging(root)
        switches(root)
        dev_run(root)
        values_of_the_demo()
        demo_stays_above_its_floor(root)
        refused = {key for key, _, _ in WRONG}
        missing = known_keys() - seen - set(ELSEWHERE), known_keys() - refused
        assert missing == (set(), set()), f"keys without a test: of their effect {missing[0]}, of a wrong value {missing[1]}"


if __name__ == "__main__":
    main()
