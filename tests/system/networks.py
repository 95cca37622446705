"""The networks of configs/mnist.toml and configs/mnist_toy.toml as PyTorch has them: what ours are held against."""

from torch import nn


class ConvNet(nn.Module):
    def __init__(self, n=16):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, n, 3), nn.Conv2d(n, 2 * n, 3)
        self.fc1, self.fc2 = nn.Linear(2 * n * 25, 64), nn.Linear(64, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x).relu(), 2)
        x = nn.functional.max_pool2d(self.conv2(x).relu(), 2)
        return self.fc2(self.fc1(x.flatten(1)).relu())


class ToyNet(nn.Module):
    def __init__(self, n=32):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, n, 3), nn.BatchNorm2d(n)
        self.conv2, self.norm2 = nn.Conv2d(n, 10, 3), nn.BatchNorm2d(10)

    def forward(self, x):
        x = nn.functional.avg_pool2d(self.norm1(self.conv1(x)).relu(), 2)
        return nn.functional.adaptive_avg_pool2d(self.norm2(self.conv2(x)).relu(), 1).flatten(1)
