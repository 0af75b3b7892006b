"""How good samples are: distances between distributions of features, with floors and intervals.

Every distance depends on the number of samples and on the features. A figure means something
beside its floor: the same distance between two disjoint sets of real data, at the same count.
Nothing here knows whether the features came from images or from sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch


def _features(name: str, x: torch.Tensor, at_least: int = 2) -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or x.ndim != 2:
        given = tuple(x.shape) if hasattr(x, "shape") else type(x).__name__
        raise ValueError(f"{name} must be features (N, D), got {given}")
    if len(x) < at_least:
        raise ValueError(f"{name} needs at least {at_least} rows, got {len(x)}")
    if not torch.isfinite(x).all():
        raise ValueError(f"{name} has values that are NaN or infinite")
    return x.double()


def _pair(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = _features("a", a), _features("b", b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a has {a.shape[1]} features and b {b.shape[1]}; they must be alike")
    return a, b


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Squared Frechet distance of Gaussians fitted to two sets of features (N, D) and (M, D).

    |mean_a - mean_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2)), with unbiased covariances
    (Dowson & Landau 1982; Heusel et al. 2017, "FID"). The last trace is the sum of the singular
    values of A B^T, with A and B the centred features over sqrt(N - 1): no matrix root is taken,
    so that nothing turns complex or unstable when there are fewer samples than features. Computed
    in float64; at least 0. Depends on N and M: compare at equal counts only.
    """
    a, b = _pair(a, b)
    mean = (a.mean(0) - b.mean(0)).square().sum()
    # tr((C_a C_b)^(1/2)) is the nuclear norm of C_a^(1/2) C_b^(1/2). With A = Q_a R_a it is that
    # of R_a R_b^T, at most D x D.
    roots = []
    trace = mean.new_zeros(())
    for x in (a, b):
        centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
        trace = trace + centred.square().sum()
        roots.append(torch.linalg.qr(centred, mode="r").R)
    cross = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return max(0.0, float(mean + trace - 2 * cross))


def kid(a: torch.Tensor, b: torch.Tensor) -> float:
    """Unbiased squared MMD with the kernel (x . y / D + 1)^3 of features (N, D) and (M, D).

    Binkowski et al. 2018, "KID". Unbiased at any count (so that it can be below 0), unlike the
    Frechet distance.
    """
    a, b = _pair(a, b)
    n, m = len(a), len(b)

    def kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    aa, bb = kernel(a, a), kernel(b, b)
    within_a = (aa.sum() - aa.diagonal().sum()) / (n * (n - 1))
    within_b = (bb.sum() - bb.diagonal().sum()) / (m * (m - 1))
    return float(within_a + within_b - 2 * kernel(a, b).mean())


def nearest_distances(x: torch.Tensor, to: torch.Tensor, k: int = 1, *, skip_self: bool = False):
    """Euclidean distance of each row of ``x`` (N, D) to its k-th nearest row of ``to``: (N,).

    skip_self: ``to`` is ``x`` itself, and a row is not its own neighbour. By differences in
    chunks, so that a copy has distance 0 exactly.
    """
    x, to = _features("x", x, 1), _features("to", to, 1)
    k = k + 1 if skip_self else k
    if k > len(to):
        raise ValueError(f"asked for neighbour {k} among {len(to)} rows")
    chunk = max(1, 2**26 // max(1, len(to)))
    parts = [
        torch.cdist(rows, to, compute_mode="donot_use_mm_for_euclid_dist").kthvalue(k, 1).values
        for rows in x.split(chunk)
    ]
    return torch.cat(parts)


def precision_recall(real: torch.Tensor, fake: torch.Tensor, k: int = 3) -> tuple[float, float]:
    """(precision, recall): the share of fakes within the real manifold, and of reals within the
    fakes'.

    A manifold is the union of balls around its points, each reaching to that point's k-th
    nearest neighbour of its own set, itself not counted. Kynkäänniemi et al. 2019, eq. 1-3.
    """
    real, fake = _pair(real, fake)

    def inside(points: torch.Tensor, manifold: torch.Tensor) -> float:
        radius = nearest_distances(manifold, manifold, k, skip_self=True)
        hits = 0
        for rows in points.split(1024):
            distance = torch.cdist(rows, manifold, compute_mode="donot_use_mm_for_euclid_dist")
            hits += int((distance <= radius).any(1).sum())
        return hits / len(points)

    return inside(fake, real), inside(real, fake)


def memorisation_ratio(samples: torch.Tensor, train: torch.Tensor, held_out: torch.Tensor) -> float:
    """Median distance of samples to training data, over that of held-out reals to training data.

    (N, D) each. About 1: samples are as far from the training data as new real data are. Well
    below 1: copies. Above 1: off the data, or more varied.
    """
    reals = float(nearest_distances(held_out, train).median())
    if reals == 0:
        raise ValueError("held-out data are copies of training data: the ratio has no meaning")
    return float(nearest_distances(samples, train).median()) / reals


def nearness_quantiles(
    samples: torch.Tensor,
    train: torch.Tensor,
    held_out: torch.Tensor,
    quantiles: tuple[float, ...] = (0.01, 0.05),
) -> dict[str, dict[str, float]]:
    """Low quantiles of the distance to training data, for samples and for held-out reals."""
    q = torch.tensor(quantiles, dtype=torch.float64)
    found = {}
    for name, rows in (("samples", samples), ("held_out", held_out)):
        values = torch.quantile(nearest_distances(rows, train), q)
        found[name] = {f"{p:g}": float(v) for p, v in zip(quantiles, values)}
    return found


def bootstrap_ci(
    values: torch.Tensor,
    statistic: Callable[[torch.Tensor], float],
    n: int = 1000,
    level: float = 0.95,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """Percentile interval of ``statistic`` over ``n`` resamples with replacement of ``values``.

    values: (N, ...), resampled along the first axis. Efron 1979. Draws ``torch.randint`` of (N,)
    per resample.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if n < 2 or len(values) < 2:
        raise ValueError(f"need at least 2 resamples of at least 2 values, got {n}, {len(values)}")
    count = len(values)
    found = []
    for _ in range(n):
        index = torch.randint(count, (count,), generator=generator)
        found.append(float(statistic(values[index])))
    tail = (1 - level) / 2
    low, high = np.quantile(np.array(found), [tail, 1 - tail])
    return float(low), float(high)


def frechet_interval(
    a: torch.Tensor,
    b: torch.Tensor,
    groups: torch.Tensor | None = None,
    n: int = 200,
    level: float = 0.95,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """An interval for the FD of ``a`` (N, D) to a fixed ``b`` (M, D): what other draws might give.

    A plain percentile interval (``bootstrap_ci``) lies above FD itself: a resample has repeats,
    hence fewer different rows, and FD has a bias that grows when there are fewer. So the resamples
    give the width only; they are moved until their mean is the FD of ``a``. Near the floor the
    interval is somewhat too wide.

    groups: (N,) integers; rows are resampled within each, for samples whose classes were chosen
    and not drawn. At least 0 at both ends.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if n < 2:
        raise ValueError(f"need at least 2 resamples, got {n}")
    if groups is None:
        groups = torch.zeros(len(a), dtype=torch.int64)
    if len(groups) != len(a):
        raise ValueError(f"{len(a)} rows but {len(groups)} groups")
    members = [(groups == c).nonzero()[:, 0] for c in groups.unique()]
    found = []
    for _ in range(n):
        picks = [m[torch.randint(len(m), (len(m),), generator=generator)] for m in members]
        found.append(frechet_distance(a[torch.cat(picks)], b))
    moved = np.array(found) - np.mean(found) + frechet_distance(a, b)
    tail = (1 - level) / 2
    low, high = np.quantile(moved, [tail, 1 - tail])
    return max(0.0, float(low)), max(0.0, float(high))


def fd_curve(
    a: torch.Tensor,
    b: torch.Tensor,
    ns: Sequence[int],
    generator: torch.Generator | None = None,
    repeats: int = 5,
) -> torch.Tensor:
    """FD of subsets of n rows of both: (len(ns), repeats) float64, for ``fd_vs_n`` and pictures.

    The subsets are drawn without replacement. Raises ValueError for an n below 2 or larger than
    either set, or no n at all.
    """
    a, b = _pair(a, b)
    if not len(ns) or min(ns) < 2 or max(ns) > min(len(a), len(b)):
        raise ValueError(f"ns must be counts from 2 to {min(len(a), len(b))}, got {list(ns)}")
    found = torch.empty(len(ns), repeats, dtype=torch.float64)
    for row, n in enumerate(ns):
        for column in range(repeats):
            i = torch.randperm(len(a), generator=generator)[:n]
            j = torch.randperm(len(b), generator=generator)[:n]
            found[row, column] = frechet_distance(a[i], b[j])
    return found


def fd_vs_n(ns: Sequence[int], fds: Sequence[float]) -> float:
    """FD at infinitely many samples: the height at 1/n = 0 of a line through FD against 1/n.

    ns: counts, in any order, repeated where there are several measurements; fds: the FD measured
    at each. Plain least squares. The bias of FD is nearly a multiple of 1/n (Chong & Forsyth
    2020). Raises ValueError for lists of unequal length or fewer than two different counts.
    """
    if len(ns) != len(fds):
        raise ValueError(f"there are {len(ns)} counts but {len(fds)} distances")
    if len(set(ns)) < 2 or min(ns) < 1:
        raise ValueError(f"two or more different counts are wanted, got {list(ns)}")
    x = 1 / torch.tensor(ns, dtype=torch.float64)
    y = torch.tensor(fds, dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean())


def last_gain(runs: torch.Tensor, least: float = 0.05) -> int:
    """Up to which setting a measure of fault falls: (seeds, settings) -> a column's index.

    For "do more steps help?": FD of several seeds (rows) at more and more calls (columns). Column
    0 holds the place first. A later column takes it where its mean is lower by the share
    ``least`` or more and even its worst seed is below the holder's best: a fall that seeds cannot
    explain. 0 then means that nothing after the first setting helped. Raises ValueError for
    another shape, fewer than two seeds or settings, or values that are not finite.
    """
    runs = torch.as_tensor(runs, dtype=torch.float64)
    if runs.ndim != 2 or min(runs.shape) < 2:
        raise ValueError(f"runs must be (seeds, settings), two or more, got {tuple(runs.shape)}")
    if not torch.isfinite(runs).all():
        raise ValueError("runs has values that are NaN or infinite")
    best = 0
    for k in range(1, runs.shape[1]):
        lower = runs[:, k].mean() <= (1 - least) * runs[:, best].mean()
        if lower and runs[:, k].max() < runs[:, best].min():
            best = k
    return best


@dataclass(frozen=True)
class Quality:
    """Figures of one set of samples, always with their count and with what real data get.

    The ``floor`` figures are those of held-out reals at the same count. memorisation: 1 for real
    data by its definition. nearness: from ``nearness_quantiles``. ``judging.judge_images`` fills
    in the rest: data, the name of the set; seeds, those the samples were drawn with; the shares
    of samples and of held-out reals that a classifier sees as what they should be; and intervals
    of 95 % for FD and accuracy.
    """

    n: int
    fd: float
    floor: float
    kid: float
    precision: float
    recall: float
    floor_precision: float
    floor_recall: float
    accuracy: float | None
    memorisation: float
    nearness: dict[str, dict[str, float]]
    floor_accuracy: float | None = None
    fd_interval: tuple[float, float] | None = None
    accuracy_interval: tuple[float, float] | None = None
    data: str = ""
    seeds: tuple[int, ...] = ()

    @property
    def excess(self) -> float:
        """FD above the floor."""
        return self.fd - self.floor

    @property
    def ratio(self) -> float:
        """FD over the floor."""
        return self.fd / self.floor


def assess(
    fake: torch.Tensor,
    reference: torch.Tensor,
    held_out: torch.Tensor,
    train: torch.Tensor,
    accuracy: float | None = None,
) -> Quality:
    """All figures from features (n, D): samples, and three disjoint sets of reals.

    The first n = min(samples, reference, held_out) rows of each are used, so that FD and floor
    (held_out against reference) are at the same count.
    """
    n = min(len(fake), len(reference), len(held_out))
    f, r, h = fake[:n], reference[:n], held_out[:n]
    precision, recall = precision_recall(r, f)
    floor_precision, floor_recall = precision_recall(r, h)
    return Quality(
        n=n,
        fd=frechet_distance(f, r),
        floor=frechet_distance(h, r),
        kid=kid(f, r),
        precision=precision,
        recall=recall,
        floor_precision=floor_precision,
        floor_recall=floor_recall,
        accuracy=accuracy,
        memorisation=memorisation_ratio(f, train, h),
        nearness=nearness_quantiles(f, train, h),
    )
