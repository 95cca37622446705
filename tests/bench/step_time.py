"""What a step of training takes against PyTorch, and how much of it is communication; two ranks of one thread each."""

from interleaved import Comparison, play
from sides import DIGITS, SAME_ALLOCATOR, Sides

# Samples of each rank, target of the ratio to DDP(gloo), target of the communication's share.
NETWORKS = {"mlp": (64, "<= 0.50", "<= 0.10"), "mlp10m": (32, "<= 0.50", "<= 0.10"), "cnn": (64, "<= 0.80", "<= 0.05")}


def steps(build, folder, effort, table):
    """Over DDP(gloo), with the same allocator settings and as shipped, and over c10d's reducer driven from C++."""
    for network, (batch, target, _) in NETWORKS.items():
        with Sides(build, folder) as sides:
            lab, again = sides.steps(network, 2 * batch), sides.steps(network, 2 * batch)
            words = ["step", network, batch, DIGITS]
            alike, shipped = sides.ddp(*words, allocator=SAME_ALLOCATOR), sides.ddp(*words)
            reducer = sides.c10d(*words)
            # Where communication costs nothing this is left: no sum of gradients can beat it.
            silent = sides.ddp(*words, "contiguous", "silent", allocator=SAME_ALLOCATOR)
            comparisons = [Comparison(f"step, {network}: lab / DDP(gloo), same allocator", lab, alike, target),
                           Comparison(f"step, {network}: lab / DDP(gloo), as shipped", lab, shipped),
                           Comparison(f"step, {network}: PyTorch without communication / DDP(gloo)", silent, alike)]
            if reducer:
                comparisons.append(Comparison(f"step, {network}: lab / c10d::Reducer(gloo) from C++", lab, reducer))
            if network == "cnn":
                last = sides.steps(network, 2 * batch, memory_format="channels_last")
                both = sides.ddp(*words, "channels_last", allocator=SAME_ALLOCATOR)
                comparisons += [
                    Comparison("step, cnn: lab, channels_last / DDP(gloo), same allocator", last, alike, target),
                    Comparison("step, cnn: lab / DDP(gloo), both channels_last, same allocator", last, both)]
                silent = sides.ddp(*words, "channels_last", "silent", allocator=SAME_ALLOCATOR)
                comparisons.append(Comparison("step, cnn: PyTorch without communication / DDP(gloo), channels_last",
                                              silent, both))
            table.add_all(play(comparisons, (lab, again), effort))


def communication(build, folder, effort, table):
    """(step with communication - without) / without: the same program, with the sum of gradients left out."""
    for network, (batch, _, target) in NETWORKS.items():
        with Sides(build, folder) as sides:
            lab, again = sides.steps(network, 2 * batch), sides.steps(network, 2 * batch)
            silent = sides.steps(network, 2 * batch, silent=True)
            share = Comparison(f"communication's share, {network}", lab, silent, target, lambda ratio: ratio - 1)
            table.add_all(play([share], (lab, again), effort))


def check(build, folder, table):
    """The sides do the same work: their losses go down alike."""
    for network, (batch, _, _) in NETWORKS.items():
        with Sides(build, folder) as sides:
            words = ["step", network, batch, DIGITS]
            groups = [sides.steps(network, 2 * batch), sides.ddp(*words), sides.c10d(*words)]
            losses = [[group.run(20)["loss"] for _ in range(5)] for group in groups if group]
        told = "; ".join(" ".join(f"{loss:.3f}" for loss in side) for side in losses)
        for side in losses[1:]:
            alike = all(abs(a - b) <= 0.05 + 0.1 * a for a, b in zip(losses[0], side))
            assert alike, f"{network}: losses differ: {told}"
        assert all(side[-1] < side[0] / 2 for side in losses), f"{network} does not learn: {told}"
        table.note(f"{network}: mean losses of 20 steps each are alike: {told}")
