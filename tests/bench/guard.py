"""What the guard costs by which a step with gradients that are not finite changes nothing: the same program without it."""

from interleaved import Comparison, play
from sides import Sides


def guard(build, folder, effort, table):
    for network, batch in (("mlp64", 32), ("mlp", 64), ("cnn", 64)):
        with Sides(build, folder) as sides:
            guarded, again = (sides.steps(network, batch, ranks=1) for _ in range(2))
            bare = sides.steps(network, batch, ranks=1, program="unguarded_bench")
            share = Comparison(f"the guard's share of a step, {network}, batch {batch}, np 1", guarded, bare, "<= 0.005",
                               lambda ratio: ratio - 1)
            table.add_all(play([share], (guarded, again), effort))
