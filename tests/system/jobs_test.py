"""Several configs in one start: groups of ranks, a queue where there are fewer, and one job's failure is nobody else's.

    jobs_test.py BUILD_FOLDER
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import h5py
from programs import BUILD, ENVIRONMENT, run, settings, sha256

SAMPLES = 400
SMALL = {"trainer.init.max_epochs": 2, "trainer.init.hang_seconds": 20, "config.schedule": "multi_step", "config.train_samples": 300,
         "config.batch_size": 64}


def write_configs(place, names, texts=()):
    digits = place / "digits.h5"
    if not digits.exists():
        copy_digits(digits)
    base = pathlib.Path("configs/mnist.toml").resolve()
    for number, name in enumerate(names):
        text = dict(texts).get(name, "")
        (place / f"{name}.toml").write_text(
            f'extends = "{base}"\n[trainer.init]\nseed = {number}\n[config]\ndata = "{digits}"\n{text}')
    return [f"{name}.toml" for name in names]


def copy_digits(path, bad_label=None):
    with h5py.File("data/mnist-train.h5") as whole, h5py.File(path, "w") as few:
        for field in ("images", "labels"):
            few[field] = whole[field][:SAMPLES]
        if bad_label is not None:
            few["labels"][bad_label] = 200


def command(ranks, configs, *words, root="runs", values=()):
    start = ["mpirun", "-np", str(ranks), "--oversubscribe", "--bind-to", "none"] if ranks else []
    return [str(word) for word in (*start, BUILD / "lab_train", *configs, "-o", *words,
                                   *settings({**SMALL, "trainer.init.default_root_dir": root, **dict(values)}))]


def train(place, ranks, configs, *words, code=0, **options):
    began = time.monotonic()
    done = subprocess.run(command(ranks, configs, *words, **options), env=ENVIRONMENT, capture_output=True, text=True, timeout=300, cwd=place)
    assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
    done.seconds = time.monotonic() - began
    return done


def table(done):
    """The rows of the summary: {number: words of its line}."""
    lines = done.stdout.splitlines()
    [head] = [i for i, line in enumerate(lines) if line.split() == ["job", "name", "ranks", "status", "epochs", "value", "time", "exit"]]
    assert all(len(line) <= 80 for line in lines[head:]), done.stdout
    rows = {}
    for line in lines[head + 1:]:
        found = re.fullmatch(r" *(\d+)  (\S+) +(\d+)  (not started|completed|stopped|failed) +(\d+) +(.*?) +(\S+) +(\S+)", line)
        assert found, repr(line)
        number, name, ranks, status, epochs, value, _, code = found.groups()
        rows[int(number)] = (name, int(ranks), status, int(epochs), code)
        if status == "completed":
            assert re.fullmatch(r"(best|last) \S+", value), line
    return rows


def record(place, name, root="runs"):
    return json.loads((place / root / name / "run.json").read_text())


def weights(place, name, root="runs"):
    return sha256(place / root / name / "checkpoints/last.safetensors")


def four_on_four(place):
    configs = write_configs(place, ["a", "b", "c", "d"], {"b": 'monitor = "loss/val"\npatience = 2\n'})
    done = train(place, 4, configs, code=78)
    assert table(done) == {1: ("mnist-a_offline", 1, "completed", 2, "0"), 2: ("mnist-b_offline", 1, "failed", 0, "78"),
                           3: ("mnist-c_offline", 1, "completed", 2, "0"), 4: ("mnist-d_offline", 1, "completed", 2, "0")}, done.stdout
    assert len(re.findall(r"  \[b\] error: .*loss/val", done.stderr)) == 1, done.stderr
    assert len(re.findall(r"  error: job 2 \(b\.toml\) failed \(78\): .*loss/val", done.stderr)) == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if re.match(r"\d{4}-\d\d-\d\d ", line)]
    unmarked = [line for line in lines if not re.match(r"\S+ \S+  \[[abcd]\] ", line)]
    assert len(unmarked) == 1 and "error: job 2" in unmarked[0], unmarked
    for name in "acd":
        assert f"[{name}] first validation" in done.stdout and f"[{name}] loss/validate" in done.stdout and f"[{name}] runs/mnist-{name}_offline" in done.stdout, done.stdout
        log = (place / f"runs/mnist-{name}_offline/log.txt").read_text()
        assert "finished after 2 epochs" in log and "[" not in log, log
        assert record(place, f"mnist-{name}_offline")["status"] == "completed"
        alone = train(place, 1, [f"{name}.toml"], root="alone")
        assert weights(place, f"mnist-{name}_offline") == weights(place, f"mnist-{name}_offline", "alone"), (name, alone.stderr)
    print("four configs on four ranks, one of them wrong: three finish with the bits of a start of their own", flush=True)


def queue(place):
    configs = write_configs(place, ["a", "b", "c", "d"])
    for ranks in (2, 3, 1, 0):
        root = f"queue{ranks}"
        values = {"config.n_features": 8, "trainer.init.numerics": "ordinary", "trainer.init.threads": 1}
        done = train(place, ranks, configs, root=root, values=values)
        assert table(done) == {i + 1: (f"mnist-{name}_offline", 1, "completed", 2, "0") for i, name in enumerate("abcd")}, done.stdout
        for name in "abcd":
            same = weights(place, f"mnist-{name}_offline", "queue2")
            assert weights(place, f"mnist-{name}_offline", root) == same, (name, ranks)
    by_mpi = train(place, 2, configs[:3], "--backend", "mpi", root="by_mpi")
    assert all(row[2] == "completed" for row in table(by_mpi).values()), by_mpi.stdout
    print("four configs on one to three ranks: all are trained, one after the other, with the same bits", flush=True)


def failing_in_turn(place):
    """A rank whose job failed takes the next one, and nothing of it is left."""
    configs = write_configs(place, ["w", "x", "y"], {"w": 'learning_rate = 1e30\n'})
    done = train(place, 1, configs, root="turn", code=65, values={"trainer.init.detect_anomaly": "false"})
    rows = table(done)
    assert [rows[i][2] for i in (1, 2, 3)] == ["failed", "completed", "completed"] and rows[1][4] == "65", done.stdout
    assert record(place, "mnist-w_offline", "turn")["status"] == "failed"
    print("a job that fails is followed by the next one", flush=True)


def groups(place):
    configs = write_configs(place, ["a", "b"])
    for backend in ("auto", "mpi"):
        together, alone = f"two_{backend}", f"one_{backend}"
        done = train(place, 4, configs, "--backend", backend, root=together)
        assert table(done) == {i + 1: (f"mnist-{name}_offline", 2, "completed", 2, "0") for i, name in enumerate("ab")}, done.stdout
        for name in "ab":
            train(place, 2, [f"{name}.toml"], "--backend", backend, root=alone)
            assert weights(place, f"mnist-{name}_offline", together) == weights(place, f"mnist-{name}_offline", alone), (name, backend)
            assert record(place, f"mnist-{name}_offline", together)["world_size"] == 2
    assert [row[1:3] for row in table(train(place, 3, configs, root="three")).values()] == [(2, "completed"), (1, "completed")]
    print("two configs on two ranks each have the bits of two ranks alone", flush=True)


def one_rank_alone(place):
    """Within a group of two a sample that one of them cannot use, in the midst of an epoch; the other waits for its gradients."""
    bad = place / "bad.h5"
    copy_digits(bad, bad_label=200)
    configs = write_configs(place, ["a", "b"])
    (place / "b.toml").write_text((place / "b.toml").read_text().replace("digits.h5", "bad.h5"))
    speakers = set()
    for seed in range(4):
        for backend in ("auto", "mpi"):
            done = train(place, 4, configs, "--backend", backend, root=f"lone{seed}{backend}", code=65,
                         values={"trainer.init.max_epochs": 6, "trainer.init.seed": seed})
            rows = table(done)
            assert rows[1][2] == "completed" and rows[1][3] == 6 and rows[2][2] == "failed" and rows[2][4] == "65", done.stdout
            said = re.findall(r"  \[b\] error: (rank \d): (.*label 200.*)", done.stderr)
            assert len(said) == 1 and done.stderr.count("label 200") == 2 and "in step" in said[0][1], done.stderr
            speakers.add(said[0][0])
            failed = record(place, "mnist-b_offline", f"lone{seed}{backend}")
            assert failed["status"] == "failed" and failed["exit_code"] == 65 and "label 200" in failed["error"], failed
            assert "has ended with an error" not in done.stderr, done.stderr
            assert done.seconds < 60, done.seconds
    assert speakers == {"rank 0", "rank 1"}, speakers
    print("an error of one rank alone ends its own group within seconds, on either rank, and no other", flush=True)


def missing(place):
    [config] = write_configs(place, ["a"])
    done = train(place, 2, [config, "none.toml"], root="missing", code=66)
    rows = table(done)
    assert rows[1][2] == "completed" and rows[2][:3] == ("none", 1, "failed") and rows[2][4] == "66", done.stdout
    assert not list((place / "missing").glob("*none*"))
    print("a config that is not there fails by itself", flush=True)


def same_names(place):
    (place / "x").mkdir()
    configs = write_configs(place, ["a"])
    (place / "x/a.toml").write_text((place / "a.toml").read_text())
    configs.append("x/a.toml")
    done = train(place, 2, configs, root="same")
    assert "[1:a] " in done.stderr and "[2:a] " in done.stderr, done.stderr
    assert {"mnist-a_offline", "mnist-a_offline.2"} == {path.name for path in (place / "same").iterdir()}
    again = train(place, 2, configs, "--resume", root="same", code=64)
    assert again.stderr.count("have the same name") == 1 and "rename" in again.stderr, again.stderr
    print("configs of the same name: folders that differ; --resume refuses them", flush=True)


def stopped(place):
    configs = write_configs(place, ["a", "b", "c", "d", "e"])
    slow = {"trainer.init.max_epochs": 2000, "trainer.init.checkpoint_every_n_steps": 50}
    with subprocess.Popen(command(2, configs, root="stopped", values=slow), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, cwd=place) as process:
        end = time.monotonic() + 120
        while len(list((place / "stopped").glob("*/checkpoints/last.safetensors"))) < 2:
            assert time.monotonic() < end and process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGUSR1)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 75, (process.returncode, err)
    rows = table(subprocess.CompletedProcess([], 75, out, err))
    assert sorted(row[2] for row in rows.values()) == ["not started"] * 3 + ["stopped"] * 2, out
    assert all(row[4] == ("75" if row[2] == "stopped" else "-") for row in rows.values()), out
    begun = [path.name for path in (place / "stopped").iterdir()]
    steps = {name: record(place, name, "stopped")["steps"] for name in begun}
    done = train(place, 2, configs, "--resume", root="stopped", values={"trainer.init.max_epochs": 2000, "trainer.init.max_steps": max(steps.values()) + 5})
    assert all(row[2] == "completed" for row in table(done).values()), done.stdout
    assert len(list((place / "stopped").iterdir())) == 5
    for name in begun:
        assert record(place, name, "stopped")["starts"] == 2 and f"from step {steps[name]} " in done.stderr, (name, done.stderr)
    print("USR1: what runs is saved, the rest is not started, 75; with --resume each goes on or begins", flush=True)


def completed_before(place):
    """lab_run starts all again because of one that died: what was completed is not trained again."""
    configs = write_configs(place, ["a", "b"])
    words = [BUILD / "lab_run", "-np", "1", BUILD / "lab_train", *configs, "-o", *settings({**SMALL, "trainer.init.default_root_dir": "again"})]
    with subprocess.Popen([str(word) for word in words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place) as process:
        end = time.monotonic() + 120
        path = place / "again/mnist-b_offline/run.json"
        while not path.exists():
            assert time.monotonic() < end and process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (process.returncode, out, err)
    assert err.count("[a] completed already by an earlier start: ") == 1, err
    assert record(place, "mnist-a_offline", "again")["starts"] == 1 and record(place, "mnist-b_offline", "again")["starts"] == 2, err
    assert [row[2] for row in table(subprocess.CompletedProcess([], 0, out, err)).values()] == ["completed"] * 2, out
    print("lab_run: a job that was completed is told as such, the other one goes on", flush=True)


def refused(place):
    configs = write_configs(place, ["a", "b"])
    for words in (["-d", "5"], ["--resume=runs"], ["--check-gradients"], ["--debug"]):
        done = train(place, 2, configs, *words, root="refused", code=64)
        assert len([line for line in done.stderr.splitlines() if "error: " in line]) == 1, done.stderr
    assert not (place / "refused").exists()
    print("options that are for one config: 64", flush=True)


def asked(place):
    configs = write_configs(place, ["a", "b", "c"])
    (place / "b.toml").write_text((place / "b.toml").read_text() + "learning_rat = 1\nlearning_rate = -1.0\n")
    (place / "c.toml").write_text((place / "c.toml").read_text() + "n_featurs = 1\n")
    for ranks in (0, 2, 6):
        done = train(place, ranks, configs, "--check", root="asked", code=78)
        assert done.stdout.count("# ") == 3 and "Nothing wrong was found." in done.stdout.split("# b.toml")[0], done.stdout
        for word in ("learning_rat", "-1", "n_featurs"):
            assert word in done.stdout, (word, done.stdout)
        assert f"on {2 if ranks == 6 else 1} rank" in done.stdout.split("# b.toml")[0], done.stdout
    done = run(2, "lab_train", *configs, "--print-config", cwd=place)
    assert done.returncode == 78 and "# a.toml\nexperiment" in done.stdout, done.stdout
    assert "learning_rat" in done.stderr and "n_featurs" in done.stderr, done.stderr
    assert not (place / "asked").exists()
    print("--check and --print-config look at each, whatever is wrong with another", flush=True)


def main():
    for part in (four_on_four, queue, failing_in_turn, groups, one_rank_alone, missing, same_names, stopped, completed_before, refused, asked):
        with tempfile.TemporaryDirectory() as folder:
            part(pathlib.Path(folder))


main()
