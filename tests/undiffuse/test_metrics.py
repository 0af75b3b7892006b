"""Measures of quality against scipy, scikit-learn, closed forms and their invariances."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats
from sklearn.neighbors import NearestNeighbors

from undiffuse import metrics as me

F64 = torch.float64


def draw(seed, n, d, mean=0.0, std=1.0, dtype=F64):
    """(n, d) correlated normal rows."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=g, dtype=F64) / d**0.5 + 0.5 * torch.eye(d, dtype=F64)
    return (std * torch.randn(n, d, generator=g, dtype=F64) @ mix + mean).to(dtype)


# --- Frechet distance ------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "d"), [(60, 40, 5), (200, 150, 16), (17, 90, 3)])
def test_frechet_equals_scipys_matrix_root(n, m, d):
    a, b = draw(0, n, d), draw(1, m, d, mean=0.4, std=1.3)
    ca, cb = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    off = (a.mean(0) - b.mean(0)).numpy()
    wanted = off @ off + np.trace(ca + cb - 2 * np.real(linalg.sqrtm(ca @ cb)))
    assert me.frechet_distance(a, b) == pytest.approx(wanted, rel=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9), st.integers(1, 12))
def test_frechet_of_few_rows_equals_the_regularised_limit(seed, n, m, d):
    """Rank-deficient: eigenvalues of the symmetric form, with rounding below 0 set to 0."""
    a, b = draw(seed, n, d), draw(seed + 1, m, d, mean=0.3)
    ca, cb = (torch.cov(x.T).reshape(d, d) for x in (a, b))
    w, v = torch.linalg.eigh(ca)
    half = v * w.clamp(min=0).sqrt() @ v.T
    shared = torch.linalg.eigvalsh(half @ cb @ half).clamp(min=0).sqrt().sum()
    wanted = (a.mean(0) - b.mean(0)).square().sum() + ca.trace() + cb.trace() - 2 * shared
    assert me.frechet_distance(a, b) == pytest.approx(float(wanted), abs=1e-6)


def test_frechet_of_one_dimension_is_the_formula():
    a, b = draw(2, 50, 1), draw(3, 70, 1, mean=2.0, std=3.0)
    wanted = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert me.frechet_distance(a, b) == pytest.approx(float(wanted), rel=1e-12)


def test_frechet_of_gaussians_is_the_transport_cost():
    """In one dimension the distance of two large samples is that of their sorted values."""
    a, b = draw(4, 40_000, 1), draw(5, 40_000, 1, mean=1.0, std=1.5)
    cost = (a.sort(0).values - b.sort(0).values).square().mean()
    assert me.frechet_distance(a, b) == pytest.approx(float(cost), rel=0.01)


@given(st.integers(0, 10_000))
def test_frechet_invariances(seed):
    a, b = draw(seed, 30, 6), draw(seed + 1, 22, 6, mean=0.5)
    base = me.frechet_distance(a, b)
    turn = torch.linalg.qr(draw(seed + 2, 6, 6)).Q
    shift = draw(seed + 3, 1, 6)
    assert me.frechet_distance(b, a) == pytest.approx(base, rel=1e-9)
    assert me.frechet_distance(a @ turn + shift, b @ turn + shift) == pytest.approx(base, rel=1e-8)
    assert me.frechet_distance(3 * a, 3 * b) == pytest.approx(9 * base, rel=1e-9)
    assert me.frechet_distance(a, a.flip(0)) == pytest.approx(0.0, abs=1e-9)
    wide = torch.cat([a, torch.full((30, 2), 4.0, dtype=F64)], 1)
    same = torch.cat([b, torch.full((22, 2), 4.0, dtype=F64)], 1)
    assert me.frechet_distance(wide, same) == pytest.approx(base, rel=1e-9)
    assert base >= 0 and isinstance(base, float)


def test_frechet_floor_falls_like_one_over_n_and_extrapolates_to_zero():
    a, b = draw(0, 4000, 8), draw(0, 8000, 8)[4000:]
    ns = [100, 200, 400, 1000]
    curve = me.fd_curve(a, b, ns, torch.Generator().manual_seed(0), repeats=30)
    means = curve.mean(1)
    assert (means.diff() < 0).all()
    assert float(means[0] / means[3]) == pytest.approx(10, rel=0.35)
    repeated = [n for n in ns for _ in range(30)]
    limit = me.fd_vs_n(repeated, curve.flatten().tolist())
    assert abs(limit) < 0.05 * float(means[0])


def test_fd_vs_n_is_scipys_line():
    ns, fds = [900, 100, 300, 100, 500], [1.2, 3.4, 1.9, 3.1, 1.6]
    wanted = stats.linregress([1 / n for n in ns], fds).intercept
    assert me.fd_vs_n(ns, fds) == pytest.approx(wanted, rel=1e-12)
    exact = [2.5 + 80 / n for n in ns]
    assert me.fd_vs_n(ns, exact) == pytest.approx(2.5, rel=1e-12)


# --- KID -------------------------------------------------------------------------------------


def test_kid_by_loops():
    a, b = draw(0, 7, 3), draw(1, 5, 3, mean=0.4)

    def k(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    aa = np.mean([k(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    bb = np.mean([k(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    ab = np.mean([k(x, y) for x in a for y in b])
    assert me.kid(a, b) == pytest.approx(aa + bb - 2 * ab, rel=1e-10)


def test_kid_is_unbiased_where_frechet_is_not():
    pool = draw(6, 6000, 6)
    g = torch.Generator().manual_seed(0)
    kids, fds = [], []
    for _ in range(300):
        i = torch.randperm(len(pool), generator=g)[:80]
        kids.append(me.kid(pool[i[:40]], pool[i[40:]]))
        fds.append(me.frechet_distance(pool[i[:40]], pool[i[40:]]))
    kids = np.array(kids)
    assert abs(kids.mean()) < 4 * kids.std() / math.sqrt(len(kids))
    assert kids.min() < 0 < min(fds)
    assert np.mean(fds) > 20 * np.std(fds) / math.sqrt(len(fds))


def test_kid_of_a_set_and_itself_is_below_zero():
    a = draw(8, 20, 4)
    assert me.kid(a, a) < 0
    assert me.kid(a, a.flip(0)) == pytest.approx(me.kid(a, a), rel=1e-9)


# --- neighbours ------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5])
def test_nearest_distances_equal_scikit_learn(k):
    x, to = draw(0, 40, 5), draw(1, 60, 5)
    found = NearestNeighbors(n_neighbors=k).fit(to.numpy()).kneighbors(x.numpy())[0][:, -1]
    torch.testing.assert_close(me.nearest_distances(x, to, k), torch.from_numpy(found))
    own = NearestNeighbors(n_neighbors=k + 1).fit(to.numpy()).kneighbors(to.numpy())[0][:, -1]
    torch.testing.assert_close(
        me.nearest_distances(to, to, k, skip_self=True), torch.from_numpy(own)
    )


def test_a_copy_has_distance_zero_exactly():
    x = draw(0, 300, 64, mean=50.0, dtype=torch.float32)
    assert (me.nearest_distances(x[:100], x) == 0).all()


@pytest.mark.parametrize("k", [1, 3, 4])
def test_precision_and_recall_equal_scikit_learn(k):
    real, fake = draw(0, 50, 4), draw(1, 37, 4, mean=0.7, std=0.8)

    def share(points, manifold):
        fitted = NearestNeighbors(n_neighbors=k + 1).fit(manifold)
        reach = fitted.kneighbors(manifold)[0][:, -1]
        apart = np.linalg.norm(points[:, None] - manifold[None], axis=-1)
        return (apart <= reach).any(1).mean()

    wanted = share(fake.numpy(), real.numpy()), share(real.numpy(), fake.numpy())
    assert me.precision_recall(real, fake, k) == pytest.approx(wanted)
    assert me.precision_recall(fake, real, k) == pytest.approx(wanted[::-1])


def test_precision_and_recall_of_known_sets():
    real = torch.cat([draw(0, 60, 3), draw(1, 60, 3) + 50])
    assert me.precision_recall(real, real.flip(0)) == (1.0, 1.0)
    assert me.precision_recall(real, real[:60])[1] == pytest.approx(0.5)
    assert me.precision_recall(real, real + 1000) == (0.0, 0.0)
    assert me.precision_recall(real, real[:1].expand(30, 3)) == (1.0, 1 / 120)


@given(st.integers(0, 1000))
def test_shares_do_not_depend_on_scale_turn_or_order(seed):
    real, fake = draw(seed, 30, 4), draw(seed + 1, 24, 4, mean=0.4)
    turn = torch.linalg.qr(draw(seed + 2, 4, 4)).Q
    base = me.precision_recall(real, fake)
    assert me.precision_recall(7 * real @ turn, 7 * fake @ turn) == pytest.approx(base, abs=0.05)
    assert me.precision_recall(real.flip(0), fake.flip(0)) == base


def test_memorisation_of_copies_reals_and_noise():
    train, held_out, fresh = draw(0, 1500, 6).split(500)
    assert me.memorisation_ratio(train[:200], train, held_out) == 0
    assert me.memorisation_ratio(fresh, train, held_out) == pytest.approx(1, abs=0.1)
    noisy = fresh + 3 * torch.randn(fresh.shape, generator=torch.Generator().manual_seed(0))
    assert me.memorisation_ratio(noisy, train, held_out) > 1.5
    with pytest.raises(ValueError, match="no meaning"):
        me.memorisation_ratio(fresh, train, train[:50])


def test_nearness_quantiles_are_those_of_the_distances():
    train, held_out, fresh = draw(0, 900, 6).split(300)
    found = me.nearness_quantiles(fresh, train, held_out, (0.05, 0.5))
    for name, rows in (("samples", fresh), ("held_out", held_out)):
        wanted = np.quantile(me.nearest_distances(rows, train).numpy(), [0.05, 0.5])
        assert list(found[name].values()) == pytest.approx(wanted.tolist())
        assert list(found[name]) == ["0.05", "0.5"]


# --- bootstrap -------------------------------------------------------------------------------


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    g = torch.Generator().manual_seed(1)
    hits, tries = 0, 300
    for _ in range(tries):
        low, high = me.bootstrap_ci(
            torch.randn(60, generator=g, dtype=F64) + 2, torch.mean, 200, 0.9, g
        )
        hits += low <= 2 <= high
    # 0.9 in the limit, a little less at 60 values; five deviations either way
    assert 0.80 < hits / tries < 0.97


def test_bootstrap_is_scipys_percentile_interval():
    values = draw(0, 80, 1)[:, 0].exp()
    low, high = me.bootstrap_ci(values, torch.mean, 4000, 0.95, torch.Generator().manual_seed(0))
    wanted = stats.bootstrap(
        (values.numpy(),), np.mean, n_resamples=4000, method="percentile", rng=0
    ).confidence_interval
    width = wanted.high - wanted.low
    assert abs(low - wanted.low) < 0.06 * width
    assert abs(high - wanted.high) < 0.06 * width


def test_bootstrap_resamples_rows_and_repeats_with_its_seed():
    rows = draw(0, 40, 2).exp()
    ratio = lambda r: float(r[:, 0].sum() / r[:, 1].sum())  # noqa: E731
    first, again, other = (
        me.bootstrap_ci(rows, ratio, 100, 0.9, torch.Generator().manual_seed(s)) for s in (3, 3, 4)
    )
    assert first == again != other
    assert first[0] < ratio(rows) < first[1]


# --- everything at once, and bad input -------------------------------------------------------


def test_assess_takes_equal_counts_and_its_parts_agree():
    fake, reference, held_out = draw(0, 120, 5, mean=0.3), draw(1, 90, 5), draw(2, 100, 5)
    train = draw(3, 200, 5)
    q = me.assess(fake, reference, held_out, train, accuracy=0.9)
    assert q.n == 90
    assert q.fd == me.frechet_distance(fake[:90], reference)
    assert q.floor == me.frechet_distance(held_out[:90], reference)
    assert q.excess == q.fd - q.floor and q.ratio == q.fd / q.floor
    assert (q.precision, q.recall) == me.precision_recall(reference, fake[:90])
    floors = me.precision_recall(reference, held_out[:90])
    assert (q.floor_precision, q.floor_recall) == floors
    assert q.accuracy == 0.9


def test_frechet_interval_holds_the_mean_of_other_draws():
    """About as often as it says."""
    g = torch.Generator().manual_seed(0)
    d, n, cases = 6, 100, 60
    b = torch.randn(300, d, generator=g, dtype=F64)

    def samples():
        return 1.2 * torch.randn(n, d, generator=g, dtype=F64) + 0.3

    truth = sum(me.frechet_distance(samples(), b) for _ in range(400)) / 400
    hits = 0
    for _ in range(cases):
        a = samples()
        low, high = me.frechet_interval(a, b, n=80, level=0.9, generator=g)
        hits += low <= truth <= high
    # Binomial(60, 0.9) is below 46 once in 2000
    assert hits >= 46


def test_frechet_interval_resamples_within_groups():
    """With one row a group every resample is the set itself: the interval has no width."""
    a, b = draw(0, 30, 4), draw(1, 40, 4)
    value = me.frechet_distance(a, b)
    found = me.frechet_interval(a, b, torch.arange(30), n=5)
    assert found == pytest.approx((value, value), rel=1e-9)


@pytest.mark.parametrize(
    ("first", "later", "wanted"),
    [
        ([4.0, 4.2, 4.1], [[2.0, 2.1, 2.2], [2.0, 2.1, 2.19]], 1),  # falls, then is flat
        ([4.0, 4.2, 4.1], [[4.0, 4.1, 3.9], [4.1, 4.2, 4.0]], 0),  # flat from the start
        ([4.0, 4.2, 4.1], [[3.9, 3.95, 3.92], [3.8, 3.78, 3.85]], 2),  # small falls add up
        ([4.0, 4.2, 4.1], [[1.0, 4.1, 1.0], [5.0, 5.2, 5.1]], 0),  # one seed says otherwise
        ([4.0, 4.2, 4.1], [[2.0, 2.1, 2.2], [9.0, 9.0, 9.0]], 1),  # rises again
    ],
)
def test_last_gain_is_where_seeds_agree_that_it_fell(first, later, wanted):
    runs = torch.tensor([first, *later], dtype=F64).T
    assert me.last_gain(runs) == wanted


@pytest.mark.parametrize("shape", [(3,), (1, 4), (3, 1)])
def test_last_gain_wants_seeds_and_settings(shape):
    with pytest.raises(ValueError, match="two or more"):
        me.last_gain(torch.ones(shape))
    with pytest.raises(ValueError, match="NaN"):
        me.last_gain(torch.full((2, 2), math.nan))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: me.frechet_distance(draw(0, 9, 3), draw(1, 9, 4)), "3 features and b 4"),
        (lambda: me.frechet_distance(draw(0, 9, 3)[0], draw(1, 9, 3)), r"\(N, D\), got \(3,\)"),
        (lambda: me.frechet_distance(draw(0, 1, 3), draw(1, 9, 3)), "at least 2 rows, got 1"),
        (lambda: me.kid([1.0], draw(1, 9, 3)), "got list"),
        (lambda: me.kid(draw(0, 9, 3) * math.nan, draw(1, 9, 3)), "NaN or infinite"),
        (lambda: me.precision_recall(draw(0, 9, 3), draw(1, 3, 3), 3), "neighbour 4 among 3"),
        (lambda: me.nearest_distances(draw(0, 9, 3), draw(1, 3, 3), 4), "neighbour 4 among 3"),
        (lambda: me.bootstrap_ci(torch.ones(5), torch.mean, 10, 1.0), "level must be in"),
        (lambda: me.bootstrap_ci(torch.ones(1), torch.mean, 10), "got 10, 1"),
        (lambda: me.frechet_interval(draw(0, 9, 3), draw(1, 9, 3), level=2), "level must be in"),
        (lambda: me.frechet_interval(draw(0, 9, 3), draw(1, 9, 3), n=1), "got 1"),
        (
            lambda: me.frechet_interval(draw(0, 9, 3), draw(1, 9, 3), torch.zeros(4)),
            "9 rows but 4 groups",
        ),
        (lambda: me.fd_vs_n([100, 100], [1.0, 2.0]), "two or more different counts"),
        (lambda: me.fd_vs_n([100, 200], [1.0]), "2 counts but 1 distances"),
        (lambda: me.fd_curve(draw(0, 9, 3), draw(1, 8, 3), [5, 9]), "from 2 to 8, got"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
