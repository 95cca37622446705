"""lab_ckpt against PyTorch: files of torch.save are read, PyTorch reads what is written (weights_only=True), and damaged
or hostile files end with the exit codes that scripts rely on. Usage: lab_ckpt_test.py BUILD_FOLDER"""

import argparse
import collections
import os
import random
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import safetensors.torch
import torch

program = os.path.abspath(os.path.join(sys.argv[1], "lab_ckpt"))

TYPES = [
    torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
]  # fmt: skip


def run(*arguments, code=0, words=()):
    """Runs lab_ckpt; returns its stdout (and, where it fails, stderr) once its exit code and words are as expected."""
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    output = result.stdout if code in (0, 1) else result.stdout + result.stderr
    assert result.returncode == code, (arguments, result)
    if code in (0, 1):
        assert result.stderr == "", (arguments, result)
    for word in words:
        assert word in output, (word, result)
    return output


def of_all_types(shape=(7, 3)):
    generator = torch.Generator().manual_seed(0)
    tensors = {"scalar": torch.tensor(2.5), "nothing": torch.empty(3, 0), "größe": torch.ones(1)}
    for dtype in TYPES:
        count = int(np.prod(shape))
        raw = torch.randint(0, 2 if dtype == torch.bool else 256, (count * 8,), dtype=torch.uint8, generator=generator)
        tensors[str(dtype).removeprefix("torch.")] = raw.view(dtype)[:count].reshape(shape)
    return tensors


def bits(tensor):
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.reshape(-1))
    return flat.view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def assert_same(found, expected):
    assert list(found) == list(expected) or set(found) == set(expected), (list(found), list(expected))
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
        assert bits(found[name]) == bits(tensor), name


def converted(path, *options):
    run("convert", path, "out.safetensors", "--force", *options)
    run("verify", "out.safetensors", words=["all checksums agree"])
    return safetensors.torch.load_file("out.safetensors")


def lightning_like():
    """What a Lightning module with AdamW and MultiStepLR is saved as."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 8], 0.5)
    for _ in range(3):
        model(torch.randn(8, 4)).sum().backward()
        optimizer.step()
        schedule.step()
    state = model.state_dict()
    with_prefix = collections.OrderedDict(("model." + name, tensor) for name, tensor in state.items())
    with_prefix._metadata = state._metadata
    with_prefix["loss_function.pos_weight"] = torch.ones(1)
    checkpoint = {
        "epoch": 2, "global_step": 3, "pytorch-lightning_version": "2.6.0", "state_dict": with_prefix,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}, "current": {"ready": 0}}}},
        "callbacks": {"EarlyStopping{'monitor': 'loss'}": {"wait_count": 0, "best_score": torch.tensor(0.5), "x": None}},
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [schedule.state_dict()],
        "hparams_name": "kwargs", "hyper_parameters": {"lr": 1e-3, "name": "größe", "on": True, "sizes": (3, 1)},
        "bytes": b"\x00\xff", "empty": b"", "set": {1, 2}, "size": torch.Size([2, 3]), "dtype": torch.bfloat16,
        "device": torch.device("cuda", 1), "inf": float("inf"), "negative": -(2**62), "many": 2**40,
    }  # fmt: skip
    return checkpoint, state


def test_reads_all_types_and_protocols():
    expected = of_all_types()
    for protocol in (2, 3, 4, 5):
        torch.save(expected, "a.pt", pickle_protocol=protocol)
        assert_same(converted("a.pt"), expected)
        run("verify", "a.pt", words=["16 tensors", "all checksums agree"])
    run("inspect", "a.pt", words=["f32 (7, 3)  84 bytes", "größe", "nothing"])


def test_reads_views():
    base = torch.arange(24, dtype=torch.float64)
    tensors = {
        "base": base, "shifted": base[5:9], "transposed": base.view(4, 6).t(), "strided": base[1::3],
        "expanded": base[2:3].expand(4), "cube": base.view(2, 3, 4).permute(2, 0, 1), "one": base[3:4].as_strided((1, 1), (99, 7)),
        "empty": base[24:], "parameter": torch.nn.Parameter(base[:4]), "conj": base.view(2, 12)[:, 3],
    }  # fmt: skip
    torch.save(tensors, "views.pt")
    assert_same(converted("views.pt"), {name: tensor.detach() for name, tensor in tensors.items()})


def test_reads_a_lightning_checkpoint():
    checkpoint, state = lightning_like()
    torch.save(checkpoint, "a.ckpt")
    assert_same(converted("a.ckpt"), state)
    assert "model.0.weight" in converted("a.ckpt", "--keep-names")
    moments = checkpoint["optimizer_states"][0]["state"][0]["exp_avg"]
    assert moments.abs().sum() > 0
    run("inspect", "a.ckpt", words=[
        "state_dict.model.0.weight", "optimizer_states[0].state[0].exp_avg ", "epoch = 2", "global_step = 3",
        "hyper_parameters.lr = 0.001", 'hyper_parameters.name = "größe"', "hyper_parameters.sizes = (3, 1)", "on = True",
        "bytes = 2 bytes", "set = {1, 2}", "size = (2, 3)", "dtype = torch.bfloat16", "device = cuda:1", "inf = inf",
        f"negative = {-(2**62)}", f"many = {2**40}", "lr_schedulers[0].milestones[5] = 1", "x = None",
    ])  # fmt: skip


def test_finds_the_model():
    state = {"a.weight": torch.ones(2), "b": torch.zeros(1)}
    nested = {"a": {"weight": state["a.weight"]}, "b": state["b"]}
    other = {"step": {"c": torch.ones(1)}}
    for content in (
        state, nested, {"model_state_dict": state, "optimizer": other}, {"model": state, "ema": state}, {"net": state, "n": 3},
        {"state_dict": {"module._orig_mod." + name: tensor for name, tensor in state.items()}},
    ):  # fmt: skip
        torch.save(content, "a.pt")
        assert_same(converted("a.pt"), state)
    torch.save({"model.a": torch.ones(2), "head": torch.ones(1)}, "a.pt")
    assert set(converted("a.pt")) == {"model.a", "head"}
    for content, words in (
        ({"net": state, "ema": state, "n": 1}, ["2 state dicts", "net", "ema"]),
        ({"n": 3, "list": [torch.ones(1)]}, ["no state dict", "list"]),
        (torch.ones(3), ["no state dict"]),
    ):
        torch.save(content, "a.pt")
        run("convert", "a.pt", "never.pt", code=65, words=words)
        run("verify", "a.pt")


def test_python_reads_what_is_written():
    expected = of_all_types()
    safetensors.torch.save_file(expected, "in.safetensors")
    for ending in ("pt", "pth", "ckpt"):
        run("convert", "in.safetensors", f"out.{ending}")
        loaded = torch.load(f"out.{ending}", weights_only=True)
        if ending == "ckpt":
            assert loaded["epoch"] == 0 and loaded["global_step"] == 0
            loaded = loaded["state_dict"]
        assert isinstance(loaded, collections.OrderedDict)
        assert_same(loaded, expected)
        assert_same(torch.load("out.pt", weights_only=True, mmap=True), expected)
        with zipfile.ZipFile(f"out.{ending}") as archive:
            assert archive.testzip() is None
        run("diff", "in.safetensors", f"out.{ending}", words=["the same 16 tensors"])
        run("verify", f"out.{ending}", words=["all checksums agree"])
    checkpoint, state = lightning_like()
    torch.save(checkpoint, "a.ckpt")
    run("convert", "a.ckpt", "b.ckpt")
    loaded = torch.load("b.ckpt", weights_only=True)
    assert loaded["epoch"] == 2 and loaded["global_step"] == 3
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    model.load_state_dict(loaded["state_dict"])
    run("convert", "a.ckpt", "c.pt")
    run("convert", "a.ckpt", "d.pt")
    assert open("c.pt", "rb").read() == open("d.pt", "rb").read()


def test_diff():
    base = of_all_types()
    torch.save(base, "a.pt")
    changed = {name: tensor.clone() for name, tensor in base.items()}
    changed["float32"] = torch.zeros(7, 3)
    changed["int64"][2, 1] += 5
    changed["scalar"] = torch.tensor([2.5])
    del changed["bool"]
    changed["more"] = torch.ones(1)
    torch.save(changed, "b.pt")
    base["float32"] = changed["float32"].clone()
    base["float32"][1, 2] = -0.25
    base["float16"] = torch.full((7, 3), 2.0, dtype=torch.float16)
    changed["float16"] = torch.full((7, 3), 1.5, dtype=torch.float16)
    torch.save(base, "a.pt")
    torch.save(changed, "b.pt")
    output = run("diff", "a.pt", "b.pt", code=1, words=[
        "float32: differs by up to 0.25", "int64: differs by up to 5", "scalar: f32 () and f32 (1)", "bool: bool (7, 3), only in a.pt",
        "more: f32 (1), only in b.pt", "float16: differs by up to 0.5", "6 tensors differ",
    ])  # fmt: skip
    assert len(output.splitlines()) == 7, output
    torch.save({"x": torch.tensor([0.0, float("nan")])}, "a.pt")
    torch.save({"x": torch.tensor([-0.0, float("nan")])}, "b.pt")
    run("diff", "a.pt", "b.pt", code=1, words=["equal numbers with other bits"])
    torch.save({"x": torch.tensor([1.0, 0.0])}, "b.pt")
    run("diff", "a.pt", "b.pt", code=1, words=["differs by up to nan"])


class Trap:
    def __reduce__(self):
        return os.system, ("touch sprung",)


def test_refuses_other_objects_by_name():
    state = {"w": torch.ones(2)}
    for value, words in (
        (argparse.Namespace(a=1), ["argparse.Namespace"]),
        (np.float64(1.5), ["numpy", "scalar"]),
        (np.ones(2), ["numpy", "_reconstruct"]),
        (Trap(), ["posix.system"]),
        (collections.defaultdict(list), ["collections.defaultdict"]),
        (torch.nn.Linear(1, 1), ["torch.nn.modules.linear.Linear"]),
        (torch.ones(1, dtype=torch.complex64), ["ComplexFloatStorage"]),
        (2**80, ["too large"]),
        (complex(1, 2), ["complex"]),
    ):
        torch.save({"state_dict": state, "x": value}, "a.ckpt")
        for command in ("verify", "inspect"):
            output = run(command, "a.ckpt", code=65, words=['"a.ckpt"', "at byte ", "opcode", *words])
            assert len(output.splitlines()) == 1, output
    assert not os.path.exists("sprung")
    torch.save({"x": Trap()}, "a.ckpt")
    torch.load("a.ckpt", weights_only=False)
    assert os.path.exists("sprung"), "the trap does not work, so that it proves nothing"


def test_refuses_other_files():
    torch.save({"w": torch.ones(2)}, "old.pt", _use_new_zipfile_serialization=False)
    run("verify", "old.pt", code=65, words=["before PyTorch 1.6"])
    torch.jit.script(torch.nn.Linear(1, 1)).save("script.pt")
    run("verify", "script.pt", code=65, words=["TorchScript"])
    with zipfile.ZipFile("zip.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    run("verify", "zip.pt", code=65, words=["data.pkl"])
    open("text.pt", "w").write("hello, this is text")
    run("verify", "text.pt", code=65, words=["does not begin as a file of torch.save"])
    run("verify", "absent.pt", code=66, words=["absent.pt"])
    run("verify", ".", code=66)


def test_reads_what_zip_rewrites():
    expected = of_all_types((50, 20))
    torch.save(expected, "a.pt")
    with zipfile.ZipFile("a.pt") as old, zipfile.ZipFile("b.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert_same(converted("b.pt"), expected)
    torch.serialization.set_crc32_options(False)
    torch.save(expected, "c.pt")
    torch.serialization.set_crc32_options(True)
    run("verify", "c.pt", words=["carries no checksums"])
    with zipfile.ZipFile("a.pt") as old, zipfile.ZipFile("bomb.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(60_000_000) if name.endswith("data/0") else old.read(name))
    run("verify", "bomb.pt", code=65, words=["times"])


def test_finds_damage():
    """Cut short anywhere: refused. A bit flipped anywhere: refused, or the same values (padding, dates)."""
    expected = {"weight": torch.arange(40.0), "bias": torch.ones(3, dtype=torch.bfloat16)}
    torch.save(expected, "whole.pt")
    safetensors.torch.save_file(expected, "plain.safetensors")
    run("convert", "plain.safetensors", "ours.pt")
    draw = random.Random(5)
    for source in ("whole.pt", "ours.pt"):
        whole = open(source, "rb").read()
        for size in [0, 1, 3, 4, 21, 22, len(whole) - 1, len(whole) - 22] + draw.sample(range(len(whole)), 6):
            open("cut.pt", "wb").write(whole[:size])
            run("verify", "cut.pt", code=65, words=["cut.pt"])
        open("cut.pt", "wb").write(whole + b"x")
        run("verify", "cut.pt", code=65)
        refused = 0
        for _ in range(40):  # the fuzz program tries thousands
            damaged = bytearray(whole)
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            open("damaged.pt", "wb").write(damaged)
            result = subprocess.run([program, "diff", source, "damaged.pt"], capture_output=True, text=True, timeout=60)
            assert result.returncode in (0, 65), (result, damaged)
            refused += result.returncode == 65
        assert refused > 13, refused
        start = whole.index(bits(expected["weight"])[:64])
        for _ in range(10):
            damaged = bytearray(whole)
            damaged[start + draw.randrange(160)] ^= 1 << draw.randrange(8)
            open("damaged.pt", "wb").write(damaged)
            run("verify", "damaged.pt", code=65, words=["has the CRC"])
    run("convert", "whole.pt", "whole.safetensors")
    whole = bytearray(open("whole.safetensors", "rb").read())
    whole[-3] ^= 4
    open("damaged.safetensors", "wb").write(whole)
    run("verify", "damaged.safetensors", code=65, words=["has the checksum"])


def test_starts_without_torch():
    """Loading libtorch takes a hundred times as long as all else at the start."""
    for name, loaded in (("lab_ckpt", False), ("lab_train", True)):
        path = os.path.join(os.path.dirname(program), name)
        libraries = subprocess.run([path], env={**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"}, capture_output=True, text=True).stdout
        assert "libstdc++" in libraries and ("libtorch" in libraries) == loaded, (name, libraries)


def test_command_line():
    run("--help", words=["lab_ckpt inspect FILE", "lab_ckpt diff A B", "lab_ckpt convert IN OUT", "lab_ckpt verify FILE", "--force"])
    run("--version", words=["lab_ckpt 0."])
    for command in ("inspect", "diff", "convert", "verify"):
        run(command, "--help", words=["lab_ckpt " + command])
        run(command, code=64, words=["usage: lab_ckpt " + command])
    run(code=64, words=["--help"])
    run("verfy", code=64, words=["did you mean verify?"])
    torch.save({"w": torch.ones(2)}, "a.pt")
    run("convert", "a.pt", "b.pt", "--forse", code=64, words=["did you mean --force?"])
    run("verify", "a.pt", "b.pt", code=64, words=["2 words"])
    run("convert", "a.pt", "b.txt", code=64, words=["b.txt", ".safetensors"])
    run("convert", "a.pt", "a.pt", code=64, words=["--force"])
    run("convert", "a.pt", "absent/b.pt", code=74, words=["absent/b.pt"])
    run("convert", "a.pt", "a.pt", "--force")
    assert torch.load("a.pt", weights_only=True)["w"].tolist() == [1, 1]
    assert sorted(os.listdir()) == ["a.pt"]


if __name__ == "__main__":
    tests = [function for name, function in list(globals().items()) if name.startswith("test_")]
    for test in tests:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            test()
            os.chdir("/")
        print(test.__name__, "passed", flush=True)
    print(f"{len(tests)} passed, 0 failed")
