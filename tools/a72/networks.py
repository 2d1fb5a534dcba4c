"""The sixteen networks of the validation, written as ncnn parameter files from their papers.

Only shapes matter: the weights are zeros, as in ncnn's own benchmark. `BOARD` holds what ncnn
publishes for them on a Raspberry Pi 4 (benchmark/README.md of github.com/Tencent/ncnn, "Raspberry
Pi 4 Model B Broadcom BCM2711B0", average of 8 runs at 1.5 GHz): milliseconds for one thread and for
four.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

BOARD: dict[str, tuple[float, float]] = {
    "squeezenet": (92.60, 58.93),
    "squeezenet_int8": (81.90, 49.33),
    "mobilenet": (145.94, 72.08),
    "mobilenet_int8": (99.62, 40.30),
    "mobilenet_v2": (110.10, 72.62),
    "mobilenet_v3": (88.41, 56.34),
    "shufflenet_v2": (50.30, 29.78),
    "mnasnet": (100.50, 61.82),
    "proxylessnasnet": (119.12, 63.45),
    "efficientnet_b0": (194.41, 94.39),
    "googlenet": (283.92, 143.09),
    "googlenet_int8": (252.23, 118.78),
    "resnet18": (226.49, 176.18),
    "resnet18_int8": (188.99, 97.99),
    "resnet50": (636.02, 335.34),
    "resnet50_int8": (503.46, 236.38),
}


@dataclass(frozen=True)
class Blob:
    """One tensor: its name and its channels."""

    name: str
    channels: int


@dataclass
class Layer:
    kind: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[int, str | int]


@dataclass
class Net:
    """Collects layers; `text()` writes the parameter file."""

    size: int
    int8: bool = False
    layers: list[Layer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layers.append(Layer("Input", [], ["data"], {0: self.size, 1: self.size, 2: 3}))
        self.data = Blob("data", 3)

    def add(self, kind: str, inputs: list[Blob], channels: int, **settings: str | int) -> Blob:
        """Append a layer with one output; settings are ncnn's numbered ones, as `_0=64`."""
        name = f"b{len(self.layers)}"
        numbered = {int(key[1:]): value for key, value in settings.items()}
        self.layers.append(Layer(kind, [blob.name for blob in inputs], [name], numbered))
        return Blob(name, channels)

    def conv(
        self,
        x: Blob,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        pad: int | None = None,
        relu: bool = True,
    ) -> Blob:
        pad = kernel // 2 if pad is None else pad
        weights = x.channels * channels * kernel * kernel
        return self.add(
            "Convolution",
            [x],
            channels,
            _0=channels,
            _1=kernel,
            _3=stride,
            _4=pad,
            _5=1,
            _6=weights,
            _9=int(relu),
        )

    def depthwise(self, x: Blob, kernel: int = 3, stride: int = 1, relu: bool = True) -> Blob:
        c = x.channels
        settings = {
            "_3": stride,
            "_4": kernel // 2,
            "_5": 1,
            "_6": c * kernel * kernel,
            "_7": c,
            "_9": int(relu),
        }
        return self.add("ConvolutionDepthWise", [x], c, _0=c, _1=kernel, **settings)

    def dense(self, x: Blob, channels: int, relu: bool = False) -> Blob:
        weights = x.channels * channels
        return self.add("InnerProduct", [x], channels, _0=channels, _1=1, _2=weights, _9=int(relu))

    def max_pool(self, x: Blob, stride: int = 2, pad: int = 0) -> Blob:
        return self.add("Pooling", [x], x.channels, _0=0, _1=3, _2=stride, _3=pad)

    def mean(self, x: Blob) -> Blob:
        return self.add("Pooling", [x], x.channels, _0=1, _4=1)

    def unary(self, kind: str, x: Blob) -> Blob:
        return self.add(kind, [x], x.channels)

    def plus(self, x: Blob, y: Blob) -> Blob:
        return self.add("BinaryOp", [x, y], x.channels, _0=0)

    def times(self, x: Blob, y: Blob) -> Blob:
        return self.add("BinaryOp", [x, y], x.channels, _0=2)

    def concat(self, blobs: list[Blob]) -> Blob:
        return self.add("Concat", blobs, sum(blob.channels for blob in blobs))

    def halves(self, x: Blob) -> tuple[Blob, Blob]:
        half = x.channels // 2
        names = [f"b{len(self.layers)}{side}" for side in "ab"]
        self.layers.append(Layer("Slice", [x.name], names, {-23300: f"2,{half},-233"}))
        return Blob(names[0], half), Blob(names[1], half)

    def squeeze(self, x: Blob, inner: int, gate: str, act: str = "ReLU") -> Blob:
        """Squeeze-and-excitation: scale the channels of `x` by a gate of its means."""
        y = self.unary(act, self.conv(self.mean(x), inner, relu=False))
        return self.times(x, self.unary(gate, self.conv(y, x.channels, relu=False)))

    def _quantised(self) -> None:
        """Turn convolutions to int8; one whose every reader is one too hands on int8 directly."""
        readers: dict[str, list[str]] = {}
        for layer in self.layers:
            for name in layer.inputs:
                readers.setdefault(name, []).append(layer.kind)
        for layer in self.layers:
            if layer.kind.startswith("Convolution"):
                term = 1 if layer.kind == "ConvolutionDepthWise" else 2
                kinds = readers.get(layer.outputs[0], [])
                direct = bool(kinds) and all(kind.startswith("Convolution") for kind in kinds)
                layer.settings[8] = term + 100 * direct

    def text(self) -> str:
        """The parameter file. A tensor with several readers goes through a Split, as ncnn wants."""
        if self.int8:
            self._quantised()
        uses = Counter(name for layer in self.layers for name in layer.inputs)
        lines = []
        blobs = 0
        taken = Counter[str]()

        def write(
            kind: str, name: str, inputs: list[str], outputs: list[str], rest: str = ""
        ) -> None:
            nonlocal blobs
            blobs += len(outputs)
            blob_names = " ".join([*inputs, *outputs])
            line = f"{kind} {name} {len(inputs)} {len(outputs)} {blob_names} {rest}"
            lines.append(line.rstrip())

        for index, layer in enumerate(self.layers):
            inputs = []
            for name in layer.inputs:
                inputs.append(f"{name}_{taken[name]}" if uses[name] > 1 else name)
                taken[name] += 1
            settings = " ".join(f"{key}={value}" for key, value in layer.settings.items())
            write(layer.kind, f"l{index}", inputs, layer.outputs, settings)
            for name in layer.outputs:
                if uses[name] > 1:
                    copies = [f"{name}_{i}" for i in range(uses[name])]
                    write("Split", f"split_{name}", [name], copies)
        return f"7767517\n{len(lines)} {blobs}\n" + "\n".join(lines) + "\n"


def squeezenet(net: Net) -> Blob:
    """SqueezeNet 1.1."""
    x = net.max_pool(net.conv(net.data, 64, 3, 2, pad=0))
    for squeeze, expand, pool in [
        (16, 64, 0), (16, 64, 1), (32, 128, 0), (32, 128, 1),
        (48, 192, 0), (48, 192, 0), (64, 256, 0), (64, 256, 0),
    ]:  # fmt: skip
        s = net.conv(x, squeeze)
        x = net.concat([net.conv(s, expand), net.conv(s, expand, 3)])
        x = net.max_pool(x) if pool else x
    return net.mean(net.conv(x, 1000, pad=1))


def mobilenet(net: Net) -> Blob:
    """MobileNet 1.0."""
    x = net.conv(net.data, 32, 3, 2)
    plan = [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]
    for channels, stride in plan:
        x = net.conv(net.depthwise(x, 3, stride), channels)
    return net.conv(net.mean(x), 1000, relu=False)


def _inverted(net: Net, x: Blob, width: int, channels: int, kernel: int, stride: int) -> Blob:
    """MobileNetV2's inverted residual with ReLU."""
    y = net.conv(x, width) if width != x.channels else x
    y = net.conv(net.depthwise(y, kernel, stride), channels, relu=False)
    return net.plus(x, y) if stride == 1 and channels == x.channels else y


def mobilenet_v2(net: Net) -> Blob:
    x = net.conv(net.data, 32, 3, 2)
    x = net.conv(net.depthwise(net.conv(x, 32), 3), 16, relu=False)
    for channels, repeats, stride in [
        (24, 2, 2),
        (32, 3, 2),
        (64, 4, 2),
        (96, 3, 1),
        (160, 3, 2),
        (320, 1, 1),
    ]:
        for n in range(repeats):
            x = _inverted(net, x, 6 * x.channels, channels, 3, stride if n == 0 else 1)
    return net.conv(net.mean(net.conv(x, 1280)), 1000, relu=False)


def mnasnet(net: Net) -> Blob:
    """MnasNet-B1."""
    x = net.conv(net.data, 32, 3, 2)
    x = net.conv(net.depthwise(x, 3), 16, relu=False)
    for expand, channels, repeats, stride, kernel in [
        (3, 24, 3, 2, 3), (3, 40, 3, 2, 5), (6, 80, 3, 2, 5),
        (6, 96, 2, 1, 3), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    ]:  # fmt: skip
        for n in range(repeats):
            x = _inverted(net, x, expand * x.channels, channels, kernel, stride if n == 0 else 1)
    return net.dense(net.mean(net.conv(x, 1280)), 1000)


def proxylessnasnet(net: Net) -> Blob:
    """ProxylessNAS, mobile."""
    x = net.conv(net.data, 32, 3, 2)
    x = net.conv(net.depthwise(x, 3), 16, relu=False)
    plan = [
        (32, 2, [(5, 3), (3, 3)]), (40, 2, [(7, 3), (3, 3), (5, 3), (5, 3)]),
        (80, 2, [(7, 6), (5, 3), (5, 3), (5, 3)]), (96, 1, [(5, 6), (5, 3), (5, 3), (5, 3)]),
        (192, 2, [(7, 6), (7, 6), (7, 3), (7, 3)]), (320, 1, [(7, 6)]),
    ]  # fmt: skip
    for channels, stride, blocks in plan:
        for n, (kernel, expand) in enumerate(blocks):
            x = _inverted(net, x, expand * x.channels, channels, kernel, stride if n == 0 else 1)
    return net.dense(net.mean(net.conv(x, 1280)), 1000)


def mobilenet_v3(net: Net) -> Blob:
    """MobileNetV3-Large."""
    x = net.unary("HardSwish", net.conv(net.data, 16, 3, 2, relu=False))
    for kernel, width, channels, se, swish, stride in [
        (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1),
        (5, 72, 40, 1, 0, 2), (5, 120, 40, 1, 0, 1), (5, 120, 40, 1, 0, 1),
        (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1),
        (3, 184, 80, 0, 1, 1), (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1),
        (5, 672, 160, 1, 1, 1), (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1),
    ]:  # fmt: skip
        y = net.conv(x, width, relu=not swish) if width != x.channels else x
        y = net.unary("HardSwish", y) if swish else y
        y = net.depthwise(y, kernel, stride, relu=not (swish or se))
        y = net.squeeze(y, width // 4, "HardSigmoid") if se else y
        y = net.unary("HardSwish", y) if swish else net.unary("ReLU", y) if se else y
        y = net.conv(y, channels, relu=False)
        x = net.plus(x, y) if stride == 1 and channels == x.channels else y
    x = net.mean(net.unary("HardSwish", net.conv(x, 960, relu=False)))
    return net.dense(net.unary("HardSwish", net.dense(net.unary("HardSwish", x), 1280)), 1000)


def efficientnet_b0(net: Net) -> Blob:
    x = net.unary("Swish", net.conv(net.data, 32, 3, 2, relu=False))
    for expand, channels, repeats, stride, kernel in [
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    ]:  # fmt: skip
        for n in range(repeats):
            s = stride if n == 0 else 1
            y = (
                net.unary("Swish", net.conv(x, expand * x.channels, relu=False))
                if expand > 1
                else x
            )
            y = net.unary("Swish", net.depthwise(y, kernel, s, relu=False))
            y = net.conv(
                net.squeeze(y, max(1, x.channels // 4), "Sigmoid", "Swish"), channels, relu=False
            )
            x = net.plus(x, y) if s == 1 and channels == x.channels else y
    return net.dense(net.mean(net.unary("Swish", net.conv(x, 1280, relu=False))), 1000)


def shufflenet_v2(net: Net) -> Blob:
    """ShuffleNetV2 1.0x."""
    x = net.max_pool(net.conv(net.data, 24, 3, 2))
    for channels, repeats in [(58, 4), (116, 8), (232, 4)]:
        for n in range(repeats):
            left, right = (x, x) if n == 0 else net.halves(x)
            if n == 0:
                left = net.conv(net.depthwise(x, 3, 2, relu=False), channels)
            right = net.depthwise(net.conv(right, channels), 3, 2 if n == 0 else 1, relu=False)
            joined = net.concat([left, net.conv(right, channels)])
            x = net.add("ShuffleChannel", [joined], joined.channels, _0=2)
    return net.dense(net.mean(net.conv(x, 1024)), 1000)


def googlenet(net: Net) -> Blob:
    """GoogLeNet (Inception v1) without the side classifiers."""

    def normalise(x: Blob) -> Blob:
        return net.add("LRN", [x], x.channels, _0=0, _1=5, _2="0.0001", _3="0.75")

    x = normalise(net.max_pool(net.conv(net.data, 64, 7, 2)))
    x = net.max_pool(normalise(net.conv(net.conv(x, 64), 192, 3)))
    for one, reduce3, three, reduce5, five, pool, then_pool in [
        (64, 96, 128, 16, 32, 32, 0), (128, 128, 192, 32, 96, 64, 1),
        (192, 96, 208, 16, 48, 64, 0), (160, 112, 224, 24, 64, 64, 0),
        (128, 128, 256, 24, 64, 64, 0), (112, 144, 288, 32, 64, 64, 0),
        (256, 160, 320, 32, 128, 128, 1), (256, 160, 320, 32, 128, 128, 0),
        (384, 192, 384, 48, 128, 128, 0),
    ]:  # fmt: skip
        branches = [
            net.conv(x, one),
            net.conv(net.conv(x, reduce3), three, 3),
            net.conv(net.conv(x, reduce5), five, 5),
        ]
        x = net.concat([*branches, net.conv(net.max_pool(x, 1, 1), pool)])
        x = net.max_pool(x) if then_pool else x
    return net.dense(net.mean(x), 1000)


def resnet18(net: Net) -> Blob:
    x = net.max_pool(net.conv(net.data, 64, 7, 2))
    for stage, channels in enumerate([64, 128, 256, 512]):
        for n in range(2):
            stride = 2 if stage and n == 0 else 1
            short = net.conv(x, channels, 1, stride, relu=False) if n == 0 else x
            y = net.conv(net.conv(x, channels, 3, stride), channels, 3, relu=False)
            x = net.unary("ReLU", net.plus(short, y))
    return net.dense(net.mean(x), 1000)


def resnet50(net: Net) -> Blob:
    x = net.max_pool(net.conv(net.data, 64, 7, 2))
    for stage, (inner, repeats) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for n in range(repeats):
            stride = 2 if stage and n == 0 else 1
            short = net.conv(x, 4 * inner, 1, stride, relu=False) if n == 0 else x
            y = net.conv(net.conv(net.conv(x, inner, 1, stride), inner, 3), 4 * inner, relu=False)
            x = net.unary("ReLU", net.plus(short, y))
    return net.dense(net.mean(x), 1000)


def parameters(name: str) -> str:
    """The ncnn parameter file of one name in `BOARD`."""
    base = name.removesuffix("_int8")
    int8 = name.endswith("_int8")
    build: Callable[[Net], Blob] = globals()[base]
    net = Net(227 if base == "squeezenet" else 224, int8)
    logits = build(net)
    net.add("Softmax", [logits], logits.channels, _0=0, _1=1)
    return net.text()
