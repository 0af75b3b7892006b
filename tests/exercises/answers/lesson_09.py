"""Answers of lesson 09: references, named mistakes with what to say about them, alternatives."""

import fnmatch
import math

import torch
import torch.nn.functional as F
from torch import nn

from coursework.exercise import Answers

# --- 09.1 ----------------------------------------------------------------------------------

a_subset = Answers("09.1")


def _members(labels, n, generator, places):
    """``places`` members of each class in ascending order, mixed."""
    chosen = []
    for c, k in zip(labels.unique(), places):
        mine = (labels == c).nonzero()[:, 0]
        chosen.append(mine[torch.randperm(len(mine), generator=generator)[: int(k)]])
    return torch.cat(chosen)


def _places(labels, n):
    counts = labels.unique(return_counts=True)[1]
    total = len(labels)
    places, rest = n * counts // total, n * counts % total
    places[rest.argsort(descending=True, stable=True)[: n - int(places.sum())]] += 1
    return places


@a_subset.reference
def stratified_subset(labels, n, generator=None):
    classes, counts = labels.unique(return_counts=True)
    total = len(labels)
    places, rest = n * counts // total, n * counts % total
    left = n - int(places.sum())
    places[rest.argsort(descending=True, stable=True)[:left]] += 1
    chosen = []
    for c, k in zip(classes, places.tolist()):
        members = (labels == c).nonzero()[:, 0]
        chosen.append(members[torch.randperm(len(members), generator=generator)[:k]])
    return torch.cat(chosen)


@a_subset.misconception(
    "imbalance",
    "You draw from all samples alike. On average each class gets its share, but a single subset "
    "may have twice as many of one class as of another, and with few samples it does. Draw within "
    "each class.",
)
def stratified_subset(labels, n, generator=None):
    return torch.randperm(len(labels), generator=generator)[:n]


@a_subset.misconception(
    "the-same-of-each",
    "Every class gets equally many. Asked for is its share: a class that is rare in the data is "
    "rare in the subset.",
)
def stratified_subset(labels, n, generator=None):
    counts = labels.unique(return_counts=True)[1]
    places = torch.full_like(counts, n // len(counts))
    places[: n % len(counts)] += 1
    return _members(labels, n, generator, places)


@a_subset.misconception(
    "left-over-places-forgotten",
    "Shares are cut off to whole numbers, and what was cut off is lost: the subset is smaller than "
    "n. Somebody has to get the places that are left.",
)
def stratified_subset(labels, n, generator=None):
    counts = labels.unique(return_counts=True)[1]
    return _members(labels, n, generator, n * counts // len(labels))


@a_subset.misconception(
    "left-over-places-to-the-first",
    "The places that are left go to the first classes. They belong to those that lost most when "
    "their shares were cut off.",
)
def stratified_subset(labels, n, generator=None):
    counts = labels.unique(return_counts=True)[1]
    places = n * counts // len(labels)
    places[: n - int(places.sum())] += 1
    return _members(labels, n, generator, places)


@a_subset.misconception(
    "rounded",
    "Each share is rounded by itself. The sum of rounded shares is n by luck only.",
)
def stratified_subset(labels, n, generator=None):
    counts = labels.unique(return_counts=True)[1].double()
    return _members(labels, n, generator, (n * counts / len(labels)).round().long())


@a_subset.misconception(
    "replacement",
    "Members are drawn with replacement: some are chosen twice, and the model gets fewer different "
    "samples than you count.",
)
def stratified_subset(labels, n, generator=None):
    chosen = []
    for c, k in zip(labels.unique(), _places(labels, n).tolist()):
        mine = (labels == c).nonzero()[:, 0]
        chosen.append(mine[torch.randint(len(mine), (k,), generator=generator)])
    return torch.cat(chosen)


@a_subset.misconception(
    "not-deterministic",
    "The generator is not used, so that the same seed gives another subset each time, and nobody "
    "can repeat your experiment.",
)
def stratified_subset(labels, n, generator=None):
    return _members(labels, n, None, _places(labels, n))


@a_subset.misconception(
    "the-first-of-each",
    "You take the first members of each class. Every seed gets the same subset, and its spread "
    "says nothing about the choice of samples, which is what matters most when they are few.",
)
def stratified_subset(labels, n, generator=None):
    chosen = [(labels == c).nonzero()[:k, 0]
              for c, k in zip(labels.unique(), _places(labels, n).tolist())]  # fmt: skip
    return torch.cat(chosen)


@a_subset.misconception(
    "ties-to-the-larger-label",
    "Where fractions are equal, yours gives the place to the larger label. The smaller one goes "
    "first. (argsort does not promise an order among equals: stable=True does.)",
)
def stratified_subset(labels, n, generator=None):
    counts = labels.unique(return_counts=True)[1]
    places, lost = n * counts // len(labels), n * counts % len(labels)
    last_first = lost.flip(0).argsort(descending=True, stable=True)
    places[len(counts) - 1 - last_first[: n - int(places.sum())]] += 1
    return _members(labels, n, generator, places)


@a_subset.alternative("by counting on")
def stratified_subset(labels, n, generator=None):
    from fractions import Fraction

    values = labels.tolist()
    kinds = sorted(set(values))
    fair = {c: Fraction(n * values.count(c), len(values)) for c in kinds}
    places = {c: int(fair[c]) for c in kinds}
    while sum(places.values()) < n:
        places[max(kinds, key=lambda c: (fair[c] - places[c], -c))] += 1
    order = torch.randperm(len(values), generator=generator).tolist()
    chosen = []
    for i in order:
        if places[values[i]]:
            places[values[i]] -= 1
            chosen.append(i)
    return torch.tensor(chosen)


@a_subset.alternative("by random keys")
def stratified_subset(labels, n, generator=None):
    classes, inverse, counts = labels.unique(return_inverse=True, return_counts=True)
    fair = n * counts
    places = torch.div(fair, len(labels), rounding_mode="floor")
    rest = fair - places * len(labels)
    for k in sorted(range(len(classes)), key=lambda k: (-int(rest[k]), k))[: n - int(places.sum())]:
        places[k] += 1
    keys = torch.rand(len(labels), generator=generator, dtype=torch.float64) + inverse
    order = keys.argsort()
    starts = counts.cumsum(0) - counts
    return torch.cat([order[s : s + p] for s, p in zip(starts.tolist(), places.tolist())]).sort()[0]


# --- 09.2 ----------------------------------------------------------------------------------

a_affine = Answers("09.2")


def _matrices(u, rotate, scale, shear, radians=math.radians, linear=False, tan=torch.tan):
    """R K s of each row of u. radians: of both angles, or one function for each."""
    of_turn, of_slant = radians if isinstance(radians, tuple) else (radians, radians)
    turn, slant = of_turn(rotate) * u[:, 0], tan(of_slant(shear) * u[:, 4])
    size = 1 + scale * u[:, 1] if linear else (1 + scale) ** u[:, 1]
    c, s = turn.cos(), turn.sin()
    m = torch.stack([c, c * slant - s, s, s * slant + c], 1).reshape(-1, 2, 2)
    return m * size[:, None, None]


def _sampled(x, back, offset, fill, mode="zeros", align=False, grey=False):
    """x seen through maps in pixels: out(p) = x(back p + offset)."""
    half = torch.tensor([x.shape[3] / 2, x.shape[2] / 2], dtype=x.dtype)
    theta = torch.cat([back * half / half[:, None], offset / half[:, None]], 2).to(x.dtype)
    grid = F.affine_grid(theta, list(x.shape), align_corners=align)
    base = 0.0 if grey else fill
    return F.grid_sample(x - base, grid, padding_mode=mode, align_corners=align) + base


def _draw(x, generator, rotate, scale, shift, shear, rows=None):
    u = 2 * torch.rand(rows or len(x), 5, generator=generator) - 1
    u = u.expand(len(x), 5) * (torch.tensor([rotate, scale, shift, shift, shear]) != 0)
    return u, u.to(x.dtype)


def _move(u, shift):
    return shift * u[:, 2:4, None]


@a_affine.reference
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    import math

    import torch.nn.functional as F

    u = 2 * torch.rand(len(x), 5, generator=generator) - 1
    u = u * (torch.tensor([rotate, scale, shift, shift, shear]) != 0)
    a = math.radians(rotate) * u[:, 0].to(x.dtype)
    k = torch.tan(math.radians(shear) * u[:, 4].to(x.dtype))
    s = (1 + scale) ** u[:, 1].to(x.dtype)
    forward = torch.stack([a.cos(), a.cos() * k - a.sin(), a.sin(), a.sin() * k + a.cos()], 1)
    back = torch.linalg.inv(forward.reshape(-1, 2, 2) * s[:, None, None])
    move = shift * u[:, 2:4, None].to(x.dtype)
    half = torch.tensor([x.shape[3] / 2, x.shape[2] / 2], dtype=x.dtype)
    theta = torch.cat([back * half / half[:, None], -(back @ move) / half[:, None]], 2)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x - fill, grid, align_corners=False) + fill, u


@a_affine.misconception(
    "one-for-the-batch",
    "All images of the batch are altered alike. Each image gets amounts of its own, or a batch has "
    "one angle where it could have as many as images.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear, rows=1)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    return _sampled(x, back, -(back @ _move(u, shift)), fill), told


@a_affine.misconception(
    "wraps",
    "What leaves at one edge comes in at the other. Outside of the image there is only fill.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    h, w = x.shape[2:]
    out = _sampled_on(x.repeat(1, 1, 5, 5), back, -(back @ _move(u, shift)), h, w)
    return out, told


def _sampled_on(big, back, offset, h, w):
    """The middle (h, w) of an image of copies, seen through maps in pixels."""
    rows = torch.arange(h, dtype=big.dtype) - (h - 1) / 2
    columns = torch.arange(w, dtype=big.dtype) - (w - 1) / 2
    p = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(1, h * w, 2, 1)
    q = (back[:, None] @ p + offset[:, None])[..., 0].reshape(len(big), h, w, 2)
    half = torch.tensor([big.shape[3] / 2, big.shape[2] / 2], dtype=big.dtype)
    return F.grid_sample(big, q / half, align_corners=False)


@a_affine.misconception(
    "edges-drawn-out",
    "Pixels of the edge are repeated outwards (padding_mode='border'). What comes in from outside "
    "should be fill.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    return _sampled(x, back, -(back @ _move(u, shift)), fill, mode="border"), told


@a_affine.misconception(
    "resamples-twice",
    "The images are resampled once for the matrix and again for the move. Each time neighbours are "
    "mixed, so that they get blurred twice, and what left the image in between is lost. Put all "
    "of it into one map.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    m = _matrices(u, rotate, scale, shear)
    out = _sampled(x, torch.linalg.inv(m), torch.zeros(len(x), 2, 1, dtype=x.dtype), fill)
    same = torch.eye(2, dtype=x.dtype).expand(len(x), 2, 2)
    return _sampled(out, same, -_move(u, shift), fill), told


@a_affine.misconception(
    "grey-outside",
    "Outside of the image you have 0, which grid_sample puts there: grey, in [-1, 1]. The model "
    "would learn grey corners.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    return _sampled(x, back, -(back @ _move(u, shift)), fill, grey=True), told


@a_affine.misconception(
    "the-wrong-way",
    "The map goes the wrong way. grid_sample asks, for each pixel of the result, where it comes "
    "from; yours says where it goes. So all turns, sizes and moves are undone instead of done.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    return _sampled(x, _matrices(u, rotate, scale, shear), _move(u, shift), fill), told


@a_affine.misconception(
    "degrees",
    "sin, cos and tan take radians, and get degrees here.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear, radians=float))
    return _sampled(x, back, -(back @ _move(u, shift)), fill), told


@a_affine.misconception(
    "square-units",
    "The matrix is used in affine_grid's units as it is. In these every image is 2 wide and 2 "
    "high, so that one that is not square gets squeezed while it turns. Change units before and "
    "after.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    half = torch.tensor([x.shape[3] / 2, x.shape[2] / 2], dtype=x.dtype)
    theta = torch.cat([back, -(back @ (_move(u, shift) / half[:, None]))], 2)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x - fill, grid, align_corners=False) + fill, told


@a_affine.misconception(
    "moved-first",
    "Images are moved first and turned afterwards, so that the move is turned, resized and slanted "
    "with them. d comes last: R K s p + d.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    return _sampled(x, back, -_move(u, shift), fill), told


@a_affine.misconception(
    "corners-aligned",
    "With align_corners=True the middle of a corner pixel counts as the corner of the image: the "
    "units are then 2 / (W - 1), and yours are 2 / W.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    return _sampled(x, back, -(back @ _move(u, shift)), fill, align=True), told


@a_affine.misconception(
    "size-not-a-power",
    "The size is 1 + scale * u. Then the largest image is 1 + scale times as large, but the "
    "smallest is not smaller by the same factor. A power of u does both.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear, linear=True))
    return _sampled(x, back, -(back @ _move(u, shift)), fill), told


@a_affine.misconception(
    "told-what-was-not-done",
    "Images are right, but amounts are told where a limit is zero and nothing was done. To the "
    "network that is noise.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    u = 2 * torch.rand(len(x), 5, generator=generator) - 1
    v = u.to(x.dtype)
    back = torch.linalg.inv(_matrices(v, rotate, scale, shear))
    return _sampled(x, back, -(back @ _move(v, shift)), fill), u


@a_affine.misconception(
    "not-from-the-generator",
    "The draw does not use the generator, so that the same seed gives other images.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, None, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    return _sampled(x, back, -(back @ _move(u, shift)), fill), told


@a_affine.misconception(
    "amounts-from-0-to-1",
    "The amounts lie in [0, 1): everything is turned one way only, and moved right and down only. "
    "2 u - 1 reaches both ways.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    u = torch.rand(len(x), 5, generator=generator)
    u = u * (torch.tensor([rotate, scale, shift, shift, shear]) != 0)
    v = u.to(x.dtype)
    back = torch.linalg.inv(_matrices(v, rotate, scale, shear))
    return _sampled(x, back, -(back @ _move(v, shift)), fill), u


@a_affine.misconception(
    "not-inverted",
    "The move is right, but the matrix is used as it is. grid_sample asks where each pixel of the "
    "result comes from, so it wants the inverse of R K s: yours turns and slants the other way, "
    "and makes smaller what should grow.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    m = _matrices(u, rotate, scale, shear)
    return _sampled(x, m, -(m @ _move(u, shift)), fill), told


@a_affine.misconception(
    "turned-the-other-way",
    "Images are turned the other way. Rows count downwards here: with R as it is given, a positive "
    "angle turns to the right. Look at the signs of the two sines, and whether they have been "
    "changed once or twice.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, -rotate, scale, shear))
    return _sampled(x, back, -(back @ _move(u, shift)), fill), told


@a_affine.misconception(
    "one-angle-in-degrees",
    "cos and sin take radians, and get the turn in degrees here. The slant is right.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    kinds = float, math.radians
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear, radians=kinds))
    return _sampled(x, back, -(back @ _move(u, shift)), fill), told


@a_affine.misconception(
    "slant-without-its-tangent",
    "K holds the angle of the slant itself. It wants k = tan of that angle: the two are alike for "
    "small angles only.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear, tan=torch.clone))
    return _sampled(x, back, -(back @ _move(u, shift)), fill), told


@a_affine.misconception(
    "slanted-last",
    "Turned first and slanted afterwards: K R. In R K the slant stands next to p: it comes first.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    turned = _matrices(u, rotate, scale, 0.0)
    slanted = _matrices(u, 0.0, 0.0, shear)
    back = torch.linalg.inv(slanted @ turned)
    return _sampled(x, back, -(back @ _move(u, shift)), fill), told


@a_affine.misconception(
    "moved-in-pixels",
    "The matrix is in affine_grid's units, but the move is still in pixels. In these units a pixel "
    "is 2 / W wide and 2 / H high, so that your images leave the frame.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    half = torch.tensor([x.shape[3] / 2, x.shape[2] / 2], dtype=x.dtype)
    return _sampled(x, back, -(back @ _move(u, shift)) * half[:, None], fill), told


@a_affine.misconception(
    "matrix-in-square-units",
    "The move is in affine_grid's units, but the matrix is used there as it is. In these units "
    "every image is 2 wide and 2 high, so that one that is not square is squeezed as it turns. "
    "Change units on both sides of the matrix.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    half = torch.tensor([x.shape[3] / 2, x.shape[2] / 2], dtype=x.dtype)
    theta = torch.cat([back, -(back @ _move(u, shift)) / half[:, None]], 2)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x - fill, grid, align_corners=False) + fill, told


@a_affine.misconception(
    "right-and-down-swapped",
    "Column 2 moves down in yours, and column 3 to the right. A point is (right, down) here, "
    "though the shape of an image names its height first.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    return _sampled(x, back, -(back @ _move(u, shift).flip(1)), fill), told


@a_affine.misconception(
    "told-in-degrees-and-pixels",
    "Images are right. But what is told are angles, factors and pixels; asked for are the shares "
    "of the limits, u, between -1 and 1: numbers of one size are what a network takes easily.",
)
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    back = torch.linalg.inv(_matrices(u, rotate, scale, shear))
    limits = torch.tensor([rotate, scale, shift, shift, shear])
    return _sampled(x, back, -(back @ _move(u, shift)), fill), told * limits


@a_affine.alternative("a grid of one's own")
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    h, w = x.shape[2:]
    rows, columns = torch.meshgrid(
        torch.arange(h, dtype=x.dtype) - (h - 1) / 2,
        torch.arange(w, dtype=x.dtype) - (w - 1) / 2,
        indexing="ij",
    )
    out = []
    for image, amount in zip(x, u):
        m = _matrices(amount[None], rotate, scale, shear)[0]
        px, py = columns - shift * amount[2], rows - shift * amount[3]
        det = m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]
        qx = (m[1, 1] * px - m[0, 1] * py) / det
        qy = (m[0, 0] * py - m[1, 0] * px) / det
        grid = torch.stack([2 * qx / w, 2 * qy / h], -1)[None]
        out.append(F.grid_sample(image[None] - fill, grid, align_corners=False) + fill)
    return torch.cat(out), told


@a_affine.alternative("one matrix of three rows")
def random_affine(x, generator=None, rotate=10.0, scale=0.1, shift=2.0, shear=0.0, fill=-1.0):
    told, u = _draw(x, generator, rotate, scale, shift, shear)
    h, w = x.shape[2:]
    full = torch.eye(3, dtype=x.dtype).repeat(len(x), 1, 1)
    full[:, :2, :2] = _matrices(u, rotate, scale, shear)
    full[:, :2, 2] = shift * u[:, 2:4]
    units = torch.diag(torch.tensor([2 / w, 2 / h, 1.0], dtype=x.dtype))
    theta = units @ torch.linalg.inv(full) @ torch.linalg.inv(units)
    grid = F.affine_grid(theta[:, :2], x.size(), align_corners=False)
    mask = F.grid_sample(torch.ones_like(x), grid, align_corners=False)
    return F.grid_sample(x, grid, align_corners=False) + fill * (1 - mask), told


# --- 09.3 ----------------------------------------------------------------------------------

a_told = Answers("09.3")


@a_told.reference
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    if not training:
        return x, torch.zeros(len(x), 5)
    changed, amounts = random_affine(x, generator, **limits)
    on = torch.rand(len(x), generator=generator) < share
    return torch.where(on[:, None, None, None], changed, x), amounts * on[:, None]


@a_told.misconception(
    "altered-at-sampling",
    "training=False changes nothing in yours. While sampling, the network has to be told zeros, "
    "which mean 'as the data are'; told anything else, it draws altered images.",
)
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    changed, amounts = random_affine(x, generator, **limits)
    on = torch.rand(len(x), generator=generator) < share
    return torch.where(on[:, None, None, None], changed, x), amounts * on[:, None]


@a_told.misconception(
    "altered-at-sampling-and-not-told",
    "While sampling you tell zeros, as you should, but still alter the images.",
)
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    changed, amounts = random_affine(x, generator, **limits)
    on = torch.rand(len(x), generator=generator) < share
    images = torch.where(on[:, None, None, None], changed, x)
    return images, amounts * on[:, None] * training


@a_told.misconception(
    "drawn-at-sampling",
    "Results are right, but while sampling something is drawn from the generator, though nothing "
    "is altered: the noise that comes next is another one.",
)
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    changed, amounts = random_affine(x, generator, **limits)
    on = (torch.rand(len(x), generator=generator) < share) & training
    return torch.where(on[:, None, None, None], changed, x), amounts * on[:, None]


@a_told.misconception(
    "told-of-images-that-were-left-alone",
    "Images that stay as they are have amounts other than zero: the network learns that zeros "
    "never come, and that amounts mean nothing.",
)
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    if not training:
        return x, torch.zeros(len(x), 5)
    changed, amounts = random_affine(x, generator, **limits)
    on = torch.rand(len(x), generator=generator) < share
    return torch.where(on[:, None, None, None], changed, x), amounts


@a_told.misconception(
    "all-altered",
    "All images are altered, and some are told to be as they were. The network learns to draw "
    "altered images when it is told zeros: the alteration leaks.",
)
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    if not training:
        return x, torch.zeros(len(x), 5)
    changed, amounts = random_affine(x, generator, **limits)
    on = torch.rand(len(x), generator=generator) < share
    return changed, amounts * on[:, None]


@a_told.misconception(
    "share-inverted",
    "An image is altered where the draw is not below share: share is then the part that stays as "
    "it is.",
)
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    if not training:
        return x, torch.zeros(len(x), 5)
    changed, amounts = random_affine(x, generator, **limits)
    on = torch.rand(len(x), generator=generator) >= share
    return torch.where(on[:, None, None, None], changed, x), amounts * on[:, None]


@a_told.misconception(
    "one-coin-for-the-batch",
    "One draw decides for the whole batch. Each image gets its own.",
)
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    if not training:
        return x, torch.zeros(len(x), 5)
    changed, amounts = random_affine(x, generator, **limits)
    on = torch.rand(1, generator=generator) < share
    return torch.where(on[:, None, None, None], changed, x), amounts * on[:, None]


@a_told.misconception(
    "limits-not-passed-on",
    "limits do not reach random_affine, which takes its own.",
)
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    if not training:
        return x, torch.zeros(len(x), 5)
    changed, amounts = random_affine(x, generator)
    on = torch.rand(len(x), generator=generator) < share
    return torch.where(on[:, None, None, None], changed, x), amounts * on[:, None]


@a_told.misconception(
    "coins-before-amounts",
    "You draw first which images are altered, and then the amounts. The other order is stated: "
    "random_affine for all, then one torch.rand.",
)
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    if not training:
        return x, torch.zeros(len(x), 5)
    on = torch.rand(len(x), generator=generator) < share
    changed, amounts = random_affine(x, generator, **limits)
    return torch.where(on[:, None, None, None], changed, x), amounts * on[:, None]


@a_told.misconception(
    "amounts-for-the-chosen-only",
    "You draw amounts only for the images that are altered. They are stated to be drawn for all of "
    "them, and before it is drawn who is altered.",
)
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    images, told = x.clone(), torch.zeros(len(x), 5)
    if training:
        on = torch.rand(len(x), generator=generator) < share
        if on.any():
            images[on], told[on] = random_affine(x[on], generator, **limits)
    return images, told


@a_told.alternative("by index")
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    images, told = x.clone(), torch.zeros(x.shape[0], 5)
    if training:
        changed, amounts = random_affine(x, generator=generator, **limits)
        chosen = (torch.rand(x.shape[0], generator=generator) < share).nonzero()[:, 0]
        images[chosen], told[chosen] = changed[chosen], amounts[chosen]
    return images, told


@a_told.alternative("one by one")
def augment_conditioned(x, generator=None, share=0.5, training=True, **limits):
    if not training:
        return x.clone(), x.new_zeros(len(x), 5, dtype=torch.float32)
    changed, amounts = random_affine(x, generator, **limits)
    draws = torch.rand(len(x), generator=generator).tolist()
    pairs = [(c, a) if u < share else (o, 0 * a) for c, a, o, u in zip(changed, amounts, x, draws)]
    return torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])


# --- 09.4 ----------------------------------------------------------------------------------

a_freeze = Answers("09.4")


def _matched(model, patterns, match=fnmatch.fnmatchcase):
    """Parameters that match, each once; ValueError for a pattern without any."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    found = {}
    for pattern in patterns:
        mine = [p for n, p in model.named_parameters(remove_duplicate=False) if match(n, pattern)]
        if not mine:
            raise ValueError(f"{pattern!r} matches nothing")
        found.update((id(p), p) for p in mine)
    return list(found.values())


def _stop(parameters, clear=True):
    for p in parameters:
        p.requires_grad_(False)
        if clear:
            p.grad = None


def _evaluate(module, inputs):
    module.eval()


def _stop_norms(model, hold=True, partly=False, kind=nn.BatchNorm1d):
    for module in model.modules():
        own = [p.requires_grad for p in module.parameters(recurse=False)]
        if isinstance(module, kind) and own and not (all(own) if partly else any(own)):
            module.eval()
            if hold:
                module.register_forward_pre_hook(_evaluate)


@a_freeze.reference
def freeze(model, patterns):
    patterns = [patterns] if isinstance(patterns, str) else patterns
    frozen = {}
    for pattern in patterns:
        named = model.named_parameters(remove_duplicate=False)
        found = [p for name, p in named if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            raise ValueError(f"the pattern {pattern!r} matches no parameter")
        frozen.update((id(p), p) for p in found)
    for p in frozen.values():
        p.requires_grad_(False)
        p.grad = None

    def stay(module, inputs):
        module.eval()

    for module in model.modules():
        own = list(module.parameters(recurse=False))
        keeps = getattr(module, "track_running_stats", False)
        if keeps and own and not any(p.requires_grad for p in own):
            module.register_forward_pre_hook(stay)
    return sum(p.numel() for p in frozen.values())


@a_freeze.misconception(
    "parameters-counted",
    "You count parameters, as tensors. How many numbers are frozen says more: a bias of 4 and a "
    "matrix of a million are both one tensor.",
)
def freeze(model, patterns):
    frozen = _matched(model, patterns)
    _stop(frozen)
    _stop_norms(model)
    return len(frozen)


@a_freeze.misconception(
    "the-rest-counted",
    "What is returned is how many numbers still learn; how many do not is asked for.",
)
def freeze(model, patterns):
    _stop(_matched(model, patterns))
    _stop_norms(model)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@a_freeze.misconception(
    "shared-counted-twice",
    "A weight that two layers share is counted twice, or is not found under its second name. "
    "named_parameters(remove_duplicate=False) has all names; count each tensor once.",
)
def freeze(model, patterns):
    patterns = [patterns] if isinstance(patterns, str) else patterns
    _stop(_matched(model, patterns))
    _stop_norms(model)
    return sum(p.numel() for name, p in model.named_parameters(remove_duplicate=False)
               if not p.requires_grad)  # fmt: skip


@a_freeze.misconception(
    "part-of-a-name",
    "You look for the pattern inside the name, without the meaning of *. 'weight' is no pattern "
    "for '0.weight', and '0.*' is one.",
)
def freeze(model, patterns):
    def inside(name, pattern):
        return pattern.strip("*") in name

    frozen = _matched(model, patterns, inside)
    _stop(frozen)
    _stop_norms(model)
    return sum(p.numel() for p in frozen)


@a_freeze.misconception(
    "old-gradients-left",
    "requires_grad is off, but the gradient of the last step is still there. An optimizer that was "
    "built before goes on moving the weights along it.",
)
def freeze(model, patterns):
    frozen = _matched(model, patterns)
    _stop(frozen, clear=False)
    _stop_norms(model)
    return sum(p.numel() for p in frozen)


@a_freeze.misconception(
    "statistics-still-move",
    "A frozen BatchNorm still averages what it sees: its running mean and variance are buffers, "
    "which requires_grad does not stop. And in training mode it normalises by the batch.",
)
def freeze(model, patterns):
    frozen = _matched(model, patterns)
    _stop(frozen)
    return sum(p.numel() for p in frozen)


@a_freeze.misconception(
    "evaluation-mode-does-not-last",
    "You put the frozen BatchNorm into evaluation mode once. The next model.train() takes it out "
    "again, and every training step begins with one.",
)
def freeze(model, patterns):
    frozen = _matched(model, patterns)
    _stop(frozen)
    _stop_norms(model, hold=False)
    return sum(p.numel() for p in frozen)


@a_freeze.misconception(
    "half-frozen-norms-stopped",
    "A BatchNorm of which only a part is frozen stops keeping its statistics. It still learns, so "
    "leave it in training.",
)
def freeze(model, patterns):
    frozen = _matched(model, patterns)
    _stop(frozen)
    _stop_norms(model, partly=True)
    return sum(p.numel() for p in frozen)


@a_freeze.misconception(
    "every-frozen-layer-stopped",
    "Every frozen layer goes into evaluation mode. Only those that keep statistics have to: "
    "another one may do in training what it is there for, such as drop or scale.",
)
def freeze(model, patterns):
    frozen = _matched(model, patterns)
    _stop(frozen)
    _stop_norms(model, kind=nn.Module)
    return sum(p.numel() for p in frozen)


@a_freeze.misconception(
    "nothing-matched-and-nothing-said",
    "A pattern that matches nothing passes in silence. It is nearly always a slip of the pen, and "
    "then a whole training is spent before somebody notices: raise ValueError.",
)
def freeze(model, patterns):
    patterns = [patterns] if isinstance(patterns, str) else patterns
    frozen = {id(p): p for n, p in model.named_parameters(remove_duplicate=False)
              if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)}  # fmt: skip
    _stop(frozen.values())
    _stop_norms(model)
    return sum(p.numel() for p in frozen.values())


@a_freeze.misconception(
    "second-names-not-seen",
    "named_parameters() gives a shared weight under its first name only, so that a pattern for its "
    "second name misses it. remove_duplicate=False has all names.",
)
def freeze(model, patterns):
    patterns = [patterns] if isinstance(patterns, str) else patterns
    frozen = {}
    for pattern in patterns:
        mine = [p for n, p in model.named_parameters() if fnmatch.fnmatchcase(n, pattern)]
        if not mine:
            raise ValueError(f"{pattern!r} matches nothing")
        frozen.update((id(p), p) for p in mine)
    _stop(frozen.values())
    _stop_norms(model)
    return sum(p.numel() for p in frozen.values())


@a_freeze.misconception(
    "counted-once-a-pattern",
    "A parameter that two patterns match is counted twice. Count each tensor once.",
)
def freeze(model, patterns):
    patterns = [patterns] if isinstance(patterns, str) else patterns
    _stop(_matched(model, patterns))
    _stop_norms(model)
    return sum(p.numel() for pattern in patterns for p in _matched(model, pattern))


@a_freeze.misconception(
    "all-that-is-frozen-counted",
    "You count everything that does not learn, also what was frozen before. Asked for is what "
    "these patterns match.",
)
def freeze(model, patterns):
    _stop(_matched(model, patterns))
    _stop_norms(model)
    return sum(p.numel() for p in model.parameters() if not p.requires_grad)


@a_freeze.misconception(
    "frozen-before-forgotten",
    "You look only at what this call freezes. A normalisation layer of which another call froze "
    "the rest is frozen as a whole now, and has to stay in evaluation mode too.",
)
def freeze(model, patterns):
    frozen = _matched(model, patterns)
    _stop(frozen)
    mine = {id(p) for p in frozen}
    for module in model.modules():
        own = [id(p) for p in module.parameters(recurse=False)]
        if isinstance(module, nn.BatchNorm1d) and own and mine.issuperset(own):
            module.register_forward_pre_hook(_evaluate)
    return sum(p.numel() for p in frozen)


@a_freeze.misconception(
    "a-text-taken-for-a-list",
    "One pattern may come as a text that is in no list. Going through a text gives its letters, "
    "and yours looks for parameters that are called by one letter.",
)
def freeze(model, patterns):
    frozen = _matched(model, list(patterns))
    _stop(frozen)
    _stop_norms(model)
    return sum(p.numel() for p in frozen)


@a_freeze.alternative("train without effect")
def freeze(model, patterns):
    if isinstance(patterns, str):
        patterns = (patterns,)
    named = list(model.named_parameters(remove_duplicate=False))
    chosen = set()
    for pattern in patterns:
        hits = fnmatch.filter([name for name, _ in named], pattern)
        if not hits:
            raise ValueError(pattern)
        chosen.update(hits)
    tensors = {p.data_ptr(): p for name, p in named if name in chosen}
    for p in tensors.values():
        p.requires_grad, p.grad = False, None
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if norm and own and not any(p.requires_grad for p in own):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return sum(p.numel() for p in tensors.values())


@a_freeze.alternative("by regular expressions")
def freeze(model, patterns):
    import re

    count = 0
    seen = []
    for pattern in [patterns] if isinstance(patterns, str) else list(patterns):
        rule, hit = re.compile(fnmatch.translate(pattern)), False
        for name, p in model.named_parameters(remove_duplicate=False):
            if rule.match(name):
                hit = True
                if not any(p is s for s in seen):
                    seen.append(p)
                    count += p.numel()
        if not hit:
            raise ValueError(f"nothing is called {pattern}")
    for p in seen:
        p.requires_grad_(False).grad = None
    _stop_norms(model)
    return count


# --- 09.5 ----------------------------------------------------------------------------------

a_lora = Answers("09.5")


class _Begin(nn.Module):
    """The constructor as it is given."""

    def __init__(self, base, rank=4, alpha=None):
        super().__init__()
        self.base, self.rank, self.merged = base, rank, False
        self.scale = (rank if alpha is None else alpha) / rank
        like = {"bias": False, "dtype": base.weight.dtype}
        if isinstance(base, nn.Linear):
            self.down = nn.Linear(base.in_features, rank, **like)
            self.up = nn.Linear(rank, base.out_features, **like)
        else:
            self.down = type(base)(base.in_channels, rank, base.kernel_size, base.stride,
                                   base.padding, base.dilation, **like)  # fmt: skip
            self.up = type(base)(rank, base.out_channels, 1, **like)
        self.begin()
        for p in base.parameters():
            p.requires_grad_(False)

    def begin(self):
        nn.init.zeros_(self.up.weight)

    def change(self):
        product = self.up.weight.flatten(1) @ self.down.weight.flatten(1)
        return product.reshape(self.base.weight.shape)

    def forward(self, x):
        out = self.base(x)
        return out if self.merged else out + self.scale * self.up(self.down(x))

    @torch.no_grad()
    def merge(self):
        if not self.merged:
            self.base.weight += self.scale * self.change()
            self.merged = True


@a_lora.reference
class LoRAConv(nn.Module):
    def __init__(self, base, rank=4, alpha=None):
        super().__init__()
        self.base, self.rank, self.merged = base, rank, False
        self.scale = (rank if alpha is None else alpha) / rank
        like = {"bias": False, "dtype": base.weight.dtype}
        if isinstance(base, nn.Linear):
            self.down = nn.Linear(base.in_features, rank, **like)
            self.up = nn.Linear(rank, base.out_features, **like)
        else:
            self.down = type(base)(
                base.in_channels,
                rank,
                base.kernel_size,
                base.stride,
                base.padding,
                base.dilation,
                **like,
            )
            self.up = type(base)(rank, base.out_channels, 1, **like)
        nn.init.zeros_(self.up.weight)
        for p in base.parameters():
            p.requires_grad_(False)

    def forward(self, x):
        out = self.base(x)
        if not self.merged:
            out = out + self.scale * self.up(self.down(x))
        return out

    @torch.no_grad()
    def merge(self):
        if self.merged:
            return
        change = self.up.weight.flatten(1) @ self.down.weight.flatten(1)
        self.base.weight += self.scale * change.reshape(self.base.weight.shape)
        self.merged = True


def _mistake(name, says, **parts):
    """A LoRAConv with some methods of its own, under the exercise's name."""
    made = type("LoRAConv", (_Begin,), parts)
    a_lora.misconception(name, says, defines={"LoRAConv": made})


def _unscaled(self, x):
    out = self.base(x)
    return out if self.merged else out + self.up(self.down(x))


@torch.no_grad()
def _merge_unscaled(self):
    if not self.merged:
        self.base.weight += self.change()
        self.merged = True


@torch.no_grad()
def _merge_again(self):
    self.base.weight += self.scale * self.change()
    self.merged = True


@torch.no_grad()
def _merge_and_add(self):
    if not self.merged:
        self.base.weight += self.scale * self.change()
        self.merged = True


def _add_always(self, x):
    return self.base(x) + self.scale * self.up(self.down(x))


def _without_base(self, x):
    return self.base(x) if self.merged else self.scale * self.up(self.down(x))


def _scale_twice(self, x):
    out = self.base(x)
    return out if self.merged else out + self.scale * self.up(self.scale * self.down(x))


@torch.no_grad()
def _merge_nothing(self):
    self.merged = True


@torch.no_grad()
def _merge_in_place_of_base(self):
    if not self.merged:
        self.base.weight.copy_(self.scale * self.change())
        self.merged = True


@torch.no_grad()
def _merge_into_another(self):
    if not self.merged:
        self.base.weight = nn.Parameter(self.base.weight + self.scale * self.change())
        self.merged = True


@torch.no_grad()
def _merge_over_rank(self):
    if not self.merged:
        self.base.weight += self.scale / self.rank * self.change()
        self.merged = True


def _both_random(self):
    g = torch.Generator().manual_seed(0)
    nn.init.normal_(self.up.weight, generator=g)


def _both_zero(self):
    nn.init.zeros_(self.up.weight)
    nn.init.zeros_(self.down.weight)


_mistake(
    "scale-forgotten-in-forward",
    "scale is missing in forward: merged and not merged give different results, and alpha does "
    "nothing.",
    forward=_unscaled,
)
_mistake(
    "scale-forgotten-in-merge",
    "scale is missing in merge: merged and not merged give different results.",
    merge=_merge_unscaled,
)
_mistake(
    "scale-twice",
    "scale is used twice, before up and after it.",
    forward=_scale_twice,
)
_mistake(
    "merge-twice",
    "A second merge adds the change once more. merged says that it was done.",
    merge=_merge_again,
)
_mistake(
    "added-after-merging",
    "After merging the change is in base's weight, and forward still adds it.",
    forward=_add_always,
    merge=_merge_and_add,
)
_mistake(
    "without-base",
    "What base gives is missing: all that it has learnt would be gone.",
    forward=_without_base,
)
_mistake(
    "merged-in-name-only",
    "merge says that it is done, but base's weight is what it was: the change is lost.",
    merge=_merge_nothing,
)
_mistake(
    "merge-replaces",
    "merge puts the change in the place of base's weight. It is to be added.",
    merge=_merge_in_place_of_base,
)
_mistake(
    "weight-replaced",
    "merge gives base a new parameter. Who holds the old one (an optimizer, averaged weights, a "
    "layer that shares it) keeps the old numbers: change the weight in place.",
    merge=_merge_into_another,
)
_mistake(
    "divided-by-rank-again",
    "scale is alpha / rank already, and merge divides by rank once more.",
    merge=_merge_over_rank,
)
_mistake(
    "both-random",
    "Both factors start at random, so that the first output is base's plus noise: training begins "
    "with a damaged network.",
    begin=_both_random,
)
_mistake(
    "both-zero",
    "Both factors start at zero. Then the gradient of each is a multiple of the other, zero, and "
    "nothing ever learns.",
    begin=_both_zero,
)


@a_lora.alternative("down starts at zero")
class LoRAConv(_Begin):
    def begin(self):
        nn.init.zeros_(self.down.weight)


@a_lora.alternative("by the weight")
class LoRAConv(_Begin):
    def forward(self, x):
        weight = self.base.weight
        if not self.merged:
            weight = weight + self.scale * torch.einsum(
                "or,r...->o...", self.up.weight.flatten(1), self.down.weight
            )
        if isinstance(self.base, nn.Linear):
            return F.linear(x, weight, self.base.bias)
        return self.base._conv_forward(x, weight, self.base.bias)

    def merge(self):
        if self.merged:
            return
        change = torch.einsum("or,r...->o...", self.up.weight.flatten(1), self.down.weight)
        self.base.weight.data.add_(change.detach(), alpha=self.scale)
        self.merged = True


# --- 09.6 ----------------------------------------------------------------------------------

a_stop = Answers("09.6")


def _walk(train_loss, val_loss, memorisation, copies, patience, better=None, row=None,
          in_a_row=True, keep_copies=False):  # fmt: skip
    """The walk through the looks, with what a mistake changes."""
    better = better or (lambda v, low: v < low)
    decisive = val_loss if row is None else row
    gaps = [v - t for t, v in zip(train_loss, val_loss)]
    lowest, keep, since = math.inf, None, 0
    for i, (value, ratio) in enumerate(zip(decisive, memorisation)):
        copied = ratio < copies
        if copied and not keep_copies:
            return gaps, keep, i
        if better(value, lowest):
            lowest, keep, since = value, i, 0 if in_a_row else since
        else:
            since += 1
            if since == patience:
                return gaps, keep, i
        if copied:
            return gaps, keep, i
    return gaps, keep, len(gaps) - 1


@a_stop.reference
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    gaps = [v - t for t, v in zip(train_loss, val_loss)]
    lowest, keep, since = math.inf, None, 0
    for i, (value, ratio) in enumerate(zip(val_loss, memorisation)):
        if ratio < copies:
            return gaps, keep, i
        if value < lowest:
            lowest, keep, since = value, i, 0
        else:
            since += 1
            if since == patience:
                return gaps, keep, i
    return gaps, keep, len(gaps) - 1


@a_stop.misconception(
    "by-the-training-loss",
    "You decide by the training loss. It falls for as long as one trains, also while the network "
    "learns its few images by heart: it never says stop.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    return _walk(train_loss, val_loss, memorisation, copies, patience, row=train_loss)


@a_stop.misconception(
    "by-the-gap",
    "You keep the look with the smallest gap. A network that has learnt nothing has none: both "
    "losses are bad. The validation loss itself decides.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    gaps = [v - t for t, v in zip(train_loss, val_loss)]
    # A stronger weight on the training loss, so that the gap and the loss have different lows.
    return _walk(train_loss, val_loss, memorisation, copies, patience,
                 row=[abs(g - gaps[0]) for g in gaps])  # fmt: skip


@a_stop.misconception(
    "gap-upside-down",
    "The gaps have the wrong sign: validation loss minus training loss is asked for, so that a gap "
    "that grows says overfitting.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    gaps, keep, stop = _walk(train_loss, val_loss, memorisation, copies, patience)
    return [-g for g in gaps], keep, stop


@a_stop.misconception(
    "equal-counts-as-better",
    "A loss that is as low as the lowest counts as an improvement in yours. Of equals the earlier "
    "is kept, and the later is one disappointment more.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    return _walk(train_loss, val_loss, memorisation, copies, patience, better=lambda v, l: v <= l)


@a_stop.misconception(
    "better-than-the-look-before",
    "You compare each loss with the one before. After a bad look, one that is a little less bad "
    "would count as an improvement: compare with the lowest so far.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    gaps = [v - t for t, v in zip(train_loss, val_loss)]
    before, keep, since = math.inf, None, 0
    for i, (value, ratio) in enumerate(zip(val_loss, memorisation)):
        if ratio < copies:
            return gaps, keep, i
        if value < before:
            keep, since = i, 0
        else:
            since += 1
            if since == patience:
                return gaps, keep, i
        before = value
    return gaps, keep, len(gaps) - 1


@a_stop.misconception(
    "not-in-a-row",
    "Disappointments are counted from the start. A new lowest loss sets the count back to 0.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    return _walk(train_loss, val_loss, memorisation, copies, patience, in_a_row=False)


@a_stop.misconception(
    "one-look-too-late",
    "You stop when there are more than patience looks without a new low; the patience-th is "
    "enough.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    return _walk(train_loss, val_loss, memorisation, copies, patience + 1)


@a_stop.misconception(
    "copies-not-looked-at",
    "memorisation is not used. The validation loss may still fall while samples are copies "
    "already: then it says nothing of what you want to know.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    return _walk(train_loss, val_loss, [1e9] * len(val_loss), copies, patience)


@a_stop.misconception(
    "a-copier-kept",
    "You ask after the loss before you ask after copies, and keep the very look at which samples "
    "are copies.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    return _walk(train_loss, val_loss, memorisation, copies, patience, keep_copies=True)


@a_stop.misconception(
    "copies-upside-down",
    "You stop where memorisation is above the limit. About 1 means new pictures, and low means "
    "copies.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    upside = [-r for r in memorisation]
    return _walk(train_loss, val_loss, upside, -copies, patience)


@a_stop.misconception(
    "the-last-look-kept",
    "You keep the look at which training stops. By then the loss has been rising for patience "
    "looks: keep the one at which it was lowest.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    gaps, keep, stop = _walk(train_loss, val_loss, memorisation, copies, patience)
    return gaps, None if keep is None else stop, stop


@a_stop.misconception(
    "keep-begins-at-0",
    "Where samples are copies from the first look on, there is no look to keep, and keep is None. "
    "Yours says 0, the copier.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    gaps, keep, stop = _walk(train_loss, val_loss, memorisation, copies, patience)
    return gaps, keep or 0, stop


@a_stop.misconception(
    "copies-as-the-limit-allows",
    "You stop where memorisation is just at the limit. Only what is below it counts as copies.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    beyond = math.nextafter(copies, math.inf)
    return _walk(train_loss, val_loss, memorisation, beyond, patience)


@a_stop.misconception(
    "gaps-end-at-the-stop",
    "Your list of gaps ends where training stops. Asked for are the gaps of all looks.",
)
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    gaps, keep, stop = _walk(train_loss, val_loss, memorisation, copies, patience)
    return gaps[: stop + 1], keep, stop


@a_stop.alternative("first where to stop, then what to keep")
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    n = len(val_loss)
    copied = [i for i in range(n) if memorisation[i] < copies]
    end = copied[0] if copied else n
    stop = min(end, n - 1)
    for i in range(end):
        low = min(range(i + 1), key=lambda k: val_loss[k])
        if i - low >= patience:
            stop, end = i, i + 1
            break
    keep = min(range(end), key=lambda k: val_loss[k]) if end else None
    return [v - t for t, v in zip(train_loss, val_loss)], keep, stop


@a_stop.alternative("with tensors")
def generalisation_gap(train_loss, val_loss, memorisation, copies=0.9, patience=3):
    val = torch.tensor(val_loss, dtype=torch.float64)
    gaps = (val - torch.tensor(train_loss, dtype=torch.float64)).tolist()
    keep = None
    for i in range(len(gaps)):
        if memorisation[i] < copies:
            return gaps, keep, i
        keep = int(val[: i + 1].argmin())
        if i - keep >= patience:
            return gaps, keep, i
    return gaps, keep, len(gaps) - 1
