"""Reads event files with TensorBoard's own reader and holds them against metrics.csv.

    tensorboard_test.py BUILD_FOLDER    what tracker_tool writes
    tensorboard_test.py RUN_FOLDER      the records of a run (a folder that holds metrics.csv)
"""

import csv
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def points_of_csv(folder):
    """tag -> [(step, time, value)] in the order of the file."""
    points = {}
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows)
        assert header == ["epoch", "step", "tag", "value", "time"], header
        for _epoch, step, tag, value, time in rows:
            points.setdefault(tag, []).append((int(step), float(time), float(value)))
    return points


def events_of(folder):
    assert list(folder.glob("events.out.tfevents.*")), f"no event file in {folder}"
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def check_scalars(folder):
    """Every scalar of metrics.csv, each step, equal to its value as a 32-bit float, and no other."""
    points, events = points_of_csv(folder), events_of(folder)
    assert points, f"{folder}/metrics.csv holds no points"
    assert sorted(events.Tags()["scalars"]) == sorted(points), (events.Tags()["scalars"], sorted(points))
    for tag, expected in points.items():
        found = events.Scalars(tag)
        assert [event.step for event in found] == [step for step, _, _ in expected], tag
        assert [event.wall_time for event in found] == [time for _, time, _ in expected], tag
        with np.errstate(over="ignore", under="ignore"):
            wanted = np.array([value for _, _, value in expected]).astype(np.float32)
        got = np.array([event.value for event in found])
        assert got.astype(np.float32).tobytes() == wanted.tobytes(), tag
        np.testing.assert_array_equal(got, wanted.astype(np.float64), err_msg=tag)
    return sum(map(len, points.values()))


def check_text(folder, tag, expected):
    events = events_of(folder)
    assert events.SummaryMetadata(tag).plugin_data.plugin_name == "text"
    found = [event.tensor_proto.string_val[0].decode() for event in events.Tensors(tag)]
    assert found == [expected], found


def check_torn(folder):
    """A file cut anywhere in its last record still gives everything before it."""
    (file,) = folder.glob("events.out.tfevents.*")
    whole = file.read_bytes()
    for cut in range(1, 60, 7):
        file.write_bytes(whole[:-cut])
        kept = events_of(folder).Scalars("loss/train_step")
        assert len(kept) == 12000, (cut, len(kept))
    file.write_bytes(whole)


def check_tool(build):
    tool = next(path for path in build.rglob("tracker_tool") if path.is_file())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run([tool, folder], check=True)
        count = check_scalars(folder)
        assert count == 12000 + 3 * 240 + 7, count
        check_text(folder, "config", "seed = 0\n# Ünïcode")
        check_torn(folder)
        return count


def main():
    folder = pathlib.Path(sys.argv[1])
    count = check_scalars(folder) if (folder / "metrics.csv").exists() else check_tool(folder)
    print(f"{count} scalars read back by TensorBoard")


main()
