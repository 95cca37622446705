"""Disks that are full, small, read-only or not shared, under a run: the exit code, the words, and what was saved before intact.

    disk_test.py BUILD_FOLDER      needs the right to mount (root); without it the test is skipped (exit 77)
"""

import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from programs import BUILD, ENVIRONMENT, run, settings, sha256

CONFIG = "configs/mnist.toml"
SMALL = {"config.schedule": "multi_step", "trainer.init.max_steps": 6, "trainer.init.checkpoint_every_n_steps": 1, "config.batch_size": 512}


@contextlib.contextmanager
def tmpfs(folder, size):
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode != 0:
        print("file systems cannot be mounted here: run this test as root of a machine of its own", file=sys.stderr)
        sys.exit(77)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def train(root, values=(), words=()):
    return run(2, "lab_train", CONFIG, "-o", *settings({**SMALL, "trainer.init.default_root_dir": root, **dict(values)}), *words, seconds=120)


def usable(folder):
    """The newest checkpoint, as the program itself finds it: a run that goes on for one step."""
    done = train(folder.parent, {"trainer.init.max_steps": 8}, [f"--resume={folder}"])
    assert done.returncode == 0 and "going on with" in done.stderr, done.stderr
    return done.stderr


def unfinished(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".partial") or ".tmp-" in path.name]


def a_disk_that_fills_up(root):
    with tmpfs(root / "full", "16m") as disk:
        done = train(disk)
        assert done.returncode == 0, done.stderr
        (folder,) = disk.glob("mnist*")
        before = sha256(folder / "checkpoints/last.safetensors")
        filler = disk / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        done = train(disk, {"trainer.init.max_steps": 12}, [f"--resume={folder}"])
        assert done.returncode == 74 and "No space left" in done.stderr and done.stderr.count("error: ") == 1, done.stderr
        assert sha256(folder / "checkpoints/last.safetensors") == before and not unfinished(folder), unfinished(folder)
        filler.unlink()
        usable(folder)
        print("a full disk: 74, the old checkpoint stands, nothing is left behind", flush=True)


def a_disk_that_fills_up_while_training(root):
    """There is room for everything but a whole checkpoint."""
    for policy, code in (("stop", 74), ("continue", 0)):
        with tmpfs(root / policy, "16m") as disk:
            filler = disk / "filler"
            done = train(disk, {"trainer.init.max_steps": 2})
            (folder,) = disk.glob("mnist*")
            one = (folder / "checkpoints/last.safetensors").stat().st_size
            filler.write_bytes(b"x" * (shutil.disk_usage(disk).free - one // 2))
            values = {"trainer.init.max_steps": 12, "trainer.init.on_checkpoint_error": policy}
            done = train(disk, values, [f"--resume={folder}", "--allow-config-change"])
            assert done.returncode == code, (policy, done.returncode, done.stderr)
            assert "No space left" in done.stderr, done.stderr
            assert not unfinished(folder), unfinished(folder)
            filler.unlink()
            usable(folder)
            print(f"a disk that fills up while training, {policy}: {code}, it can go on", flush=True)


def a_stop_that_cannot_be_saved(root):
    """The run goes on without checkpoints, as it was told, until it is stopped: nobody may take that for saved."""
    with tmpfs(root / "stopped", "16m") as disk:
        filler = disk / "filler"
        assert train(disk, {"trainer.init.max_steps": 2}).returncode == 0
        (folder,) = disk.glob("mnist*")
        before = sha256(folder / "checkpoints/last.safetensors")
        filler.write_bytes(b"x" * (shutil.disk_usage(disk).free - (folder / "checkpoints/last.safetensors").stat().st_size // 2))
        values = {**SMALL, "trainer.init.max_steps": 100_000, "trainer.init.on_checkpoint_error": "continue", "trainer.init.default_root_dir": disk}
        command = ["mpirun", "--oversubscribe", "-np", "2", BUILD / "lab_train", CONFIG, "-o", *settings(values), f"--resume={folder}"]
        process = subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "No space left" in line:
                break
        subprocess.run(["pkill", "-USR1", "-P", str(process.pid), "lab_train"], check=True)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 143 and "it could not be saved" in said, (process.returncode, said)
        assert json.loads((folder / "run.json").read_text())["exit_code"] == 143
        assert sha256(folder / "checkpoints/last.safetensors") == before and not unfinished(folder)
        filler.unlink()
        usable(folder)
        print("a stop that cannot be saved: 143, and it says so", flush=True)


def a_read_only_disk(root):
    with tmpfs(root / "ro", "16m") as disk:
        assert train(disk).returncode == 0
        (folder,) = disk.glob("mnist*")
        before = sha256(folder / "checkpoints/last.safetensors")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        done = train(disk, {"trainer.init.max_steps": 12}, [f"--resume={folder}"])
        assert done.returncode == 74 and "Read-only file system" in done.stderr and done.stderr.count("error: ") == 1, done.stderr
        done = train(disk)
        assert done.returncode == 74 and "Read-only file system" in done.stderr, done.stderr
        assert sha256(folder / "checkpoints/last.safetensors") == before
        print("a read-only disk: 74, for a new run and for one that goes on", flush=True)


def a_folder_that_one_rank_does_not_see(root):
    runs = root / "runs"
    runs.mkdir()
    words = [CONFIG, "-o", *settings({**SMALL, "trainer.init.default_root_dir": runs})]
    alone = f'mount --make-rprivate / 2>/dev/null; mount -t tmpfs tmpfs {runs} && exec "$0" "$@"'
    command = ["mpirun", "--oversubscribe", "-np", "1", BUILD / "lab_train", *words, ":", "-np", "1", "unshare", "-m", "--propagation", "unchanged", "bash", "-c", alone, BUILD / "lab_train", *words]
    done = subprocess.run(list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 74 and "rank 1" in done.stderr and "does not see the run folder" in done.stderr, (done.returncode, done.stderr)
    (folder,) = runs.glob("mnist*")
    assert json.loads((folder / "run.json").read_text())["exit_code"] == 74
    print("a folder that one rank does not see: 74", flush=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        for case in (a_disk_that_fills_up, a_disk_that_fills_up_while_training, a_stop_that_cannot_be_saved, a_read_only_disk, a_folder_that_one_rank_does_not_see):
            case(pathlib.Path(name))


if __name__ == "__main__":
    main()
