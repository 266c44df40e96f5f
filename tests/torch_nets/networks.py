"""The zoo in PyTorch, with the names that released checkpoints have.

Written from the architectures' descriptions, for parity tests only.
"""

import torch
from torch import nn
from torch.nn import functional


def conv(inputs, outputs, size, stride=1, padding=None, bias=False):
  if padding is None:
    padding = size // 2
  return nn.Conv2d(inputs, outputs, size, stride, padding, bias=bias)


def pooled(x):
  return x.mean(dim=(2, 3))


class ReLU(nn.Module):
  """Calls the tensor's method, as all networks here do."""

  def forward(self, x):
    return x.relu()


class ResidualBlock(nn.Module):
  """Post-activation; `sizes` of 3, 3 or 1, 3, 1 with the stride on a 3."""

  def __init__(self, inputs, width, stride, bottleneck):
    super().__init__()
    sizes = (1, 3, 1) if bottleneck else (3, 3)
    out = 4 * width if bottleneck else width
    self.depth, before = len(sizes), inputs
    for i, size in enumerate(sizes, start=1):
      channels = out if i == self.depth else width
      step = stride if i == sizes.index(3) + 1 else 1
      self.add_module(f"conv{i}", conv(before, channels, size, step))
      self.add_module(f"bn{i}", nn.BatchNorm2d(channels))
      before = channels
    self.shortcut = nn.Sequential()
    if stride > 1 or inputs != out:
      self.shortcut = nn.Sequential(
        conv(inputs, out, 1, stride), nn.BatchNorm2d(out)
      )

  def forward(self, x):
    y = x
    for i in range(1, self.depth + 1):
      y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
      if i < self.depth:
        y = y.relu()
    return (y + self.shortcut(x)).relu()


class ResNet(nn.Module):
  def __init__(self, sizes, bottleneck=False, width=64):
    super().__init__()
    self.conv1, self.bn1 = conv(3, width, 3), nn.BatchNorm2d(width)
    channels, self.stages = width, len(sizes)
    for stage, num in enumerate(sizes):
      blocks = []
      for i in range(num):
        stride = 2 if stage and not i else 1
        inner = width * 2**stage
        blocks.append(ResidualBlock(channels, inner, stride, bottleneck))
        channels = inner * (4 if bottleneck else 1)
      self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
    self.linear = nn.Linear(channels, 10)

  def forward(self, x):
    x = self.bn1(self.conv1(x)).relu()
    for stage in range(self.stages):
      x = getattr(self, f"layer{stage + 1}")(x)
    return self.linear(pooled(x))


class VGG(nn.Module):
  def __init__(self):
    super().__init__()
    parts, channels = [], 3
    for width in (
      64,
      64,
      0,
      128,
      128,
      0,
      *(256,) * 3,
      0,
      *(512, 512, 512, 0) * 2,
    ):
      if width:
        parts += [
          conv(channels, width, 3, bias=True),
          nn.BatchNorm2d(width),
          ReLU(),
        ]
        channels = width
      else:
        parts.append(nn.MaxPool2d(2))
    self.features = nn.Sequential(*parts)
    self.classifier = nn.Linear(512, 10)

  def forward(self, x):
    return self.classifier(self.features(x).flatten(1))


class DenseLayer(nn.Module):
  def __init__(self, inputs, growth):
    super().__init__()
    self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, 4 * growth, 1)
    self.bn2 = nn.BatchNorm2d(4 * growth)
    self.conv2 = conv(4 * growth, growth, 3)

  def forward(self, x):
    y = self.conv1(self.bn1(x).relu())
    return torch.cat([self.conv2(self.bn2(y).relu()), x], 1)


class Transition(nn.Module):
  def __init__(self, inputs):
    super().__init__()
    self.bn, self.conv = nn.BatchNorm2d(inputs), conv(inputs, inputs // 2, 1)

  def forward(self, x):
    return functional.avg_pool2d(self.conv(self.bn(x).relu()), 2)


class DenseNet(nn.Module):
  def __init__(self, growth):
    super().__init__()
    channels = 2 * growth
    self.conv1 = conv(3, channels, 3)
    for block, num in enumerate((6, 12, 24, 16), start=1):
      if block > 1:
        self.add_module(f"trans{block - 1}", Transition(channels))
        channels //= 2
      dense = [DenseLayer(channels + i * growth, growth) for i in range(num)]
      self.add_module(f"dense{block}", nn.Sequential(*dense))
      channels += num * growth
    self.bn, self.linear = nn.BatchNorm2d(channels), nn.Linear(channels, 10)

  def forward(self, x):
    x = self.conv1(x)
    for block in range(1, 5):
      x = getattr(self, f"dense{block}")(x)
      if block < 4:
        x = getattr(self, f"trans{block}")(x)
    return self.linear(pooled(self.bn(x).relu()))


class WideBlock(nn.Module):
  def __init__(self, inputs, width, stride):
    super().__init__()
    self.bn1, self.conv1 = (
      nn.BatchNorm2d(inputs),
      conv(inputs, width, 3, stride),
    )
    self.bn2, self.conv2 = nn.BatchNorm2d(width), conv(width, width, 3)
    self.convShortcut = None
    if inputs != width:
      self.convShortcut = conv(inputs, width, 1, stride)

  def forward(self, x):
    active = self.bn1(x).relu()
    y = self.conv2(self.bn2(self.conv1(active)).relu())
    return y + (x if self.convShortcut is None else self.convShortcut(active))


class Stage(nn.Module):
  def __init__(self, inputs, width, stride, num):
    super().__init__()
    first = WideBlock(inputs, width, stride)
    rest = [WideBlock(width, width, 1) for _ in range(num - 1)]
    self.layer = nn.Sequential(first, *rest)

  def forward(self, x):
    return self.layer(x)


class WideResNet(nn.Module):
  def __init__(self):
    super().__init__()
    self.conv1 = conv(3, 16, 3)
    self.block1 = Stage(16, 160, 1, 4)
    self.block2 = Stage(160, 320, 2, 4)
    self.block3 = Stage(320, 640, 2, 4)
    self.bn1, self.fc = nn.BatchNorm2d(640), nn.Linear(640, 10)

  def forward(self, x):
    x = self.block3(self.block2(self.block1(self.conv1(x))))
    return self.fc(pooled(self.bn1(x).relu()))


class PreActBlock(nn.Module):
  def __init__(self, inputs, width, stride):
    super().__init__()
    self.bn1 = nn.BatchNorm2d(inputs)
    self.conv1 = conv(inputs, width, 3, stride)
    self.bn2, self.conv2 = nn.BatchNorm2d(width), conv(width, width, 3)
    if stride > 1 or inputs != width:
      self.shortcut = nn.Sequential(conv(inputs, width, 1, stride))

  def forward(self, x):
    active = self.bn1(x).relu()
    y = self.conv2(self.bn2(self.conv1(active)).relu())
    return y + (self.shortcut(active) if hasattr(self, "shortcut") else x)


class PreActResNet18(nn.Module):
  def __init__(self):
    super().__init__()
    self.conv1, channels = conv(3, 64, 3), 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
      first = PreActBlock(channels, width, 2 if stage > 1 else 1)
      rest, channels = PreActBlock(width, width, 1), width
      self.add_module(f"layer{stage}", nn.Sequential(first, rest))
    self.bn, self.linear = nn.BatchNorm2d(512), nn.Linear(512, 10)

  def forward(self, x):
    x = self.conv1(x)
    for stage in range(1, 5):
      x = getattr(self, f"layer{stage}")(x)
    return self.linear(pooled(self.bn(x).relu()))


class SiluBlock(nn.Module):
  def __init__(self, inputs, width, stride):
    super().__init__()
    self.stride = stride
    self.batchnorm_0 = nn.BatchNorm2d(inputs)
    self.conv_0 = conv(inputs, width, 3, stride, padding=0)
    self.batchnorm_1 = nn.BatchNorm2d(width)
    self.conv_1 = conv(width, width, 3)
    if inputs != width:
      self.shortcut = conv(inputs, width, 1, stride)

  def forward(self, x):
    active = functional.silu(self.batchnorm_0(x))
    # What TensorFlow's "SAME" does to an even number of pixels.
    edges = (1, 1, 1, 1) if self.stride == 1 else (0, 1, 0, 1)
    y = self.batchnorm_1(self.conv_0(functional.pad(active, edges)))
    y = self.conv_1(functional.silu(y))
    return y + (self.shortcut(active) if hasattr(self, "shortcut") else x)


class SiluGroup(nn.Module):
  def __init__(self, inputs, width, stride):
    super().__init__()
    rest = [SiluBlock(width, width, 1) for _ in range(3)]
    self.block = nn.Sequential(SiluBlock(inputs, width, stride), *rest)

  def forward(self, x):
    return self.block(x)


class SiluWideResNet(nn.Module):
  def __init__(self):
    super().__init__()
    self.init_conv = conv(3, 16, 3)
    self.layer = nn.Sequential(
      SiluGroup(16, 160, 1), SiluGroup(160, 320, 2), SiluGroup(320, 640, 2)
    )
    self.batchnorm, self.logits = nn.BatchNorm2d(640), nn.Linear(640, 10)

  def forward(self, x):
    x = self.batchnorm(self.layer(self.init_conv(x)))
    return self.logits(pooled(functional.silu(x)))


class ResNet9(nn.Module):
  def __init__(self):
    super().__init__()
    channels = 3
    plan = (64, 3, 1, 1), (128, 5, 2, 2), *((128, 3, 1, 1),) * 2
    plan += *((256, 3, 1, 1),) * 3, (128, 3, 1, 0)
    for i, (width, size, stride, pad) in enumerate(plan, start=1):
      self.add_module(f"conv{i}", conv(channels, width, size, stride, pad))
      self.add_module(f"bn{i}", nn.BatchNorm2d(width))
      channels = width
    self.linear = nn.Linear(128, 10, bias=False)

  def forward(self, x):
    def unit(y, i):
      return getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y)).relu()

    x = unit(unit(x, 1), 2)
    x = unit(x + unit(unit(x, 3), 4), 5)
    x = functional.max_pool2d(x, 2)
    x = unit(x + unit(unit(x, 6), 7), 8)
    x = functional.adaptive_max_pool2d(x, 1).flatten(1)
    return self.linear(x) * 0.2


class Unit(nn.Module):
  """Convolution, BatchNorm, ReLU; padded unless it halves the size."""

  def __init__(self, inputs, outputs, size=1, stride=1, pad=True):
    super().__init__()
    size = (size, size) if isinstance(size, int) else size
    padding = tuple(n // 2 for n in size) if pad and stride == 1 else 0
    self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
    self.bn = nn.BatchNorm2d(outputs)

  def forward(self, x):
    return self.bn(self.conv(x)).relu()


def chain(inputs, *units):
  parts = []
  for outputs, *rest in units:
    parts.append(Unit(inputs, outputs, *rest))
    inputs = outputs
  return nn.Sequential(*parts)


def pool_chain(inputs, outputs, size):
  average = nn.AvgPool2d(3, stride=1, padding=1)
  return nn.Sequential(average, Unit(inputs, outputs, size))


class Mixed(nn.Module):
  """Branches side by side, in the order in which they are given."""

  def __init__(self, **branches):
    super().__init__()
    self.order = list(branches)
    for name, branch in branches.items():
      self.add_module(name, branch)

  def forward(self, x):
    return torch.cat([getattr(self, name)(x) for name in self.order], 1)


class MixedE(nn.Module):
  def __init__(self, inputs):
    super().__init__()
    self.branch1x1 = Unit(inputs, 320)
    self.branch3x3_1 = Unit(inputs, 384)
    self.branch3x3_2a = Unit(384, 384, (1, 3))
    self.branch3x3_2b = Unit(384, 384, (3, 1))
    self.branch3x3stack_1 = Unit(inputs, 448)
    self.branch3x3stack_2 = Unit(448, 384, 3)
    self.branch3x3stack_3a = Unit(384, 384, (1, 3))
    self.branch3x3stack_3b = Unit(384, 384, (3, 1))
    self.branch_pool = pool_chain(inputs, 192, 1)

  def forward(self, x):
    a = self.branch3x3_1(x)
    b = self.branch3x3stack_2(self.branch3x3stack_1(x))
    parts = [
      self.branch1x1(x),
      self.branch3x3_2a(a),
      self.branch3x3_2b(a),
      self.branch3x3stack_3a(b),
      self.branch3x3stack_3b(b),
      self.branch_pool(x),
    ]
    return torch.cat(parts, 1)


def mixed_a(inputs, last):
  return Mixed(
    branch1x1=Unit(inputs, 64),
    branch5x5=chain(inputs, (48,), (64, 5)),
    branch3x3=chain(inputs, (64,), (96, 3), (96, 3)),
    branchpool=pool_chain(inputs, last, 3),
  )


def mixed_c(c):
  tall, wide, end = (c, (7, 1)), (c, (1, 7)), (192, (1, 7))
  return Mixed(
    branch1x1=Unit(768, 192),
    branch7x7=chain(768, (c,), tall, end),
    branch7x7stack=chain(768, (c,), tall, wide, tall, end),
    branch_pool=pool_chain(768, 192, 1),
  )


class InceptionV3(nn.Module):
  def __init__(self):
    super().__init__()
    self.Conv2d_1a_3x3 = Unit(3, 32, 3)
    self.Conv2d_2a_3x3 = Unit(32, 32, 3)
    self.Conv2d_2b_3x3 = Unit(32, 64, 3)
    self.Conv2d_3b_1x1 = Unit(64, 80)
    self.Conv2d_4a_3x3 = Unit(80, 192, 3, 1, False)
    self.Mixed_5b, self.Mixed_5c = mixed_a(192, 32), mixed_a(256, 64)
    self.Mixed_5d = mixed_a(288, 64)
    self.Mixed_6a = Mixed(
      branch3x3=Unit(288, 384, 3, 2),
      branch3x3stack=chain(288, (64,), (96, 3), (96, 3, 2)),
      branchpool=nn.MaxPool2d(3, 2),
    )
    self.Mixed_6b, self.Mixed_6c = mixed_c(128), mixed_c(160)
    self.Mixed_6d, self.Mixed_6e = mixed_c(160), mixed_c(192)
    middle = (192,), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)
    self.Mixed_7a = Mixed(
      branch3x3=chain(768, (192,), (320, 3, 2)),
      branch7x7=chain(768, *middle),
      branchpool=nn.AvgPool2d(3, 2),
    )
    self.Mixed_7b, self.Mixed_7c = MixedE(1280), MixedE(2048)
    self.linear = nn.Linear(2048, 10)

  def forward(self, x):
    for name, child in self.named_children():
      if name != "linear":
        x = child(x)
    return self.linear(pooled(x))


NETWORKS = {
  "densenet121": lambda: DenseNet(32),
  "densenet_cifar": lambda: DenseNet(12),
  "inception_v3": InceptionV3,
  "preact_resnet18": PreActResNet18,
  "resnet18": lambda: ResNet((2, 2, 2, 2)),
  "resnet34": lambda: ResNet((3, 4, 6, 3)),
  "resnet50": lambda: ResNet((3, 4, 6, 3), bottleneck=True),
  "resnet9": ResNet9,
  "small_resnet": lambda: ResNet((1, 1, 1), width=16),
  "vgg16": VGG,
  "wrn_28_10": WideResNet,
  "wrn_28_10_silu": SiluWideResNet,
}
