"""Ranks that were not started alike: refused before the first step with 76, the rank and the part named once, and no run folder left.

    desync_test.py BUILD_FOLDER
"""

import pathlib
import shutil
import subprocess
import tempfile

from programs import BUILD, ENVIRONMENT, settings

CONFIG = pathlib.Path("configs/mnist.toml").resolve()
LAB_TRAIN = BUILD / "lab_train"


def words(root, *more, config=CONFIG):
    values = {"trainer.init.default_root_dir": root, "trainer.init.max_steps": 3, "config.schedule": "multi_step", "config.batch_size": 512}
    return [config, "-o", *settings(values), *more]


def start(ranks):
    """ranks: the words of each, its program first."""
    command = ["mpirun", "--oversubscribe"]
    for i, rank in enumerate(ranks):
        command += ([":"] if i else []) + ["-np", "1", *map(str, rank)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


def check(name, root, ranks, patterns):
    done = start(ranks)
    context = f"\n{name}: exit {done.returncode}\n{done.stderr}"
    assert done.returncode == 76, context
    for pattern in patterns:
        assert pattern in done.stderr, f"no {pattern!r}{context}"
    assert done.stderr.count("error: ") == 1, context
    assert not root.exists() or not list(root.iterdir()), context
    print(f"{name}: 76: {patterns[0]}", flush=True)


def other_words(root):
    mine = [LAB_TRAIN, *words(root)]
    other = [LAB_TRAIN, *words(root, config=CONFIG.with_name("mnist_toy.toml"))]
    check("another config", root, [mine, other], ["rank 1 has another command line than rank 0", "mnist_toy.toml", "mnist.toml"])
    other = [LAB_TRAIN, *words(root, "--set", "config.learning_rate=0.1")]
    check("another --set", root, [mine, mine, other], ["rank 2 has another command line than the others: --set, not nothing"])
    check("of three ranks the first", root, [other, mine, mine], ["rank 0 has another command line than the others"])


def changed_copy(path, at, folder):
    """A copy of the program with one byte changed at the place that `at` finds in it."""
    folder.mkdir(parents=True)
    code = bytearray(path.read_bytes())
    code[at(code)] ^= 1
    copy = folder / path.name
    copy.write_bytes(code)
    copy.chmod(0o755)
    return copy


def other_programs(root, folder):
    mine = [LAB_TRAIN, *words(root)]
    note = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"
    build = changed_copy(LAB_TRAIN, lambda code: code.index(note) + len(note), folder / "build")
    check("another build", root, [mine, [build, *words(root)]], ["rank 1 has another program than rank 0: build "])
    version = changed_copy(LAB_TRAIN, lambda code: code.index(b"0.1.0\0") + 4, folder / "version")
    check("another version", root, [mine, [version, *words(root)]], ["rank 1 has another program than rank 0: lab_train of lab 0.1.1, not lab_train of lab 0.1.0"])
    default = ["env", "ATEN_CPU_CAPABILITY=default", *mine]
    check("another instruction set", root, [mine, default], ["rank 1 has another numerics than rank 0: DEFAULT"])


def nodes(folder):
    """Two working folders, as if on two nodes; the second's data file has other digits."""
    for name in ("one", "two"):
        (folder / name / "data").mkdir(parents=True)
        for file in pathlib.Path("data").glob("*.h5"):
            shutil.copy(file, folder / name / "data")
    for file in (folder / "two/data").glob("*.h5"):
        data = bytearray(file.read_bytes())
        middle = slice(len(data) // 2, len(data) // 2 + 200_000)
        data[middle] = bytes(len(data[middle]))
        file.write_bytes(data)
    return [["--wdir", folder / name] for name in ("one", "two")]


def other_data(root, folder):
    one, two = nodes(folder)
    mine = [LAB_TRAIN, *words(root)]
    check("other digits", root, [[*one, *mine], [*two, *mine]], ["rank 1 has another training set than rank 0: a file of ", "validation set"])
    weights = folder / "none.safetensors"
    predict = [BUILD / "lab_infer", CONFIG, "-o", weights, "data/mnist-test.h5"]
    check("other digits to predict", root, [[*one, *predict], [*two, *predict]], ["rank 1 has another data set than rank 0"])


def what_may_differ(root):
    """Variables of the environment that only rank 0 goes by."""
    mine = [LAB_TRAIN, *words(root)]
    done = start([mine, ["env", "LAB_RUN_ID=other", "LAB_RUN_OWN=1", "OMP_NUM_THREADS=1", *mine]])
    assert done.returncode == 0, done.stderr
    print("another environment, where it does not matter: 0", flush=True)


def main():
    with tempfile.TemporaryDirectory(prefix="lab_") as name:
        folder = pathlib.Path(name)
        other_words(folder / "runs")
        other_programs(folder / "runs", folder / "programs")
        other_data(folder / "runs", folder / "nodes")
        what_may_differ(folder / "runs")


main()
