"""Holds the table that the schedules' unit test compares with against the schedulers of PyTorch.

    schedules_test.py BUILD_FOLDER            the table is what PyTorch computes
    schedules_test.py BUILD_FOLDER --write    makes it anew

The rates of each case by t, the number of times that the scheduler was stepped: PyTorch's way, one from the other.
"""

import itertools
import pathlib
import re
import sys

import torch
from torch.optim import lr_scheduler as torch_lr

TABLE = pathlib.Path(__file__).parent.parent / "unit/train/schedules_table.h"
RATE = 0.1
T = [*range(24), *range(24, 301, 9), 99, 100, 101, 149, 151, 200, 201, 299]
PLATEAU_VALUES = [1, 0.9, 0.95, 0.93, 0.92, 0.91, 0.8, 0.9, float("nan"), 0.85, 0.85, 0.85, 0.7, 0.6999999, 0.7, 0.71, 0.72, 0.73, 0.74,
                  0.6, 0.65, 0.65, 0.65, 0.65, 0.65, 0.65, 0.65, 0.65, 0.65, 0.65]


def sequential(o):
    parts = [torch_lr.LinearLR(o, 0.1, 1, 20), torch_lr.CosineAnnealingLR(o, 80, 0.01), torch_lr.ExponentialLR(o, 0.99)]
    return torch_lr.SequentialLR(o, parts, [20, 100])


def chained(o):
    parts = [torch_lr.ConstantLR(o, 0.25, 7), torch_lr.ExponentialLR(o, 0.98), torch_lr.StepLR(o, 50, 0.5)]
    return torch_lr.ChainedScheduler(parts)


CASES = {
    "step_decay": lambda o: torch_lr.StepLR(o, 30, 0.7),
    "multi_step": lambda o: torch_lr.MultiStepLR(o, [5, 8, 8, 100], 0.2),
    "constant_start": lambda o: torch_lr.ConstantLR(o, 1 / 3, 5),
    "linear_ramp": lambda o: torch_lr.LinearLR(o, 0.2, 0.9, 150),
    "exponential_decay": lambda o: torch_lr.ExponentialLR(o, 0.97),
    "polynomial_decay": lambda o: torch_lr.PolynomialLR(o, 200, 2.5),
    "cosine_annealing": lambda o: torch_lr.CosineAnnealingLR(o, 100, 0.01),
    "cosine_to_zero": lambda o: torch_lr.CosineAnnealingLR(o, 300),
    "restarts": lambda o: torch_lr.CosineAnnealingWarmRestarts(o, 50, 1, 0.002),
    "longer_restarts": lambda o: torch_lr.CosineAnnealingWarmRestarts(o, 20, 2, 0),
    "one_cycle": lambda o: torch_lr.OneCycleLR(o, RATE, 301, cycle_momentum=False),
    "one_cycle_linear": lambda o: torch_lr.OneCycleLR(o, RATE, 301, pct_start=0.25, anneal_strategy="linear", cycle_momentum=False,
                                                      div_factor=10, final_div_factor=100, three_phase=True),
    "triangular": lambda o: torch_lr.CyclicLR(o, RATE, 0.5, 20, 35, cycle_momentum=False),
    "triangular2": lambda o: torch_lr.CyclicLR(o, RATE, 0.5, 25, mode="triangular2", cycle_momentum=False),
    "exp_range": lambda o: torch_lr.CyclicLR(o, RATE, 0.5, 25, mode="exp_range", gamma=0.99, cycle_momentum=False),
    "by_function": lambda o: torch_lr.LambdaLR(o, lambda t: 1 / (1 + t)),
    "sequential": sequential,
    "chained": chained,
}


def optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], RATE)


def rates(make):
    """At each t."""
    o = optimizer()
    scheduler = make(o)
    found = []
    for _ in range(max(T) + 1):
        found.append(float(o.param_groups[0]["lr"]))
        o.step()
        scheduler.step()
    return [found[t] for t in T]


def plateau_rates(values=PLATEAU_VALUES, **options):
    """After each value."""
    o = optimizer()
    scheduler = torch_lr.ReduceLROnPlateau(o, **options)
    found = []
    for value in values:
        scheduler.step(value)
        found.append(o.param_groups[0]["lr"])
    return found


def table():
    rows = {name: rates(make) for name, make in CASES.items()}
    rows["plateau"] = plateau_rates(factor=0.5, patience=2)
    rows["plateau_cooldown"] = plateau_rates(factor=0.1, patience=1, cooldown=3, min_lr=1e-3, threshold=0.05, threshold_mode="abs")
    rows["plateau_max"] = plateau_rates([3 / v for v in PLATEAU_VALUES], mode="max", factor=0.3, patience=3, eps=2e-3, threshold=0.15)
    return {"t": T, "plateau_values": PLATEAU_VALUES, **rows}


def written(rows):
    lines = ["#pragma once", "// Made by tests/system/schedules_test.py: what PyTorch's schedulers make of the rate 0.1.", "",
             "#include <cmath>", "#include <map>", "#include <string>", "#include <vector>", "",
             "// clang-format off", "inline const std::map<std::string, std::vector<double>> torch_rates = {"]
    for name, values in rows.items():
        words = ["NAN" if value != value else repr(value) for value in values]
        lines.append(f'    {{"{name}",')
        lines += [f"     {{{line}" if first else f"      {line}" for first, line in wrapped(words)]
        lines[-1] = lines[-1].rstrip(",") + "}},"
    return "\n".join([*lines, "};", "// clang-format on", ""])


def wrapped(words):
    line, first = "", True
    for word in words:
        if len(line) + len(word) > 100:
            yield first, line.rstrip()
            line, first = "", False
        line += word + ", "
    yield first, line.rstrip()


def read(text):
    found = {}
    for name, values in re.findall(r'\{"(\w+)",\s*\{([^}]*)\}\}', text):
        found[name] = [float(word) for word in values.replace("NAN", "nan").split(",")]
    return found


def main():
    rows = table()
    if "--write" in sys.argv:
        TABLE.write_text(written(rows), encoding="utf-8")
        return
    kept = read(TABLE.read_text(encoding="utf-8"))
    assert kept.keys() == rows.keys(), kept.keys() ^ rows.keys()
    worst = 0.0
    for name, values in rows.items():
        assert len(kept[name]) == len(values), name
        for ours, theirs in itertools.zip_longest(kept[name], values):
            apart = 0.0 if ours != ours and theirs != theirs else abs(ours - theirs)
            assert apart <= 1e-15, f"{name}: the table has {ours!r}, PyTorch {theirs!r}; make it anew with --write"
            worst = max(worst, apart)
    print(f"{len(rows)} rows of {len(T)} rates; the largest difference is {worst:.1e}")


if __name__ == "__main__":
    main()
