"""Holds the tree to its architecture; run by ctest. Prints each breach with its place and exits 1 if there is any.

Which layer may include which is read from the lab_layer(... USES ...) calls of CMakeLists.txt.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LONGEST_FILE = 400

# Headers of other projects, and the only places that may include them.
VENDORS = [
    (r"mpi\.h|nccl\.h", ["src/comm/"]),
    (r"cuda\w*\.h|c10/cuda/.*|ATen/cuda/.*", ["src/device/", "src/comm/"]),
    (r"hdf5\.h|H5\w*public\.h", ["src/data/"]),
    (r"toml\+\+/.*|toml\.hpp", ["src/config/"]),
    (r"curl/.*", ["src/track/"]),
    (r"cairo/.*", ["src/draw/"]),
    (r"cxxopts\.hpp", ["src/app/", "src/tools/"]),
    (r"nlohmann/.*|xxhash\.h|zlib\.h", ["src/"]),
    (r"(torch|ATen|c10)/.*", ["src/device/", "src/comm/", "src/train/", "src/app/", "src/experiments/",
                              "include/lab/train/", "include/lab/app/", "include/lab/lab.h"]),
]
DRAWERS = re.compile(r"(^|_)(utils?|common|helpers?|misc|manager)(_|$)")
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')
SWITCH = re.compile(r"\s*#\s*(if|ifdef|ifndef|elif)\b")


def layers_from_cmake():
    """layer -> the layers it may include, itself among them."""
    text = re.sub(r"#.*", "", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    uses = {}
    for call in re.findall(r"lab_layer\(([^)]*)\)", text):
        name, *words = call.split()
        below = []
        if "USES" in words:
            for word in words[words.index("USES") + 1:]:
                if word.isupper():
                    break
                below.append(word)
        unknown = [layer for layer in below if layer not in uses]
        if unknown:
            sys.exit(f"CMakeLists.txt: layer {name} uses {unknown}, which are not declared above it")
        uses[name] = {name, *below}
    return uses


def layer_of(path):
    parts = path.parts
    if parts[:2] == ("include", "lab"):
        return parts[2] if len(parts) > 3 else "lab.h"
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def check_include(path, layer, quote, target, uses):
    """The breach that this include is, or None."""
    if quote == "<":
        for pattern, places in VENDORS:
            if re.fullmatch(pattern, target):
                if any(path.as_posix().startswith(place) for place in places):
                    return None
                return f"<{target}> belongs only into {', '.join(places)}"
        return None
    first, *rest = target.split("/")
    if target == "lab/lab.h":
        return None if layer in ("experiments", "tools") else f"only experiments and tools include {target}"
    if first == "lab" and len(rest) > 1:
        allowed = uses.get(layer, set(uses))  # whole programs and lab.h: all
        return None if rest[0] in allowed else f"{layer} may not include {target}; it may use {', '.join(sorted(allowed))}"
    private = path.parts[0] == "src" and len(rest) == 1 and (first == layer or (layer, first) == ("tools", "experiments"))
    return None if private else f'"{target}" is neither a public header (lab/LAYER/...) nor a private one of {layer}'


def breaches_of(path, uses):
    layer = layer_of(path)
    if layer not in uses and layer not in ("tools", "lab.h"):
        yield 1, f"{path} belongs to no layer that CMakeLists.txt declares"
        return
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    if len(lines) > LONGEST_FILE:
        yield len(lines), f"longer than {LONGEST_FILE} lines: is it one thing?"
    if any(DRAWERS.search(pathlib.Path(part).stem) for part in path.parts):
        yield 1, "name the file after its one responsibility"
    if path.suffix == ".h" and "#pragma once" not in lines:
        yield 1, "a header begins with #pragma once"
    for number, line in enumerate(lines, 1):
        if SWITCH.match(line) and layer != "comm":
            yield number, "no preprocessor switches; let CMake choose between two files"
        include = INCLUDE.match(line)
        breach = include and check_include(path, layer, include[1], include[2], uses)
        if breach:
            yield number, breach


def main():
    uses = layers_from_cmake()
    files = sorted(path.relative_to(ROOT) for folder in ("include", "src") for path in (ROOT / folder).rglob("*")
                   if path.suffix in (".h", ".cpp"))
    found = [f"{path}:{line}: {what}" for path in files for line, what in breaches_of(path, uses)]
    print(*found, f"{len(files)} files in {len(uses)} layers, {len(found)} breaches", sep="\n")
    sys.exit(1 if found or not files else 0)


main()
