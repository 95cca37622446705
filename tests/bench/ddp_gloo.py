"""The peer in Python: PyTorch's DistributedDataParallel over gloo, with the settings that make it fastest.

    ddp_gloo.py step NETWORK BATCH DATA.h5 [MEMORY_FORMAT [silent]]      ddp_gloo.py all_reduce BYTES

A side of a benchmark (interleaved.py), which sets RANK, WORLD_SIZE and LAB_BENCH_STORE. BATCH is of each rank. silent:
without DistributedDataParallel, so each rank trains alone. The data lie in memory as the network wants them. The
networks are those of networks.h.
"""

import os
import sys

import h5py
import torch
import torch.distributed as dist
from interleaved import serve
from torch import nn


def mlp(*widths):
    layers, before = [nn.Flatten()], 784
    for width in widths:
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 10))


def cnn():
    return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(64 * 144, 128), nn.ReLU(), nn.Linear(128, 10))


def digits():
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 25, 64), nn.ReLU(), nn.Linear(64, 10))


NETWORKS = {"mlp": lambda: mlp(512, 512), "mlp10m": lambda: mlp(2048, 2048, 2048), "cnn": cnn, "digits": digits}


def steps(network, batch, data, memory_format="contiguous", how="averaged"):
    """The function that does so many steps, through the file in its order, and returns their mean loss."""
    torch.manual_seed(0)
    memory_format = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[memory_format]
    with h5py.File(data) as file:
        images = (torch.from_numpy(file["images"][:]).unsqueeze(1) / 255).to(memory_format=memory_format)
        labels = torch.from_numpy(file["labels"][:]).long()
    model = NETWORKS[network]().to(memory_format=memory_format)
    if how != "silent":
        model = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01, fused=True)
    loss_function = nn.CrossEntropyLoss()
    rank, ranks = dist.get_rank(), dist.get_world_size()
    whole = len(labels) // (batch * ranks)
    done = 0

    def work(count):
        nonlocal done
        total = 0.0
        for _ in range(count):
            first = (done % whole * ranks + rank) * batch
            optimizer.zero_grad()
            loss = loss_function(model(images[first:first + batch]), labels[first:first + batch])
            loss.backward()
            optimizer.step()
            total += loss.item()
            done += 1
        return {"loss": total / count}

    return work


def sums(size):
    values = torch.zeros(size // 4)

    def work(count):
        for _ in range(count):
            dist.all_reduce(values)
        return {}

    return work


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{os.environ['LAB_BENCH_STORE']}",
                            rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
    what, *words = sys.argv[1:]
    serve(steps(words[0], int(words[1]), *words[2:]) if what == "step" else sums(int(words[0])))


if __name__ == "__main__":
    main()
