"""lab_infer: what it writes as CSV and HDF5, on any number of ranks the same bytes; weights that the config names, their
average; and what is refused before anything is computed.

    predict_test.py BUILD_FOLDER
"""

import csv
import hashlib
import pathlib
import shutil
import subprocess
import tempfile
import time

import h5py
import numpy as np
import torch
from programs import BUILD, ENVIRONMENT, run, settings
from safetensors.torch import load_file

RANKS, SOME_RANKS = (1, 2, 3, 4), (1, 3)  # the others where only the form is another
SAMPLES = 300  # five chunks
NAMES = ["plain", "with, comma", 'with "quotes"', "two\nlines", "", "ü"]


def points(path):
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, SAMPLES)
    with h5py.File(path, "w") as out:
        out["x"] = (random.normal(size=(SAMPLES, 4)) + labels[:, None]).astype(np.float32)
        out["labels"] = labels.astype(np.uint8)
        out["age"] = random.integers(-5, 90, SAMPLES).astype(np.int32)
        out["dose"] = random.normal(size=SAMPLES)
        out["name"] = np.array([NAMES[i % len(NAMES)].encode() for i in range(SAMPLES)], dtype="S20")
    return path


def write_config(root):
    path = root / "points.toml"
    path.write_text(f'experiment = "points"\n[trainer.init]\nmax_epochs = 2\nnumerics = "canonical"\n[config]\n'
                    f'data = "{root / "data.h5"}"\n')
    return path


def train(root, config, **values):
    done = run(2, "predict_tool", "train", config, "-o", *settings({"trainer.init.default_root_dir": root / "runs", **{
        f"config.{key}": value for key, value in values.items()}}))
    assert done.returncode == 0, done.stderr
    return pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0]) / "checkpoints/last.safetensors"


def network(tensors):
    """The same model in Python."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.BatchNorm1d(16), torch.nn.Tanh(), torch.nn.Dropout(0.2),
                                torch.nn.Linear(16, 3))
    model.load_state_dict(tensors)
    return model.eval()


def weights_of(checkpoint, averaged=False):
    tensors = load_file(checkpoint)
    model = {name: tensor for name, tensor in tensors.items() if not name.startswith("lab.")}
    if averaged:
        model.update({name[len("lab.ema."):]: tensor for name, tensor in tensors.items() if name.startswith("lab.ema.")})
    return model


class World:
    def __init__(self, root):
        self.root, self.config = root, write_config(root)
        self.data = points(root / "data.h5")
        self.weights = train(root, self.config)
        with h5py.File(self.data) as file:
            self.fields = {name: file[name][:] for name in file}

    def infer(self, ranks, out, values=(), words=None):
        words = [self.weights, self.data] if words is None else words
        return run(ranks, "predict_tool", "infer", self.config, "-o", *settings(dict(values)), *words, out)

    def on_any_ranks(self, ending, values, all_ranks=RANKS):
        """The file that all numbers of ranks write, and what they say."""
        hashes, said = {}, set()
        for ranks in all_ranks:
            out = self.root / f"out-{ranks}{ending}"
            done = self.infer(ranks, out, values)
            assert done.returncode == 0, done.stderr
            said.add(done.stdout)
            hashes.setdefault(hashlib.sha256(out.read_bytes()).hexdigest(), []).append(ranks)
            time.sleep(1.1 if ranks == 1 and ending != ".csv" else 0)  # of HDF5's time stamps, if there were any
        assert len(hashes) == 1 and len(said) == 1, f"{values}: other bytes on other ranks: {hashes}, {said}"
        assert not list(self.root.glob("*.tmp*")), "a temporary file was left behind"
        return out, said.pop()

    def expected(self, averaged=False, checkpoint=None):
        with torch.no_grad():
            return network(weights_of(checkpoint or self.weights, averaged))(torch.from_numpy(self.fields["x"])).numpy()


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def classes_as_csv(world):
    out, said = world.on_any_ranks(".csv", {})
    classes = world.expected().argmax(1)
    assert table(out) == [["index", "prediction"]] + [[str(i), str(k)] for i, k in enumerate(classes)]
    assert out.read_bytes().count(b"\n") == 1 + SAMPLES and b"\r" not in out.read_bytes()
    right = int((classes == world.fields["labels"]).sum())
    assert said == f"accuracy {round(right / SAMPLES, 4)} ({right} of {SAMPLES})\n", said
    print(f"classes as CSV: {said.strip()}", flush=True)


def metadata_in_both(world):
    """Named by the config, and by the plan itself; texts that a CSV must quote."""
    names = ["name", "age", "dose", "labels"]
    by_config = {"trainer.predict.metadata": str(names).replace("'", '"')}
    out, _ = world.on_any_ranks(".csv", by_config)
    rows = table(out)
    assert rows[0] == ["index", "prediction", *names], rows[0]
    texts = [name.decode() for name in world.fields["name"]]
    assert [row[2] for row in rows[1:]] == texts
    assert [int(row[3]) for row in rows[1:]] == world.fields["age"].tolist()
    assert [float(row[4]) for row in rows[1:]] == world.fields["dose"].tolist()
    assert [int(row[5]) for row in rows[1:]] == world.fields["labels"].tolist()
    by_plan, _ = world.on_any_ranks(".csv", {"config.metadata": by_config["trainer.predict.metadata"], "config.mapped": "true"})
    assert table(by_plan) == rows
    for ending in (".h5", ".hdf5"):
        out, _ = world.on_any_ranks(ending, by_config)
        with h5py.File(out) as file:
            assert set(file) == {"index", "prediction", *names}
            assert file["index"][:].tolist() == list(range(SAMPLES)) and file["index"].dtype == np.int64
            assert file["prediction"][:].tolist() == world.expected().argmax(1).tolist()
            assert file["name"].dtype.kind == "S" and file["name"].asstr()[:].tolist() == texts
            assert file["age"][:].tolist() == world.fields["age"].tolist() and file["age"].dtype == np.int64
            assert file["dose"][:].tolist() == world.fields["dose"].tolist() and file["dose"].dtype == np.float64
    inspected = run(0, "lab_data", "verify", out)
    assert inspected.returncode == 0, inspected.stderr
    print("metadata: texts and numbers, in CSV and HDF5", flush=True)


def tensors_of_any_shape(world):
    logits = world.expected()
    out, _ = world.on_any_ranks(".h5", {"config.rows": "named"})
    with h5py.File(out) as file:
        assert set(file) == {"index", "probability", "likely", "half", "class"}
        probabilities = file["probability"][:]
        assert probabilities.shape == (SAMPLES, 3) and probabilities.dtype == np.float32
        assert np.abs(probabilities - softmax(logits)).max() < 1e-6
        assert file["likely"].dtype == np.uint8 and (file["likely"][:] == (probabilities > 0.5)).all()
        assert file["half"].dtype == np.float32 and np.abs(file["half"][:] - logits[:, 0]).max() < 0.05
        assert file["class"].dtype == np.int32 and (file["class"][:] == logits.argmax(1)).all()
    csv_file, _ = world.on_any_ranks(".csv", {"config.rows": "named"})
    rows = table(csv_file)
    three = [f"_{i}" for i in range(3)]
    assert rows[0] == ["index", *["probability" + i for i in three], *["likely" + i for i in three], "half", "class"]
    assert (np.array([[float(value) for value in row[1:4]] for row in rows[1:]], np.float32) == probabilities).all()
    out, _ = world.on_any_ranks(".h5", {"config.rows": "maps"}, SOME_RANKS)
    with h5py.File(out) as file:
        assert file["prediction"].shape == (SAMPLES, 2, 3)
    rows = table(world.on_any_ranks(".csv", {"config.rows": "maps"}, SOME_RANKS)[0])
    assert rows[0] == ["index", *[f"prediction_{i}" for i in range(6)]] and rows[1][1:4] == rows[1][4:7]
    rows = table(world.on_any_ranks(".csv", {"config.rows": "two"}, SOME_RANKS)[0])
    assert rows[0] == ["index", "first", "second"] and abs(float(rows[9][2]) - softmax(logits)[8, 1]) < 1e-6
    print("tensors of any shape and type, in CSV side by side", flush=True)


def written_by_a_callback(world):
    out, _ = world.on_any_ranks(".abc", {"config.written": "bytes"}, SOME_RANKS)
    assert out.read_text() == "".join("abc"[k] for k in world.expected().argmax(1))
    print("a callback's own form", flush=True)


def other_metrics(world):
    """Only of a share of the samples it is told of how many."""
    _, said = world.on_any_ranks(".csv", {"config.metric": "recall"})
    assert said.startswith("recall 0.") and "of" not in said, said
    _, said = world.on_any_ranks(".csv", {"config.metric": "none"}, SOME_RANKS)
    assert said == "", said


def weights_by_the_config(world):
    out, plain = world.root / "by.csv", world.root / "plain.csv"
    assert world.infer(1, plain).returncode == 0
    for ranks in RANKS:
        out.unlink(missing_ok=True)
        done = world.infer(ranks, out, {"trainer.predict.ckpt_path": world.weights}, [world.data])
        assert done.returncode == 0 and out.read_bytes() == plain.read_bytes(), done.stderr
    done = world.infer(2, out, {"trainer.predict.ckpt_path": "gone.safetensors"})  # the command line comes first
    assert done.returncode == 0 and out.read_bytes() == plain.read_bytes(), done.stderr
    mnist = run(2, "lab_infer", "configs/mnist.toml", "-o", "--set", f"trainer.predict.ckpt_path={world.weights}",
                "data/mnist-test.h5", out)
    assert mnist.returncode == 65 and "another model" in mnist.stderr, mnist.stderr
    done = world.infer(2, out, {"checkpoint.checkpoint_task_id": "0" * 32, "checkpoint.checkpoint_name": "best"}, [world.data])
    assert done.returncode in (66, 69) and "0" * 32 in done.stderr, done.stderr
    print("weights: the command line's, or the config's", flush=True)


def averages(world):
    """As validation: of the average, where the run has validated that."""
    for average, averaged, uses in (("validated", "unset", True), ("kept", "unset", False), ("kept", "yes", True),
                                    ("validated", "no", False)):
        checkpoint = train(world.root, world.config, average=average)
        usual, other = world.expected(uses, checkpoint), world.expected(not uses, checkpoint)
        done = None
        for ranks in SOME_RANKS:
            out = world.root / "average.h5"
            done = world.infer(ranks, out, {"config.averaged": averaged, "config.rows": "named"}, [checkpoint, world.data])
            assert done.returncode == 0, done.stderr
            with h5py.File(out) as file:
                assert np.abs(file["probability"][:] - softmax(usual)).max() < 1e-6, (average, averaged)
                assert np.abs(file["probability"][:] - softmax(other)).max() > 1e-4, "the average is the weights"
        assert ("the average of the weights" in done.stderr) == uses, done.stderr
    done = world.infer(2, world.root / "average.h5", {"config.averaged": "yes"})
    assert done.returncode == 65 and "no average of the weights" in done.stderr, done.stderr
    print("averages of weights: as they were validated", flush=True)


def refused(world, name, done, code, *words):
    said = [line for line in done.stderr.splitlines() if "error: " in line]
    assert done.returncode == code and len(said) == 1 and all(word in done.stderr for word in words), (
        f"{name}: wants {code} and {words}\nexit {done.returncode}\n{done.stderr}")
    assert "wrote" not in done.stderr and not (world.root / "bad.csv").exists() and not (world.root / "bad.h5").exists()
    print(f"{name}: {code}: {said[0][25:160]}", flush=True)


def refusals(world):
    out, h5 = world.root / "bad.csv", world.root / "bad.h5"
    before = world.data.read_bytes()
    ranks = 3
    began = time.monotonic()
    bad = lambda values=(), out=out, words=None: world.infer(ranks, out, values, words)
    for name in ("bad.txt", "bad", "bad.csv.gz"):
        done = bad(out=world.root / name)
        refused(world, f"ending of {name}", done, 64, name, ".csv, .h5 or .hdf5")
        assert "predicting" not in done.stderr, "it was computed"
    done = bad(out=world.root / "gone/out.csv")
    refused(world, "no such folder", done, 74, "gone")
    assert "samples of" not in done.stderr, "it was computed"
    refused(world, "onto the data", bad(out=world.data), 64, "would replace", "data.h5")
    refused(world, "no such metadata", bad({"trainer.predict.metadata": '["agee"]'}), 65, "agee", "age")
    refused(world, "metadata of a shape", bad({"trainer.predict.metadata": '["x"]'}), 65, "'x'", "one number or text")
    refused(world, "metadata of what is no file",
            bad({"trainer.predict.metadata": '["age"]', "config.mapped": "true"}), 78, "no metadata 'age'")
    refused(world, "metadata named as predictions", bad({"trainer.predict.metadata": '["index"]'}), 65, "index")
    refused(world, "no weights", bad(words=[world.data]), 64, "trainer.predict.ckpt_path", "checkpoint_task_id")
    refused(world, "too few rows", bad({"config.rows": "short"}), 78, "64 samples", "first dimension")
    refused(world, "rows named alike", bad({"config.rows": "twice"}, h5), 78, "two columns", "same")
    refused(world, "rows that differ", bad({"config.rows": "uneven"}, h5), 78, "differ between")
    for key, value, words in (("return_predictions", True, "always go to the file"), ("dataloaders", 1, "command line"),
                              ("datamodule", 1, "command line"), ("model", "x", "experiment makes it"),
                              ("weights_only", True, "plain values"), ("ckpt_pat", "x", 'did you mean "ckpt_path"'),
                              ("metadata", "age", "metadata")):
        refused(world, key, bad({f"trainer.predict.{key}": str(value).lower()}), 78, f"trainer.predict.{key}", words)
    assert time.monotonic() - began < 21 * 20, "ranks hang"
    assert world.data.read_bytes() == before, "the data was changed"


def other_files_are_replaced_whole(world):
    """Killed anywhere, what was there before is there; a second run replaces it."""
    out = world.root / "whole.h5"
    assert world.infer(1, out).returncode == 0
    first = out.read_bytes()
    for delay in (0.05, 0.1, 0.2, 0.3, 0.4):
        job = subprocess.Popen([BUILD / "predict_tool", "infer", world.config, "-o", "--set", "config.rows=named",
                                world.weights, world.data, out], env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        time.sleep(delay)
        job.kill()
        job.wait()
        with h5py.File(out) as file:
            assert out.read_bytes() == first or set(file) == {"index", "probability", "likely", "half", "class"}
    for rest in world.root.glob("whole.h5.tmp*"):
        rest.unlink()


def mnist_as_ever(root):
    """No samples, one chunk, fewer chunks than ranks."""
    for limit, samples in ((0, 0), (1, 64), (2, 128)):
        files = set()
        for ranks in RANKS:
            out = root / "mnist.csv"
            done = run(ranks, "lab_infer", "configs/mnist.toml", "-o", "--set", f"trainer.init.limit_predict_batches={limit}",
                       root / "mnist.safetensors", "data/mnist-test.h5", out)
            assert done.returncode == 0, done.stderr
            files.add(out.read_bytes())
        assert len(files) == 1 and table(out)[0] == ["index", "prediction"] and len(table(out)) == 1 + samples
    print("mnist: 0, 64 and 128 samples on any ranks", flush=True)


def nothing_else_is_left(root, world):
    """Where lab_infer is started only what it writes is new."""
    place = root / "place"
    place.mkdir()
    done = run(2, "predict_tool", "infer", world.config, "-o", world.weights, world.data, "out.csv", cwd=place)
    assert done.returncode == 0 and [path.name for path in place.iterdir()] == ["out.csv"], done.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        world = World(root)
        classes_as_csv(world)
        metadata_in_both(world)
        tensors_of_any_shape(world)
        written_by_a_callback(world)
        other_metrics(world)
        weights_by_the_config(world)
        averages(world)
        refusals(world)
        other_files_are_replaced_whole(world)
        nothing_else_is_left(root, world)
        done = run(1, "lab_train", "configs/mnist.toml", "-o", *settings({
            "trainer.init.default_root_dir": root / "runs", "trainer.init.max_steps": 2, "trainer.init.num_sanity_val_steps": 0}))
        assert done.returncode == 0, done.stderr
        weights = pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0]) / "checkpoints/last.safetensors"
        shutil.copy(weights, root / "mnist.safetensors")
        mnist_as_ever(root)


if __name__ == "__main__":
    main()
