"""The weights of two checkpoints against each other, read with the standard library alone."""

import array
import json
import math
import pathlib

CODES = {"F32": "f", "F64": "d"}


def model_of(path):
    """Names and values of the model's floating tensors."""
    data = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    tensors = {}
    for name, entry in header.items():
        if name.startswith("lab.") or name == "__metadata__" or entry["dtype"] not in CODES:
            continue
        first, last = entry["data_offsets"]
        tensors[name] = array.array(CODES[entry["dtype"]], data[start + first:start + last])
    if not tensors:
        raise ValueError(f"{path} has no weights")
    return tensors


def distance(path, other):
    """The L2 norm of the difference over that of the first one's weights; 0 for equal bits."""
    one, two = model_of(path), model_of(other)
    if {name: len(values) for name, values in one.items()} != {name: len(values) for name, values in two.items()}:
        raise ValueError(f"{path} and {other} have different tensors")
    if one == two:
        return 0.0
    squares = math.fsum((a - b) ** 2 for name in one for a, b in zip(one[name], two[name]))
    return math.sqrt(squares / math.fsum(a * a for values in one.values() for a in values))
