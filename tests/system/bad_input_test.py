"""Bad input through the real programs on two ranks: the right exit code, a message with the value, its place and the next step,
said once, within seconds, and nothing left behind.

    bad_input_test.py BUILD_FOLDER
"""

import pathlib
import re
import shutil
import tempfile
import time

import h5py
import numpy as np
from programs import run, train

MOST_SECONDS = 20  # a bound against hanging on a busy machine, not a measurement


def write(path, text):
    path.write_text(text)
    return path


def digits(path, change=None, images=None):
    with h5py.File("data/mnist-train.h5") as source, h5py.File(path, "w") as out:
        pixels, labels = source["images"][:], source["labels"][:]
        if images is not None:
            pixels = images(pixels)
        if change is not None:
            change(labels)
        out["images"], out["labels"] = pixels, labels
    return path


def poisoned(pixels):
    pixels = pixels.astype(np.float32)
    for sample in (1234, 1300, 2000):
        pixels[sample, 3, 3] = np.nan
    return pixels


def base(text=""):
    return f'extends = "{pathlib.Path("configs/mnist.toml").resolve()}"\n{text}'


def config_cases(root):
    write(root / "a.toml", 'extends = "b.toml"\n')
    write(root / "b.toml", 'extends = "a.toml"\n')
    cases = {
        "syntax": ("[config\nx = 1\n", 78, [r"syntax\.toml:1:\d+"]),
        "unknown_key": (base("[config]\nlearning_rat = 1e-3\n"), 78, [r"unknown_key\.toml:3:1", "learning_rat", 'did you mean "learning_rate"']),
        "wrong_type": (base('[config]\nbatch_size = "many"\n'), 78, [r"wrong_type\.toml:3:\d+", "batch_size", "many", "integer"]),
        "three": (base('[config]\nlearning_rate = -1.0\nbatch_size = 1.5\n[trainer.init]\nmax_epoch = 3\n'), 78,
                  [r"three\.toml:3:\d+", r"three\.toml:4:\d+", r"three\.toml:6:\d+", "above 0", "max_epochs"]),
        "unknown_experiment": ('experiment = "mnits"\n', 78, [r"unknown_experiment\.toml:1:\d+", "mnits", 'did you mean "mnist"', "known: mnist"]),
        "no_experiment": ("[config]\nseed = 1\n", 78, ["experiment is missing", 'experiment = "mnist"', "known: mnist"]),
        "missing_data": (base('[config]\ndata = "data/none.h5"\n'), 66, ["data/none.h5"]),
        "monitor": (base('[config]\npatience = 2\nmonitor = "loss/val"\n[trainer.init]\nmax_epochs = 1\n'), 78, ["loss/val", "loss/validate"]),
    }
    for name, (text, code, patterns) in cases.items():
        yield name, write(root / f"{name}.toml", text), [], code, patterns
    yield "cycle", root / "a.toml", [], 78, [r"a\.toml.*b\.toml.*a\.toml"]
    yield "no config", root / "none.toml", [], 66, [r"none\.toml"]


def data_cases(root):
    config = "configs/mnist.toml"
    text = write(root / "text.h5", "this is not HDF5\n" * 100)
    yield "not an HDF5 file", config, ["--set", f"config.data={text}"], 65, [r"text\.h5", "HDF5"]
    cut = root / "cut.h5"
    cut.write_bytes(pathlib.Path("data/mnist-train.h5").read_bytes()[:-100_000])
    yield "truncated", config, ["--set", f"config.data={cut}"], 65, [r"cut\.h5", "truncated|shorter|cut"]
    label = digits(root / "label.h5", lambda labels: labels.__setitem__(77, 12))
    yield "label out of range", config, ["--set", f"config.data={label}"], 65, [r"label\.h5", r"\b12\b", r"\b77\b", "labels"]
    nan = digits(root / "nan.h5", images=poisoned)
    yield "NaN in the data", config, ["--set", f"config.data={nan}", "--set", "trainer.init.max_epochs=1"], 65, [
        "NaN", "images", r"1234|1300|2000", r"nan\.h5", "batch"]
    yield "diverging", config, ["--set", "config.learning_rate=1e30", "--set", "trainer.init.max_epochs=2"], 65, ["NaN|infinity", "samples", "step", "learning rate"]
    with h5py.File("data/mnist-train.h5") as source, h5py.File(root / "images.h5", "w") as out:
        out["images"] = source["images"][:]
    yield "a field missing", config, ["--set", f"config.data={root / 'images.h5'}"], 65, [r"images\.h5", "labels"]
    with h5py.File("data/mnist-train.h5") as source, h5py.File(root / "shorter.h5", "w") as out:
        out["images"], out["labels"] = source["images"][:], source["labels"][:5000]
    yield "fields of different length", config, ["--set", f"config.data={root / 'shorter.h5'}"], 65, [r"shorter\.h5", "6000", "5000"]
    yield "more samples than there are", config, ["--set", "config.train_samples=7000"], 65, ["7000|7,000", "6000|6,000"]


def command_line_cases():
    config = "configs/mnist.toml"
    yield "unknown flag", config, ["--ofline"], 64, ["--ofline", "--offline"]
    yield "a later flag", config, ["--sweep"], 64, ["--sweep", "not"]
    yield "set without =", config, ["--set", "config.batch_size"], 78, ["config.batch_size", "="]
    yield "set of an unknown key", config, ["--set", "config.batchsize=3"], 78, ["batchsize", "batch_size"]
    yield "an unknown compression", config, ["--set", "trainer.init.gradient_compression=fp16"], 78, ["gradient_compression", "fp16", "none", "bf16"]
    yield "compression in canonical numerics", config, ["--set", "trainer.init.gradient_compression=bf16"], 78, [
        'gradient_compression = "bf16"', "canonical", "take one of the two out"]
    yield "nccl without a GPU", config, ["--backend", "nccl"], 69, ["nccl", "GPU"]
    yield "unknown backend", config, ["--backend", "tcp"], 64, ["tcp", "mpi"]


def check(name, program, words, code, patterns):
    start = time.monotonic()
    done = run(2, program, *words, seconds=120)
    seconds = time.monotonic() - start
    said = re.sub(r"-{50,}\n.*?-{50,}\n", "", done.stderr, flags=re.S)  # without mpirun's own words
    context = f"\n{name}: exit {done.returncode} in {seconds:.1f} s\n{done.stderr}"
    assert done.returncode == code, f"wants exit {code}{context}"
    for pattern in patterns:
        assert re.search(pattern, said), f"no {pattern!r} in the message{context}"
    assert len(re.findall("error: ", said)) == 1, f"wants one error{context}"
    assert seconds < MOST_SECONDS, context
    assert "Traceback" not in said and "terminate called" not in said and "Signal" not in said, context
    print(f"{name}: {code}: {next(line for line in said.splitlines() if 'error: ' in line)[25:180]}", flush=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        where = ["--set", f"trainer.init.default_root_dir={root / 'runs'}"]
        for case in (config_cases(root), data_cases(root), command_line_cases()):
            for name, config, words, code, patterns in case:
                check(name, "lab_train", [config, "-o", *where, *words], code, patterns)
        file = write(root / "file", "")
        check("unwritable root", "lab_train", ["configs/mnist.toml", "-o", "--set", f"trainer.init.default_root_dir={file / 'x'}"], 74, ["default_root_dir"])

        weights = train(1, "configs/mnist.toml", root / "runs", {"trainer.init.max_steps": 2}) / "checkpoints/last.safetensors"
        out = root / "results.csv"
        infer = ["configs/mnist.toml", "-o", weights, "data/mnist-test.h5", out]
        check("weights of another model", "lab_infer", ["configs/mnist_toy.toml", *infer[1:]], 65, ["conv1.weight", "norm1", "another model"])
        check("weights missing", "lab_infer", [infer[0], "-o", root / "none.safetensors", *infer[3:]], 66, [r"none\.safetensors"])
        damaged = shutil.copy(weights, root / "damaged.safetensors")
        with open(damaged, "r+b") as f:
            f.seek(-1000, 2)
            byte = f.read(1)
            f.seek(-1000, 2)
            f.write(bytes([byte[0] ^ 1]))
        check("a flipped bit in the weights", "lab_infer", [infer[0], "-o", damaged, *infer[3:]], 65, [r"damaged\.safetensors", "checksum"])
        check("too few arguments", "lab_infer", infer[:3], 64, ["WEIGHTS"])
        check("unknown flag of lab_infer", "lab_infer", ["--ofline", *infer], 64, ["--offline"])
        assert not out.exists(), "a refused prediction wrote a file"


if __name__ == "__main__":
    main()
