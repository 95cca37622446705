"""The pictures of a run: figures of each epoch and of the training, as files and as TensorBoard shows them; also of a run that
went on later, on a machine that cannot draw, and with a folder that cannot be written to.

    pictures_test.py BUILD_FOLDER
"""

import collections
import io
import json
import pathlib
import re
import shutil
import tempfile

import numpy as np
from PIL import Image
from programs import BUILD, ENVIRONMENT, run, settings, sha256
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CONFIG = "configs/mnist.toml"
EPOCHS = 3
SMALL = {"trainer.init.max_epochs": EPOCHS, "trainer.init.log_every_n_steps": 1, "config.schedule": "multi_step", "config.batch_size": 250}
WHITE, INK, GRID, FRAME = (255, 255, 255), (34, 34, 34), (222, 222, 222), (120, 120, 120)
CURVES = [(0, 98, 178), (224, 92, 0)]
NO_PICTURES = "no pictures are drawn"


def train(root, values=(), *words, environment=()):
    before = dict(ENVIRONMENT)
    ENVIRONMENT.update(environment)
    try:
        done = run(2, "lab_train", CONFIG, "-o", *settings({**SMALL, "trainer.init.default_root_dir": root, **dict(values)}), *words)
    finally:
        ENVIRONMENT.clear()
        ENVIRONMENT.update(before)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return pathlib.Path(done.stdout.strip().splitlines()[-1].split("  ")[0]), done.stderr


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "RGB"), (image.format, image.mode)
    image.load()
    return np.asarray(image)


def places(picture, colour):
    """(rows, columns) of the pixels of this colour."""
    return np.nonzero((picture == np.array(colour)).all(axis=2))


def box(picture):
    """What is within the frame: the first and last rows and columns that have a long line of its colour lie around it."""
    found = (picture == np.array(FRAME)).all(axis=2)
    rows, columns = (np.nonzero(found.sum(axis=axis) > 100)[0] for axis in (1, 0))
    assert len(rows) == 2 and len(columns) == 2, (rows, columns)
    return columns[0] + 1, rows[0] + 1, columns[1], rows[1]


def plots(folder):
    """epoch -> what ClearML is told of its confusion matrix."""
    lines = [json.loads(line) for line in (folder / "clearml.jsonl").read_text().splitlines()]
    return {line["iter"]: json.loads(line["plot_str"]) for line in lines if line["type"] == "plot"}


def colour_at(scale, place):
    """The colour that plotly gives to a place between 0 and 1 of a scale."""
    rgb = [[int(text[i:i + 2], 16) for i in (1, 3, 5)] for _, text in scale]
    return [np.interp(place, [at for at, _ in scale], [colour[i] for colour in rgb]) for i in range(3)]


def check_confusion(png, plot):
    """Each cell has the colour that the same number has in ClearML, and the picture around it is not empty."""
    picture, (heat,) = pixels(png), plot["data"]
    counts = np.array(heat["z"])
    assert counts.shape == (10, 10) and counts.sum() == 500, counts
    left, top, right, bottom = box(picture)
    side = (right - left) / 10
    assert abs((bottom - top) / 10 - side) < 0.2 and 40 < side < 50, (left, top, right, bottom)
    for row in range(10):
        for column in range(10):
            corner = picture[round(top + row * side) + 5, round(left + column * side) + 5]
            wanted = colour_at(heat["colorscale"], counts[row, column] / heat["zmax"])
            assert np.abs(corner - wanted).max() <= 2, (row, column, counts[row, column], corner, wanted)
    for part in (picture[:top - 5], picture[bottom + 5:], picture[:, :left - 5]):  # title, predictions, truth
        assert len(places(part, INK)[0]) > 20, part.shape
    assert (picture[0] == WHITE).all() and (picture[-1] == WHITE).all() and (picture[:, -1] == WHITE).all(), "cut off"


def check_figures(folder):
    said, epochs = plots(folder), range(EPOCHS)
    assert sorted(said) == list(epochs), said
    files = sorted(path.name for path in (folder / "figures/confusion").iterdir())
    assert files == [f"validate-epoch-{epoch + 1:04}.png" for epoch in epochs], files
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    events.Reload()
    assert events.Tags()["images"] == ["confusion/validate"], events.Tags()
    images, steps = events.Images("confusion/validate"), [point.step for point in events.Scalars("loss/train_epoch")]
    assert [image.step for image in images] == steps and len(steps) == EPOCHS, steps
    for epoch, image, name in zip(epochs, images, files):
        assert image.encoded_image_string == (folder / "figures/confusion" / name).read_bytes(), name
        assert pixels(image.encoded_image_string).shape == (image.height, image.width, 3), name
        check_confusion(image.encoded_image_string, said[epoch])


def dots(picture, colour):
    """How many dots of a curve of marks: pixels all around which have the colour too, in groups."""
    full = (picture == np.array(colour)).all(axis=2)
    inner = full.copy()
    for rows, columns in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        for far in (1, 2):
            inner &= np.roll(full, (far * rows, far * columns), (0, 1))
    centres = []
    for place in zip(*np.nonzero(inner)):
        if all(abs(place[0] - y) + abs(place[1] - x) > 4 for y, x in centres):
            centres.append(place)
    return len(centres)


def check_training(folder):
    names = sorted(path.name for path in (folder / "figures").glob("*.png"))
    assert names == ["accuracy.png", "loss.png"], names
    loss, accuracy = (pixels((folder / "figures" / name).read_bytes()) for name in ("loss.png", "accuracy.png"))
    assert dots(loss, CURVES[1]) == EPOCHS + 1 + 2, dots(loss, CURVES[1])  # the first validation, and two in the legend
    assert dots(accuracy, CURVES[0]) == EPOCHS + 2 and dots(accuracy, CURVES[1]) == EPOCHS + 1 + 2
    left, _, right, _ = box(loss)
    red, green, blue = np.moveaxis(loss[:, left:right].astype(int), 2, 0)
    _, columns = np.nonzero((blue - red > 60) & (blue - green > 20))  # the thin line of single steps, wherever it is blurred
    assert columns.min() < 40 and columns.max() > right - left - 40 and len(set(columns)) > 300, columns
    for picture in (loss, accuracy):
        assert len(places(picture, INK)[0]) > 200 and len(places(picture, GRID)[0]) > 2000
        assert (picture[0] == WHITE).all() and (picture[-1] == WHITE).all() and (picture[:, -1] == WHITE).all(), "cut off"


def a_run_leaves_pictures(root):
    folder, said = train(root / "whole")
    check_figures(folder)
    check_training(folder)
    assert NO_PICTURES not in said and not list(folder.rglob("*.partial*")), said
    return folder


def a_run_that_went_on_has_the_whole_history(root, whole):
    first, _ = train(root / "parts", {"trainer.init.max_epochs": 1})
    before = (first / "figures/loss.png").read_bytes()
    folder, _ = train(root / "parts", {}, f"--resume={first}")
    assert folder == first and (folder / "figures/loss.png").read_bytes() != before
    pictures = [path.relative_to(whole) for path in whole.rglob("*.png")]
    assert len(pictures) == EPOCHS + 2, pictures
    for picture in pictures:
        assert (folder / picture).read_bytes() == (whole / picture).read_bytes(), f"{picture} is not that of an unbroken run"


def only_the_first_rank_draws_and_only_when_it_must(root):
    """Of the processes of a job one loads the library, and not before the first figure."""
    prefix = root / "loaded"
    train(root / "traced", {"trainer.init.max_epochs": 1}, environment={"LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": str(prefix)})
    traces = {path.name: path.read_text(errors="replace") for path in root.glob("loaded.*")}
    assert sum("libtorch_cpu" in text for text in traces.values()) >= 2, "the traces say nothing"
    loaders = [name for name, text in traces.items() if re.search(r"calling init: \S*libcairo\.so", text)]
    assert len(loaders) == 1, loaders


def a_machine_without_cairo_trains_all_the_same(root, whole):
    libraries = root / "libraries"
    libraries.mkdir()
    (libraries / "libcairo.so.2").write_text("not a library\n")  # the loader takes the first of this name, and gives up
    folder, said = train(root / "blind", environment={"LD_LIBRARY_PATH": str(libraries)})
    assert said.count(NO_PICTURES) == 1 and "libcairo2" in said, said
    assert not (folder / "figures").exists() and len(plots(folder)) == EPOCHS
    # Also the number of records, by which a run goes on elsewhere.
    assert sha256(folder / "checkpoints/last.safetensors") == sha256(whole / "checkpoints/last.safetensors")
    resumed, said = train(root / "blind", {"trainer.init.max_epochs": EPOCHS + 1}, f"--resume={folder}")
    assert NO_PICTURES not in said and "has lost" not in said, said
    assert [path.name for path in (resumed / "figures/confusion").iterdir()] == [f"validate-epoch-{EPOCHS + 1:04}.png"]
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert len(events.Images("confusion/validate")) == 1 and len(events.Scalars("loss/train_epoch")) == EPOCHS + 1


def a_folder_that_cannot_be_made_is_said_once(root):
    folder, _ = train(root / "refused", {"trainer.init.max_epochs": 1})
    shutil.rmtree(folder / "figures")
    (folder / "figures").write_text("in the way\n")
    _, said = train(root / "refused", {}, f"--resume={folder}")
    warned = collections.Counter(line.split("figures/")[-1].split("/")[0] for line in said.splitlines() if "cannot write" in line)
    assert warned.total() in (1, 2) and "the run goes on without this picture" in said, said
    assert (folder / "figures").read_text() == "in the way\n"


def main():
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        whole = a_run_leaves_pictures(root)
        a_run_that_went_on_has_the_whole_history(root, whole)
        only_the_first_rank_draws_and_only_when_it_must(root)
        a_machine_without_cairo_trains_all_the_same(root, whole)
        a_folder_that_cannot_be_made_is_said_once(root)
    print("pictures are there, and right, where they can be drawn:", BUILD)


main()
