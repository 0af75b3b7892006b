"""Answers of lesson 08: references, named mistakes with what to say about them, alternatives."""

import math
import warnings

import numpy as np
import torch

from coursework.exercise import Answers

# --- 08.1 ------------------------------------------------------------------------------------

a_frechet = Answers("08.1")


def _moments(a, b, correction=1):
    """(squared distance of the means, C_a, C_b) in float64."""
    a, b = a.double(), b.double()
    off = (a.mean(0) - b.mean(0)).square().sum()
    d = a.shape[1]
    ca = torch.cov(a.T, correction=correction).reshape(d, d)
    cb = torch.cov(b.T, correction=correction).reshape(d, d)
    return off, ca, cb


def _root(c):
    values, vectors = torch.linalg.eigh(c)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def _trace_of_root(ca, cb):
    half = _root(ca)
    return torch.linalg.eigvalsh(half @ cb @ half).clamp(min=0).sqrt().sum()


def _nan_or_right(got, expected):
    """Whether some results are NaN, and all others right. Where it is NaN, rounding decides."""
    if any(o.status != "ok" or not isinstance(o.value, float) for o in got):
        return False
    off = [abs(g.value - e.value) / (1 + abs(e.value)) for g, e in zip(got, expected)]
    return any(map(math.isnan, off)) and not any(v > 1e-3 for v in off)


@a_frechet.reference
def frechet_distance(a, b):
    a, b = a.double(), b.double()
    d = a.shape[1]
    cov_a, cov_b = torch.cov(a.T).reshape(d, d), torch.cov(b.T).reshape(d, d)
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0).sqrt().sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return float(means + cov_a.trace() + cov_b.trace() - 2 * shared)


@a_frechet.misconception(
    "root-of-the-sum",
    "You take the root of C_a + C_b. The formula has the root of their product: it asks how much "
    "the two spreads have in common.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    return float(off + (ca + cb - 2 * _root(ca + cb)).trace())


@a_frechet.misconception(
    "root-of-the-trace",
    "You take the trace of C_a C_b first and then the root of that one number. It is the trace of "
    "the root: the sum of the roots of the eigenvalues, not the root of their sum.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    return float(off + ca.trace() + cb.trace() - 2 * (ca @ cb).trace().sqrt())


@a_frechet.misconception(
    "biased-covariance",
    "Your covariances divide by N. With few samples that is too small: divide by N - 1, which is "
    "what torch.cov does when it is left alone.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b, correction=0)
    return float(off + ca.trace() + cb.trace() - 2 * _trace_of_root(ca, cb))


@a_frechet.misconception(
    "complex",
    "Your result is a complex number. Rounding makes some eigenvalues of C_a C_b slightly negative "
    "or complex, and their roots too. You know that they are real and not below 0.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    shared = torch.linalg.eigvals(ca @ cb).sqrt().sum()
    return complex(off + ca.trace() + cb.trace() - 2 * shared)


@a_frechet.misconception(
    "product-taken-as-symmetric",
    "You give C_a C_b to a function for symmetric matrices, which reads one triangle only and "
    "believes the other to be its mirror. The product of two symmetric matrices is not symmetric: "
    "which matrix with the same eigenvalues is?",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    shared = torch.linalg.eigvalsh(ca @ cb).clamp(min=0).sqrt().sum()
    return float(off + ca.trace() + cb.trace() - 2 * shared)


@a_frechet.misconception(
    "means-summed-before-the-square",
    "You add the differences of the means and square the sum, so that differences of opposite sign "
    "cancel. The squared length of a vector adds squares.",
)
def frechet_distance(a, b):
    a, b = a.double(), b.double()
    _, ca, cb = _moments(a, b)
    off = (a.mean(0) - b.mean(0)).sum() ** 2
    return float(off + ca.trace() + cb.trace() - 2 * _trace_of_root(ca, cb))


@a_frechet.misconception(
    "root-per-element",
    "sqrt of a matrix takes the root of every element. Wanted is the matrix R with R @ R = C_a "
    "C_b: another thing, and only its eigenvalues are roots.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    return float(off + (ca + cb - 2 * (ca @ cb).sqrt()).trace())


@a_frechet.misconception(
    "variances-only",
    "You use the variance of each feature and forget how features vary together. Two clouds may "
    "agree feature by feature and still be tilted differently.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    va, vb = ca.diag(), cb.diag()
    return float(off + (va + vb - 2 * (va * vb).sqrt()).sum())


@a_frechet.misconception(
    "roots-apart",
    "You take the root of each covariance and multiply the roots. That is the root of the product "
    "only where both matrices have the same eigenvectors.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    return float(off + (ca + cb - 2 * _root(ca) @ _root(cb)).trace())


@a_frechet.misconception(
    "distance-not-squared",
    "You add the distance of the means. The formula has its square: every other term is a square "
    "as well.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    return float(off.sqrt() + ca.trace() + cb.trace() - 2 * _trace_of_root(ca, cb))


@a_frechet.misconception(
    "mean-of-squares",
    "You average the squared differences of the means over the features. They are to be summed: it "
    "is the squared length of a vector.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    return float(off / len(ca) + ca.trace() + cb.trace() - 2 * _trace_of_root(ca, cb))


@a_frechet.misconception(
    "root-at-the-end",
    "You take the root of the whole. That is a distance, too, but what everybody reports as FD "
    "(and FID) is its square.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    squared = off + ca.trace() + cb.trace() - 2 * _trace_of_root(ca, cb)
    return float(squared.clamp(min=0).sqrt())


@a_frechet.misconception(
    "without-the-two",
    "The shared part is taken away once; it belongs there twice, as in (s - r)^2 = s^2 + r^2 - 2 s "
    "r. A set and itself must have distance 0.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    return float(off + ca.trace() + cb.trace() - _trace_of_root(ca, cb))


@a_frechet.misconception(
    "without-the-means",
    "The distance of the means is missing. A cloud that is moved as a whole has distance 0 from "
    "itself in yours.",
)
def frechet_distance(a, b):
    _, ca, cb = _moments(a, b)
    return float(ca.trace() + cb.trace() - 2 * _trace_of_root(ca, cb))


@a_frechet.misconception(
    "means-only",
    "You compare the means only. Samples that are all alike have the right mean, too.",
)
def frechet_distance(a, b):
    off, _, _ = _moments(a, b)
    return float(off)


@a_frechet.misconception(
    "correlations",
    "You use correlations in place of covariances, so the size of each spread is lost (and a "
    "feature that never varies gives NaN).",
)
def frechet_distance(a, b):
    off, _, _ = _moments(a, b)
    d = a.shape[1]
    ca = torch.corrcoef(a.double().T).reshape(d, d).nan_to_num()
    cb = torch.corrcoef(b.double().T).reshape(d, d).nan_to_num()
    return float(off + ca.trace() + cb.trace() - 2 * _trace_of_root(ca, cb))


@a_frechet.misconception(
    "cholesky",
    "A Cholesky factor exists only for a covariance of full rank. With fewer samples than features "
    "there is none, and your answer stops with an error. Eigenvalues may be 0.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    la, lb = torch.linalg.cholesky(ca), torch.linalg.cholesky(cb)
    shared = torch.linalg.svdvals(la.T @ lb).sum()
    return float(off + ca.trace() + cb.trace() - 2 * shared)


@a_frechet.misconception(
    "nan-where-flat",
    "With fewer samples than features your result is NaN: eigenvalues that should be 0 come out "
    "slightly negative, and have no root. Set them to 0 first.",
    detect=lambda got, expected, cases: _nan_or_right(got, expected),
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    values, vectors = torch.linalg.eigh(ca)
    half = vectors @ torch.diag(values.sqrt()) @ vectors.T
    if not torch.isfinite(half).all():
        return math.nan
    shared = torch.linalg.eigvalsh(half @ cb @ half).sqrt().sum()
    return float(off + ca.trace() + cb.trace() - 2 * shared)


@a_frechet.misconception(
    "samples-for-features",
    "Your covariances are between samples, not between features: torch.cov and np.cov want the "
    "features in rows. Transpose first.",
)
def frechet_distance(a, b):
    off, _, _ = _moments(a, b)
    ca, cb = (x - x.mean(1, keepdim=True) for x in (a.double(), b.double()))
    ca, cb = (x @ x.T / max(x.shape[1] - 1, 1) for x in (ca, cb))
    return float(off + ca.trace() + cb.trace() - 2 * _trace_of_root(ca, cb))


@a_frechet.misconception(
    "a-tensor",
    "Your number is right, but it is a tensor. A plain float is asked for (float(...) or .item()).",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    return off + ca.trace() + cb.trace() - 2 * _trace_of_root(ca, cb)


@a_frechet.misconception(
    "root-forgotten",
    "You take away twice the trace of C_a C_b itself. The formula has its root there: the "
    "eigenvalues are variances times variances, and only their roots are variances again.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    return float(off + ca.trace() + cb.trace() - 2 * (ca @ cb).trace())


@a_frechet.misconception(
    "not-centred",
    "Your covariances are means of products of the features as they are. Take the mean of each "
    "feature away first, or the distance of the means is counted in the spread, too.",
)
def frechet_distance(a, b):
    off, _, _ = _moments(a, b)
    ca, cb = (x.double().T @ x.double() / (len(x) - 1) for x in (a, b))
    return float(off + ca.trace() + cb.trace() - 2 * _trace_of_root(ca, cb))


@a_frechet.misconception(
    "root-not-turned-back",
    "Your root of a covariance is eigenvectors times roots of eigenvalues, and stops there. That "
    "is not symmetric, and multiplied by itself it does not give C_a: the way back out of the "
    "eigenvectors is missing.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    values, vectors = torch.linalg.eigh(ca)
    half = vectors * values.clamp(min=0).sqrt()
    shared = torch.linalg.eigvalsh(half @ cb @ half).clamp(min=0).sqrt().sum()
    return float(off + ca.trace() + cb.trace() - 2 * shared)


@a_frechet.misconception(
    "eigenvectors-transposed",
    "You have the eigenvectors the wrong way round in the root. torch.linalg.eigh gives them in "
    "columns. Multiply your root by itself: is it C_a?",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    values, vectors = torch.linalg.eigh(ca)
    half = vectors.T @ torch.diag(values.clamp(min=0).sqrt()) @ vectors
    shared = torch.linalg.eigvalsh(half @ cb @ half).clamp(min=0).sqrt().sum()
    return float(off + ca.trace() + cb.trace() - 2 * shared)


@a_frechet.misconception(
    "singular-values",
    "You take the roots of the singular values of C_a C_b. Those are its eigenvalues only where a "
    "matrix is symmetric, and this product is not.",
)
def frechet_distance(a, b):
    off, ca, cb = _moments(a, b)
    shared = torch.linalg.svdvals(ca @ cb).sqrt().sum()
    return float(off + ca.trace() + cb.trace() - 2 * shared)


@a_frechet.alternative("nuclear norm of the centred features")
def frechet_distance(a, b):
    a, b = a.double(), b.double()
    x = (a - a.mean(0)) / math.sqrt(len(a) - 1)
    y = (b - b.mean(0)) / math.sqrt(len(b) - 1)
    mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
    common = torch.linalg.matrix_norm(x @ y.T, "nuc")
    return (mean + (x**2).sum() + (y**2).sum() - 2 * common).item()


@a_frechet.alternative("scipy's matrix root of the product, its real part")
def frechet_distance(a, b):
    from scipy.linalg import sqrtm

    off, ca, cb = _moments(a, b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that the matrix is singular
        root = sqrtm((ca @ cb).numpy())
    return float(off + ca.trace() + cb.trace()) - 2 * float(np.trace(root).real)


@a_frechet.alternative("real parts of the eigenvalues' roots")
def frechet_distance(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    ca, cb = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    roots = np.sqrt(np.linalg.eigvals(ca @ cb).astype(complex)).real
    d = a.mean(0) - b.mean(0)
    return float(d @ d + np.trace(ca) + np.trace(cb) - 2 * roots.sum())


@a_frechet.alternative("scipy's matrix root, symmetric form")
def frechet_distance(a, b):
    from scipy.linalg import svd

    def half(c):
        u, s, _ = svd(c)
        return u * np.sqrt(s) @ u.T

    a, b = a.double().numpy(), b.double().numpy()
    d = a.shape[1]
    ca = np.cov(a, rowvar=False).reshape(d, d)
    cb = np.cov(b, rowvar=False).reshape(d, d)
    inner = svd(half(ca) @ half(cb), compute_uv=False).sum()
    mean = np.square(a.mean(0) - b.mean(0)).sum()
    return max(0.0, float(mean + ca.trace() + cb.trace() - 2 * inner))


# --- 08.2 ------------------------------------------------------------------------------------

a_kid = Answers("08.2")


@a_kid.reference
def kid(a, b):
    a, b = a.double(), b.double()

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def apart(k):
        n = len(k)
        return (k.sum() - k.trace()) / (n * (n - 1))

    within = apart(kernel(a, a)) + apart(kernel(b, b))
    return float(within - 2 * kernel(a, b).mean())


def _cubic(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mmd(a, b, kernel=_cubic, within=None, two=2.0):
    """KID with parts exchanged, in float64; ``within(k)`` averages a matrix of one set."""

    def apart(k):
        return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))

    within = within or apart
    a, b = a.double(), b.double()
    return within(kernel(a, a)) + within(kernel(b, b)) - two * kernel(a, b).mean()


@a_kid.misconception(
    "keeps-the-diagonal",
    "In the averages within a set you keep the diagonal, where each sample meets itself. That is "
    "what makes the plain estimate too large, the more so the fewer samples there are.",
)
def kid(a, b):
    return float(_mmd(a, b, within=torch.mean))


@a_kid.misconception(
    "divides-by-n-squared",
    "You take the diagonal out of the sum but still divide by n * n. How many pairs of different "
    "samples are there?",
)
def kid(a, b):
    return float(_mmd(a, b, within=lambda k: (k.sum() - k.trace()) / len(k) ** 2))


@a_kid.misconception(
    "diagonal-in-the-sum",
    "You divide by the number of pairs of different samples, but the sum still has the diagonal.",
)
def kid(a, b):
    return float(_mmd(a, b, within=lambda k: k.sum() / (len(k) * (len(k) - 1))))


@a_kid.misconception(
    "each-pair-once",
    "You sum every pair of different samples once, above the diagonal, and divide as if each had "
    "been counted twice.",
)
def kid(a, b):
    def once(k):
        return torch.triu(k, 1).sum() / (len(k) * (len(k) - 1))

    return float(_mmd(a, b, within=once))


@a_kid.misconception(
    "square-kernel",
    "Your kernel is squared; KID's has the power 3. With 2 it compares means and covariances only, "
    "which the Frechet distance does already.",
)
def kid(a, b):
    return float(_mmd(a, b, kernel=lambda x, y: (x @ y.T / x.shape[1] + 1) ** 2))


@a_kid.misconception(
    "not-divided-by-d",
    "The inner product is not divided by the number of features D. Then the cube grows with D and "
    "drowns the rest.",
)
def kid(a, b):
    return float(_mmd(a, b, kernel=lambda x, y: (x @ y.T + 1) ** 3))


@a_kid.misconception(
    "root-of-d",
    "You divide the inner product by the root of D, as attention does. KID divides by D.",
)
def kid(a, b):
    return float(_mmd(a, b, kernel=lambda x, y: (x @ y.T / x.shape[1] ** 0.5 + 1) ** 3))


@a_kid.misconception(
    "divided-by-n",
    "You divide the inner product by the number of samples. It is the number of features, the "
    "length of each row, that belongs there.",
)
def kid(a, b):
    return float(_mmd(a, b, kernel=lambda x, y: (x @ y.T / x.shape[0] + 1) ** 3))


@a_kid.misconception(
    "without-the-one",
    "The + 1 in the kernel is missing, or added after the cube, where it cancels in the "
    "difference. Without it only third moments count, and two clouds with other means can have "
    "distance 0.",
)
def kid(a, b):
    return float(_mmd(a, b, kernel=lambda x, y: (x @ y.T / x.shape[1]) ** 3))


@a_kid.misconception(
    "cross-term-once",
    "The pairs between a and b count twice, as in (x - y)^2 = x^2 + y^2 - 2 x y. Otherwise equal "
    "distributions are not at distance 0.",
)
def kid(a, b):
    return float(_mmd(a, b, two=1.0))


@a_kid.misconception(
    "cross-diagonal-dropped",
    "You leave out the diagonal of the pairs between a and b as well. Row i of a and row i of b "
    "are different samples: all pairs count there.",
)
def kid(a, b):
    a, b = a.double(), b.double()
    n, m = len(a), len(b)
    within = _mmd(a, b, two=0.0)
    k = _cubic(a, b)
    return float(within - 2 * (k.sum() - k.diagonal().sum()) / (n * m - min(n, m)))


@a_kid.misconception(
    "clamped-at-zero",
    "You cut the result off at 0. An unbiased estimate of 0 must sometimes fall below it; cut off, "
    "its average is too large.",
)
def kid(a, b):
    return max(0.0, float(_mmd(a, b)))


@a_kid.misconception(
    "root-at-the-end",
    "You take a root at the end. KID is the squared distance (and its estimate may be negative, "
    "where no root exists).",
)
def kid(a, b):
    return float(_mmd(a, b).sqrt())


@a_kid.misconception(
    "centred-first",
    "You take the mean away from each set first. The distance of the means is one of the things "
    "that KID is to measure.",
)
def kid(a, b):
    return float(_mmd(a.double() - a.double().mean(0), b.double() - b.double().mean(0)))


@a_kid.misconception(
    "a-tensor",
    "Your number is right, but it is a tensor. A plain float is asked for (float(...) or .item()).",
)
def kid(a, b):
    return _mmd(a, b)


@a_kid.alternative("diagonal filled with zeros, numpy")
def kid(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    d = a.shape[1]
    kaa, kbb, kab = ((1.0 + x @ y.T / d) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    np.fill_diagonal(kaa, 0.0)
    np.fill_diagonal(kbb, 0.0)
    n, m = len(a), len(b)
    return float(kaa.sum() / (n * n - n) + kbb.sum() / (m * m - m) - 2 * kab.sum() / (n * m))


@a_kid.alternative("pairs above the diagonal")
def kid(a, b):
    total = 0.0
    for x in (a.double(), b.double()):
        i, j = torch.triu_indices(len(x), len(x), 1)
        total += float((((x[i] * x[j]).sum(1) / x.shape[1] + 1) ** 3).mean())
    cross = torch.einsum("nd,md->nm", a.double(), b.double()) / a.shape[1]
    return total - 2 * cross.add(1).pow(3).mean().item()


# --- 08.3 ------------------------------------------------------------------------------------

a_precision = Answers("08.3")


@a_precision.reference
def precision_recall(real, fake, k=3):
    def inside(points, manifold):
        radius = torch.cdist(manifold, manifold).sort(1).values[:, k]
        hit = (torch.cdist(points, manifold) <= radius).any(1)
        return float(hit.double().mean())

    return inside(fake, real), inside(real, fake)


def _radius(x, k, skip=1):
    return torch.cdist(x, x).sort(1).values[:, k - 1 + skip]


def _share(hit):
    return float(hit.double().mean())


def _both(real, fake, k, radius=_radius, hit=None):
    """(precision, recall) with parts exchanged; hit(distances, radii) -> (points,) or a share."""
    hit = hit or (lambda d, r: (d <= r).any(1))

    def inside(points, manifold):
        return _share(hit(torch.cdist(points, manifold), radius(manifold, k)))

    return inside(fake, real), inside(real, fake)


@a_precision.misconception(
    "swapped",
    "The two results have changed places. Precision asks whether fakes lie within the real "
    "manifold; recall, whether reals lie within that of the fakes.",
)
def precision_recall(real, fake, k=3):
    precision, recall = _both(real, fake, k)
    return recall, precision


@a_precision.misconception(
    "self-counted",
    "You count a point as its own nearest neighbour, at distance 0: your balls reach only to the "
    "(k - 1)-th other point. Look at the smallest distance in each row.",
)
def precision_recall(real, fake, k=3):
    return _both(real, fake, k, radius=lambda x, k: _radius(x, k, skip=0))


@a_precision.misconception(
    "one-neighbour-too-far",
    "Your balls reach to the (k + 1)-th neighbour. If you take the diagonal out, the k-th "
    "neighbour is at place k - 1; if you leave it in, at place k.",
)
def precision_recall(real, fake, k=3):
    return _both(real, fake, min(k + 1, len(real) - 1, len(fake) - 1))


@a_precision.misconception(
    "radius-of-the-wrong-set",
    "The balls stand around one set with the radii of the other: you give each tested point a "
    "radius, where each point of the manifold has one.",
)
def precision_recall(real, fake, k=3):
    apart = torch.cdist(fake, real)
    precision = _share((apart <= _radius(fake, k)[:, None]).any(1))
    apart = torch.cdist(real, fake)
    return precision, _share((apart <= _radius(real, k)[:, None]).any(1))


@a_precision.misconception(
    "balls-counted-for-points",
    "You ask of each ball whether it holds a point, and take the share of balls. Precision and "
    "recall are shares of the tested points: along which axis of the table of distances do you "
    "ask?",
)
def precision_recall(real, fake, k=3):
    def hit(points, manifold):
        return _share((torch.cdist(points, manifold) <= _radius(manifold, k)).any(0))

    return hit(fake, real), hit(real, fake)


@a_precision.misconception(
    "radius-squared",
    "You compare distances with squared radii. Either square both or none.",
)
def precision_recall(real, fake, k=3):
    def hit(points, manifold):
        return _share((torch.cdist(points, manifold) <= _radius(manifold, k) ** 2).any(1))

    return hit(fake, real), hit(real, fake)


@a_precision.misconception(
    "coverage-for-recall",
    "For recall you keep the balls around the reals and ask which of them hold a fake. That is "
    "another measure (coverage). Recall puts balls around the fakes.",
)
def precision_recall(real, fake, k=3):
    inside = torch.cdist(fake, real) <= _radius(real, k)
    return _share(inside.any(1)), _share(inside.any(0))


@a_precision.misconception(
    "nearest-ball-only",
    "You look only into the ball of the nearest point. A farther point may have a larger ball that "
    "holds the sample: any ball will do.",
)
def precision_recall(real, fake, k=3):
    def nearest(d, r):
        place = d.argmin(1)
        return d.gather(1, place[:, None])[:, 0] <= r[place]

    return _both(real, fake, k, hit=nearest)


@a_precision.misconception(
    "all-balls",
    "You ask whether a point lies in every ball. It lies in the manifold when one ball holds it.",
)
def precision_recall(real, fake, k=3):
    return _both(real, fake, k, hit=lambda d, r: (d <= r).all(1))


@a_precision.misconception(
    "counts-balls",
    "You count how many balls hold each point, over k. That is another measure (density); here a "
    "point is inside or it is not.",
)
def precision_recall(real, fake, k=3):
    return _both(real, fake, k, hit=lambda d, r: (d <= r).double().sum(1) / k)


@a_precision.misconception(
    "mean-over-pairs",
    "You average over all pairs of point and ball. First ask for each point whether any ball holds "
    "it, then average over the points.",
)
def precision_recall(real, fake, k=3):
    return _both(real, fake, k, hit=lambda d, r: d <= r)


@a_precision.misconception(
    "one-radius-for-all",
    "You use the mean radius for all balls. Each ball has its own: where data are thin it must "
    "reach farther.",
)
def precision_recall(real, fake, k=3):
    return _both(real, fake, k, radius=lambda x, k: _radius(x, k).mean())


@a_precision.misconception(
    "largest-neighbours",
    "Your radius is the k-th largest distance, not the k-th smallest: topk gives the largest "
    "unless told otherwise.",
)
def precision_recall(real, fake, k=3):
    return _both(real, fake, k, radius=lambda x, k: torch.cdist(x, x).topk(k, 1).values[:, -1])


@a_precision.misconception(
    "k-ignored",
    "The 3 is written into your answer: k makes no difference.",
)
def precision_recall(real, fake, k=3):
    return _both(real, fake, 3)


@a_precision.misconception(
    "strictly-one-side",
    "Both results ask about the fakes: the second has the same roles as the first. For recall, "
    "real and fake change places.",
)
def precision_recall(real, fake, k=3):
    precision, _ = _both(real, fake, k)
    return precision, precision


@a_precision.misconception(
    "per-cent",
    "You return per cent. Shares between 0 and 1 are asked for.",
)
def precision_recall(real, fake, k=3):
    precision, recall = _both(real, fake, k)
    return 100 * precision, 100 * recall


@a_precision.misconception(
    "tensors",
    "Your two numbers are right, but they are tensors. Plain floats are asked for.",
)
def precision_recall(real, fake, k=3):
    precision, recall = _both(real, fake, k)
    return torch.tensor(precision), torch.tensor(recall)


@a_precision.misconception(
    "edge-outside",
    "A point that lies exactly on the edge of a ball is outside in yours. The text counts it as "
    "inside: which comparison holds for equal numbers, too?",
)
def precision_recall(real, fake, k=3):
    return _both(real, fake, k, hit=lambda d, r: (d < r).any(1))


@a_precision.misconception(
    "neighbours-in-the-other-set",
    "Your radius reaches to the k-th nearest point of the other set. A ball says how dense its own "
    "set is: the neighbours are of the set whose manifold it belongs to.",
)
def precision_recall(real, fake, k=3):
    def hit(points, manifold):
        apart = torch.cdist(points, manifold)
        return _share((apart <= apart.sort(0).values[k - 1]).any(1))

    return hit(fake, real), hit(real, fake)


@a_precision.misconception(
    "every-distance-of-0-left-out",
    "You leave out all distances of 0 to be rid of a point's distance to itself. A copy of a point "
    "is a neighbour like any other, at distance 0; and the distance to itself may be rounded to a "
    "little more than 0. Go by its place: the diagonal, or the first when sorted.",
)
def precision_recall(real, fake, k=3):
    def radius(x, k):
        d = torch.cdist(x, x)
        return torch.where(d == 0, math.inf, d).sort(1).values[:, k - 1]

    return _both(real, fake, k, radius=radius)


@a_precision.misconception(
    "mean-of-the-neighbours",
    "Your radius is the mean distance of the k nearest neighbours. The ball reaches to the k-th "
    "of them: one distance, not a mean.",
)
def precision_recall(real, fake, k=3):
    def radius(x, k):
        return torch.cdist(x, x).sort(1).values[:, 1 : k + 1].mean(1)

    return _both(real, fake, k, radius=radius)


@a_precision.alternative("topk, squares by products of matrices")
def precision_recall(real, fake, k=3):
    def squares(a, b):
        return a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T

    def inside(points, manifold):
        reach = squares(manifold, manifold).topk(k + 1, largest=False).values[:, -1]
        return (squares(points, manifold) <= reach).any(1).float().mean().item()

    return inside(fake, real), inside(real, fake)


@a_precision.alternative("kthvalue, diagonal set to infinity")
def precision_recall(real, fake, k=3):
    def radii(x):
        d = torch.cdist(x, x)
        d.fill_diagonal_(math.inf)
        return d.kthvalue(k, dim=1).values

    between = torch.cdist(real, fake)
    precision = (between <= radii(real)[:, None]).any(0).float().mean().item()
    recall = (between <= radii(fake)[None]).any(1).float().mean().item()
    return precision, recall


@a_precision.alternative("loops over points, squared distances")
def precision_recall(real, fake, k=3):
    real, fake = real.double().numpy(), fake.double().numpy()

    def share(points, manifold):
        reach = []
        for i, p in enumerate(manifold):
            others = np.delete(manifold, i, axis=0)
            reach.append(np.sort(((others - p) ** 2).sum(1))[k - 1])
        found = [np.any(((manifold - p) ** 2).sum(1) <= np.array(reach)) for p in points]
        return float(np.mean(found))

    return share(fake, real), share(real, fake)


@a_precision.alternative("scikit-learn's neighbours")
def precision_recall(real, fake, k=3):
    from sklearn.neighbors import NearestNeighbors

    real, fake = real.double().numpy(), fake.double().numpy()

    def share(points, manifold):
        reach = NearestNeighbors(n_neighbors=k + 1).fit(manifold).kneighbors(manifold)[0][:, -1]
        apart = np.linalg.norm(points[:, None] - manifold[None], axis=-1)
        return float((apart <= reach).any(1).mean())

    return share(fake, real), share(real, fake)


# --- 08.4 ------------------------------------------------------------------------------------

a_memorisation = Answers("08.4")


@a_memorisation.reference
def memorisation_ratio(samples, train, held_out):
    def nearest(x):
        apart = torch.cdist(x, train, compute_mode="donot_use_mm_for_euclid_dist")
        return apart.amin(1).median()

    chance = nearest(held_out)
    if chance == 0:
        raise ValueError("the held-out rows are training rows: nothing to compare with")
    return float(nearest(samples) / chance)


def _exact(x, y):
    return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")


def _ratio(above, below):
    if below == 0:
        raise ValueError("no chance level")
    return float(above / below)


def _medians(samples, train, held_out, of=torch.median, change=lambda d: d):
    near = (change(_exact(x, train).amin(1)) for x in (samples, held_out))
    return tuple(of(d) for d in near)


@a_memorisation.misconception(
    "no-held-out",
    "You return the median distance of the samples alone. Is 3.1 near or far? Only new real data, "
    "at the same distance or not, can say.",
)
def memorisation_ratio(samples, train, held_out):
    above, below = _medians(samples, train, held_out)
    return above.item() if below > 0 else _ratio(above, below)


@a_memorisation.misconception(
    "squares",
    "Your distances are squared. The ratio then comes out squared, too.",
)
def memorisation_ratio(samples, train, held_out):
    return _ratio(*_medians(samples, train, held_out, change=torch.square))


@a_memorisation.misconception(
    "mean-for-median",
    "You take the mean. A few samples far out then hide many copies; the median is asked for.",
)
def memorisation_ratio(samples, train, held_out):
    return _ratio(*_medians(samples, train, held_out, of=torch.mean))


@a_memorisation.misconception(
    "smallest-for-median",
    "You take the smallest distance of all. One sample that is near by chance decides then; the "
    "median is asked for.",
)
def memorisation_ratio(samples, train, held_out):
    return _ratio(*_medians(samples, train, held_out, of=torch.min))


@a_memorisation.misconception(
    "upside-down",
    "Your ratio stands upside down: copies make it large. The samples' distance belongs above.",
)
def memorisation_ratio(samples, train, held_out):
    above, below = _medians(samples, train, held_out)
    if below == 0:
        return _ratio(above, below)
    return float(below / above) if above > 0 else math.inf


@a_memorisation.misconception(
    "samples-to-held-out",
    "Below the line you have the samples' distance to the held-out data. It is to be the held-out "
    "data's own distance to the training data: how near new real data come.",
)
def memorisation_ratio(samples, train, held_out):
    above = _exact(samples, train).amin(1).median()
    below = _exact(samples, held_out).amin(1).median()
    if _exact(held_out, train).amin(1).median() == 0:
        return _ratio(above, torch.zeros(()))
    return _ratio(above, below)


@a_memorisation.misconception(
    "from-the-training-data",
    "You start at the training rows and look for the nearest sample: the smallest value is taken "
    "along the wrong axis. The question is how near each sample comes to training data.",
)
def memorisation_ratio(samples, train, held_out):
    above = _exact(samples, train).amin(0).median()
    return _ratio(above, _exact(held_out, train).amin(0).median())


@a_memorisation.misconception(
    "all-pairs",
    "You take the median over all pairs. Only the nearest training row of each sample matters: a "
    "copy is far from all the others.",
)
def memorisation_ratio(samples, train, held_out):
    below = _exact(held_out, train)
    if below.amin(1).median() == 0:
        return _ratio(below.median(), torch.zeros(()))
    return _ratio(_exact(samples, train).median(), below.median())


@a_memorisation.misconception(
    "train-to-train",
    "Below the line you have the distance from training rows to other training rows. Held-out data "
    "are asked for: they were collected apart, as fair samples would be.",
)
def memorisation_ratio(samples, train, held_out):
    within = _exact(train, train)
    within.fill_diagonal_(math.inf)
    if _exact(held_out, train).amin(1).median() == 0:
        return _ratio(within.amin(1).median(), torch.zeros(()))
    return _ratio(_exact(samples, train).amin(1).median(), within.amin(1).median())


@a_memorisation.misconception(
    "city-blocks",
    "You sum absolute differences. The Euclidean distance is asked for.",
)
def memorisation_ratio(samples, train, held_out):
    above, below = (
        torch.cdist(x.double(), train.double(), p=1).amin(1).median() for x in (samples, held_out)
    )
    return _ratio(above, below)


@a_memorisation.misconception(
    "divides-by-zero",
    "Where held-out rows are training rows, you return a number (inf, NaN, or a huge one where "
    "torch.cdist took its way by a matrix product and made the 0 a rounding error). Such a set "
    "cannot say what chance is: a ValueError is asked for.",
)
def memorisation_ratio(samples, train, held_out):
    above, below = _medians(samples, train, held_out)
    return float(above / below)


@a_memorisation.misconception(
    "a-tensor",
    "Your number is right, but it is a tensor. A plain float is asked for (float(...) or .item()).",
)
def memorisation_ratio(samples, train, held_out):
    above, below = _medians(samples, train, held_out)
    _ratio(above, below)
    return above / below


@a_memorisation.alternative("differences in full, numpy")
def memorisation_ratio(samples, train, held_out):
    train = train.double().numpy()

    def typical(x):
        apart = x.double().numpy()[:, None] - train[None]
        return np.median(np.sqrt((apart**2).sum(-1)).min(1))

    if typical(held_out) < 1e-9:
        raise ValueError("held-out rows are copies")
    return float(typical(samples) / typical(held_out))


@a_memorisation.alternative("a tree of neighbours")
def memorisation_ratio(samples, train, held_out):
    from scipy.spatial import KDTree

    tree = KDTree(train.double().numpy())
    above, below = (float(np.median(tree.query(x.numpy())[0])) for x in (samples, held_out))
    if below == 0.0:
        raise ValueError(f"median distance of held-out rows is {below}")
    return above / below


# --- 08.5 ------------------------------------------------------------------------------------

a_bootstrap = Answers("08.5")


@a_bootstrap.reference
def bootstrap_ci(values, statistic, n, level, generator):
    found = []
    for _ in range(n):
        index = torch.randint(len(values), (len(values),), generator=generator)
        found.append(float(statistic(values[index])))
    found = torch.tensor(found, dtype=torch.float64)
    tail = (1 - level) / 2
    return float(torch.quantile(found, tail)), float(torch.quantile(found, 1 - tail))


def _resampled(values, statistic, n, generator, size=None, draw=None):
    draw = draw or (lambda m, size: torch.randint(m, (size,), generator=generator))
    size = size or len(values)
    found = [float(statistic(values[draw(len(values), size)])) for _ in range(n)]
    return torch.tensor(found, dtype=torch.float64)


def _between(found, low, high):
    return float(torch.quantile(found, low)), float(torch.quantile(found, high))


@a_bootstrap.misconception(
    "without-replacement",
    "You draw without replacement. Each resample then has all values, once each, and the statistic "
    "never changes: the interval has no width.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    found = _resampled(
        values, statistic, n, generator, draw=lambda m, s: torch.randperm(m, generator=generator)
    )
    tail = (1 - level) / 2
    return _between(found, tail, 1 - tail)


@a_bootstrap.misconception(
    "whole-tail-on-each-side",
    "You leave out 1 - level on each side, so that the interval holds too little. What is left out "
    "is shared by both sides.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    found = _resampled(values, statistic, n, generator)
    return _between(found, 1 - level, level) if level > 0.5 else _between(found, 0.5, 0.5)


@a_bootstrap.misconception(
    "one-tail",
    "Your interval begins at the smallest resample and leaves out one side only. The middle is "
    "asked for: half of what is left out lies below.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    return _between(_resampled(values, statistic, n, generator), 0.0, level)


@a_bootstrap.misconception(
    "level-for-the-tails",
    "You leave out `level` and keep the rest: the interval for 90 % comes out as the one for 10 %.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    return _between(_resampled(values, statistic, n, generator), level / 2, 1 - level / 2)


@a_bootstrap.misconception(
    "unseeded",
    "Your draws do not come from the generator: the same seed gives another interval each time, "
    "and nobody can check it.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    tail = (1 - level) / 2
    return _between(_resampled(values, statistic, n, None), tail, 1 - tail)


@a_bootstrap.misconception(
    "seeded-anew",
    "You seed anew before every resample, so that all resamples are the same one, and the interval "
    "has no width.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    state = generator.get_state()

    def draw(m, size):
        generator.set_state(state)
        return torch.randint(m, (size,), generator=generator)

    tail = (1 - level) / 2
    return _between(_resampled(values, statistic, n, generator, draw=draw), tail, 1 - tail)


@a_bootstrap.misconception(
    "quantiles-of-the-values",
    "These are quantiles of the values themselves. They say how the values scatter; asked for is "
    "how far the statistic would move if you had drawn other values.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    rows = values.double().reshape(len(values), -1)[:, 0]
    tail = (1 - level) / 2
    return _between(rows, tail, 1 - tail)


@a_bootstrap.misconception(
    "n-values-each",
    "Each of your resamples has n values; n is the number of resamples. A resample is as large as "
    "the data, or its scatter is another.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    tail = (1 - level) / 2
    return _between(_resampled(values, statistic, n, generator, size=n), tail, 1 - tail)


@a_bootstrap.misconception(
    "resamples-and-values-exchanged",
    "You draw as many resamples as there are values, each of n values. It is the other way round: "
    "n resamples, each as large as the data.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    found = _resampled(values, statistic, len(values), generator, size=n)
    tail = (1 - level) / 2
    return _between(found, tail, 1 - tail)


@a_bootstrap.misconception(
    "bell-curve",
    "You take the statistic plus and minus a multiple of its deviation, as if it were normal. The "
    "quantiles of the resamples are asked for: they may lie askew.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    found = _resampled(values, statistic, n, generator)
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
    centre = float(statistic(values))
    return centre - z * float(found.std()), centre + z * float(found.std())


@a_bootstrap.misconception(
    "mirrored",
    "You mirror the interval about the statistic (the basic bootstrap). It has its merits, but "
    "asked for is the percentile interval: the quantiles as they are.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    tail = (1 - level) / 2
    low, high = _between(_resampled(values, statistic, n, generator), tail, 1 - tail)
    centre = float(statistic(values))
    return 2 * centre - high, 2 * centre - low


@a_bootstrap.misconception(
    "no-interpolation",
    "You pick single resamples by their place in the sorted list. Quantiles are to be "
    "interpolated, as torch.quantile and np.quantile do when left alone.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    found = _resampled(values, statistic, n, generator).sort().values
    tail = (1 - level) / 2
    return float(found[int(tail * n)]), float(found[int((1 - tail) * n)])


@a_bootstrap.misconception(
    "one-resample-short",
    "You have n - 1 resamples: perhaps one is lost to the data themselves, or to a range that "
    "begins at 1.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    tail = (1 - level) / 2
    return _between(_resampled(values, statistic, n - 1, generator), tail, 1 - tail)


@a_bootstrap.misconception(
    "high-first",
    "You return the upper end first. (low, high) is asked for.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    tail = (1 - level) / 2
    return _between(_resampled(values, statistic, n, generator), 1 - tail, tail)


@a_bootstrap.misconception(
    "tensors",
    "Your two numbers are right, but they are tensors. Plain floats are asked for.",
)
def bootstrap_ci(values, statistic, n, level, generator):
    tail = (1 - level) / 2
    ends = _between(_resampled(values, statistic, n, generator), tail, 1 - tail)
    return tuple(torch.tensor(e, dtype=torch.float64) for e in ends)


@a_bootstrap.alternative("all draws at once, numpy's quantile")
def bootstrap_ci(values, statistic, n, level, generator):
    rows = torch.randint(len(values), (n, len(values)), generator=generator)
    found = np.array([float(statistic(values[r])) for r in rows])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@a_bootstrap.alternative("percentiles")
def bootstrap_ci(values, statistic, n, level, generator):
    size = values.shape[0]
    found = []
    while len(found) < n:
        which = torch.randint(0, size, (size,), generator=generator)
        found.append(float(statistic(values.index_select(0, which))))
    outside = 100 * (1 - level)
    return tuple(float(np.percentile(found, q)) for q in (outside / 2, 100 - outside / 2))


# --- 08.6 ------------------------------------------------------------------------------------

a_extrapolate = Answers("08.6")


@a_extrapolate.reference
def fd_vs_n(ns, fds):
    x = 1 / torch.tensor(ns, dtype=torch.float64)
    y = torch.tensor(fds, dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean())


def _line(x, y):
    slope, height = np.polyfit(np.array(x, dtype=float), np.array(y, dtype=float), 1)
    return float(slope), float(height)


@a_extrapolate.misconception(
    "slope",
    "You return the slope of the line, how fast FD falls with 1/n. The height at 1/n = 0 is asked "
    "for. (np.polyfit gives the slope first.)",
)
def fd_vs_n(ns, fds):
    return _line([1 / n for n in ns], fds)[0]


@a_extrapolate.misconception(
    "linear-in-n",
    "Your line is one in n, and you read it at n = 0, which is no samples at all. FD is nearly a "
    "straight line in 1/n; infinitely many samples are at 1/n = 0.",
)
def fd_vs_n(ns, fds):
    return _line(ns, fds)[1]


@a_extrapolate.misconception(
    "linear-in-root-n",
    "Your line is one in 1/sqrt(n), as for the error of a mean. The bias of FD comes from the "
    "covariances, and falls with 1/n.",
)
def fd_vs_n(ns, fds):
    return _line([n**-0.5 for n in ns], fds)[1]


@a_extrapolate.misconception(
    "axes-exchanged",
    "You fit 1/n as a function of FD. FD has the scatter, so FD goes on the vertical axis: least "
    "squares is not the same the other way round.",
)
def fd_vs_n(ns, fds):
    slope, height = _line(fds, [1 / n for n in ns])
    return -height / slope


@a_extrapolate.misconception(
    "largest-count",
    "You return the FD at the largest count. It still has the bias of that count.",
)
def fd_vs_n(ns, fds):
    return fds[ns.index(max(ns))]


@a_extrapolate.misconception(
    "line-at-the-largest-count",
    "You fit the line and read it at the largest count. Infinitely many samples are further along: "
    "where is 1/n then?",
)
def fd_vs_n(ns, fds):
    slope, height = np.polyfit(1 / np.array(ns), fds, 1)
    return float(height + slope / max(ns))


@a_extrapolate.misconception(
    "mean",
    "You average all values, with all their biases. They lie on a line; where does it end?",
)
def fd_vs_n(ns, fds):
    return sum(fds) / len(fds)


@a_extrapolate.misconception(
    "first-and-last",
    "You draw the line through the first and the last value only. All values have a say in a fit "
    "by least squares.",
)
def fd_vs_n(ns, fds):
    x0, x1 = 1 / ns[0], 1 / ns[-1]
    slope = (fds[-1] - fds[0]) / (x1 - x0)
    return fds[0] - slope * x0


@a_extrapolate.misconception(
    "through-the-origin",
    "Your line has no height of its own, FD = slope / n: at 1/n = 0 it is 0 whatever was measured. "
    "What you return is what is left over on average.",
)
def fd_vs_n(ns, fds):
    x = np.array([1 / n for n in ns])
    slope = float((x * np.array(fds)).sum() / (x * x).sum())
    return float((np.array(fds) - slope * x).mean())


@a_extrapolate.misconception(
    "clamped-at-zero",
    "You cut the limit off at 0. The line may end a little below, by chance; cut off, the average "
    "over many measurements would be too large.",
)
def fd_vs_n(ns, fds):
    return max(0.0, _line([1 / n for n in ns], fds)[1])


@a_extrapolate.misconception(
    "weighted-by-n",
    "You give large counts more weight. Plain least squares is asked for: each value counts once.",
)
def fd_vs_n(ns, fds):
    x, y, w = (np.array(v, dtype=float) for v in ([1 / n for n in ns], fds, ns))
    mx, my = (w * x).sum() / w.sum(), (w * y).sum() / w.sum()
    slope = (w * (x - mx) * (y - my)).sum() / (w * (x - mx) ** 2).sum()
    return float(my - slope * mx)


@a_extrapolate.misconception(
    "both",
    "You return the slope together with the height. One number is asked for, the height.",
)
def fd_vs_n(ns, fds):
    return _line([1 / n for n in ns], fds)


@a_extrapolate.misconception(
    "a-tensor",
    "Your number is right, but it is a tensor. A plain float is asked for (float(...) or .item()).",
)
def fd_vs_n(ns, fds):
    return torch.tensor(_line([1 / n for n in ns], fds)[1], dtype=torch.float64)


@a_extrapolate.alternative("np.polyfit")
def fd_vs_n(ns, fds):
    return float(np.polyfit([1 / n for n in ns], fds, 1)[-1])


@a_extrapolate.alternative("least squares with a column of ones")
def fd_vs_n(ns, fds):
    x = torch.tensor([[1.0, 1.0 / n] for n in ns], dtype=torch.float64)
    y = torch.tensor(fds, dtype=torch.float64)[:, None]
    return torch.linalg.lstsq(x, y).solution[0].item()


# --- 08.7 ------------------------------------------------------------------------------------

a_spot = Answers("08.7")


@a_spot.reference
def spot_the_cheat(sets):
    train, held_out = sets["train"], sets["held_out"]
    names = {}
    for name, samples in sets.items():
        if name in ("train", "held_out"):
            continue
        precision, recall = precision_recall(held_out, samples, 3)
        if memorisation_ratio(samples, train, held_out) < 0.4:
            names[name] = "copied"
        elif precision < 0.5:
            names[name] = "noisy"
        elif recall < 0.5:
            names[name] = "collapsed"
        else:
            names[name] = "honest"
    return names


def _suspects(sets):
    return {k: v.double() for k, v in sets.items() if k not in ("train", "held_out")}


def _facts(sets):
    """{name: (memorisation, precision, recall, FD over floor)}; floor: held-out against train."""
    train, held_out = sets["train"].double(), sets["held_out"].double()
    floor = frechet_distance(held_out, train)
    found = {}
    for name, x in _suspects(sets).items():
        ratio = memorisation_ratio(x, train, held_out)
        found[name] = (ratio, *_both(held_out, x, 3), frechet_distance(x, held_out) / floor)
    return found


def _verdicts(sets, rule):
    return {name: rule(*facts) for name, facts in _facts(sets).items()}


@a_spot.misconception(
    "distance-alone",
    "You go by the Frechet distance alone: small is honest, large is a cheat. Copies have an "
    "excellent distance, and it cannot tell a collapsed set from a noisy one.",
)
def spot_the_cheat(sets):
    return _verdicts(sets, lambda m, p, r, f: "honest" if f < 6 else "noisy")


@a_spot.misconception(
    "nearest-neighbour-alone",
    "You find copies by their distance to the training data, and call all others honest. What is "
    "not copied may still be noise, or one thing again and again.",
)
def spot_the_cheat(sets):
    return _verdicts(sets, lambda m, p, r, f: "copied" if m < 0.4 else "honest")


@a_spot.misconception(
    "copies-pass",
    "Copies pass as honest: you never compare with the training data. They are real data, with the "
    "precision and the recall of real data.",
)
def spot_the_cheat(sets):
    return _verdicts(
        sets, lambda m, p, r, f: "noisy" if p < 0.5 else "collapsed" if r < 0.5 else "honest"
    )


@a_spot.misconception(
    "all-else-collapsed",
    "You call every set collapsed that is neither copied nor honest. Samples that lie off the data "
    "are another fault: they leave nothing out, but show what does not exist.",
)
def spot_the_cheat(sets):
    def rule(m, p, r, f):
        if m < 0.4:
            return "copied"
        return "collapsed" if r < 0.5 or p < 0.5 else "honest"

    return _verdicts(sets, rule)


@a_spot.misconception(
    "precision-alone",
    "You find copies, and what lies off the data; you never ask what is missing. A set that shows "
    "one thing perfectly is not honest.",
)
def spot_the_cheat(sets):
    return _verdicts(
        sets, lambda m, p, r, f: "copied" if m < 0.4 else "noisy" if p < 0.5 else "honest"
    )


@a_spot.misconception(
    "precision-and-recall-exchanged",
    "You call low precision collapsed and low recall noisy. It is the other way round: precision "
    "is about what the samples show, recall about what they leave out.",
)
def spot_the_cheat(sets):
    def rule(m, p, r, f):
        if m < 0.4:
            return "copied"
        return "collapsed" if p < 0.5 else "noisy" if r < 0.5 else "honest"

    return _verdicts(sets, rule)


@a_spot.misconception(
    "exact-copies-only",
    "You look for rows that are equal to a training row to the last digit. A copy moved by a hair "
    "escapes you: ask how near, compared with new real data.",
)
def spot_the_cheat(sets):
    train = sets["train"].double()

    def same(x):
        return float((_exact(x.double(), train).amin(1) == 0).double().mean()) > 0.5

    rest = _verdicts(
        sets, lambda m, p, r, f: "noisy" if p < 0.5 else "collapsed" if r < 0.5 else "honest"
    )
    return {name: "copied" if same(sets[name]) else verdict for name, verdict in rest.items()}


@a_spot.misconception(
    "fixed-distance",
    "You compare distances with a fixed number. Features have no fixed scale: multiply them all by "
    "100, and your verdicts change. Compare with what the held-out set has.",
)
def spot_the_cheat(sets):
    train = sets["train"].double()
    found = {}
    for name, (_, p, r, _) in _facts(sets).items():
        near = float(_exact(_suspects(sets)[name], train).amin(1).median())
        if near < 0.5:
            found[name] = "copied"
        else:
            found[name] = "noisy" if p < 0.5 else "collapsed" if r < 0.5 else "honest"
    return found


@a_spot.misconception(
    "repeats-for-collapse",
    "You call a set collapsed when it holds the same row twice. A model that shows one kind only, "
    "each time a little otherwise, has collapsed as well.",
)
def spot_the_cheat(sets):
    def rule(m, p, r, f):
        return "copied" if m < 0.4 else "noisy" if p < 0.5 else "honest"

    found = _verdicts(sets, rule)
    return {
        name: "collapsed" if len(sets[name].unique(dim=0)) < len(sets[name]) else verdict
        for name, verdict in found.items()
    }


@a_spot.misconception(
    "against-the-training-data",
    "You ask what is missing and what is too much by comparing with the training data, and call a "
    "set that agrees with them copied. Honest samples agree with them as well: held-out data do.",
)
def spot_the_cheat(sets):
    def rule(m, p, r, f):
        return "noisy" if p < 0.5 else "collapsed" if r < 0.5 else "copied"

    return _verdicts(sets, rule)


@a_spot.misconception(
    "closest-sample",
    "You go by the one sample that is closest to a training row. Among many honest samples one is "
    "always close by chance: compare the medians.",
)
def spot_the_cheat(sets):
    train, held_out = sets["train"].double(), sets["held_out"].double()
    limit = float(_exact(held_out, train).amin(1).quantile(0.25))
    found = {}
    for name, (_, p, r, _) in _facts(sets).items():
        if float(_exact(_suspects(sets)[name], train).min()) < limit:
            found[name] = "copied"
        else:
            found[name] = "noisy" if p < 0.5 else "collapsed" if r < 0.5 else "honest"
    return found


@a_spot.misconception(
    "known-sets-judged",
    "You also return verdicts on train and held_out. They are what is known; only the other sets "
    "are asked about.",
)
def spot_the_cheat(sets):
    found = _verdicts(
        sets,
        lambda m, p, r, f: (
            "copied" if m < 0.4 else "noisy" if p < 0.5 else "collapsed" if r < 0.5 else "honest"
        ),
    )
    return {"train": "copied", "held_out": "honest"} | found


@a_spot.misconception(
    "names-by-verdict",
    "You return, for each verdict, the names of the sets. A dict from each name to its verdict is "
    "asked for.",
)
def spot_the_cheat(sets):
    found = {"copied": [], "collapsed": [], "noisy": [], "honest": []}
    for name, (m, p, r, _) in _facts(sets).items():
        kind = "copied" if m < 0.4 else "noisy" if p < 0.5 else "collapsed"
        found["honest" if min(m, p, r) >= 0.5 else kind].append(name)
    return found


@a_spot.alternative("distances both ways, by numpy")
def spot_the_cheat(sets):
    def typical(x, y):
        apart = np.linalg.norm(x[:, None] - y[None], axis=-1)
        return float(np.median(apart.min(1)))

    known = {k: sets[k].double().numpy() for k in ("train", "held_out")}
    half = known["train"][: len(known["held_out"])]
    chance, there = typical(known["held_out"], known["train"]), typical(known["held_out"], half)
    found = {}
    for name in sets.keys() - known.keys():
        x = sets[name].double().numpy()
        to_data = typical(x, known["train"]) / chance
        if to_data < 0.3:
            found[name] = "copied"
        elif to_data > 1.35:
            found[name] = "noisy"
        else:
            found[name] = "collapsed" if typical(known["held_out"], x) > 2 * there else "honest"
    return found


@a_spot.alternative("spread, and nearest neighbours")
def spot_the_cheat(sets):
    train, held_out = sets["train"].double(), sets["held_out"].double()

    def within(x):
        x = x.double()
        d = torch.cdist(x, x)
        d.fill_diagonal_(math.inf)
        return float(d.amin(1).median())

    real_spread, real_gap = float(held_out.var(0).sum()), within(held_out)
    chance = torch.cdist(held_out, train).amin(1).median()
    answer = {}
    for name, x in sets.items():
        if name in ("train", "held_out"):
            continue
        x = x.double()
        if torch.cdist(x, train).amin(1).median() < 0.5 * chance:
            answer[name] = "copied"
        elif within(x) > 1.35 * real_gap:
            answer[name] = "noisy"
        elif float(x.var(0).sum()) < 0.45 * real_spread:
            answer[name] = "collapsed"
        else:
            answer[name] = "honest"
    return answer
