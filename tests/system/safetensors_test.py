"""Exchanges safetensors files with Python's own library, both ways, all types.

    safetensors_test.py BUILD_FOLDER|PATH_OF_safetensors_tool
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import safe_open

TYPES = {
    "bool": torch.bool, "u8": torch.uint8, "i8": torch.int8, "u16": torch.uint16, "i16": torch.int16,
    "u32": torch.uint32, "i32": torch.int32, "u64": torch.uint64, "i64": torch.int64, "f16": torch.float16,
    "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64,
}  # fmt: skip


def bytes_of(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


class Tool:
    def __init__(self, path):
        path = pathlib.Path(path)
        self.path = next(found for found in path.rglob("safetensors_tool") if found.is_file()) if path.is_dir() else path

    def __call__(self, command, file, status=0):
        done = subprocess.run([self.path, command, file], capture_output=True, text=True)
        assert done.returncode == status, (command, done.returncode, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def read(self, file):
        tensors, metadata = {}, {}
        for line in self("read", file).splitlines():
            first, second, *rest = line.split("\t")
            if first == "metadata":
                metadata[second] = rest[0]
            else:
                shape = [int(size) for size in rest[0].split()]
                tensors[first] = (second, shape, bytes.fromhex(rest[1]))
        return tensors, metadata


def check_ours_in_python(tool, file):
    tool("write", file)
    assert tool("verify", file) == "agrees\n"
    tensors = safetensors.torch.load_file(file)
    assert set(tensors) == {*TYPES, "scalar", "nothing", 'größe "1"'}, set(tensors)
    pattern = bytes(range(1, 121))
    for name, dtype in TYPES.items():
        tensor = tensors[name]
        assert tensor.dtype == dtype, (name, tensor.dtype)
        if name == "bool":
            assert tensor.tolist() == [True, False, True]
        else:
            assert list(tensor.shape) == [3, 5] and bytes_of(tensor) == pattern[: 15 * tensor.element_size()], name
    assert tensors["scalar"].shape == () and tensors["scalar"].item() == 3.25
    assert list(tensors["nothing"].shape) == [2, 0]
    with safe_open(file, framework="np") as opened:
        assert opened.get_tensor("f32").tobytes() == pattern[:60]
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        assert torch.equal(opened.get_slice("i64")[1:2], tensors["i64"][1:2])
    assert metadata["format"] == "pt" and json.loads(metadata["lab"]) == {"epoch": 3, "name": "größe"}
    assert set(json.loads(metadata["lab.checksums"])) == set(tensors)
    header_bytes = int.from_bytes(pathlib.Path(file).read_bytes()[:8], "little")
    assert (8 + header_bytes) % 64 == 0


def check_pythons_in_ours(tool, file):
    torch.manual_seed(0)
    tensors = {"scalar": torch.tensor(2.5), "nothing": torch.empty(3, 0), "größe": torch.zeros(1)}
    for name, dtype in TYPES.items():
        raw = torch.randint(0, 2 if name == "bool" else 256, (7 * 3 * 8,), dtype=torch.uint8)
        tensors[name] = raw.view(dtype)[:21].reshape(7, 3)
    names = {dtype: name for name, dtype in TYPES.items()}
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt", "note": "größe"})
    assert tool("verify", file) == "no checksums\n"
    found, metadata = tool.read(file)
    assert metadata == {"format": "pt", "note": "größe"}, metadata
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name] == (names[tensor.dtype], list(tensor.shape), bytes_of(tensor)), name
    safetensors.numpy.save_file({"a": np.arange(5, dtype=np.int16)}, file)
    assert tool.read(file) == ({"a": ("i16", [5], np.arange(5, dtype=np.int16).tobytes())}, {})


def check_rewritten_by_python(tool, file):
    """A program that changes a tensor and keeps our checksums is found out; one that drops them is not."""
    tool("write", file)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    tensors = safetensors.torch.load_file(file)
    tensors["f32"] = tensors["f32"] + 1
    safetensors.torch.save_file(tensors, file, metadata=metadata)
    assert "is damaged" in tool("verify", file, status=65)
    del metadata["lab.header"], metadata["lab.checksums"]
    safetensors.torch.save_file(tensors, file, metadata=metadata)
    assert tool("verify", file) == "no checksums\n"


def check_damaged(tool, file):
    tool("write", file)
    whole = pathlib.Path(file).read_bytes()
    pathlib.Path(file).write_bytes(whole[:-1])
    assert "is not a whole safetensors file" in tool("read", file, status=65)
    pathlib.Path(file).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "has the checksum" in tool("verify", file, status=65)
    pathlib.Path(file).unlink()
    assert "is not there" in tool("read", file, status=66)


def main():
    tool = Tool(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/a.safetensors"
        for check in (check_ours_in_python, check_pythons_in_ours, check_rewritten_by_python, check_damaged):
            check(tool, file)
    print(f"safetensors {safetensors.__version__}: files of either side are read by the other")


main()
