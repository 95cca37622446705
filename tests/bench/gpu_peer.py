"""The peer of gpu_bench in Python: the same networks in PyTorch, with the settings that make it fastest.

    gpu_peer.py NETWORK WIDTH BATCH DEVICE DATA_PATH [SETTING ...]

A side of a benchmark (interleaved.py). DATA_PATH: "pinned": the batches lie in pinned memory as the network wants them;
"gathered": a thread takes the samples of each batch in random order from integers in memory, as lab does from a file, and
puts them into pinned memory. The settings are those that gpu_bench has said: tf32_convolutions, tf32_products, tries.
"""

import queue
import sys
import threading

import torch
from interleaved import serve
from torch import nn

SIDE, WORDS, VOCABULARY, CLASSES, HEADS = 64, 128, 1024, 10, 8
BATCHES = 20  # that lie in memory


def convolution(before, after, kernel, stride):
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)


class Residual(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1, self.norm1 = convolution(before, after, 3, stride), nn.BatchNorm2d(after)
        self.conv2, self.norm2 = convolution(after, after, 3, 1), nn.BatchNorm2d(after)
        self.shortcut = None
        if before != after:
            self.shortcut = nn.Sequential(convolution(before, after, 1, stride), nn.BatchNorm2d(after))

    def forward(self, x):
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + (self.shortcut(x) if self.shortcut else x)).relu()


def resnet(width):
    layers, before = [convolution(3, width, 7, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], width
    for factor in (1, 2, 4, 8):
        for place in (0, 1):
            layers.append(Residual(before, factor * width, 2 if factor > 1 and place == 0 else 1))
            before = factor * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES))


class Encoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.all, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        n, length, width = x.shape
        three = self.all(self.norm1(x)).view(n, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(three[0], three[1], three[2])
        y = x + self.out(seen.transpose(1, 2).reshape(n, length, width))
        return y + self.down(nn.functional.gelu(self.up(self.norm2(y))))


class Transformer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding, self.places = nn.Embedding(VOCABULARY, width), nn.Parameter(torch.zeros(WORDS, width))
        self.layers = nn.Sequential(*(Encoder(width) for _ in range(4)))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, numbers):
        return self.last(self.norm(self.layers(self.embedding(numbers) + self.places)).mean(1))


NETWORKS = {"resnet": resnet, "transformer": Transformer}


def samples(network, count):
    """As gpu_bench's data are."""
    if network == "resnet":
        inputs = torch.randint(256, (count, 3, SIDE, SIDE), dtype=torch.uint8)
    else:
        inputs = torch.randint(VOCABULARY, (count, WORDS), dtype=torch.int32)
    return inputs, torch.randint(CLASSES, (count,))


def wanted(inputs):
    return inputs / 255 if inputs.dtype == torch.uint8 else inputs


def pinned(inputs, labels, batch, keep):
    """Yields batches without end."""
    inputs = [keep(part) for part in wanted(inputs).split(batch)]
    labels = [keep(part) for part in labels.split(batch)]
    while True:
        yield from zip(inputs, labels)


def gathered(inputs, labels, batch, keep):
    ready = queue.Queue(2)

    def produce():
        while True:
            for index in torch.randperm(len(labels)).split(batch):
                ready.put((keep(wanted(inputs[index])), keep(labels[index])))

    threading.Thread(target=produce, daemon=True).start()
    while True:
        yield ready.get()


def steps(network, width, batch, device, data_path):
    """The function that does so many steps and returns their mean loss, and the most memory that tensors took so far."""
    torch.manual_seed(0)
    keep = torch.Tensor.pin_memory if device == "cuda" else torch.Tensor.contiguous
    batches = {"pinned": pinned, "gathered": gathered}[data_path](*samples(network, BATCHES * batch), batch, keep)
    model = NETWORKS[network](width).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01, fused=True)
    loss_function = nn.CrossEntropyLoss()
    parameters = sum(parameter.numel() for parameter in model.parameters())

    def work(count):
        total = torch.zeros((), device=device)
        for _ in range(count):
            inputs, labels = next(batches)
            optimizer.zero_grad()
            loss = loss_function(model(inputs.to(device, non_blocking=True)), labels.to(device, non_blocking=True))
            loss.backward()
            optimizer.step()
            total += loss.detach()
        used = torch.cuda.max_memory_allocated() if device == "cuda" else 0
        return {"loss": total.item() / count, "parameters": parameters, "tensor_bytes": used}  # item() waits for all of it

    return work


def main():
    network, width, batch, device, data_path, *settings = sys.argv[1:]
    torch.backends.cudnn.allow_tf32 = "tf32_convolutions" in settings
    torch.backends.cuda.matmul.allow_tf32 = "tf32_products" in settings
    torch.backends.cudnn.benchmark = "tries" in settings
    serve(steps(network, int(width), int(batch), device, data_path))


if __name__ == "__main__":
    main()
