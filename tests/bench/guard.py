"""What the guard costs by which a step with gradients that are not finite changes nothing: the same programs without it."""

from interleaved import Comparison, Pace, Row, play, ratio
from sides import Sides


def guard(build, folder, effort, table):
    for network, batch in (("mlp64", 32), ("mlp", 64), ("cnn", 64)):
        with Sides(build, folder) as sides:
            guarded, again = (sides.steps(network, batch, ranks=1) for _ in range(2))
            means, bare_means = (sides.means(network, batch, program) for program in ("means_bench", "unguarded_means_bench"))
            table.add(share_by_its_loop(network, batch, (guarded, again), means, bare_means, effort))
            bare = sides.steps(network, batch, ranks=1, program="unguarded_bench")
            whole = Comparison("... by whole steps, whose spread is larger", guarded, bare, None, lambda value: value - 1)
            table.add_all(play([whole], (guarded, again), effort))


def share_by_its_loop(network, batch, steps, means, bare_means, effort):
    """What it adds to the loop that it is a part of, over a step's time."""
    paces = [Pace(group, effort) for group in (*steps, means, bare_means)]
    shares, controls = [], []
    for _ in range(effort.rounds):
        controls.append(ratio(paces[0], paces[1]))
        first, second, third, fourth = (paces[i].unit() for i in (2, 3, 3, 2))
        shares.append((first + fourth - second - third) / (2 * paces[0].unit()))
    return Row(f"the guard's share of a step, {network}, batch {batch}, np 1", shares, controls, "<= 0.005")
