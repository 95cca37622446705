"""What a rank looks up in file systems before it trains, as thousands of them do at once: few files, and none in the folder
where it was started, where anybody's libraries may lie. As the system's loader tells it.

    loading_test.py BUILD_FOLDER
"""

import os
import pathlib
import re
import subprocess
import tempfile

from programs import BUILD, ENVIRONMENT

MOST = 70  # of which libraries of the programs themselves are 20


def looked_up(folder, *command):
    """The files that the loader tried, of rank 1."""
    traced = ["bash", "-c", 'export LD_DEBUG=libs LD_DEBUG_OUTPUT="$0/rank.$OMPI_COMM_WORLD_RANK"; exec "$@"', folder]
    done = subprocess.run(["mpirun", "-np", "2", "--oversubscribe", *map(str, [*traced, *command])], env=ENVIRONMENT,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    lines = [line for file in folder.glob("rank.1.*") for line in file.read_text().splitlines()]
    return [match[1] for line in lines if (match := re.search(r"trying file=(\S+)", line))]


def main():
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        values = {"trainer.init.default_root_dir": root / "runs", "trainer.init.max_steps": 1}
        words = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        files = looked_up(root, BUILD / "lab_train", "configs/mnist.toml", "-o", *words)
    print(f"{len(files)} files of libraries were looked up")
    assert any(file.endswith("libmpi.so.40") for file in files), files
    assert len(files) <= MOST, "\n".join(files)
    relative = [file for file in files if not os.path.isabs(file)]
    assert not relative, relative
    assert not [file for file in files if "curl" in file], "rank 1 has loaded libcurl, which rank 0 alone needs"


main()
