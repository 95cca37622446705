"""lab against itself: eight ranks on the cores of two, and canonical numerics against ordinary ones."""

from interleaved import Comparison, play
from sides import Sides


def oversubscribed(build, folder, effort, table):
    """Samples/s at np 8 over those at np 2, same cores and global batch: the ratio of step times, turned round."""
    for network in ("digits", "cnn"):
        with Sides(build, folder) as sides:
            two, again, eight = (sides.steps(network, 512, ranks=ranks) for ranks in (2, 2, 8))
            throughput = Comparison(f"samples/s at np 8 / np 2, {network}, batch 512", two, eight, ">= 0.80")
            table.add_all(play([throughput], (two, again), effort))


def canonical(build, folder, effort, table):
    """What equal bits at any number of ranks cost: canonical over ordinary step time at np 2."""
    for network, batch, target in (("digits", 128, "<= 1.10"), ("digits", 512, "<= 1.10"), ("cnn", 128, "<= 1.10"),
                                   ("mlp", 64, "<= 1.8"), ("mlp", 128, "<= 1.8")):
        with Sides(build, folder) as sides:
            ordinary, again = sides.steps(network, batch), sides.steps(network, batch)
            same_bits = sides.steps(network, batch, numerics="canonical")
            pieces = sides.steps(network, batch // 4, accumulate=4)  # each rank has four of the eight
            table.add_all(play(
                [Comparison(f"canonical / ordinary, {network}, batch {batch}", same_bits, ordinary, target),
                 Comparison(f"as many pieces in ordinary numerics / ordinary, {network}, batch {batch}", pieces, ordinary)],
                (ordinary, again), effort))
