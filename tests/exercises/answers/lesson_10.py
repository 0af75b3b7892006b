"""Answers of lesson 10: references, named mistakes with what to say about them, alternatives."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from coursework.exercise import Answers

# 10.1 ---------------------------------------------------------------------------------------------

a_flops = Answers("10.1")


def per_axis(value, axes):
    """One number for each axis."""
    return (value,) * axes if isinstance(value, int) else tuple(value)


@a_flops.reference
def conv_flops(
    in_channels, out_channels, kernel, size, stride=1, padding=0, groups=1, dilation=1
):  # fmt: skip
    axes = len(size)
    kernels = per_axis(kernel, axes)
    places = 1
    for n, k, s, p, d in zip(
        size, kernels, per_axis(stride, axes), per_axis(padding, axes), per_axis(dilation, axes)
    ):
        places *= (n + 2 * p - d * (k - 1) - 1) // s + 1
    return 2 * places * out_channels * (in_channels // groups) * math.prod(kernels)


def counting(conv, linear=None, batch=True, kinds=(nn.Conv1d, nn.Conv2d, nn.Linear), once=False,
             mode="back", remove=True, sizes="input"):  # fmt: skip
    """A ``model_flops``, right unless told otherwise, that counts convolutions by ``conv``."""

    def of_linear(m, out):
        return 2 * m.in_features * out.numel()

    linear = linear or of_linear

    def model_flops(model, shape, *inputs):
        total = 0
        seen = set()

        def hook(m, args, out):
            nonlocal total
            if once and m in seen:
                return
            seen.add(m)
            if isinstance(m, nn.Linear):
                total += linear(m, out)
                return
            size = {"input": args[0].shape, "output": out.shape, "model": shape}[sizes][2:]
            size = tuple(size)
            found = conv(m.in_channels, m.out_channels, m.kernel_size, size, m.stride, m.padding,
                         m.groups, m.dilation)  # fmt: skip
            total += found * (len(args[0]) if batch else 1)

        handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]
        was = model.training
        if mode == "back":
            model.eval()
        with torch.no_grad():
            model(torch.zeros(shape), *inputs)
        model.train(was if mode == "back" else mode == "train")
        for handle in handles if remove else ():
            handle.remove()
        return total

    return model_flops


@a_flops.reference
def model_flops(model, shape, *inputs):
    return counting(conv_flops)(model, shape, *inputs)


def wrong_conv(kind):
    """A wrong ``conv_flops``."""

    def conv_flops(
        in_channels, out_channels, kernel, size, stride=1, padding=0, groups=1, dilation=1
    ):
        axes = len(size)
        kernels = per_axis(kernel, axes)
        places = 1
        for n, k, s, p, d in zip(
            size, kernels, per_axis(stride, axes), per_axis(padding, axes), per_axis(dilation, axes)
        ):
            s = 1 if kind == "stride" else s
            p = 0 if kind == "padding" else p
            d = 1 if kind == "dilation" else d
            found = (n + 2 * p - d * (k - 1) - 1) // s + 1
            places *= {"input": n, "same": -(-n // s)}.get(kind, found)
        inside = in_channels if kind == "groups" else in_channels // groups
        if kind == "twice-groups":
            inside = in_channels // groups // groups
        area = kernels[0] if kind == "kernel" else math.prod(kernels)
        if kind == "square":
            area = kernels[0] ** axes
        products = places * out_channels * inside * area
        if kind == "half":
            return products
        if kind == "parameters":
            return 2 * out_channels * inside * area
        if kind == "one-channel":
            return 2 * places * inside * area
        return 2 * products + (places * out_channels if kind == "bias" else 0)

    return conv_flops


for name, kind, says in (
    ("half", "half", "You count a multiplication and its addition as one operation. Many papers do "
     "(and call it MACs); here, as in torch's counter, they are two."),
    ("bias-counted", "bias", "You add one operation for the bias of each output number. It is left "
     "out here, as torch's counter leaves it out: next to all the products it is nothing."),
    ("stride-ignored", "stride", "A stride of s visits only every s-th place: fewer outputs, and "
     "fewer operations. Your count is that of stride 1."),
    ("padding-ignored", "padding", "You count the places of an unpadded input. Padding makes the "
     "input larger, and so the output."),
    ("dilation-ignored", "dilation", "A dilated kernel reaches further, so that fewer places fit "
     "into the input: dilation (kernel - 1) + 1 is its reach, not kernel."),
    ("places-of-the-input", "input", "You multiply by the places of the input. The products are "
     "made for each place of the *output*."),
    ("padding-taken-for-granted", "same", "You count a place of the output for every stride-th "
     "place of the input. That is so only if padding makes up for the kernel: take padding and "
     "kernel from what is given."),
    ("kernel-as-a-square", "square", "You take the kernel's first size for all axes. A kernel of 3 "
     "by 5 makes 15 products with each input channel."),
    ("groups-ignored", "groups", "You let every output channel see all input channels. With "
     "groups it sees only those of its own group."),
    ("groups-twice", "twice-groups", "You divide by groups twice. Each output channel has "
     "in_channels / groups inputs, and there are still all the output channels."),
    ("kernel-of-one-axis", "kernel", "You count the kernel along one axis only. A kernel of 3 by 5 "
     "makes 15 products with each input channel."),
    ("parameters", "parameters", "You count the weights, once. A convolution uses each of them "
     "again at every place of the output."),
    ("one-output-channel", "one-channel", "You count the work for one output channel. Each of them "
     "takes as many products."),
):  # fmt: skip
    wrong = wrong_conv(kind)
    a_flops.misconception(
        name, says, defines={"conv_flops": wrong, "model_flops": counting(wrong)}
    )(None)


def linear_of_the_batch(m, out):
    """A linear layer's work, without the places of its middle axes."""
    return 2 * m.in_features * m.out_features * len(out)


for name, options, says in (
    ("linear-forgotten", {"kinds": (nn.Conv1d, nn.Conv2d)}, "Your count of a network leaves its "
     "linear layers out."),
    ("linear-once", {"linear": lambda m, out: 2 * m.in_features * m.out_features}, "You count a "
     "linear layer as if it were used once. It acts on the last axis, at every place of all the "
     "axes before it."),
    ("batch-forgotten", {"batch": False}, "Your convolutions are counted for one sample, while "
     "shape has a batch in it."),
    ("each-layer-once", {"once": True}, "A layer that is called twice costs twice. Count calls, "
     "not layers."),
    ("training-left-off", {"mode": "eval"}, "After your count the model is in evaluation mode, "
     "where it was training. Leave it as you found it."),
    ("hooks-left", {"remove": False}, "Your hooks stay on the model: the next call still "
     "counts, and every use of the network from now on is slower. Each hook has a handle with "
     "remove()."),
    ("sizes-of-outputs", {"sizes": "output"}, "You give the size of each layer's output to a count "
     "that asks for the size of its input. A hook gets both: inputs are a tuple, of which the "
     "first is meant."),
    ("linear-of-the-batch", {"linear": linear_of_the_batch}, "You multiply a linear layer's work "
     "by the batch only. It acts at every place of all axes before the last."),
    ("linear-half", {"linear": lambda m, out: m.in_features * out.numel()}, "A linear layer's "
     "multiplications and additions count as one in yours. As in a convolution, they are two."),
    ("images-only", {"kinds": (nn.Conv2d, nn.Linear)}, "Your count leaves out convolutions along "
     "one axis (nn.Conv1d): a network for sound would cost next to nothing."),
    ("sizes-of-the-first-input", {"sizes": "model"}, "You take the size of the network's input for "
     "every layer. Strides change the size on the way: a hook sees what the layer really gets."),
):  # fmt: skip
    a_flops.misconception(name, says, defines={"model_flops": counting(conv_flops, **options)})(
        None
    )


def by_output(model, shape, *inputs):
    """From the weights and the output's size: no formula for sizes."""
    total = []

    def hook(m, args, out):
        total.append(2 * out.numel() * m.weight[0].numel())

    layers = [m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear))]
    handles = [m.register_forward_hook(hook) for m in layers]
    model(torch.randn(shape), *inputs)
    for h in handles:
        h.remove()
    return sum(total)


a_flops.alternative("from the shapes of weights and outputs", defines={"model_flops": by_output})(
    None
)


def torchs(model, shape, *inputs):
    """torch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(shape), *inputs)
    return counter.get_total_flops()


a_flops.alternative("torch's own counter", defines={"model_flops": torchs})(None)


def by_running(in_channels, out_channels, kernel, size, stride=1, padding=0, groups=1, dilation=1):
    """The places are found by running a convolution without channels."""
    conv = {1: F.conv1d, 2: F.conv2d}[len(size)]
    kernels = per_axis(kernel, len(size))
    out = conv(torch.zeros(1, 1, *size), torch.zeros(1, 1, *kernels), None, stride, padding,
               dilation)  # fmt: skip
    return 2 * out.numel() * out_channels * in_channels * math.prod(kernels) // groups


a_flops.alternative("places by running it", defines={"conv_flops": by_running})(None)


# 10.2 ---------------------------------------------------------------------------------------------

a_separable = Answers("10.2")


@a_separable.reference
class DepthwiseSeparable(nn.Module):
    def __init__(self, in_channels, out_channels, kernel=3, stride=1, dims=2):
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d}[dims]
        self.depthwise = conv(
            in_channels, in_channels, kernel, stride, kernel // 2, groups=in_channels, bias=False
        )
        self.pointwise = conv(in_channels, out_channels, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


def separable(kind):
    """A ``DepthwiseSeparable``, wrong in one way."""

    class DepthwiseSeparable(nn.Module):
        def __init__(self, in_channels, out_channels, kernel=3, stride=1, dims=2):
            super().__init__()
            conv = {1: nn.Conv1d, 2: nn.Conv2d}[dims]
            pad = 0 if kind == "no-padding" else 1 if kind == "padding-of-three" else kernel // 2
            groups = {"one-group": 1, "no-pointwise": math.gcd(in_channels, out_channels)}.get(
                kind, in_channels
            )
            self.depthwise = conv(
                out_channels if kind == "first-across" else in_channels,
                out_channels if kind in ("no-pointwise", "first-across") else in_channels,
                kernel,
                1 if kind in ("no-stride", "stride-at-the-end") else stride,
                pad,
                groups=out_channels if kind == "first-across" else groups,
                bias=kind == "two-biases",
            )
            if kind != "no-pointwise":
                late = stride if kind in ("stride-twice", "stride-at-the-end") else 1
                wide = kind == "wide-pointwise"
                self.pointwise = conv(
                    in_channels,
                    out_channels,
                    kernel if wide else 1,
                    late,
                    kernel // 2 if wide else 0,
                    bias=kind != "no-bias",
                )

        def forward(self, x):
            if kind == "no-pointwise":
                return self.depthwise(x)
            if kind == "first-across":
                return self.depthwise(self.pointwise(x))
            h = self.depthwise(x)
            if kind == "activation":
                h = F.silu(h)
            if kind == "relu-between":
                h = F.relu(h)
            out = self.pointwise(h)
            return out + x if kind == "shortcut" and out.shape == x.shape else out

    return DepthwiseSeparable


for name, says in (
    ("one-group", "Your first layer is a full convolution (groups = 1): every channel is mixed "
     "with every other, at full price. In a depthwise layer each channel has a kernel of its own."),
    ("no-pointwise", "There is no pointwise layer: channels never meet, and nothing that depends "
     "on two of them can be learnt."),
    ("first-across", "You mix channels first and look at neighbours after. That is a layer as "
     "well, but the names and shapes asked for are depthwise on in_channels, then pointwise."),
    ("no-padding", "Your depthwise layer has no padding, so that the borders are lost. kernel // 2 "
     "at each side keeps the size."),
    ("padding-of-three", "Your padding is 1, which keeps the size for a kernel of 3 only."),
    ("stride-twice", "Both layers have the stride, and the size is divided by it twice."),
    ("no-stride", "The stride is not used."),
    ("two-biases", "Both layers have a bias. The pointwise layer turns the first one into a "
     "constant that its own bias can hold: the depthwise layer is asked for without."),
    ("no-bias", "The pointwise layer has no bias. It is asked for: nothing else in the layer can "
     "shift its output."),
    ("wide-pointwise", "Your second layer has the full kernel. It costs as much as the convolution "
     "that was to be replaced; it needs one place."),
    ("activation", "There is an activation between the two layers. MobileNet has one; here the two "
     "together stand for one convolution, and stay linear."),
    ("relu-between", "There is a ReLU between the two layers. MobileNet has one; here the two "
     "together stand for one convolution, and stay linear."),
    ("stride-at-the-end", "The outputs are right, but the pointwise layer has the stride: the "
     "depthwise one works at places that are thrown away afterwards. Give the stride to the "
     "first."),
    ("shortcut", "You add the input to the output. A shortcut belongs to the block around, which "
     "has one already."),
):  # fmt: skip
    a_separable.misconception(name, says, defines={"DepthwiseSeparable": separable(name)})(None)


@a_separable.alternative("lazily named by Sequential-like attributes, functional")
class DepthwiseSeparable(nn.Module):
    def __init__(self, in_channels, out_channels, kernel=3, stride=1, dims=2):
        super().__init__()
        kind = getattr(nn, f"Conv{dims}d")
        self.options = {"stride": stride, "padding": kernel // 2, "groups": in_channels}
        self.depthwise = kind(in_channels, in_channels, kernel, bias=False, **self.options)
        self.pointwise = kind(in_channels, out_channels, kernel_size=1)

    def forward(self, x):
        conv = F.conv1d if x.ndim == 3 else F.conv2d
        h = conv(x, self.depthwise.weight, None, **self.options)
        return conv(h, self.pointwise.weight, self.pointwise.bias)


@a_separable.alternative("pointwise as a matrix product")
class DepthwiseSeparable(nn.Module):
    def __init__(self, in_channels, out_channels, kernel=3, stride=1, dims=2):
        super().__init__()
        conv = nn.Conv1d if dims == 1 else nn.Conv2d
        same = (kernel - 1) // 2
        self.depthwise = conv(in_channels, in_channels, kernel, stride=stride, padding=same,
                              groups=in_channels, bias=False)  # fmt: skip
        self.pointwise = conv(in_channels, out_channels, 1)

    def forward(self, x):
        h = self.depthwise(x)
        mixed = torch.einsum("oi,bi...->bo...", self.pointwise.weight.flatten(1), h)
        return mixed + self.pointwise.bias.reshape(-1, *[1] * (x.ndim - 2))


# 10.3 ---------------------------------------------------------------------------------------------

a_front = Answers("10.3")


@a_front.reference
def pareto_front(points):
    no_worse = (points[:, None] <= points[None]).all(2)
    better = (points[:, None] < points[None]).any(2)
    return (~(no_worse & better).any(0)).nonzero()[:, 0]


@a_front.misconception(
    "beaten-only-everywhere",
    "You remove a point only when another is smaller in *every* column. One that is equal in some "
    "and smaller in one already makes it useless: same seconds, worse FD.",
)
def pareto_front(points):
    return (~(points[:, None] < points[None]).all(2).any(0)).nonzero()[:, 0]


@a_front.misconception(
    "equals-remove-each-other",
    "Equal points remove each other in yours (and a point may even remove itself). To be beaten, "
    "another has to be smaller somewhere.",
)
def pareto_front(points):
    no_worse = (points[:, None] <= points[None]).all(2)
    no_worse.fill_diagonal_(False)
    return (~no_worse.any(0)).nonzero()[:, 0]


@a_front.misconception(
    "first-of-equals",
    "Of equal points you keep the first only. None of them is beaten: all stay.",
)
def pareto_front(points):
    kept, seen = [], []
    for i in pareto_front(points).tolist():
        if points[i].tolist() not in seen:
            kept.append(i)
            seen.append(points[i].tolist())
    return torch.tensor(kept)


@a_front.misconception(
    "larger-is-better",
    "You keep the points with the *large* values. Here both seconds and FD are better small.",
)
def pareto_front(points):
    return pareto_front(-points)


@a_front.misconception(
    "better-somewhere",
    "You remove a point when another is smaller in *some* column. That one may be worse in the "
    "others: neither beats the other.",
)
def pareto_front(points):
    return (~(points[:, None] < points[None]).any(2).any(0)).nonzero()[:, 0]


@a_front.misconception(
    "the-beaten",
    "You return the points that are beaten. The front is the others.",
)
def pareto_front(points):
    keep = torch.ones(len(points), dtype=torch.bool)
    keep[pareto_front(points)] = False
    return keep.nonzero()[:, 0]


@a_front.misconception(
    "a-mask",
    "You return a mask (N,) of true and false. The indices of the front are asked for: "
    "nonzero() gives them.",
)
def pareto_front(points):
    mask = torch.zeros(len(points), dtype=torch.bool)
    mask[pareto_front(points)] = True
    return mask


@a_front.misconception(
    "the-points",
    "You return the points of the front. Their indices are asked for, so that one can look up "
    "which settings they are.",
)
def pareto_front(points):
    return points[pareto_front(points)]


@a_front.misconception(
    "by-cost",
    "Your indices are sorted by the first column. They are asked for in rising order.",
)
def pareto_front(points):
    kept = pareto_front(points)
    return kept[points[kept, 0].argsort(stable=True)]


@a_front.misconception(
    "two-columns-only",
    "You compare the first two columns only. There may be more than two prices.",
)
def pareto_front(points):
    return pareto_front(points[:, :2])


@a_front.misconception(
    "the-best-of-each-column",
    "You keep the best point of each column. Between the cheapest and the best there are "
    "compromises, and those are the interesting ones.",
)
def pareto_front(points):
    best = (points == points.amin(0)).any(1)
    return best.nonzero()[:, 0]


@a_front.alternative("point by point")
def pareto_front(points):
    kept = []
    for i in range(len(points)):
        beaten = False
        for j in range(len(points)):
            if (points[j] <= points[i]).all() and (points[j] != points[i]).any():
                beaten = True
        if not beaten:
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


@a_front.alternative("with numpy")
def pareto_front(points):
    p = points.numpy()
    gap = p[:, None, :] - p[None, :, :]
    beaten = ((gap <= 0).all(-1) & (gap < 0).any(-1)).any(0)
    return torch.arange(len(p))[torch.from_numpy(~beaten)]


# 10.4 ---------------------------------------------------------------------------------------------

a_target = Answers("10.4")


@a_target.reference
@torch.no_grad()
def distillation_target(teacher, x_t, t, t_mid, t_next, alpha, sigma, cond=None):
    column = (-1, *[1] * (x_t.ndim - 1))
    a, a_mid, a_next = (alpha(v).reshape(column) for v in (t, t_mid, t_next))
    s, s_mid, s_next = (sigma(v).reshape(column) for v in (t, t_mid, t_next))
    x0 = teacher(x_t, t, cond)
    x_mid = a_mid * x0 + s_mid * (x_t - a * x0) / s
    x0 = teacher(x_mid, t_mid, cond)
    x_next = a_next * x0 + s_next * (x_mid - a_mid * x0) / s_mid
    return (x_next - s_next / s * x_t) / (a_next - s_next / s * a)


def target(kind):
    """A ``distillation_target``, wrong in one way."""

    def distillation_target(teacher, x_t, t, t_mid, t_next, alpha, sigma, cond=None):
        column = (-1, *[1] * (x_t.ndim - 1))
        a, a_mid, a_next = (alpha(v).reshape(column) for v in (t, t_mid, t_next))
        s, s_mid, s_next = (sigma(v).reshape(column) for v in (t, t_mid, t_next))
        if kind == "levels-swapped":
            a, a_mid, a_next, s, s_mid, s_next = s, s_mid, s_next, a, a_mid, a_next
        told = None if kind == "labels-forgotten" else cond
        first = teacher(x_t, t, told)
        if kind == "one-step":
            return first
        eps = (x_t - a * first) / s
        x_mid = a_mid * first + s_mid * eps
        if kind == "eps-without-alpha":
            x_mid = a_mid * first + s_mid * (x_t - first) / s
        at = t if kind == "time-of-the-first-step" else t_mid
        told = None if kind == "labels-in-the-first-call-only" else told
        second = teacher(x_t if kind == "asked-at-the-start" else x_mid, at, told)
        if kind == "x0-of-the-first-step":
            return first
        if kind == "x0-of-the-second-step":
            return second
        if kind == "mean-of-both":
            return (first + second) / 2
        here = eps if kind == "eps-of-the-first-step" else (x_mid - a_mid * second) / s_mid
        x_next = a_next * second + s_next * here
        if kind == "where-it-arrives":
            return x_next
        k = s_next / s
        if kind == "ratio-inverted":
            k = s / s_next
        if kind == "ratio-of-the-second-step":
            k = s_next / s_mid
        if kind == "plus-in-the-divisor":
            return (x_next - k * x_t) / (a_next + k * a)
        if kind == "not-divided":
            return x_next - k * x_t
        if kind == "sign":
            return (x_next + k * x_t) / (a_next + k * a)
        if kind == "alpha-alone":
            return (x_next - k * x_t) / a_next
        if kind == "alphas-ratio":
            return (x_next - k * x_t) / (a_next - k)
        return (x_next - k * x_t) / (a_next - k * a)

    return distillation_target if kind == "keeps-a-graph" else torch.no_grad()(distillation_target)


for name, says in (
    ("one-step", "You return the teacher's x0 at x_t, after one call. A student that learns this "
     "learns to take one step as the teacher does, and is no better than the teacher with half "
     "the steps."),
    ("x0-of-the-first-step", "You take both steps, and then return the x0 of the first. What the "
     "second call found out is lost."),
    ("x0-of-the-second-step", "You return the x0 of the second call. One step from x_t with that "
     "x0 does not arrive where the two did: it would use another noise. Solve for the x0 that "
     "does."),
    ("mean-of-both", "You return the mean of the two estimates. The weights are not one half: they "
     "follow from asking where a single step with the target must end."),
    ("asked-at-the-start", "The second call asks about x_t again. It should see where the first "
     "step led to."),
    ("time-of-the-first-step", "The second call gets the point at t_mid, and the time t. The "
     "network has to know how much noise is in what it sees."),
    ("eps-of-the-first-step", "In the second step you keep the noise estimate of the first. Each "
     "step has its own: what is left of its x when its own x0 is taken out."),
    ("eps-without-alpha", "The noise in x_t is (x_t - alpha x0) / sigma. You left alpha out in the "
     "first step."),
    ("where-it-arrives", "You return the point at t_next. A student predicts x0: which x0 leads to "
     "that point in one step?"),
    ("not-divided", "You take out k x_t, and forget to divide by the factor of x0 in the step, "
     "alpha(t_next) - k alpha(t)."),
    ("sign", "The signs before k are the wrong way: k x_t is taken from the end point, and k "
     "alpha(t) from alpha(t_next)."),
    ("alpha-alone", "You divide by alpha(t_next). The student's own noise estimate contains x0 as "
     "well, with a minus: that gives - k alpha(t)."),
    ("alphas-ratio", "The factor of x0 is alpha(t_next) - k alpha(t). In yours alpha(t) is "
     "missing."),
    ("ratio-inverted", "k is sigma(t_next) / sigma(t), below 1: the noise that is left. Yours is "
     "upside down (and infinite at the data)."),
    ("levels-swapped", "alpha and sigma are exchanged: alpha belongs to the data, sigma to the "
     "noise."),
    ("ratio-of-the-second-step", "Your k is sigma(t_next) / sigma(t_mid), that of the second step. "
     "The student's step begins at t: sigma(t_next) / sigma(t)."),
    ("plus-in-the-divisor", "You divide by alpha(t_next) + k alpha(t). x0 is taken out of x_t "
     "before the noise is left: its part has a minus."),
    ("labels-in-the-first-call-only", "The second call of the teacher gets no cond: there it does "
     "not know which class it is asked for."),
    ("labels-forgotten", "cond is not passed on to the teacher: it does not know which class it is "
     "asked for."),
    ("keeps-a-graph", "The numbers are right, but a graph into the teacher is kept: training the "
     "student would compute gradients of the teacher, too. The target is a constant."),
):  # fmt: skip
    a_target.misconception(name, says, defines={"distillation_target": target(name)})(None)


@a_target.alternative("by eps")
def distillation_target(teacher, x_t, t, t_mid, t_next, alpha, sigma, cond=None):
    with torch.no_grad():
        axes = (...,) + (None,) * (x_t.ndim - 1)
        levels = [(alpha(v)[axes], sigma(v)[axes]) for v in (t, t_mid, t_next)]
        x = x_t
        for time, (a, s), (b, r) in zip((t, t_mid), levels, levels[1:]):
            x0 = teacher(x, time, cond)
            eps = (x - a * x0) / s
            x = b * x0 + r * eps
        (a, s), _, (b, r) = levels
        return (s * x - r * x_t) / (s * b - r * a)


@a_target.alternative("in the variables x / alpha, detached at the end")
def distillation_target(teacher, x_t, t, t_mid, t_next, alpha, sigma, cond=None):
    def of(v):
        shape = (len(x_t), *[1] * (x_t.ndim - 1))
        return alpha(v).reshape(shape), (sigma(v) / alpha(v)).reshape(shape)

    (a, now), (b, mid), (_, end) = of(t), of(t_mid), of(t_next)
    u = x_t / a
    first = teacher(x_t, t, cond)
    v = first + mid / now * (u - first)
    second = teacher(b * v, t_mid, cond)
    w = second + end / mid * (v - second)
    return ((w - end / now * u) / (1 - end / now)).detach()


# 10.5 ---------------------------------------------------------------------------------------------

a_skip = Answers("10.5")


@a_skip.reference
def consistency_skip(t, sigma_data, sigma_min):
    beyond = t - sigma_min
    c_skip = sigma_data**2 / (beyond**2 + sigma_data**2)
    return c_skip, sigma_data * beyond / (sigma_data**2 + t**2) ** 0.5


def skipping(kind):
    """A ``consistency_skip``, wrong in one way."""

    def consistency_skip(t, sigma_data, sigma_min):
        far = t - sigma_min
        in_skip = t if kind in ("skip-not-shifted", "not-shifted") else far
        in_out = t if kind in ("out-not-shifted", "not-shifted") else far
        root = far if kind == "root-shifted" else t
        c_skip = sigma_data**2 / (in_skip**2 + sigma_data**2)
        c_out = sigma_data * in_out / (sigma_data**2 + root**2) ** 0.5
        if kind == "no-squares":
            c_skip = sigma_data / (far + sigma_data)
        if kind == "no-root":
            c_out = sigma_data * far / (sigma_data**2 + t**2)
        if kind == "deviation-over-variance":
            c_skip = sigma_data / (far**2 + sigma_data**2)
        if kind == "variance-over-root":
            c_skip = sigma_data**2 / (far**2 + sigma_data**2) ** 0.5
        if kind == "root-in-both":
            c_skip = sigma_data / (far**2 + sigma_data**2) ** 0.5
        if kind == "no-sigma-data":
            c_out = far / (sigma_data**2 + t**2) ** 0.5
        if kind == "variance-in-out":
            c_out = sigma_data**2 * far / (sigma_data**2 + t**2) ** 0.5
        if kind == "skip-of-the-rest":
            c_skip = far**2 / (far**2 + sigma_data**2)
        return (c_out, c_skip) if kind == "swapped" else (c_skip, c_out)

    return consistency_skip


for name, says in (
    ("not-shifted", "These are EDM's factors, with t where t - sigma_min belongs. At sigma_min "
     "c_skip is below 1 and c_out above 0: the boundary is missed, and without it every constant "
     "function is a perfect consistency model."),
    ("skip-not-shifted", "c_skip has t where t - sigma_min belongs, and is not 1 at sigma_min."),
    ("out-not-shifted", "c_out has t where t - sigma_min belongs, and is not 0 at sigma_min: the "
     "network still has a say there."),
    ("root-shifted", "Under the root of c_out stands t itself, unshifted. It is the size of the "
     "noisy data, to which the network's output is fitted."),
    ("swapped", "You return c_out first. The order is (c_skip, c_out)."),
    ("no-squares", "c_skip compares variances: both terms are squared."),
    ("deviation-over-variance", "The numerator of c_skip is sigma_data squared: with t = sigma_min "
     "it is then 1, whatever sigma_data is."),
    ("variance-over-root", "c_skip has no root: it is a share of variances, and 1 at sigma_min."),
    ("no-root", "c_out divides by the root of sigma_data^2 + t^2, a deviation."),
    ("root-in-both", "c_skip has no root: it is a share of variances."),
    ("no-sigma-data", "c_out has the factor sigma_data: for large t it must come to sigma_data, as "
     "the output is then all of the data."),
    ("variance-in-out", "c_out has sigma_data, not its square, as factor."),
    ("skip-of-the-rest", "This is 1 - c_skip. At sigma_min the input has to come through whole."),
):  # fmt: skip
    a_skip.misconception(name, says, defines={"consistency_skip": skipping(name)})(None)


@a_skip.alternative("by hypot")
def consistency_skip(t, sigma_data, sigma_min):
    d = torch.as_tensor(sigma_data, dtype=t.dtype)
    return (d / torch.hypot(t - sigma_min, d)) ** 2, (t - sigma_min) * d / torch.hypot(t, d)


@a_skip.alternative("with ratios")
def consistency_skip(t, sigma_data, sigma_min):
    r = (t - sigma_min) / sigma_data
    return 1 / (1 + r * r), sigma_data * r / torch.sqrt(1 + (t / sigma_data).square())


# 10.6 ---------------------------------------------------------------------------------------------

a_stem = Answers("10.6")


@a_stem.reference
class PatchStem(nn.Module):
    def __init__(self, patch):
        super().__init__()
        self.patch = patch

    def fold(self, x):
        p = self.patch
        x = F.pad(x, (0, -x.shape[3] % p, 0, -x.shape[2] % p), mode="replicate")
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // p, p, w // p, p).permute(0, 1, 3, 5, 2, 4)
        return x.reshape(b, c * p * p, h // p, w // p)

    def unfold(self, x, size):
        p = self.patch
        b, c, h, w = x.shape
        x = x.reshape(b, c // (p * p), p, p, h, w).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(b, c // (p * p), h * p, w * p)[:, :, : size[0], : size[1]]


def patches(order=(0, 1, 3, 5, 2, 4), pad="below", mode="replicate", cut="start", back=None,
            plain=False, trim=False, full=False):  # fmt: skip
    """A ``PatchStem``. order: how the six numbers of an address are arranged by fold."""
    back = order if back is None else back

    class PatchStem(nn.Module):
        def __init__(self, patch):
            super().__init__()
            self.patch = patch

        def fold(self, x):
            p = self.patch
            more = -x.shape[2] % p, -x.shape[3] % p
            if trim:
                x = x[:, :, : x.shape[2] // p * p, : x.shape[3] // p * p]
            elif full:
                x = F.pad(x, (0, p - x.shape[3] % p, 0, p - x.shape[2] % p), mode=mode)
            elif any(more):
                sides = (0, more[1], 0, more[0]) if pad == "below" else (more[1], 0, more[0], 0)
                x = F.pad(x, sides, mode=mode)
            b, c, h, w = x.shape
            if plain:
                return x.reshape(b, c * p * p, h // p, w // p)
            x = x.reshape(b, c, h // p, p, w // p, p).permute(order)
            return x.reshape(b, c * p * p, h // p, w // p)

        def unfold(self, x, size):
            p = self.patch
            b, c, h, w = x.shape
            c //= p * p
            if plain:
                return x.reshape(b, c, h * p, w * p)[:, :, : size[0], : size[1]]
            sizes = b, c, h, p, w, p
            inverse = [back.index(i) for i in range(6)]
            x = x.reshape([sizes[i] for i in back]).permute(inverse).reshape(b, c, h * p, w * p)
            if cut == "none":
                return x
            if cut == "end":
                return x[:, :, -size[0] :, -size[1] :]
            return x[:, :, : size[0], : size[1]]

    return PatchStem


RIGHT = (0, 1, 3, 5, 2, 4)
for name, options, says in (
    ("columns-first", {"order": (0, 1, 5, 3, 2, 4)}, "Within a patch you count columns before "
     "rows. The order asked for is (channel, row in the patch, column in the patch)."),
    ("patch-before-channel", {"order": (0, 3, 5, 1, 2, 4)}, "The place in the patch comes before "
     "the channel in yours. The round trip is right, but the order asked for is (channel, row, "
     "column): what torch's pixel_unshuffle does, and what weights from elsewhere expect."),
    ("places-exchanged", {"order": (0, 1, 2, 4, 3, 5)}, "You put the *patches* into the channels "
     "and keep the places within a patch: the picture is thinned out the wrong way round."),
    ("reshape-only", {"plain": True}, "A reshape alone goes along the rows: pixels that were "
     "neighbours in a column do not meet in one patch. Axes have to be permuted."),
    ("way-back-in-another-order", {"back": (0, 1, 5, 3, 2, 4)}, "fold is right, but unfold takes "
     "rows and columns of a patch the other way round: it is not the inverse."),
    ("padded-with-zeros", {"mode": "constant"}, "You pad with zeros. Copies of the last row and "
     "column are asked for: a grey edge is something that the network would have to learn."),
    ("padded-above", {"pad": "above", "cut": "end"}, "You add rows above and columns at the left. "
     "They are asked for below and at the right."),
    ("padded-at-the-start", {"pad": "above"}, "fold adds rows above and columns at the left, and "
     "unfold cuts off below and at the right: what comes back is moved."),
    ("mirrored", {"mode": "reflect"}, "You mirror the picture at its edge. Copies of the last row "
     "and column are asked for (replicate)."),
    ("a-whole-patch-too-much", {"full": True}, "Where patch divides the size, yours adds a whole "
     "patch: patch - size % patch is patch then, and none is missing. -size % patch is 0."),
    ("not-cut", {"cut": "none"}, "unfold gives back the padded size. Cut it to size."),
    ("cut-at-the-start", {"cut": "end"}, "You cut off the first rows and columns. The copies were "
     "added below and at the right."),
    ("rest-dropped", {"trim": True}, "Rows and columns that do not fill a patch are dropped, and "
     "do not come back."),
):  # fmt: skip
    a_stem.misconception(name, says, defines={"PatchStem": patches(**options)})(None)


@a_stem.alternative("torch's own")
class PatchStem(nn.Module):
    def __init__(self, patch):
        super().__init__()
        self.patch = patch

    def fold(self, x):
        h, w = x.shape[2:]
        p = self.patch
        rows = torch.arange(math.ceil(h / p) * p).clamp(max=h - 1)
        columns = torch.arange(math.ceil(w / p) * p).clamp(max=w - 1)
        return F.pixel_unshuffle(x[:, :, rows][:, :, :, columns], p)

    def unfold(self, x, size):
        return F.pixel_shuffle(x, self.patch)[..., : size[0], : size[1]]


@a_stem.alternative("pixel by pixel of a patch, no module")
class PatchStem:
    def __init__(self, patch):
        self.patch = patch

    def fold(self, x):
        p = self.patch
        while x.shape[2] % p:
            x = torch.cat([x, x[:, :, -1:]], 2)
        while x.shape[3] % p:
            x = torch.cat([x, x[..., -1:]], 3)
        parts = [x[:, :, i::p, j::p] for i in range(p) for j in range(p)]
        return torch.stack(parts, 2).flatten(1, 2)

    def unfold(self, x, size):
        p = self.patch
        b, c, h, w = x.shape
        out = x.new_zeros(b, c // p**2, h * p, w * p)
        for k in range(p * p):
            out[:, :, k // p :: p, k % p :: p] = x[:, k :: p * p]
        return out[:, :, : size[0], : size[1]]


# 10.7 ---------------------------------------------------------------------------------------------

a_both = Answers("10.7")


@a_both.reference
def batched_cfg(model, x_t, t, cond, null, scale):
    labels = torch.cat([cond, torch.full_like(cond, null)])
    time = torch.cat([t, t]) if isinstance(t, torch.Tensor) and t.ndim else t
    with_label, without = model(torch.cat([x_t, x_t]), time, labels).chunk(2)
    return without + scale * (with_label - without)


def guiding(kind):
    """A ``batched_cfg``, wrong in one way."""

    def batched_cfg(model, x_t, t, cond, null, scale):
        if kind == "two-calls":
            one = model(x_t, t, cond)
            none = model(x_t, t, torch.full_like(cond, null))
            return none + scale * (one - none)
        second = torch.full_like(cond, 0 if kind == "null-as-zero" else null)
        first = torch.full_like(cond, null) if kind == "all-without" else cond
        if kind == "all-with":
            second = cond
        if kind == "null-in-place":
            first = cond.clone()
            cond.fill_(null)
            second = cond
        x = torch.cat([x_t, torch.zeros_like(x_t) if kind == "empty-half" else x_t])
        if kind == "samples-interleaved":
            x = x_t.repeat_interleave(2, 0)
        time = torch.cat([t, t]) if isinstance(t, torch.Tensor) and t.ndim else t
        if isinstance(t, torch.Tensor) and kind == "times-interleaved":
            time = t.repeat_interleave(2)
        if isinstance(t, torch.Tensor) and kind == "one-time-for-all":
            time = t[0]
        answer = model(x, time, torch.cat([first, second]))
        one, none = answer.chunk(2)
        if kind == "answers-interleaved":
            one, none = answer[::2], answer[1::2]
        if kind == "halves-swapped":
            one, none = none, one
        if kind == "other-convention":
            return one + scale * (one - none)
        if kind == "difference-only":
            return scale * (one - none)
        if kind == "label-only":
            return one
        return none + scale * (one - none)

    return batched_cfg


for name, says in (
    ("two-calls", "The prediction is right, but the network is called twice. One call on a batch "
     "of twice the size does the same work with less waiting: half the calls on a GPU's queue, "
     "better use of the cores."),
    ("halves-swapped", "You go from the answer with the label towards the one without: either the "
     "halves are exchanged, or the two in the formula. Guidance then leads *away* from the class."),
    ("other-convention", "You start from the answer with the label and add scale times the "
     "difference: that is the convention with w = scale - 1. Here scale 1 is plain conditional "
     "sampling."),
    ("difference-only", "You return scale times the difference. It is added to the answer without "
     "label."),
    ("label-only", "You return the answer with the label: scale is not used."),
    ("all-with", "Both halves have the labels, so that there is no difference to exaggerate."),
    ("all-without", "Both halves have the label for none. The condition has no effect."),
    ("null-as-zero", "You take 0 for the label for none. 0 is a class; none has a label of its "
     "own, null."),
    ("empty-half", "The second half of the batch is zeros. The question without label is about the "
     "very same x_t."),
    ("times-interleaved", "You repeat each time twice in a row (t0, t0, t1, t1), while x_t stands "
     "there as a whole and then again. Half of the samples get a time that is not theirs."),
    ("samples-interleaved", "You repeat each sample twice in a row (x0, x0, x1, x1), while the "
     "labels stand there as a whole and then again: samples get labels that are not theirs."),
    ("one-time-for-all", "You use the first time for all samples. Each may have its own."),
    ("answers-interleaved", "You take every second row of the answer. The halves stand one after "
     "the other, as you put them in."),
    ("null-in-place", "You overwrite cond with the label for none. Whoever called you still needs "
     "the labels: in the next step all would be without."),
):  # fmt: skip
    a_both.misconception(name, says, defines={"batched_cfg": guiding(name)})(None)


@a_both.alternative("none first, interleaved by repeat")
def batched_cfg(model, x_t, t, cond, null, scale):
    n = len(x_t)
    time = torch.as_tensor(t, dtype=x_t.dtype).expand(n).repeat(2)
    out = model(x_t.repeat(2, *[1] * (x_t.ndim - 1)), time, torch.cat([cond * 0 + null, cond]))
    return scale * out[n:] + (1 - scale) * out[:n]


@a_both.alternative("pairs side by side, by lerp")
def batched_cfg(model, x_t, t, cond, null, scale):
    labels = torch.stack([torch.full_like(cond, null), cond], 1).flatten()
    if torch.is_tensor(t) and t.ndim == 1:
        t = t.repeat_interleave(2)
    out = model(x_t.repeat_interleave(2, 0), t, labels)
    return torch.lerp(out[0::2], out[1::2], scale)


# 10.8 ---------------------------------------------------------------------------------------------

a_codec = Answers("10.8")


@a_codec.reference
class LatentCodec(nn.Module):
    def __init__(self, in_channels=1, latent_channels=4, width=32):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(width, 4 * in_channels, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.register_buffer("scale", torch.ones(()))

    def encode(self, x):
        return self.scale * self.encoder(x)

    def decode(self, z):
        return self.decoder(z / self.scale)

    @torch.no_grad()
    def set_scale(self, x):
        self.scale.copy_(1 / self.encoder(x).std(correction=0))
        return float(self.scale)

    def fit(self, x, steps, generator, batch=64, lr=1e-3):
        optimizer = torch.optim.Adam(self.parameters(), lr)
        losses = []
        for _ in range(steps):
            index = torch.randint(len(x), (batch,), generator=generator)
            loss = F.mse_loss(self.decode(self.encode(x[index])), x[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        self.set_scale(x)
        return losses


def codec(kind):
    """A ``LatentCodec``, wrong in one way."""

    class Wrong(LatentCodec):
        def __init__(self, in_channels=1, latent_channels=4, width=32):
            super().__init__(in_channels, latent_channels, width)
            if kind == "not-saved":
                del self.scale
                self.scale = torch.ones(())

        def encode(self, x):
            z = self.encoder(x)
            if kind == "of-each-batch":
                return z / z.std(correction=0)
            if kind == "divides":
                return z / self.scale
            if kind == "of-each-image":
                return z / z.flatten(1).std(1, correction=0).reshape(-1, 1, 1, 1)
            return z if kind == "never-applied" else self.scale * z

        def decode(self, z):
            if kind == "not-undone":
                return self.decoder(z)
            if kind in ("undone-twice", "divides"):
                return self.decoder(z * self.scale)
            return self.decoder(z / self.scale)

        @torch.no_grad()
        def set_scale(self, x):
            z = self.encode(x) if kind == "of-scaled-codes" else self.encoder(x)
            found = 1 / z.std(correction=0)
            if kind == "inverted":
                found = z.std(correction=0)
            if kind == "variance":
                found = 1 / z.var(correction=0)
            if kind == "about-zero":
                found = 1 / z.square().mean().sqrt()
            if kind == "one-less":
                found = 1 / z.std()
            if kind == "channel-by-channel":
                found = (1 / z.std((0, 2, 3), correction=0)).mean()
            if kind == "of-pixels":
                found = 1 / x.std(correction=0)
            if kind == "not-saved":
                self.scale = found
                return float(found)
            self.scale.copy_(found)
            return float(self.scale)

        def fit(self, x, steps, generator, batch=64, lr=1e-3):
            part = self.decoder if kind == "decoder-only" else self
            optimizer = torch.optim.Adam(part.parameters(), lr)
            losses = []
            if kind == "scale-before":
                self.set_scale(x)
            for _ in range(steps):
                index = torch.randint(
                    len(x), (batch,), generator=None if kind == "generator-unused" else generator
                )
                if kind == "always-all":
                    index = torch.arange(len(x))
                out = self.decode(self.encode(x[index]))
                loss = F.mse_loss(out, x[index])
                if kind == "sum-of-squares":
                    loss = (out - x[index]).square().sum()
                if kind == "absolute":
                    loss = (out - x[index]).abs().mean()
                if kind != "gradients-pile-up":
                    optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            if kind == "of-the-last-batch":
                self.set_scale(x[index])
            elif kind not in ("no-scale-in-fit", "scale-before"):
                self.set_scale(x)
            return losses

    Wrong.__name__ = "LatentCodec"
    return Wrong


def unseeded(got, expected, cases):
    """Every case right but those of fit, whose generator was not touched."""
    from coursework.judge import same_outcome

    for g, e, c in zip(got, expected, cases):
        if c.group != "fit" and not same_outcome(g, e, c.tol):
            return False
        if c.group == "fit":
            if g.status != "ok":
                return False
            fresh = torch.randint(
                10**6, (1,), generator=torch.Generator().manual_seed(c.args[-2].value)
            )
            if not torch.equal(g.value["next draw"], fresh):
                return False
    return True


for name, says in (
    ("inverted", "Your scale is the deviation itself. encode *multiplies* by the scale: for unit "
     "variance it has to be one over the deviation."),
    ("divides", "encode divides by the scale and decode multiplies. The numbers that come back are "
     "right, but the codes get further from unit variance, not nearer."),
    ("of-each-batch", "encode scales by the deviation of the batch that it was just given. The "
     "same image then gets another code in other company, and decode cannot know by what to "
     "divide. One scale, for all, set once."),
    ("of-each-image", "Every image is scaled by its own deviation: what made one code stronger "
     "than another is lost. One scale, for all."),
    ("never-applied", "The scale is set, and encode does not use it."),
    ("not-undone", "decode gives scaled codes to the decoder, which was trained on unscaled ones. "
     "Divide by the scale first."),
    ("undone-twice", "decode multiplies by the scale once more, where it should divide."),
    ("variance", "You divide by the variance. A factor f multiplies the variance by f squared: "
     "one over the deviation is wanted."),
    ("about-zero", "You take the root mean square about zero. The deviation is about the mean of "
     "the codes, which is not zero."),
    ("one-less", "You divide the sum of squares by one less than the count, as std() does by "
     "itself. Stated is correction=0: the codes that are measured are all that there are."),
    ("channel-by-channel", "You measure each channel about its own mean. Asked for is the "
     "deviation of all numbers of all codes together, about one mean."),
    ("of-the-last-batch", "fit sets the scale from the last batch. All of x is asked for: a batch "
     "may be unlike the rest."),
    ("of-pixels", "You measured the deviation of the images. The codes have another one."),
    ("of-scaled-codes", "set_scale measures codes that encode has scaled already. The first time "
     "that is right, the second time the new scale comes out relative to the old one."),
    ("not-saved", "The scale is a plain attribute: it is not in state_dict(), and a codec that is "
     "loaded from a file has a scale of 1. Change the value of the buffer in place."),
    ("no-scale-in-fit", "After fit the scale is still what it was before. Training changed the "
     "codes: set it at the end."),
    ("scale-before", "fit sets the scale before it trains. What training makes of the codes is "
     "what has to have unit variance."),
    ("decoder-only", "Only the decoder is trained: the encoder's weights are not in the "
     "optimiser."),
    ("gradients-pile-up", "Gradients are never set to zero, and each step uses the sum of all so "
     "far."),
    ("always-all", "Every step uses all images. A batch of the size that is asked for is to be "
     "drawn: with thousands of images a step on all of them takes minutes."),
    ("sum-of-squares", "Your loss is the sum of squares. The mean is asked for."),
    ("absolute", "Your loss is the mean absolute error. The mean of squares is asked for."),
):  # fmt: skip
    a_codec.misconception(name, says, defines={"LatentCodec": codec(name)})(None)

a_codec.misconception(
    "generator-unused",
    "The batches do not come from the generator: the same seed gives other batches on each run.",
    detect=unseeded,
    defines={"LatentCodec": codec("generator-unused")},
)(None)


class ByChunks(LatentCodec):
    """The deviation from sums over parts, the scale filled in; division in place of a factor."""

    @torch.no_grad()
    def set_scale(self, x):
        self.scale.fill_(1)
        z = torch.cat([self.encode(part) for part in x.split(2)]).flatten()
        mean = z.mean()
        self.scale.fill_(float((z - mean).square().mean() ** -0.5))
        return self.scale.item()

    def encode(self, x):
        return self.encoder(x).mul(self.scale)


class ByTrainer(LatentCodec):
    """Trains encoder and decoder directly, without the scale between."""

    def fit(self, x, steps, generator, batch=64, lr=1e-3):
        both = [*self.encoder.parameters(), *self.decoder.parameters()]
        adam = torch.optim.Adam(both, lr=lr)
        found = []
        while len(found) < steps:
            some = x[torch.randint(0, len(x), (batch,), generator=generator)]
            gap = self.decoder(self.encoder(some)) - some
            error = gap.pow(2).mean()
            adam.zero_grad(set_to_none=False)
            error.backward()
            adam.step()
            found.append(float(error.detach()))
        self.set_scale(x)
        return found


a_codec.alternative("by parts", defines={"LatentCodec": ByChunks})(None)
a_codec.alternative("encoder and decoder by hand", defines={"LatentCodec": ByTrainer})(None)
