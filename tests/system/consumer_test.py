"""Installs the build, then configures, builds and runs tests/consumer against it, as a user of the library would.

    consumer_test.py BUILD_FOLDER
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]


def run(*words, **options):
    done = subprocess.run([str(word) for word in words], text=True, capture_output=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def refused(*words):
    done = subprocess.run([str(word) for word in words], text=True, capture_output=True)
    assert done.returncode != 0, f"{' '.join(map(str, words))} succeeded"
    return done.stdout + done.stderr


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        prefix = folder / "prefix"
        run("cmake", "--install", build, "--prefix", prefix)
        for program in ("lab_train", "lab_infer", "lab_data"):
            assert re.fullmatch(r"\w+ \d+\.\d+\.\d+\n", run(prefix / "bin" / program, "--version")), program

        configure = ("cmake", "-G", "Ninja", "-S", SOURCE / "tests/consumer", f"-DCMAKE_PREFIX_PATH={prefix}")
        run(*configure, "-B", folder / "build")
        run("cmake", "--build", folder / "build")
        run("cmake", "--install", folder / "build", "--prefix", prefix)
        run(prefix / "bin/line_train", SOURCE / "tests/consumer/line.toml", "--offline",
            "--set", f"config.data={SOURCE}/data/mnist-test.h5", cwd=folder)
        [record] = folder.glob("data/artifacts/line-line_offline/run.json")
        assert json.loads(record.read_text())["status"] == "completed", record.read_text()

        # Another torch than the one that lab was built with is refused.
        [config] = prefix.rglob("lab-config.cmake")
        text = config.read_text()
        config.write_text(text.replace("set(LabTorch_WANTED 2.", "set(LabTorch_WANTED 1."))
        message = refused(*configure, "-B", folder / "other")
        assert "no torch 1." in message, message


main()
