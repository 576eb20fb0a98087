"""Large nets for images in the Symbol API, for raysym and MXNet; `S` is the library's ``sym``."""

from __future__ import annotations

from typing import Any

S: Any = None


def classify(x: Any) -> Any:
    """A linear layer over 1000 classes, and SoftmaxOutput."""
    return S.SoftmaxOutput(S.FullyConnected(x, num_hidden=1000), name="softmax")


def vgg16() -> Any:
    """VGG-16 for images of 224 x 224."""
    x = S.Variable("data")
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            x = S.Convolution(x, num_filter=width, kernel=(3, 3), pad=(1, 1))
            x = S.Activation(x, act_type="relu")
        x = S.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")
    for _ in range(2):
        x = S.Activation(S.FullyConnected(x, num_hidden=4096), act_type="relu")
        x = S.Dropout(x, p=0.5)
    return classify(x)


# ----- ResNet-50


def resnet50_v1() -> Any:
    """ResNet-50 whose first 1x1 convolutions have the strides, for images of 224 x 224."""
    x, channels = unit(S.Variable("data"), 64, 7, 2, 3), 64
    x = pooled(x, "max", 2)
    for width, stride, count in ((64, 1, 3), (128, 2, 4), (256, 2, 6), (512, 2, 3)):
        for block in range(count):
            x = residual(x, channels, width, 1 if block else stride)
            channels = 4 * width
    return classify(S.Pooling(x, global_pool=True, kernel=(7, 7), pool_type="avg"))


def residual(x: Any, channels: int, width: int, stride: int) -> Any:
    """A bottleneck block; the stride is that of its first convolution."""
    y = unit(unit(x, width, 1, stride), width, 3, pad=1)
    y = plain(y, 4 * width)
    side = plain(x, 4 * width, stride) if channels != 4 * width else x
    return S.Activation(y + side, act_type="relu")


def plain(x: Any, filters: int, stride: int = 1) -> Any:
    """A 1x1 convolution with BatchNorm."""
    x = S.Convolution(x, num_filter=filters, kernel=(1, 1), stride=(stride, stride), no_bias=True)
    return S.BatchNorm(x, fix_gamma=False)


# ----- Inception-v3


def unit(x: Any, filters: int, kernel: Any = 1, stride: int = 1, pad: Any = 0) -> Any:
    """Convolution, BatchNorm and relu."""
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    pad = (pad, pad) if isinstance(pad, int) else pad
    x = S.Convolution(
        x, num_filter=filters, kernel=kernel, stride=(stride, stride), pad=pad, no_bias=True
    )
    return S.Activation(S.BatchNorm(x, eps=0.001), act_type="relu")


def pooled(x: Any, kind: str = "avg", stride: int = 1, pad: int = 1) -> Any:
    """Pooling over 3 x 3."""
    return S.Pooling(x, kernel=(3, 3), stride=(stride, stride), pad=(pad, pad), pool_type=kind)


def wide(x: Any, filters: int, width: int = 7) -> Any:
    """A convolution over a row."""
    return unit(x, filters, (1, width), pad=(0, width // 2))


def high(x: Any, filters: int, width: int = 7) -> Any:
    """A convolution over a column."""
    return unit(x, filters, (width, 1), pad=(width // 2, 0))


def block_a(x: Any, proj: int) -> Any:
    """35 x 35: 1x1, 5x5, double 3x3 and pooling."""
    five = unit(unit(x, 48), 64, 5, pad=2)
    three = unit(unit(unit(x, 64), 96, 3, pad=1), 96, 3, pad=1)
    return S.Concat(unit(x, 64), five, three, unit(pooled(x), proj))


def reduce_a(x: Any) -> Any:
    """35 x 35 to 17 x 17."""
    three = unit(unit(unit(x, 64), 96, 3, pad=1), 96, 3, 2)
    return S.Concat(unit(x, 384, 3, 2), three, pooled(x, "max", 2, 0))


def block_b(x: Any, width: int) -> Any:
    """17 x 17: factorised 7x7."""
    one = high(wide(unit(x, width), width), 192)
    two = wide(high(wide(high(unit(x, width), width), width), width), 192)
    return S.Concat(unit(x, 192), one, two, unit(pooled(x), 192))


def reduce_b(x: Any) -> Any:
    """17 x 17 to 8 x 8."""
    seven = unit(high(wide(unit(x, 192), 192), 192), 192, 3, 2)
    return S.Concat(unit(unit(x, 192), 320, 3, 2), seven, pooled(x, "max", 2, 0))


def block_c(x: Any, kind: str) -> Any:
    """8 x 8: branches that split once more."""
    three = unit(x, 384)
    double = unit(unit(x, 448), 384, 3, pad=1)
    parts = [f(y, 384, 3) for y in (three, double) for f in (wide, high)]
    return S.Concat(unit(x, 320), *parts, unit(pooled(x, kind), 192))


def inception_v3() -> Any:
    """Inception-v3 for images of 299 x 299, without the side head."""
    x = unit(unit(unit(S.Variable("data"), 32, 3, 2), 32, 3), 64, 3, pad=1)
    x = pooled(unit(unit(pooled(x, "max", 2, 0), 80), 192, 3), "max", 2, 0)
    for proj in (32, 64, 64):
        x = block_a(x, proj)
    x = reduce_a(x)
    for width in (128, 160, 160, 192):
        x = block_b(x, width)
    x = block_c(block_c(reduce_b(x), "avg"), "max")
    x = S.Pooling(x, kernel=(8, 8), global_pool=True, pool_type="avg")
    return classify(S.Dropout(S.Flatten(x), p=0.5))
