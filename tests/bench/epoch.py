"""Whole epochs of Fashion-MNIST, and the memory they take, against PyTorch Lightning; two ranks of one thread each."""

import pathlib
import statistics
import subprocess

import counts
from interleaved import Comparison, Effort, Row, play
from sides import SAME_ALLOCATOR, Sides

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
BATCH = 128  # global
MANY = 1000  # epochs that a run is planned for, of which it does those that it is told to
CONFIGS = {"cnn": ("fashion_mnist.toml", "<= 0.40"), "toy": ("mnist_toy.toml", "<= 0.55")}
EQUAL_WORK = {"config.train_samples": 48_000, "config.patience": 0}


class Epochs(Sides):
    """Both sides on the same images."""

    def __init__(self, build, folder, lightning):
        super().__init__(build, folder)
        self._lightning = lightning
        self._data = self.folder / "fashion.h5"
        if not self._data.exists():
            images, labels = FASHION / "train-images-idx3-ubyte.gz", FASHION / "train-labels-idx1-ubyte.gz"
            subprocess.run([self.build / "lab_data", "import", "idx", "--images", images, "--labels", labels,
                            "--out", self._data], check=True, stdout=subprocess.DEVNULL)

    def lab(self, kind, epochs=MANY, numerics="ordinary", seed=0):
        values = {**EQUAL_WORK, "trainer.init.numerics": numerics, "trainer.init.seed": seed}
        return self.epochs(CONFIGS[kind][0], self._data, epochs, BATCH, values=values)

    def peer(self, kind, epochs=MANY, seed=0, allocator=None):
        return self.lightning(self._lightning, FASHION, kind, BATCH, epochs, seed, allocator=allocator)


def missing(lightning):
    """Why there is nothing to compare with, or None."""
    if not FASHION.exists():
        return f"{FASHION} is not there; install Debian's package dataset-fashion-mnist"
    return no_lightning(lightning)


def no_lightning(lightning):
    if subprocess.run([lightning, "-c", "import pytorch_lightning"], capture_output=True, check=False).returncode:
        return f"{lightning} has no pytorch_lightning; name another Python by --lightning"
    return None


def epochs(build, folder, effort, table, lightning):
    """An epoch with its validation and checkpoint, lab's over Lightning's; and the accuracy that both reach in five."""
    if reason := missing(lightning):
        table.note(f"no epochs: {reason}")
        return
    for kind, (_, target) in CONFIGS.items():
        with Epochs(build, folder, lightning) as sides:
            lab, again, canonical = sides.lab(kind), sides.lab(kind), sides.lab(kind, numerics="canonical")
            alike, shipped = sides.peer(kind, allocator=SAME_ALLOCATOR), sides.peer(kind)
            for group in (lab, again, canonical, alike, shipped):
                group.run(1)
            comparisons = [
                Comparison(f"epoch, {kind}: lab / Lightning, as shipped", lab, shipped, target),
                Comparison(f"epoch, {kind}: lab / Lightning, same allocator", lab, alike),
                Comparison(f"epoch, {kind}: lab canonical / Lightning, as shipped", canonical, shipped)]
            table.add_all(play(comparisons, (lab, again), Effort(effort.rounds, 0, 1)))
        reached = [accuracies(build, folder, lightning, kind, seed) for seed in range(3)]
        ours, theirs = (statistics.mean(side) for side in zip(*reached))
        each = ", ".join(f"{a:.4f} and {b:.4f}" for a, b in reached)
        table.note(f"accuracy after 5 epochs, {kind}: lab {ours:.4f}, Lightning {theirs:.4f} (by seed: {each})")


def accuracies(build, folder, lightning, kind, seed):
    """lab's and Lightning's, of whole runs of five epochs."""
    with Epochs(build, folder, lightning) as sides:
        return [side(kind, 5, seed=seed).run(5)["accuracy"] for side in (sides.lab, sides.peer)]


def memory(build, folder, _, table, lightning):
    """PSS of a rank after an epoch, lab's over Lightning's."""
    if reason := missing(lightning):
        table.note(f"no memory: {reason}")
        return
    for kind in CONFIGS:
        with Epochs(build, folder, lightning) as sides:
            groups = sides.lab(kind), sides.peer(kind)
            for group in groups:
                group.run(1)
            ours, theirs = (statistics.mean(counts.proportional_bytes(group)) for group in groups)
        table.add(Row(f"PSS of a rank, {kind}: lab / Lightning", [ours / theirs], [], "<= 0.35"))
        table.note(f"MiB of a rank: lab {ours / 2**20:.0f}, Lightning {theirs / 2**20:.0f}")
