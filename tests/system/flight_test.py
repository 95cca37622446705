"""Flight records: after a kill, a hang or a good end lab_fr says where each rank was and who is to blame.

    flight_test.py BUILD_FOLDER [TIMES]
"""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from programs import BUILD, ENVIRONMENT, run, settings

TIMES = int(sys.argv[2]) if len(sys.argv) > 2 else 1
LIMIT = 2  # seconds that a rank may stand still
CONFIG = "configs/mnist.toml"
SMALL = {"config.schedule": "multi_step", "trainer.init.max_steps": 6, "config.batch_size": 512}


def lab_fr(*words):
    done = run(0, "lab_fr", *words, seconds=60)
    return done.returncode, done.stdout, done.stderr


def found_in(folder, *words):
    code, out, said = lab_fr(folder, "--json", *words)
    assert code == 0, (code, out, said)
    return json.loads(out)


def ranks_that_go_wrong(root):
    findings = {"kill": "lost", "stop": "lost", "loop": "lost", "apart": "apart", "throw": "aborted"}
    for ranks in (2, 4):
        for culprit in (0, ranks - 1):
            for what, finding in findings.items():
                folder = root / f"{what}-{ranks}-{culprit}"
                folder.mkdir()
                words = [what, culprit, 100, LIMIT, folder / "hang.txt", folder]
                assert run(ranks, "watchdog_ranks", *words, seconds=120).returncode != 0
                found = found_in(folder)
                # Of two ranks that differ the first is believed.
                wanted = [1] if what == "apart" and ranks == 2 else [culprit]
                assert (found["finding"], found["culprits"]) == (finding, wanted), found["line"]
                assert finding != "lost" or f"rank {culprit} on " in found["line"] and "has not entered all-reduce 51" in found["line"], found["line"]
                assert found["ranks_of_job"] == ranks and not found["missing"], found
                for rank in found["ranks"]:
                    assert all(entry["step"] in (49, 50) for entry in rank["entries"][-1:]), rank
                if what in ("stop", "loop", "apart"):
                    assert f"\nThe last collectives: lab_fr {folder}\n" in (folder / "hang.txt").read_text()
                shutil.rmtree(folder)
    print("ranks that are killed, stop, loop, throw or go elsewhere: each is named", flush=True)


def words_for(root, values):
    return [CONFIG, "-o", *settings({**SMALL, "trainer.init.default_root_dir": root, **values})]


def train(root, values=(), words=()):
    return run(2, "lab_train", *words_for(root, dict(values)), *words, seconds=300)


def runs_that_end(root):
    done = train(root)
    assert done.returncode == 0, done.stderr
    (folder,) = root.glob("mnist*")
    found = found_in(folder, "--last", "5000")
    assert found["finding"] == "in_order" and len(found["ranks"]) == 2, found["line"]
    purposes = {entry["purpose"] for entry in found["ranks"][0]["entries"]}
    assert {"agreement", "weights", "gradients", "sums"} <= purposes, purposes
    kinds = {entry["kind"] for entry in found["ranks"][0]["entries"]}
    assert {"all-reduce", "all-gather", "broadcast", "allocation"} <= kinds, kinds
    steps = [entry["step"] for entry in found["ranks"][1]["entries"] if entry["purpose"] == "gradients"]
    assert set(range(6)) <= set(steps), steps
    code, out, _ = lab_fr(folder, "--last", 2)
    assert code == 0 and out.startswith("all ranks left in good order") and out.count("\nrank ") == 2, out
    for start, kept in ((2, ["1", "2"]), (3, ["2", "3"])):
        done = train(root, {"trainer.init.max_steps": 6 + start}, [f"--resume={folder}", "--allow-config-change"])
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in (folder / "flight").iterdir()) == kept
        assert found_in(folder)["ranks"][0]["file"].startswith(f"{folder}/flight/{start}/")
    print("a good end, and runs that go on: each start has records, two starts' are kept", flush=True)
    return folder


def without_records(folder):
    """The run goes on, and says so once."""
    in_the_way = folder / "flight"
    shutil.rmtree(in_the_way)
    in_the_way.write_text("no folder")
    done = train(folder.parent, {"trainer.init.max_steps": 10}, [f"--resume={folder}", "--allow-config-change"])
    assert done.returncode == 0 and done.stderr.count("without flight records") == 1, done.stderr
    in_the_way.unlink()
    in_the_way.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", in_the_way], capture_output=True).returncode == 0:
        done = train(folder.parent, {"trainer.init.max_steps": 11}, [f"--resume={folder}", "--allow-config-change"])
        left = list(in_the_way.glob("*/*.fr"))  # there is room for one, which two may take from each other
        subprocess.run(["umount", "-l", in_the_way], check=True)
        assert done.returncode == 0 and done.stderr.count("without flight records") == 1, done.stderr
        assert "No space left" in done.stderr and len(left) < 2, (left, done.stderr)
    print("no place for the records: one warning, exit 0", flush=True)


def what_is_no_record(folder):
    first, second = sorted((folder / "flight/3").iterdir())
    good = first.read_bytes()
    assert lab_fr(first)[0] == 0
    for bad in (good[:-1], good[:100], b"", b"\x89HDF" + good[4:], good[:16] + b"\xff\xff\xff\xff" + good[20:]):
        second.write_bytes(bad)
        code, out, said = lab_fr(folder)
        assert code == 65 and str(second) in said and out.count("\nrank ") == 1, (code, out, said)
    assert lab_fr(folder / "none.fr")[0] == 66 and lab_fr(folder / "checkpoints")[0] == 66
    for words in ([], ["--lats", "3", folder], ["--last", "x", folder], [folder, "--last"], [first, first], ["--json=1", folder]):
        code, _, said = lab_fr(*words)
        assert code == 64 and said.startswith("lab_fr: "), (words, code, said)
    assert lab_fr("--help")[0] == 0 and lab_fr("--version")[1].startswith("lab_fr ")
    print("damaged records 65, none 66, wrong words 64", flush=True)


def children_of(pid):
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in out.split()]


def a_run_that_is_killed(root, ranks):
    """At any moment: all records can be read."""
    command = ["mpirun", "-np", ranks, "--oversubscribe", BUILD / "lab_train", *words_for(root, {"trainer.init.max_steps": 100_000})]
    job = subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = time.monotonic()
    while not any(rank["entries"] and rank["entries"][-1]["step"] > 3 for rank in ranks_now(root)):
        assert job.poll() is None and time.monotonic() - started < 120, job.returncode
        time.sleep(0.1)
    time.sleep(random.random())
    victim = random.randrange(ranks)
    os.kill(children_of(job.pid)[victim], signal.SIGKILL)
    assert job.wait(120) != 0
    (folder,) = root.glob("mnist*")
    found = found_in(folder)
    assert (found["finding"], found["culprits"]) == ("lost", [victim]), found["line"]
    assert len(found["ranks"]) == ranks and all(rank["leaving"] == "running" for rank in found["ranks"]), found
    print(f"rank {victim} of {ranks} killed: {found['line']}", flush=True)


def ranks_now(root):
    files = list(root.glob("mnist*/flight/1/*.fr"))
    code, out, _ = lab_fr(*files, "--json") if files else (66, "", "")
    return json.loads(out)["ranks"] if code == 0 else []


def main():
    with tempfile.TemporaryDirectory(prefix="lab_") as name:
        root = pathlib.Path(name)
        folder = runs_that_end(root / "runs")
        what_is_no_record(folder)
        without_records(folder)
        for time_ in range(TIMES):
            ranks_that_go_wrong(root)
            for ranks in (2, 3):
                a_run_that_is_killed(root / f"killed-{time_}-{ranks}", ranks)


main()
