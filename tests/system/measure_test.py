"""lab_train --validate-only and --test: weights are measured as a run measures them, to the bit, on any number of ranks, and
nothing is trained.

    measure_test.py BUILD_FOLDER
"""

import csv
import json
import pathlib
import shutil
import tempfile
import time

import h5py
import numpy as np
import torch
from programs import run, settings
from safetensors.torch import load_file, save_file

RANKS = (1, 2, 3, 4)
MNIST = "configs/mnist.toml"
SHORT = {"config.train_samples": 5000, "trainer.init.max_epochs": 2, "config.n_features": 4}


def points(path, samples, seed):
    """Three clouds of points."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, samples)
    with h5py.File(path, "w") as out:
        out["x"] = (random.normal(size=(samples, 4)) + labels[:, None]).astype(np.float32)
        out["labels"] = labels.astype(np.uint8)
    return path


def folder_of(done):
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0])


def start(ranks, config, root, words=(), values=(), program=("lab_train",)):
    return run(ranks, *program, config, "-o", *words,
               *settings({"trainer.init.default_root_dir": root, **dict(values)}))


def rows_of(folder, stage):
    """What was measured in a stage: (epoch, step, tag): value, the last one of each."""
    with open(folder / "metrics.csv", newline="") as file:
        return {(int(row["epoch"]), int(row["step"]), row["tag"]): row["value"] for row in csv.DictReader(file)
                if row["tag"].endswith(f"/{stage}")}


def measured(done, stage):
    """The values of a run that only measured, and what must be true of any such run."""
    folder = folder_of(done)
    assert folder.name.startswith(stage + "_"), folder
    assert list((folder / "checkpoints").iterdir()) == [], "a checkpoint was left behind"
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["exit_code"], record["best"]) == ("completed", 0, None), record
    values = rows_of(folder, stage)
    tags = {row.split(",")[2] for row in (folder / "metrics.csv").read_text().splitlines()[1:]}
    assert tags == {tag for _, _, tag in values} | {"epoch"}, tags
    title = "test" if stage == "test" else "validation"
    table = done.stdout[done.stdout.index(title):]
    assert table.split()[:2] == [title, "value"], table
    for (_, _, tag), value in values.items():
        line = next(line for line in table.splitlines() if line.startswith(tag + " "))
        assert abs(float(line.split()[-1]) - float(value)) <= 1e-5 * abs(float(value)), (line, value)
    assert any(folder.glob("events.out.tfevents.*"))
    task, = (folder / "clearml_offline").glob("*/task.json")
    assert json.loads(task.read_text())["type"] == "testing"
    return values


def on_any_ranks(start_on, stage):
    outcomes = {}
    for ranks in RANKS:
        outcomes.setdefault(json.dumps(sorted(measured(start_on(ranks), stage).items())), []).append(ranks)
    assert len(outcomes) == 1, f"other values on other ranks: {outcomes}"
    return {tuple(key): value for key, value in json.loads(next(iter(outcomes)))}


def validates_as_the_run(root):
    """To the bit what the run measured at its end: from its folder, from a file, and in ordinary numerics too."""
    for numerics in ("canonical", "ordinary"):
        values = {**SHORT, "trainer.init.numerics": numerics, "trainer.init.threads": 1}
        fitted = folder_of(start(2, MNIST, root / numerics, values=values))
        last = {key: value for key, value in rows_of(fitted, "validate").items() if key[0] == 1}
        assert len(last) == 2, last
        before = {path.name: path.read_bytes() for path in fitted.rglob("*") if path.is_file()}
        for words in (["--resume"], [f"--resume={fitted}"], [f"--resume={fitted}/checkpoints/last.safetensors"],
                      ["--set", f"trainer.fit.ckpt_path={fitted}/checkpoints/last.safetensors"]):
            def again_on(ranks):
                return start(ranks, MNIST, root / numerics, ["--validate-only", *words], values)

            again = on_any_ranks(again_on, "validate") if words == ["--resume"] else measured(again_on(2), "validate")
            assert again == last, (words, again, last)
        assert before == {path.name: path.read_bytes() for path in fitted.rglob("*") if path.is_file()}, "the run was changed"
        assert folder_of(start(0, MNIST, root / numerics, ["--resume"], values)).name != fitted.name, "--resume trained a run"
    print(f"validated as the run did, on {RANKS} ranks: {last}", flush=True)
    return fitted


def tests(root, fitted):
    """On the test data, with all metrics, in the figures of the stage test."""
    values = on_any_ranks(lambda ranks: start(ranks, MNIST, root, ["--test", f"--resume={fitted}"], SHORT), "test")
    assert [tag for _, _, tag in values] == ["accuracy/test", "loss/test"], values
    weights = fitted / "checkpoints/last.safetensors"
    done = run(2, "lab_infer", MNIST, "-o", *settings({"config.n_features": 4}), weights, "data/mnist-test.h5", root / "r.csv")
    right = int(done.stdout.split("(")[1].split(" of ")[0])
    assert float(values[(1, 79, "accuracy/test")]) == right / 1000, (values, done.stdout)
    limited = {}
    for limit, samples in ((1, 128), (0.5, 512), (1.0, 1000)):
        done = start(2, MNIST, root, ["--test", f"--resume={fitted}"], {**SHORT, "trainer.init.limit_test_batches": limit})
        assert f"measuring on {samples} of 1000 samples" in done.stderr, done.stderr
        limited[limit] = measured(done, "test")
    assert limited[1] != limited[0.5] and limited[1.0] == values
    print(f"tested: {values}", flush=True)


def as_initialised(root):
    done = start(2, MNIST, root / "none", ["--test"], SHORT)
    assert "warning" in done.stderr and "as it is initialised" in done.stderr, done.stderr
    first = measured(done, "test")
    assert {step for _, step, _ in first} == {0}
    validated = measured(start(3, MNIST, root / "none", ["--validate-only"], SHORT), "validate")
    run_itself = folder_of(start(1, MNIST, root / "none", values={**SHORT, "trainer.init.max_epochs": 0}))
    assert rows_of(run_itself, "validate") == validated, (rows_of(run_itself, "validate"), validated)
    print("without weights: the model as it begins, with a warning", flush=True)


def points_config(root):
    points(root / "data.h5", 300, 1)
    points(root / "test.h5", 170, 2)
    (root / "points.toml").write_text(f"""experiment = "points"
[trainer.init]
max_epochs = 3
numerics = "canonical"
[config]
data = "{root / 'data.h5'}"
test_data = "{root / 'test.h5'}"
""")
    return root / "points.toml"


def of_a_tool(root):
    """All kinds of metrics, BatchNorm and a weights' average; figures; files of others."""
    config, tool = points_config(root), ("predict_tool", "train")
    for average in ("none", "kept", "validated"):
        values = {"config.average": average}
        place = root / average
        fitted = folder_of(start(2, config, place, values=values, program=tool))
        last = {key: value for key, value in rows_of(fitted, "validate").items() if key[0] == 2}
        done = start(2, config, place, ["--validate-only", "--resume"], values, tool)
        again = measured(done, "validate")
        assert again == last and ("average of the weights" in done.stderr) == (average == "validated"), (again, last)
        test = lambda ranks: start(ranks, config, place, ["--test", "--resume"], values, tool)
        tested = on_any_ranks(test, "test") if average == "validated" else measured(test(2), "test")
        tags = {tag for _, _, tag in tested}
        assert {"loss/test", "accuracy/test", "areas/test", "tested/test"} <= tags and "tested/validate" not in {
            tag for _, _, tag in again}, tags
        assert tested[(2, 29, "tested/test")] == tested[(2, 29, "accuracy/test")]
        newest = max(place.glob("test_points*"), key=lambda path: path.stat().st_mtime_ns)
        figures = [json.loads(line) for line in (newest / "clearml.jsonl").read_text().splitlines() if "(test)" in line]
        assert len(figures) == 1 and "confusion" in json.dumps(figures).lower(), figures
    model = {name: tensor for name, tensor in load_file(fitted / "checkpoints/last.safetensors").items()
             if not name.startswith("lab.")}
    torch.save(model, root / "plain.pt")
    save_file(model, root / "plain.safetensors")
    plain = [measured(start(2, config, root / "plain", ["--test", "--set", f"trainer.fit.ckpt_path={root / name}"], values,
                            tool), "test") for name in ("plain.pt", "plain.safetensors")]
    assert plain[0] == plain[1] and {step for _, step, _ in plain[0]} == {0}
    assert list(plain[0].values()) != list(tested.values()), "the average is not in these"
    print(f"a model with BatchNorm and an average, on {RANKS} ranks: {tested}", flush=True)
    return config, tool


def several(root):
    """Jobs of one start measure too."""
    for name in ("a", "b"):
        shutil.copy(root / "points.toml", root / f"{name}.toml")
    done = run(2, "predict_tool", "train", root / "a.toml", root / "b.toml", "-o", "--test",
               *settings({"trainer.init.default_root_dir": root / "several"}))
    assert done.returncode == 0 and done.stdout.count("completed") == 2, done.stdout + done.stderr
    assert sorted(path.name for path in (root / "several").iterdir()) == ["test_points-a_offline", "test_points-b_offline"]


def refused(name, done, code, *words):
    said = [line for line in done.stderr.splitlines() if "error: " in line]
    assert done.returncode == code and len(said) == 1 and all(word in said[0] for word in words), (
        f"{name}: wants {code} and {words}\nexit {done.returncode}\n{done.stderr}")
    print(f"{name}: {code}: {said[0][25:160]}", flush=True)


def refusals(root, config, tool, fitted):
    ranks = 3
    began = time.monotonic()
    bad = lambda words=(), values=(): start(ranks, config, root / "bad", words, values, tool)
    refused("no test data", bad(["--test"], {"config.test_data": ""}), 78, "no test data", "test_data", "--validate-only")
    refused("no validation data", bad(["--validate-only"], {"config.validates": "false"}), 78, "no validation data", "--test")
    refused("test data missing", bad(["--test"], {"config.test_data": root / "gone.h5"}), 66, "gone.h5")
    refused("no such weights", bad(["--test"], {"trainer.fit.ckpt_path": root / "gone.safetensors"}), 66, "gone.safetensors")
    refused("another model's", bad(["--test"], {"trainer.fit.ckpt_path": fitted / "checkpoints/last.safetensors"}), 65,
            "another model")
    refused("no such run", bad(["--test", f"--resume={root / 'gone'}"]), 66, "gone")
    refused("two sources", bad(["--test"], {"trainer.fit.ckpt_path": "a", "checkpoint.checkpoint_task_id": "b"}), 78,
            "take one of them out")
    refused("nothing to test on", bad(["--test"], {"trainer.init.limit_test_batches": 0}), 78, "limit_test_batches = 0")
    refused("nothing to validate on", bad(["--validate-only"], {"trainer.init.limit_val_batches": 0}), 78,
            "limit_val_batches = 0")
    refused("less than a batch", bad(["--test"], {"trainer.init.limit_test_batches": 0.01}), 78,
            "limit_test_batches = 0.01 of 6 batches", "less than one")
    done = bad(["--check", "--test"], {"config.test_data": root / "gone.h5"})
    assert done.returncode == 66 and "gone.h5" in done.stdout, done.stdout + done.stderr
    assert bad(["--check"], {"config.test_data": root / "gone.h5"}).returncode == 0, "the test data is opened"
    assert bad(["--check", "--test"]).returncode == 0
    refused("both", bad(["--test", "--validate-only"]), 64, "start it once for each")
    refused("and gradients", bad(["--test", "--check-gradients"]), 64, "start it once for each")
    assert time.monotonic() - began < 11 * 20, "ranks hang"
    assert not (root / "bad").exists(), "a refused start left a folder"


def help_says(root):
    text = " ".join(run(0, "lab_train", "--help").stdout.split())
    assert "--validate-only" in text and "--test --resume=FOLDER" in text and "checkpoint.checkpoint_task_id=ID" in text, text
    assert "--test" not in run(0, "lab_infer", "--help").stdout
    assert "limit_test_batches" in run(0, "lab_train", "--help-config").stdout


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        help_says(root)
        fitted = validates_as_the_run(root)
        tests(root, fitted)
        as_initialised(root)
        config, tool = of_a_tool(root)
        several(root)
        refusals(root, config, tool, fitted)


if __name__ == "__main__":
    main()
