"""What lab's trainer adds to the computing of a small step, where it shows most: the MLP 784-64-10 at batch 32."""

import statistics

import epoch
from interleaved import Comparison, Pace, Row, play, ratio
from sides import SAME_ALLOCATOR, Sides

BATCH = 32
CHEAP, SHARE, MICROSECONDS = "mlp64", "<= 1.04", "<= 25"


def turned(value):
    """Of a ratio of times, that of speeds."""
    return 1 / value


def over_bare(sides, effort, table, launched):
    """lab's run, with its records, over a loop on libtorch, which finds its samples ready; the target is reached by the
    share or by the microseconds. Under mpirun a single rank is bound to one core, on which it also reads."""
    lab, again = (sides.runs(CHEAP, BATCH, launched=launched) for _ in range(2))
    bare = sides.bare(CHEAP, BATCH)
    paces = [Pace(group, effort) for group in (lab, again, bare)]
    shares, controls, more = [], [], []
    for _ in range(effort.rounds):
        controls.append(ratio(paces[0], paces[1]))
        first, second, third, fourth = (pace.unit() for pace in (paces[0], paces[2], paces[2], paces[0]))
        shares.append((first + fourth) / (second + third))
        more.append(1e6 * (first + fourth - second - third) / 2)
    how = "mpirun -np 1" if launched else "np 1"
    table.add(Row(f"step, {CHEAP}, {how}: lab / bare libtorch", shares, controls, SHARE))
    table.add(Row(f"step, {CHEAP}, {how}: microseconds over bare libtorch", more, controls, MICROSECONDS))
    table.note(f"microseconds of a bare step: {statistics.median(m / (s - 1) for m, s in zip(more, shares)):.0f}")


def overhead(build, folder, effort, table, lightning):
    for launched in (False, True):
        with Sides(build, folder) as sides:
            over_bare(sides, effort, table, launched)
    if reason := epoch.no_lightning(lightning):
        table.note(f"nothing over Lightning: {reason}")
        return
    for ranks in (1, 2):
        with Sides(build, folder) as sides:
            lab, again = sides.runs(CHEAP, BATCH, ranks), sides.runs(CHEAP, BATCH, ranks)
            words = lightning, BATCH, ranks
            alike, shipped = sides.lightning_steps(*words, allocator=SAME_ALLOCATOR), sides.lightning_steps(*words)
            table.add_all(play(
                [Comparison(f"steps/s, {CHEAP}, np {ranks}: lab / Lightning, as shipped", lab, shipped, ">= 4", turned),
                 Comparison(f"steps/s, {CHEAP}, np {ranks}: lab / Lightning, same allocator", lab, alike, None, turned)],
                (lab, again), effort))


def precision(build, folder, effort, table):
    """bf16-mixed over 32-true in speed; processors with AMX have instructions for it."""
    with Sides(build, folder) as sides:
        single, again = (sides.steps("cnn", 64, ranks=1) for _ in range(2))
        mixed = sides.steps("cnn", 64, ranks=1, precision="bf16-mixed")
        table.add_all(play([Comparison("steps/s, cnn, batch 64, np 1: bf16-mixed / 32-true", mixed, single, ">= 1.5", turned)],
                           (single, again), effort))
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        table.note(f"this processor has {'' if 'amx_bf16' in file.read() else 'no '}AMX for bf16")
