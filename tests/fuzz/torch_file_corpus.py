"""Makes the files below corpus/ that the readers of torch files are tested with and fuzzed from, in the forms of the PyTorch
(and, where it is there, Lightning) that this runs under. They are kept because old versions soon install nowhere: run once
with each of torch 1.13.1 (pytorch_lightning 1.9.5), 2.0.1 (2.0.9), 2.1.2, 2.4.1, 2.6.0 and 2.11.0 (2.6.6).

    torch_file_corpus.py corpus     writes torch_file/*, what is in each into torch_file_expected/*.txt, torch_file_refused/*
"""

import collections
import pathlib
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib

import numpy as np
import torch

VERSION = torch.__version__.split("+")[0]
NEWEST, OLDEST = "2.11.0", "1.13.1"
NAMES = {torch.bool: "bool", torch.uint8: "u8", torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64",
         torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32", torch.float64: "f64"}  # fmt: skip
if tuple(map(int, VERSION.split(".")[:2])) >= (2, 6):  # older ones cannot save them
    NAMES.update({torch.uint16: "u16", torch.uint32: "u32", torch.uint64: "u64"})


def raw(tensor):
    """Its elements, row by row, as bytes, whatever the view; numpy knows no bfloat16."""
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().reshape(-1))
    return bytes(flat.view(torch.uint8).tolist()) if tensor.numel() else b""


def leaves(value, place=""):
    """All that is in a value, a line each: its place, its kind, and what it is. tests/unit/train/torch_forms_test.cpp
    says the same of what lab has read."""
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, (list, tuple, set, frozenset)):
        children = enumerate(value)
    else:
        yield f"{place}: {leaf(value)}"
        return
    if not value:
        yield f"{place}: empty"
    for key, child in children:
        yield from leaves(child, f"{place}/{key}")


def leaf(value):
    if isinstance(value, torch.Tensor):
        shape = ", ".join(map(str, value.shape))
        return f"{NAMES[value.dtype]} ({shape}) {zlib.crc32(raw(value)):08x}"
    if isinstance(value, float):
        return "real " + struct.pack(">d", value).hex()
    if isinstance(value, (bytes, bytearray)):
        return "bytes " + value.hex()
    return str(value)  # None, True, 5, a text, torch.float32, cuda:1


def model():
    return torch.nn.Sequential(
        collections.OrderedDict(
            conv=torch.nn.Conv2d(1, 2, 3), norm=torch.nn.BatchNorm2d(2), flat=torch.nn.Flatten(), out=torch.nn.Linear(8, 2)
        )
    )


def training():
    """As training scripts save: the states of a model, its optimizers and their schedules, after two steps."""
    torch.manual_seed(1)
    net = model()
    adam = torch.optim.AdamW(net.conv.parameters(), lr=1e-3, amsgrad=True)
    sgd = torch.optim.SGD(net.out.parameters(), lr=0.1, momentum=0.9)
    steps = torch.optim.lr_scheduler.MultiStepLR(adam, [1, 5, 5], 0.5)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd)
    for _ in range(2):
        net(torch.randn(3, 1, 4, 4)).sum().backward()
        adam.step()
        sgd.step()
        steps.step()
        plateau.step(1.0)
    parts = {"model": net, "adam": adam, "sgd": sgd, "steps": steps, "plateau": plateau}
    return {"epoch": 1, **{name: part.state_dict() for name, part in parts.items()}}


def one_cycle():
    adam = torch.optim.Adam(model().parameters())
    return torch.optim.lr_scheduler.OneCycleLR(adam, 0.1, 10).state_dict()


def tensors():
    """Tensors of all types and views; some share a storage."""
    generator = torch.Generator().manual_seed(2)
    out = {}
    for dtype, name in NAMES.items():
        bits = torch.randint(0, 2 if dtype == torch.bool else 256, (48,), dtype=torch.uint8, generator=generator)
        out[name] = bits.view(dtype)[:6].reshape(2, 3)
    base = torch.arange(24, dtype=torch.float32)
    out.update(
        base=base, shifted=base[5:9], transposed=base.view(4, 6).t(), strided=base[1::3], expanded=base[2:3].expand(4),
        cube=base.view(2, 3, 4).permute(2, 0, 1), one=base[3:4].as_strided((1, 1), (99, 7)), end=base[24:], scalar=torch.tensor(2.5),
        nothing=torch.empty(3, 0, 2), none_at_all=torch.empty(0), parameter=torch.nn.Parameter(base[:4].clone()),
        frozen=torch.nn.Parameter(torch.ones(2, dtype=torch.float16), requires_grad=False),
        image=torch.ones(1, 2, 2, 3).to(memory_format=torch.channels_last),
    )  # fmt: skip
    tagged = torch.nn.Parameter(torch.full((2,), 3.0))
    tagged.tag = "no decay"
    out["tagged"] = tagged
    plain = torch.full((2,), 4.0)
    plain.tag = {"axis": 1}
    out["tagged_tensor"] = plain
    if hasattr(torch.nn, "Buffer"):
        out["buffer"] = torch.nn.Buffer(torch.full((2,), 5.0))
    return out


def values():
    """What else a file may hold."""
    shared = [1, 2]
    return {
        "dict": {"a": {"b": {"c": [1, (2, [3]), None]}}, 3: "three", 1.5: "key", (1, 2): "pair", True: "yes"},
        "ordered": collections.OrderedDict(z=1, a=2), "counter": collections.Counter([5, 8, 8]), "shared": [shared, shared],
        "empty": [[], (), {}, set(), "", b""], "set": {7}, "frozen": frozenset([8]), "bytes": bytes(range(256)), "array": bytearray(b"\x80x"),
        "numbers": [0, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**40, -(2**62), 2**63 - 1, -(2**63)],
        "reals": [0.0, -0.0, 1e-300, 0.1, float("inf"), float("-inf")], "text": ["größe", "漢字 \U0001f642", "a" * 300, "line\tend"],
        "size": torch.Size([2, 3]), "types": [torch.float32, torch.bfloat16, torch.int64], "devices": [torch.device("cpu"), torch.device("cuda", 1)],
        "tensors": [torch.tensor([1, 2]), {"x": (torch.tensor(True),)}],
    }  # fmt: skip


def lightning(folder):
    """The checkpoint of a fit of one epoch."""
    import pytorch_lightning as pl

    class Tiny(pl.LightningModule):
        def __init__(self, rate=1e-2, sizes=(5, 3)):
            super().__init__()
            self.save_hyperparameters()
            self.model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
            self.loss_function = torch.nn.BCEWithLogitsLoss(pos_weight=torch.ones(1))

        def training_step(self, batch, index):
            loss = self.loss_function(self.model(batch[0]), batch[1])
            self.log("loss", loss, on_epoch=True)
            return loss

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.rate)
            return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 5])]

    pl.seed_everything(3)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 5), torch.ones(8, 1)), batch_size=4)
    callbacks = [
        pl.callbacks.EarlyStopping("loss"),
        pl.callbacks.ModelCheckpoint(folder, filename="best", monitor="loss", save_last=True),
    ]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=1, callbacks=callbacks, accelerator="cpu", devices=1, default_root_dir=folder, **quiet)
    trainer.fit(Tiny(), data)
    return pathlib.Path(folder) / "last.ckpt", pl.__version__


def rewritten(path, new, method=zipfile.ZIP_STORED, zip64=False, streamed=False):
    """The archive as Python writes it: packed, or with the fields of archives over 4 GB, or without seeking."""
    limits = zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT
    if zip64:
        zipfile.ZIP64_LIMIT = zipfile.ZIP_FILECOUNT_LIMIT = 0
    with zipfile.ZipFile(path) as old, open(new, "wb") as out:
        with zipfile.ZipFile(Unseekable(out) if streamed else out, "w", method) as archive:
            for name in old.namelist():
                with archive.open(zipfile.ZipInfo(name), "w", force_zip64=zip64) as entry:
                    entry.write(old.read(name))
    zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = limits


class Unseekable:
    def __init__(self, out):
        self.write, self.flush = out.write, out.flush


class Corpus:
    def __init__(self, root):
        names = "torch_file", "torch_file_expected", "torch_file_refused"
        self.good, self.expected, self.refused = (pathlib.Path(root) / name for name in names)
        for folder in (self.good, self.expected, self.refused):
            folder.mkdir(parents=True, exist_ok=True)

    def expect(self, name, value):
        lines = [line.replace("\t", "\\t") + "\n" for line in leaves(value)]
        (self.expected / f"{name}.txt").write_text("".join(lines), encoding="utf-8")

    def keep(self, name, value, **options):
        name = f"torch-{VERSION}-{name}.pt"
        torch.save(value, self.good / name, **options)
        self.expect(name, value)
        return self.good / name

    def refuse(self, name, value, **options):
        torch.save(value, self.refused / f"torch-{VERSION}-{name}.pt", **options)


def write_good(corpus):
    state = corpus.keep("training", training())
    corpus.keep("tensors", tensors())
    corpus.keep("values", values())
    for version, protocol in ((OLDEST, 4), (NEWEST, 5)):
        if VERSION == version:
            corpus.keep(f"protocol{protocol}", {"state": model().state_dict(), **values()}, pickle_protocol=protocol)
    if VERSION == NEWEST:
        corpus.keep("one_cycle", one_cycle())
        archives = {"deflated": {"method": zipfile.ZIP_DEFLATED}, "zip64": {"zip64": True}, "streamed": {"streamed": True}}
        for name, options in archives.items():
            rewritten(state, corpus.good / f"zip-{name}.pt", **options)
            corpus.expect(f"zip-{name}.pt", torch.load(state))


def write_lightning(corpus):
    with tempfile.TemporaryDirectory(prefix="lightning-") as folder:
        path, version = lightning(folder)
        name = f"lightning-{version}.ckpt"
        shutil.copy(path, corpus.good / name)
    options = {} if VERSION == OLDEST else {"weights_only": False}
    corpus.expect(name, torch.load(corpus.good / name, **options))


def write_refused(corpus):
    corpus.refuse("module", model())
    corpus.refuse("numpy", {"loss": np.float64(0.5), "w": torch.ones(2)})
    corpus.refuse("legacy", model().state_dict(), _use_new_zipfile_serialization=False)
    corpus.refuse("complex", {"w": torch.ones(2, dtype=torch.complex64)})
    corpus.refuse("sparse", {"w": torch.eye(2).to_sparse()})
    corpus.refuse("quantized", {"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)})
    corpus.refuse("meta", {"w": torch.ones(2, device="meta")})
    if VERSION == OLDEST:  # a function of a class in its state
        corpus.refuse("one_cycle", one_cycle())
    if VERSION == NEWEST:
        corpus.refuse("negative", {"w": torch.conj(torch.tensor([1 + 2j])).imag})
        corpus.refuse("float8", {"w": torch.ones(2).to(torch.float8_e4m3fn)})
        order, sys.byteorder = sys.byteorder, "big"
        corpus.refuse("big_endian", {"w": torch.ones(2)})
        sys.byteorder = order


if __name__ == "__main__":
    made = Corpus(sys.argv[1])
    write_good(made)
    if VERSION in (OLDEST, NEWEST):
        write_refused(made)
    try:
        import pytorch_lightning  # noqa: F401
    except ImportError:
        sys.exit()
    write_lightning(made)
