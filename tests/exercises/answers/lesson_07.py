"""Answers of lesson 07: references, named mistakes with what to say about them, alternatives."""

import math
import random
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from coursework.exercise import Answers

a_drop_labels = Answers("07.1")


class Seen:
    """What an answer to 07.1 did, for telling mistakes apart that have no single outcome."""

    def __init__(self, got, cases):
        self.of = {c.name: (o, c.args) for o, c in zip(got, cases)}
        self.shown = {
            name: (o.value, args[0], args[2])
            for name, (o, args) in self.of.items()
            if isinstance(o.value, torch.Tensor)
        }
        seeds = self.of["seeds"][0].value
        self.seeds = seeds if isinstance(seeds, dict) else None

    def whole(self, name):
        """(result, labels, null) of a case, or None where it has no result of the right kind."""
        if name not in self.shown:
            return None
        out, y, null = self.shown[name]
        return (out, y, null) if out.shape == y.shape and out.dtype == y.dtype else None

    def dropped(self, name):
        """Mask of what became null, where all else stayed; None otherwise."""
        found = self.whole(name)
        if found is None:
            return None
        out, y, null = found
        mask = out != y
        return mask if bool((out[mask] == null).all()) else None

    def share(self, name):
        """Share of labels dropped, or NaN."""
        mask = self.dropped(name)
        return math.nan if mask is None else float(mask.double().mean())

    def close(self, name, share):
        """Whether about this share was dropped."""
        return abs(self.share(name) - share) < 0.05

    def p(self, name):
        return self.of[name][1][1]

    def untouched(self):
        return all("0" not in o.mutated for o, _ in self.of.values())

    def right_share(self):
        return self.close(FEW, self.p(FEW)) and self.close(MOST, self.p(MOST))

    def becomes(self, value):
        """Whether what changed became ``value`` and not null, in about the right amount."""
        found = self.whole(FEW)
        if found is None:
            return False
        out, y, _ = found
        changed = out != y
        return bool(changed.any()) and bool((out[changed] == value).all())


FEW, MOST, ONES = "few dropped", "most dropped", "600 batches of one"


@a_drop_labels.reference
def drop_labels(y, p, null, generator=None):
    draw = torch.rand(len(y), generator=generator)
    return torch.where(draw < p, null, y)


@a_drop_labels.misconception(
    "p-swapped",
    "You keep labels with probability p and drop the rest. p is the share that is dropped: with "
    "p = 0.1 nine of ten labels stay.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).close(FEW, 1 - s.p(FEW)) and s.close(MOST, 1 - s.p(MOST))
    ),
)
def drop_labels(y, p, null, generator=None):
    draw = torch.rand(len(y), generator=generator)
    return torch.where(draw < p, y, null)


@a_drop_labels.misconception(
    "all-or-none",
    "One draw decides for the whole batch: all labels go or all stay. Each label is dropped for "
    "itself, so that every batch teaches both tasks.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).share(FEW) in (0.0, 1.0)
        and s.share(MOST) in (0.0, 1.0)
        and 0.0 < s.share(ONES) < 1.0
    ),
)
def drop_labels(y, p, null, generator=None):
    if torch.rand(1, generator=generator) < p:
        return torch.full_like(y, null)
    return y.clone()


@a_drop_labels.misconception(
    "fixed-share",
    "You drop a fixed number of labels, p times the size of the batch, at random places. In a "
    "batch of one this never drops anything, whatever p is. Decide for each label anew.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).right_share()
        and s.share(ONES) in (0.0, 1.0)
        and s.seeds is not None
        and not torch.equal(s.seeds["first"], s.seeds["later"])
        and not bool(s.dropped(FEW)[: int(s.p(FEW) * len(s.dropped(FEW)))].all())
    ),
)
def drop_labels(y, p, null, generator=None):
    chosen = torch.randperm(len(y), generator=generator)[: int(p * len(y))]
    out = y.clone()
    out[chosen] = null
    return out


@a_drop_labels.misconception(
    "first-ones",
    "You drop the first labels of the batch, always the same places. Which labels go must be "
    "decided by chance, each for itself.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).right_share()
        and bool(s.dropped(FEW)[: int(s.p(FEW) * len(s.dropped(FEW)))].all())
    ),
)
def drop_labels(y, p, null, generator=None):
    out = y.clone()
    out[: int(p * len(y))] = null
    return out


@a_drop_labels.misconception(
    "own-randomness",
    "The draws do not come from `generator`, so the same seed gives other labels the second time "
    "and a run cannot be repeated. Hand the generator to the function that draws.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).right_share()
        and s.seeds is not None
        and not torch.equal(s.seeds["first"], s.seeds["again"])
    ),
)
def drop_labels(y, p, null, generator=None):
    keep = [random.random() >= p for _ in y]
    return torch.where(torch.tensor(keep), y, null)


@a_drop_labels.misconception(
    "reseeded",
    "The same places are dropped in every call, because the generator is seeded (or made) inside. "
    "Whoever calls you owns the generator; each call goes on where the last one stopped.",
    detect=lambda got, expected, cases: (
        (s := Seen(got, cases)).right_share()
        and s.share(ONES) in (0.0, 1.0)
        and s.seeds is not None
        and torch.equal(s.seeds["first"], s.seeds["later"])
        and int((s.dropped(FEW)[1:] != s.dropped(FEW)[:-1]).sum()) > 2
    ),
)
def drop_labels(y, p, null, generator=None):
    draw = torch.rand(len(y), generator=torch.Generator().manual_seed(0))
    return torch.where(draw < p, null, y)


@a_drop_labels.misconception(
    "zero-for-null",
    "Dropped labels become 0. That is the first class: the network would learn that class 0 means "
    "anything at all. They have to become `null`.",
    detect=lambda got, expected, cases: Seen(got, cases).becomes(0),
)
def drop_labels(y, p, null, generator=None):
    keep = torch.rand(len(y), generator=generator) >= p
    return y * keep


@a_drop_labels.misconception(
    "minus-one",
    "Dropped labels become -1, a custom of some libraries. Here the label for none is the argument "
    "`null`; an embedding has no row -1.",
    detect=lambda got, expected, cases: Seen(got, cases).becomes(-1),
)
def drop_labels(y, p, null, generator=None):
    keep = torch.rand(len(y), generator=generator) >= p
    return torch.where(keep, y, -1)


@a_drop_labels.misconception(
    "removed",
    "You take the dropped labels out, and the batch is left with fewer labels than images. Every "
    "image keeps its place; its label becomes `null`.",
    detect=lambda got, expected, cases: (
        FEW in (s := Seen(got, cases)).shown and len(s.shown[FEW][0]) < len(s.shown[FEW][1])
    ),
)
def drop_labels(y, p, null, generator=None):
    return y[torch.rand(len(y), generator=generator) >= p]


@a_drop_labels.misconception(
    "float-labels",
    "The labels come back as floating-point numbers. An embedding takes whole numbers only: give "
    "back the dtype of y.",
    detect=lambda got, expected, cases: (
        FEW in (s := Seen(got, cases)).shown and s.shown[FEW][0].is_floating_point()
    ),
)
def drop_labels(y, p, null, generator=None):
    dropped = (torch.rand(len(y), generator=generator) < p).float()
    return (1 - dropped) * y + dropped * null


@a_drop_labels.misconception(
    "in-place",
    "The right labels are dropped, but in y itself. The data set's labels would wear away, epoch "
    "by epoch, until all are null. Write into a copy.",
    detect=lambda got, expected, cases: not Seen(got, cases).untouched(),
)
def drop_labels(y, p, null, generator=None):
    y[torch.rand(len(y), generator=generator) < p] = null
    return y


@a_drop_labels.alternative("bernoulli")
def drop_labels(y, p, null, generator=None):
    dropped = torch.bernoulli(torch.full(y.shape, float(p)), generator=generator).bool()
    return y.masked_fill(dropped, null)


@a_drop_labels.alternative("label by label")
def drop_labels(y, p, null, generator=None):
    out = y.clone()
    for i in range(len(y)):
        if torch.rand((), generator=generator).item() < p:
            out[i] = null
    return out


@a_drop_labels.alternative("float64 draws, kept side")
def drop_labels(y, p, null, generator=None):
    keep = torch.rand(y.shape, generator=generator, dtype=torch.float64) >= p
    return y * keep + null * (~keep)


a_conditioner = Answers("07.2")


@a_conditioner.reference
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.classes = classes
        self.null = classes
        self.rows = nn.Embedding(classes + 1, dim)

    def forward(self, y):
        if y.numel() and (int(y.min()) < 0 or int(y.max()) > self.null):
            raise ValueError(f"labels must be 0 to {self.null}, got {y.tolist()}")
        return self.rows(y)


def _check(y, highest):
    if y.numel() and (int(y.min()) < 0 or int(y.max()) > highest):
        raise ValueError(f"labels must be 0 to {highest}, got {y.tolist()}")


@a_conditioner.misconception(
    "null-is-class-0",
    "The label for none is 0 and shares its row with the first class. Whatever the network learns "
    "about class 0 and about no label lands in one row. None needs a row of its own, the last.",
)
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = 0
        self.rows = nn.Embedding(classes + 1, dim)

    def forward(self, y):
        _check(y, len(self.rows.weight) - 1)
        return self.rows(y)


@a_conditioner.misconception(
    "null-row-first",
    "Row 0 is the one for none and class k has row k + 1. That would work by itself, but here "
    "class k has row k and null, the last, has the last row: weights made by one and read by the "
    "other would be off by one.",
)
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes
        self.rows = nn.Embedding(classes + 1, dim)

    def forward(self, y):
        _check(y, self.null)
        return self.rows(torch.where(y == self.null, 0, y + 1))


@a_conditioner.misconception(
    "no-null-row",
    "There are as many rows as classes, so none has no row of its own and takes that of the last "
    "class. How many different labels are there, with null?",
)
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes
        self.rows = nn.Embedding(classes, dim)

    def forward(self, y):
        _check(y, self.null)
        return self.rows(y.clamp(max=len(self.rows.weight) - 1))


@a_conditioner.misconception(
    "null-off-by-one",
    "You say that null is classes + 1, but rows are counted from 0: the row after those of the "
    "classes has the number `classes`.",
)
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes + 1
        self.rows = nn.Embedding(classes + 2, dim)

    def forward(self, y):
        _check(y, self.null)
        return self.rows(y)


@a_conditioner.misconception(
    "null-not-trained",
    "The null row gets no gradient (padding_idx does that). It is trained like any other: it has "
    "to come to stand for an average over all classes.",
)
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes
        self.rows = nn.Embedding(classes + 1, dim, padding_idx=classes)

    def forward(self, y):
        _check(y, self.null)
        return self.rows(y)


@a_conditioner.misconception(
    "null-is-zero",
    "For null you return zeros instead of its row. Then nothing can be learned for it. Look null "
    "up like any other label.",
)
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes
        self.rows = nn.Embedding(classes + 1, dim)

    def forward(self, y):
        _check(y, self.null)
        return self.rows(y) * (y != self.null)[:, None]


@a_conditioner.misconception(
    "detached",
    "The rows come back cut off from the graph, so no row would ever be trained. Return what the "
    "embedding gives.",
)
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes
        self.rows = nn.Embedding(classes + 1, dim)

    def forward(self, y):
        _check(y, self.null)
        return self.rows.weight.data[y]


@a_conditioner.misconception(
    "labels-unchecked",
    "The rows are right, but a label that does not exist gets no ValueError from you. What torch "
    "says by itself (an IndexError somewhere inside, on a GPU worse) does not name the mistake.",
)
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes
        self.rows = nn.Embedding(classes + 1, dim)

    def forward(self, y):
        return self.rows(y)


@a_conditioner.misconception(
    "negative-labels-pass",
    "A label of -1 passes: indexing a tensor with -1 takes its last row, which is the null row. "
    "The mistake would never show. Refuse labels below 0 as well.",
)
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes
        self.rows = nn.Embedding(classes + 1, dim)

    def forward(self, y):
        if (y > self.null).any():
            raise ValueError(f"labels must be at most {self.null}, got {y.tolist()}")
        return self.rows.weight[y]


@a_conditioner.misconception(
    "null-refused",
    "Your check of the labels refuses null itself. It is a label like the others here: 0 to "
    "classes, both included.",
)
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.classes = self.null = classes
        self.rows = nn.Embedding(classes + 1, dim)

    def forward(self, y):
        if y.numel() and (int(y.min()) < 0 or int(y.max()) >= self.classes):
            raise ValueError(f"labels must be 0 to {self.classes - 1}, got {y.tolist()}")
        return self.rows(y)


@a_conditioner.alternative("indexing the weight")
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.rows = nn.Embedding(classes + 1, dim)
        self.null = self.rows.num_embeddings - 1

    def forward(self, y):
        if any(not 0 <= k <= self.null for k in y.tolist()):
            raise ValueError(f"no such label among {y.tolist()}")
        return self.rows.weight[y]


@a_conditioner.alternative("one-hot times the weight")
class ClassConditioner(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.null = classes
        self.rows = nn.Embedding(classes + 1, dim)

    def forward(self, y):
        if ((y < 0) | (y > self.null)).any():
            raise ValueError(f"labels must be 0 to {self.null}, got {y.tolist()}")
        return F.one_hot(y, self.null + 1).to(self.rows.weight.dtype) @ self.rows.weight


a_cfg = Answers("07.3")


@a_cfg.reference
def cfg(eps_cond, eps_uncond, scale):
    return eps_uncond + scale * (eps_cond - eps_uncond)


@a_cfg.misconception(
    "other-convention",
    "This is the formula of Ho and Salimans, (1 + w) eps_cond - w eps_uncond, with scale put in "
    "for w. It is a right formula for another number: their w is scale - 1. Here scale 1 has to "
    "give eps_cond, and scale 0 eps_uncond.",
)
def cfg(eps_cond, eps_uncond, scale):
    return (1 + scale) * eps_cond - scale * eps_uncond


@a_cfg.misconception(
    "plus-for-minus",
    "You add the two predictions inside the parentheses. What the label changes is their "
    "difference; only that is to be exaggerated.",
)
def cfg(eps_cond, eps_uncond, scale):
    return eps_uncond + scale * (eps_cond + eps_uncond)


@a_cfg.misconception(
    "swapped",
    "The two predictions have changed places: your scale 1 gives the one without a label, and "
    "larger scales push away from the class. Go from eps_uncond towards eps_cond, and past it.",
)
def cfg(eps_cond, eps_uncond, scale):
    return eps_cond + scale * (eps_uncond - eps_cond)


@a_cfg.misconception(
    "scale-plus-one-backwards",
    "You subtract 1 from scale. That turns the scale into the w of the paper, but your formula is "
    "the one that takes the scale itself: at scale 1 yours ignores the label.",
)
def cfg(eps_cond, eps_uncond, scale):
    return eps_uncond + (scale - 1) * (eps_cond - eps_uncond)


@a_cfg.misconception(
    "difference-alone",
    "You return the exaggerated difference without the prediction it starts from. A sampler needs "
    "a whole estimate of the noise.",
)
def cfg(eps_cond, eps_uncond, scale):
    return scale * (eps_cond - eps_uncond)


@a_cfg.misconception(
    "scaled-condition",
    "You multiply eps_cond by scale and then take eps_uncond away once. The weights of the two "
    "have to add up to 1, or the estimate of the noise gets the wrong size: here they add up to "
    "scale - 1.",
)
def cfg(eps_cond, eps_uncond, scale):
    return scale * eps_cond - eps_uncond


@a_cfg.misconception(
    "weighted-mean",
    "This is a weighted mean of the two predictions, which always lies between them. Guidance goes "
    "past eps_cond: one of the two weights is negative.",
)
def cfg(eps_cond, eps_uncond, scale):
    return (scale * eps_cond + eps_uncond) / (scale + 1)


@a_cfg.misconception(
    "back-from-cond",
    "You start at eps_cond with scale - 1, which can be done, but the difference is reversed: you "
    "go back towards eps_uncond instead of on.",
)
def cfg(eps_cond, eps_uncond, scale):
    return eps_cond + (scale - 1) * (eps_uncond - eps_cond)


@a_cfg.misconception(
    "clamped-scale",
    "Scales are cut off at the ends. All scales are allowed: below 1 the label counts less, below "
    "0 one is pushed away from it (a negative prompt is such a thing).",
)
def cfg(eps_cond, eps_uncond, scale):
    return eps_uncond + max(scale, 1.0) * (eps_cond - eps_uncond)


@a_cfg.misconception(
    "in-place",
    "The numbers are right, but a prediction you were given was changed. It may be needed again, "
    "for rescaling for one.",
)
def cfg(eps_cond, eps_uncond, scale):
    eps_cond -= eps_uncond
    eps_cond *= scale
    eps_cond += eps_uncond
    return eps_cond


@a_cfg.alternative("lerp")
def cfg(eps_cond, eps_uncond, scale):
    return torch.lerp(eps_uncond, eps_cond, scale)


@a_cfg.alternative("two weights")
def cfg(eps_cond, eps_uncond, scale):
    return scale * eps_cond + (1 - scale) * eps_uncond


@a_cfg.alternative("the paper's w")
def cfg(eps_cond, eps_uncond, scale):
    w = scale - 1
    return (1 + w) * eps_cond - w * eps_uncond


a_guided_sample = Answers("07.4")


@a_guided_sample.reference
def guided_sample(model, x, y, null, scale, times, step):
    labels = torch.cat([y, torch.full_like(y, null)])
    with torch.no_grad():
        for t, t_next in pairwise(times):
            eps = model(torch.cat([x, x]), t, labels)
            eps_cond, eps_uncond = eps.chunk(2)
            x = step(x, cfg(eps_cond, eps_uncond, scale), t, t_next)
    return x


def _loop(ask, skip_last=False):
    """A sampler that asks ``ask(model, x, t, t_next, y, null, scale, i)`` for the noise."""

    def guided_sample(model, x, y, null, scale, times, step):
        end = len(times) - 2 if skip_last else len(times) - 1
        with torch.no_grad():
            for i in range(end):
                t, t_next = times[i], times[i + 1]
                eps = ask(model, x, t.to(x.dtype), t_next.to(x.dtype), y, null, scale, i)
                x = step(x, eps, t, t_next)
        return x

    return guided_sample


def _both(model, x, t, y, null):
    labels = torch.cat([y, torch.full_like(y, null)])
    return model(torch.cat([x, x]), t.expand(2 * len(x)), labels).chunk(2)


def _wrong(name, says, ask, **more):
    a_guided_sample.misconception(name, says, defines={"guided_sample": _loop(ask, **more)})


def _two_calls(model, x, t, t_next, y, null, scale, i):
    n = len(x)
    eps_cond = model(x, t.expand(n), y)
    return cfg(eps_cond, model(x, t.expand(n), torch.full_like(y, null)), scale)


_wrong(
    "two-calls",
    "The samples are right, but the network is called twice a step. Put both questions into one "
    "batch: a call has a cost of its own, and a larger batch keeps the machine busier.",
    _two_calls,
)


def _labels_beside_the_wrong_rows(model, x, t, t_next, y, null, scale, i):
    labels = torch.cat([y, torch.full_like(y, null)])
    rows = x.repeat_interleave(2, 0)
    return cfg(*model(rows, t.expand(len(rows)), labels).chunk(2), scale)


_wrong(
    "labels-beside-the-wrong-rows",
    "repeat_interleave puts each sample twice in a row, and your labels come half by half: they "
    "stand beside other samples than their own. Join both in the same way, torch.cat([x, x]).",
    _labels_beside_the_wrong_rows,
)


def _step_backwards(model, x, y, null, scale, times, step):
    with torch.no_grad():
        for t, t_next in pairwise(times):
            x = step(x, cfg(*_both(model, x, t.to(x.dtype), y, null), scale), t_next, t)
    return x


a_guided_sample.misconception(
    "step-backwards",
    "t and t_next have changed places in your call of step: it would go from less noise to more. "
    "It is step(x, prediction, t, t_next).",
    defines={"guided_sample": _step_backwards},
)


def _halves_swapped(model, x, t, t_next, y, null, scale, i):
    eps_uncond, eps_cond = _both(model, x, t, y, null)
    return cfg(eps_cond, eps_uncond, scale)


_wrong(
    "halves-swapped",
    "The halves are taken in another order than they were put in: what you call eps_cond is the "
    "answer to the null labels. Cut in the order in which you joined.",
    _halves_swapped,
)


def _null_is_zero(model, x, t, t_next, y, null, scale, i):
    eps_cond, eps_uncond = _both(model, x, t, y, 0)
    return cfg(eps_cond, eps_uncond, scale)


_wrong(
    "null-is-zero",
    "The second half gets the label 0, which is a class. You then push away from class 0 instead "
    "of away from the average. The label for none is `null`.",
    _null_is_zero,
)


def _scale_outside(model, x, t, t_next, y, null, scale, i):
    eps_cond, eps_uncond = _both(model, x, t, y, null)
    return scale * cfg(eps_cond, eps_uncond, 1.0)


_wrong(
    "scale-outside",
    "scale multiplies the whole prediction: you take out scale times as much noise as there is. It "
    "belongs to the difference of the two predictions only.",
    _scale_outside,
)


def _scale_twice(model, x, t, t_next, y, null, scale, i):
    eps_cond, eps_uncond = _both(model, x, t, y, null)
    return cfg(cfg(eps_cond, eps_uncond, scale), eps_uncond, scale)


_wrong(
    "scale-twice",
    "scale is applied twice, once to a prediction and once in cfg. cfg does all that there is to "
    "do; give it the predictions as they are.",
    _scale_twice,
)


def _other_convention(model, x, t, t_next, y, null, scale, i):
    eps_cond, eps_uncond = _both(model, x, t, y, null)
    return cfg(eps_cond, eps_uncond, 1 + scale)


_wrong(
    "other-convention",
    "You sample with the convention of the paper, in which w = 0 is plain conditional sampling: "
    "one step of scale too much. Here it is scale 1.",
    _other_convention,
)


def _no_guidance(model, x, t, t_next, y, null, scale, i):
    return model(x, t.expand(len(x)), y)


_wrong(
    "condition-only",
    "The network is asked with the labels only, and scale has no effect. Guidance needs the answer "
    "without a label as well.",
    _no_guidance,
)


def _next_time(model, x, t, t_next, y, null, scale, i):
    return cfg(*_both(model, x, t_next, y, null), scale)


_wrong(
    "time-of-arrival",
    "The network is told the time of arrival, t_next. x still has the noise of t, and that is what "
    "the network has to know.",
    _next_time,
)


def _right(model, x, t, t_next, y, null, scale, i):
    return cfg(*_both(model, x, t, y, null), scale)


_wrong(
    "stops-early",
    "The last step is missing: the samples are left at the time before the last, with a rest of "
    "noise. n + 1 times make n steps.",
    _right,
    skip_last=True,
)


def _first_step_only(model, x, t, t_next, y, null, scale, i):
    return cfg(*_both(model, x, t, y, null), scale if i == 0 else 1.0)


_wrong(
    "guided-once",
    "Only the first step is guided; from the second on your scale is 1. Guide at every step.",
    _first_step_only,
)


@a_guided_sample.misconception(
    "two-trajectories",
    "You sample twice, with and without labels, and put the two results together at the end. The "
    "two ways part, and their difference means nothing in the end. Both questions are asked about "
    "the same x, at every step.",
)
def guided_sample(model, x, y, null, scale, times, step):
    n = len(x)
    both, labels = torch.cat([x, x]), torch.cat([y, torch.full_like(y, null)])
    with torch.no_grad():
        for t, t_next in pairwise(times):
            both = step(both, model(both, t, labels), t, t_next)
    return cfg(both[:n], both[n:], scale)


@a_guided_sample.misconception(
    "graph-kept",
    "The samples are right, but torch recorded every call for a gradient that nobody will ask "
    "for: memory grows with each step. Sample under torch.no_grad().",
)
def guided_sample(model, x, y, null, scale, times, step):
    labels = torch.cat([y, torch.full_like(y, null)])
    for t, t_next in pairwise(times):
        eps = model(torch.cat([x, x]), t, labels)
        eps_cond, eps_uncond = eps.chunk(2)
        x = step(x, cfg(eps_cond, eps_uncond, scale), t, t_next)
    return x


@a_guided_sample.misconception(
    "detached-at-the-end",
    "The result is data only, but until the last step torch kept the graph of every call: the "
    "memory was used all the same. Let nothing be recorded from the start.",
)
def guided_sample(model, x, y, null, scale, times, step):
    labels = torch.cat([y, torch.full_like(y, null)])
    for t, t_next in pairwise(times):
        eps_cond, eps_uncond = model(torch.cat([x, x]), t, labels).chunk(2)
        x = step(x, cfg(eps_cond, eps_uncond, scale), t, t_next)
    return x.detach()


@a_guided_sample.alternative("detached at every step")
def guided_sample(model, x, y, null, scale, times, step):
    labels = torch.cat([y, torch.full_like(y, null)])
    for t, t_next in pairwise(times):
        eps_cond, eps_uncond = model(torch.cat([x, x]), t, labels).detach().chunk(2)
        x = step(x, cfg(eps_cond, eps_uncond, scale), t, t_next)
    return x


@a_guided_sample.alternative("null half first, plain numbers as times")
def guided_sample(model, x, y, null, scale, times, step):
    n = len(x)
    ts = times.tolist()
    with torch.no_grad():
        for i in range(len(ts) - 1):
            time = torch.full((2 * n,), ts[i], dtype=x.dtype)
            out = model(x.repeat(2, *[1] * (x.ndim - 1)), time, torch.cat([0 * y + null, y]))
            x = step(x, out[:n] + scale * (out[n:] - out[:n]), ts[i], ts[i + 1])
    return x


@a_guided_sample.alternative("guided steps instead of guided noise")
def guided_sample(model, x, y, null, scale, times, step):
    labels = torch.stack([y, torch.full_like(y, null)]).flatten()
    with torch.no_grad():
        for t, t_next in pairwise(times):
            both = torch.cat([x, x])
            there = step(both, model(both, t.to(x), labels), t, t_next)
            x = cfg(*there.tensor_split(2), scale)
    return x


@a_guided_sample.alternative("half the batch where scale is 1")
def guided_sample(model, x, y, null, scale, times, step):
    with torch.no_grad():
        for t, t_next in pairwise(times):
            if scale == 1:
                eps = model(x, t, y)
            else:
                labels = torch.cat([y, torch.full_like(y, null)])
                both = model(torch.cat([x, x]), t, labels)
                eps = cfg(*both.chunk(2), scale)
            x = step(x, eps, t, t_next)
    return x


a_rescale = Answers("07.5")


@a_rescale.reference
def rescale_guidance(guided, cond, phi):
    axes = tuple(range(1, guided.ndim))
    factor = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return phi * factor * guided + (1 - phi) * guided


@a_rescale.misconception(
    "deviation-of-the-batch",
    "You take one deviation over the whole batch. A sample is then rescaled by what its "
    "neighbours happen to be. Each sample has a deviation of its own.",
)
def rescale_guidance(guided, cond, phi):
    factor = cond.std() / guided.std()
    return phi * factor * guided + (1 - phi) * guided


@a_rescale.misconception(
    "deviation-across-samples",
    "You take the deviation along the batch axis, at each place over all samples. What is wanted "
    "is the deviation within each sample, over all axes but the first.",
)
def rescale_guidance(guided, cond, phi):
    factor = cond.std(dim=0, keepdim=True) / guided.std(dim=0, keepdim=True)
    return phi * factor * guided + (1 - phi) * guided


@a_rescale.misconception(
    "deviation-of-rows",
    "You take the deviation along the last axis only: each row of an image gets its own factor, "
    "which changes the picture. Take it over all axes but the first.",
)
def rescale_guidance(guided, cond, phi):
    factor = cond.std(dim=-1, keepdim=True) / guided.std(dim=-1, keepdim=True)
    return phi * factor * guided + (1 - phi) * guided


@a_rescale.misconception(
    "deviation-of-channels",
    "Each channel gets a factor of its own, which shifts colours against each other. Take the "
    "deviation over the channels too.",
)
def rescale_guidance(guided, cond, phi):
    axes = tuple(range(2, guided.ndim))
    factor = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return phi * factor * guided + (1 - phi) * guided


@a_rescale.misconception(
    "images-only",
    "Your axes are those of images, (1, 2, 3). Sound (B, C, L) has no axis 3. Let guided.ndim say "
    "how many there are.",
)
def rescale_guidance(guided, cond, phi):
    axes = (1, 2, 3)
    factor = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return phi * factor * guided + (1 - phi) * guided


@a_rescale.misconception(
    "phi-inverted",
    "phi is the share of the rescaled prediction, and you use it as the share of the other one: "
    "your phi = 0 rescales fully.",
)
def rescale_guidance(guided, cond, phi):
    axes = tuple(range(1, guided.ndim))
    factor = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return (1 - phi) * factor * guided + phi * guided


@a_rescale.misconception(
    "ratio-inverted",
    "Your factor is upside down: what has become too large gets larger still. After it, the "
    "deviation of `guided` should be that of `cond`.",
)
def rescale_guidance(guided, cond, phi):
    axes = tuple(range(1, guided.ndim))
    factor = guided.std(dim=axes, keepdim=True) / cond.std(dim=axes, keepdim=True)
    return phi * factor * guided + (1 - phi) * guided


@a_rescale.misconception(
    "variances",
    "The factor is a ratio of variances. A number multiplied by c has its deviation multiplied by "
    "c and its variance by c squared: take the ratio of deviations.",
)
def rescale_guidance(guided, cond, phi):
    axes = tuple(range(1, guided.ndim))
    factor = cond.var(dim=axes, keepdim=True) / guided.var(dim=axes, keepdim=True)
    return phi * factor * guided + (1 - phi) * guided


@a_rescale.misconception(
    "cond-mixed-in",
    "You mix the rescaled prediction with `cond`. The rest, 1 - phi, is `guided` as it was; with "
    "`cond` you would take the guidance itself back.",
)
def rescale_guidance(guided, cond, phi):
    axes = tuple(range(1, guided.ndim))
    factor = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return phi * factor * guided + (1 - phi) * cond


@a_rescale.misconception(
    "mean-kept",
    "You keep the mean of each sample and rescale only what deviates from it. That is thinkable, "
    "but here (and in the paper) the whole prediction is multiplied by the factor.",
)
def rescale_guidance(guided, cond, phi):
    axes = tuple(range(1, guided.ndim))
    factor = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    mean = guided.mean(dim=axes, keepdim=True)
    return phi * (mean + factor * (guided - mean)) + (1 - phi) * guided


@a_rescale.misconception(
    "phi-unused",
    "You rescale fully, whatever phi is. phi says how much of the rescaled one goes into the "
    "result.",
)
def rescale_guidance(guided, cond, phi):
    axes = tuple(range(1, guided.ndim))
    factor = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return factor * guided


@a_rescale.misconception(
    "in-place",
    "The numbers are right, but `guided` itself was changed. Make a new tensor.",
)
def rescale_guidance(guided, cond, phi):
    axes = tuple(range(1, guided.ndim))
    factor = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return guided.mul_(phi * factor + (1 - phi))


@a_rescale.alternative("sample by sample")
def rescale_guidance(guided, cond, phi):
    return torch.stack(
        [phi * g * (c.std() / g.std()) + (1 - phi) * g for g, c in zip(guided, cond)]
    )


@a_rescale.alternative("flattened, without Bessel's correction")
def rescale_guidance(guided, cond, phi):
    ratio = cond.flatten(1).std(1, correction=0) / guided.flatten(1).std(1, correction=0)
    return guided * (1 + phi * (ratio - 1)).view(-1, *[1] * (guided.ndim - 1))


@a_rescale.alternative("lerp")
def rescale_guidance(guided, cond, phi):
    ratio = cond.flatten(1).std(1) / guided.flatten(1).std(1)
    return torch.lerp(guided, torch.einsum("b,b...->b...", ratio, guided), phi)


a_interval = Answers("07.6")


@a_interval.reference
def guidance_interval(scale, t, lo, hi):
    if isinstance(t, torch.Tensor):
        inside = (t >= lo) & (t <= hi)
        return torch.where(inside, scale, torch.ones_like(t))
    return scale if lo <= t <= hi else 1.0


def _choice(inside, within, without):
    """A wrong guidance_interval: ``within(scale)`` where ``inside``, else ``without(scale)``."""

    def guidance_interval(scale, t, lo, hi):
        mask = inside(t, lo, hi)
        if isinstance(t, torch.Tensor):
            a, b = torch.full_like(t, within(scale)), torch.full_like(t, without(scale))
            return torch.where(mask, a, b)
        return float(within(scale) if bool(mask) else without(scale))

    return guidance_interval


def _between(t, lo, hi):
    return (t >= lo) & (t <= hi) if isinstance(t, torch.Tensor) else lo <= t <= hi


def _wrong_interval(name, says, inside=_between, within=lambda s: s, without=lambda s: 1.0):
    wrong = _choice(inside, within, without)
    a_interval.misconception(name, says, defines={"guidance_interval": wrong})


_wrong_interval(
    "outside-not-inside",
    "Inside and outside have changed places: you guide everywhere but in the interval.",
    within=lambda s: 1.0,
    without=lambda s: s,
)
_wrong_interval(
    "zero-outside",
    "Outside you give 0. In cfg, scale 0 is the prediction without a label: the samples would "
    "forget their class there. No exaggeration is another number.",
    without=lambda s: 0.0,
)
_wrong_interval(
    "zero-one-mask",
    "You return whether t lies inside, 1 or 0. What is wanted is the scale to use: `scale` inside, "
    "and the one that exaggerates nothing outside.",
    within=lambda s: 1.0,
    without=lambda s: 0.0,
)
_wrong_interval(
    "ends-left-out",
    "At t = lo and t = hi you do not guide. Both ends belong to the interval.",
    inside=lambda t, lo, hi: (t > lo) & (t < hi) if isinstance(t, torch.Tensor) else lo < t < hi,
)
_wrong_interval(
    "upper-end-left-out",
    "At t = hi you do not guide, as if the interval were half open. Both ends belong to it.",
    inside=lambda t, lo, hi: (t >= lo) & (t < hi) if isinstance(t, torch.Tensor) else lo <= t < hi,
)
_wrong_interval(
    "lower-end-only",
    "You look at lo only, and go on guiding at all times above, up to pure noise. There guidance "
    "does its harm.",
    inside=lambda t, lo, hi: t >= lo,
)
_wrong_interval(
    "upper-end-only",
    "You look at hi only, and go on guiding at all times below lo.",
    inside=lambda t, lo, hi: t <= hi,
)
_wrong_interval(
    "time-reversed",
    "You read t the other way round, as if 1 were clean data. Here t = 0 is data and t = 1 is "
    "noise; use lo and hi as they come.",
    inside=lambda t, lo, hi: _between(1 - t, lo, hi),
)
_wrong_interval(
    "scale-minus-one",
    "Inside you give scale - 1, the w of the paper. Here the scale itself is wanted.",
    within=lambda s: s - 1,
)


@a_interval.misconception(
    "numbers-only",
    "A single number works, a tensor of times does not: Python's if, and chained comparisons, need "
    "one truth value, and a tensor has one for each sample. Choose element by element.",
)
def guidance_interval(scale, t, lo, hi):
    return scale if lo <= t <= hi else 1.0


@a_interval.misconception(
    "dtype-of-two-numbers",
    "torch.where of two plain numbers is float32, whatever t is. The result is to have the dtype "
    "of t: choose between tensors (torch.full_like(t, ...)), or convert what comes out.",
)
def guidance_interval(scale, t, lo, hi):
    if isinstance(t, torch.Tensor):
        return torch.where((t >= lo) & (t <= hi), scale, 1.0)
    return scale if lo <= t <= hi else 1.0


@a_interval.misconception(
    "one-answer-for-the-batch",
    "One sample inside the interval (or outside) decides for all. With a tensor of times every "
    "sample has its own scale, and the result has the shape of t.",
)
def guidance_interval(scale, t, lo, hi):
    inside = bool(torch.as_tensor((lo <= torch.as_tensor(t)) & (torch.as_tensor(t) <= hi)).any())
    chosen = scale if inside else 1.0
    return torch.full_like(t, chosen) if isinstance(t, torch.Tensor) else chosen


@a_interval.alternative("a mask as a number")
def guidance_interval(scale, t, lo, hi):
    if not isinstance(t, torch.Tensor):
        return 1.0 + (scale - 1.0) * float(lo <= t <= hi)
    return 1 + (scale - 1) * ((t - lo) * (t - hi) <= 0).to(t.dtype)


@a_interval.alternative("two plain numbers, converted")
def guidance_interval(scale, t, lo, hi):
    if isinstance(t, torch.Tensor):
        return torch.where((t >= lo) & (t <= hi), scale, 1.0).to(t.dtype)
    return float(scale) if (t >= lo and t <= hi) else 1.0


@a_interval.alternative("outside overwritten")
def guidance_interval(scale, t, lo, hi):
    if isinstance(t, torch.Tensor):
        return torch.full_like(t, scale).masked_fill((t < lo) | (t > hi), 1.0)
    if t < lo or t > hi:
        return 1.0
    return scale


@a_interval.alternative("one by one")
def guidance_interval(scale, t, lo, hi):
    if isinstance(t, torch.Tensor):
        flat = [guidance_interval(scale, u, lo, hi) for u in t.flatten().tolist()]
        return torch.tensor(flat, dtype=t.dtype).reshape(t.shape)
    return scale if min(max(t, lo), hi) == t else 1.0


a_classifier = Answers("07.7")


@a_classifier.reference
def classifier_guidance(score, classifier_logp, x, y, scale):
    with torch.enable_grad():
        at = x.detach().requires_grad_(True)
        chosen = classifier_logp(at).gather(1, y[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, at)
    return score + scale * gradient


def _gradient(x, value):
    """The gradient at x of ``value(x)``, a number, as the reference takes it."""
    with torch.enable_grad():
        at = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(value(at), at)
    return gradient


@a_classifier.misconception(
    "sign",
    "You go down where you should go up: this is the gradient of the classifier's loss (the "
    "negative log probability). Samples would flee their class.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    return score + scale * _gradient(
        x, lambda at: F.nll_loss(classifier_logp(at), y, reduction="sum")
    )


@a_classifier.misconception(
    "mean-over-the-batch",
    "The gradient is taken of the mean over the batch, so each sample's part is divided by B: the "
    "more samples at once, the weaker the guidance. Take it of the sum.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    return score - scale * _gradient(x, lambda at: F.nll_loss(classifier_logp(at), y))


@a_classifier.misconception(
    "all-classes",
    "You sum the log probabilities of all classes; y has no effect. Each sample is steered by the "
    "entry of its own label.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    return score + scale * _gradient(x, lambda at: classifier_logp(at).sum())


@a_classifier.misconception(
    "everyone's-labels",
    "classifier_logp(x)[:, y] does not pick one entry a sample: it picks the columns of all labels "
    "in y for every sample, (B, B). Each sample is then steered by the labels of the whole batch.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    return score + scale * _gradient(x, lambda at: classifier_logp(at)[:, y].sum())


@a_classifier.misconception(
    "probability-not-log",
    "You differentiate the probability, not its logarithm. Bayes' rule multiplies densities, so "
    "their logarithms add; and where the class is unlikely, the probability is nearly flat and "
    "would steer nothing.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    return score + scale * _gradient(
        x, lambda at: classifier_logp(at).exp().gather(1, y[:, None]).sum()
    )


@a_classifier.misconception(
    "scale-inside",
    "scale went into the probabilities, before a softmax. That is a classifier that is surer of "
    "itself, and where it is sure its gradient fades. Here scale multiplies the gradient.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    return score + _gradient(
        x,
        lambda at: torch.log_softmax(scale * classifier_logp(at), 1).gather(1, y[:, None]).sum(),
    )


@a_classifier.misconception(
    "likeliest-class",
    "You steer each sample to the class that the classifier finds likeliest already, not to the "
    "one asked for in y.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    return score + scale * _gradient(x, lambda at: classifier_logp(at).amax(1).sum())


@a_classifier.misconception(
    "gradient-alone",
    "You return the gradient of the classifier without the score it is added to. The score says "
    "where data lie at all; without it samples run to whatever the classifier likes best.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    return scale * _gradient(x, lambda at: classifier_logp(at).gather(1, y[:, None]).sum())


@a_classifier.misconception(
    "score-scaled-too",
    "scale multiplies the score as well. That sharpens everything; only what the class adds is to "
    "be exaggerated.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    return scale * (
        score + _gradient(x, lambda at: classifier_logp(at).gather(1, y[:, None]).sum())
    )


@a_classifier.misconception(
    "graph-left-open",
    "The numbers are right, but the result still carries a graph (create_graph, or a tensor of "
    "the graph in the sum). A sampler would pile up the graph of every step. Return data only.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    with torch.enable_grad():
        at = x.detach().requires_grad_(True)
        chosen = classifier_logp(at).gather(1, y[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, at, create_graph=True)
        return score + scale * gradient


@a_classifier.misconception(
    "backward-into-the-classifier",
    "backward() writes gradients into every parameter it meets, here into the classifier's, where "
    "they pile up. torch.autograd.grad gives you the one you want and writes none.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_(True)
        classifier_logp(at).gather(1, y[:, None]).sum().backward()
    return score + scale * at.grad


@a_classifier.misconception(
    "x-itself",
    "You set requires_grad on the x that you were given. From then on everything that the sampler "
    "does with it is recorded. Work on a detached copy.",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    with torch.enable_grad():
        x.requires_grad_(True)
        chosen = classifier_logp(x).gather(1, y[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, x)
    return score + scale * gradient


@a_classifier.misconception(
    "fails-in-a-sampler",
    "By itself it works, but samplers run under torch.no_grad(), and there nothing is recorded "
    "that could be differentiated. Turn it on for your part: torch.enable_grad().",
)
def classifier_guidance(score, classifier_logp, x, y, scale):
    at = x.detach().requires_grad_(True)
    chosen = classifier_logp(at).gather(1, y[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, at)
    return score + scale * gradient


@a_classifier.alternative("indexing, and detached at the end")
def classifier_guidance(score, classifier_logp, x, y, scale):
    at = x.clone().detach()
    at.requires_grad = True
    with torch.enable_grad():
        logp = classifier_logp(at)[torch.arange(len(y)), y]
        gradient = torch.autograd.grad(logp, at, torch.ones_like(logp))[0]
    return (score + scale * gradient).detach()


@a_classifier.alternative("cross entropy, turned round")
def classifier_guidance(score, classifier_logp, x, y, scale):
    with torch.enable_grad():
        at = x.detach().requires_grad_(True)
        loss = F.nll_loss(classifier_logp(at), y, reduction="sum")
    return score - scale * torch.autograd.grad(loss, at)[0]


@a_classifier.alternative("torch.func")
def classifier_guidance(score, classifier_logp, x, y, scale):
    def chosen(at):
        return (classifier_logp(at) * F.one_hot(y, classifier_logp(at).shape[1])).sum()

    with torch.enable_grad():
        return score + scale * torch.func.grad(chosen)(x).detach()
