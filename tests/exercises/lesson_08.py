"""Checks of lesson 08, measuring: exercises and their cases; the answers are elsewhere.

Features are correlated, off zero and of unequal spread; counts differ from each other and from the
number of features, but for the cases where just that hides a mistake. Where a figure counts
(precision, recall), points are drawn anew until none lies near the edge of a ball, so that rounding
cannot move one across; or all distances are whole numbers, and nothing is rounded. Judges know only
sizes and tolerances.
"""

import torch

from coursework.exercise import Case, Draw, Exercise, Given, Lesson, Tol

LESSON = Lesson("08", provides=("undiffuse.data", "undiffuse.plots"))
LOOSE = Tol(rtol=1e-5)


def features(draw: Draw, n: int, d: int, dtype: str = "float64") -> torch.Tensor:
    """(n, d) correlated normal features with unequal spreads and means off zero."""
    mix = draw.normal(d, d, dtype="float64") / d**0.5 + 0.5 * torch.eye(d, dtype=torch.float64)
    mean = draw.normal(d, dtype="float64", mean=0.6)
    spread = draw.uniform(0.4, 1.9, d, dtype="float64")
    x = (draw.normal(n, d, dtype="float64") * spread) @ mix + mean
    return x.to(getattr(torch, dtype))


def near(got, expected, case: Case, slack: float):
    """A finding unless ``got`` is a plain number within the case's tolerance or ``slack``."""
    from coursework.judge import compare

    found = compare(got, expected, case.tol)
    if found is None or found.kind != "value" or not isinstance(got, (int, float)):
        return found
    return None if abs(got - expected) <= slack else found


frechet = Exercise(
    id="08.1",
    title="The distance of two clouds",
    names=("frechet_distance",),
    points={"the formula": 2, "fewer samples than features": 1, "edges": 1},
    difficulty=3,
    minutes=25,
    hints=(
        "Four numbers are added: the squared distance of the means, the sum of all variances of a, "
        "the same of b, and minus twice the trace of a root. torch.cov wants features in rows.",
        "The root is one of matrices: the R with R @ R = C_a C_b. No function of single elements "
        "gives it. But you need only its trace, the sum of the roots of the eigenvalues of C_a "
        "C_b.",
        "With fewer samples than features some eigenvalues are 0, and rounding makes them a little "
        "negative. They are known not to be: what may you do with them before you take the root?",
        "A symmetric matrix is kinder: sqrt(C_a) C_b sqrt(C_a) has the same eigenvalues as "
        "C_a C_b, and torch.linalg.eigvalsh gives real ones. sqrt(C_a) comes from "
        "torch.linalg.eigh.",
    ),
    library=("undiffuse.metrics.frechet_distance",),
)


@frechet.cases
def _(draw: Draw):
    main, few = "the formula", "fewer samples than features"
    yield Case("unequal counts", (features(draw, 40, 6), features(draw, 27, 6)), group=main)
    a = features(draw, 31, 5)
    yield Case("the same cloud, moved", (a, a + draw.normal(5, dtype="float64")), group=main)
    pair = features(draw, 24, 4, "float32"), features(draw, 35, 4, "float32")
    yield Case("float32", pair, group=main)
    one = features(draw, 12, 1), features(draw, 15, 1)
    yield Case("one feature", one, group="edges")
    yield Case(
        "six and nine samples of 14", (features(draw, 6, 14), features(draw, 9, 14)), group=few
    )
    yield Case(
        "as many samples as features", (features(draw, 8, 8), features(draw, 8, 8)), group=few
    )
    a, b = features(draw, 30, 7), features(draw, 26, 7)
    a[:, 2], b[:, 5] = 0.3, -1.2
    yield Case("features that are always the same", (a, b), group=few)
    a = features(draw, 22, 5)
    yield Case("a set and itself", (a, a[draw.distinct(0, 22, 22)]), group="edges")
    yield Case("two samples each", (features(draw, 2, 3), features(draw, 2, 3)), group="edges")


@frechet.judge
def _(case: Case, got, expected):
    a, b = (x.double() for x in case.args)
    scale = a.var(0).sum() + b.var(0).sum() + (a.mean(0) - b.mean(0)).square().sum()
    found = near(got, expected, case, 5e-5 * float(scale))
    if found and isinstance(got, float) and abs(got - expected) < 5e-3 * float(scale):
        found.says += (
            ". That is near, and not near enough: is all of it computed in float64, and nothing "
            "added to what should be 0?"
        )
    return found


kid = Exercise(
    id="08.2",
    title="A distance without a bias",
    names=("kid",),
    points={"the formula": 2, "counts": 1, "edges": 1},
    difficulty=2,
    minutes=15,
    hints=(
        "x @ y.T has all inner products at once. Write the kernel as a function of two sets, that "
        "gives the matrix of all pairs.",
        "Three averages: of the pairs within a, within b, and between a and b. In which of the "
        "three does a sample meet itself?",
        "Without its diagonal an n x n matrix has n (n - 1) entries. Sum everything, take the "
        "trace away, divide by that.",
    ),
    library=("undiffuse.metrics.kid",),
)


@kid.cases
def _(draw: Draw):
    def pair(n, m, d, dtype="float64"):
        return features(draw, n, d, dtype), features(draw, m, d, dtype)

    main = "the formula"
    yield Case("unequal counts", pair(17, 25, 5), group=main, tol=LOOSE)
    yield Case("three features", pair(30, 12, 3), group=main, tol=LOOSE)
    yield Case("float32", pair(14, 20, 6, "float32"), group=main, tol=Tol(rtol=1e-4))
    yield Case("equal counts", pair(11, 11, 4), group="counts", tol=LOOSE)
    yield Case("as many samples as features", pair(7, 7, 7), group="counts", tol=LOOSE)
    yield Case("two samples each", pair(2, 2, 5), group="edges", tol=LOOSE)
    a = features(draw, 13, 4)
    yield Case("a set and itself: below 0", (a, a.clone()), group="edges", tol=LOOSE)


@kid.judge
def _(case: Case, got, expected):
    sizes = torch.cat([x.double().square().sum(1) for x in case.args])
    scale = (sizes.max() / case.args[0].shape[1] + 1) ** 3
    return near(got, expected, case, (2e-6 if "float32" in case.name else 1e-9) * float(scale))


precision_recall = Exercise(
    id="08.3",
    title="Two questions instead of one number",
    names=("precision_recall",),
    points={"precision and recall": 2, "k and counts": 1, "cheats": 1},
    difficulty=3,
    minutes=25,
    hints=(
        "Write one helper first: inside(points, manifold) gives the share of points that lie in at "
        "least one ball of the manifold. Precision and recall are two calls of it.",
        "torch.cdist(manifold, manifold) has the distances of all pairs. In each row the smallest "
        "is that of a point to itself. Which place has the k-th neighbour then?",
        "Compare torch.cdist(points, manifold) with the radii: every column has the radius of its "
        "own ball. Then ask, point by point, whether any comparison came out true.",
    ),
    library=("undiffuse.metrics.precision_recall",),
)


def clear_of_edges(real: torch.Tensor, fake: torch.Tensor, ks, margin: float = 2e-4) -> bool:
    """Whether no sample lies within ``margin`` (relative) of the edge of any ball."""
    real, fake = real.double(), fake.double()
    for manifold, points in ((real, fake), (fake, real)):
        within = torch.cdist(manifold, manifold).sort(1).values
        apart = torch.cdist(points, manifold)
        for k in ks:
            radius = within[:, k]
            if bool(((apart - radius).abs() < margin * radius.clamp(min=0.05)).any()):
                return False
    return True


@precision_recall.cases
def _(draw: Draw):
    def clear(make, *ks):
        while True:
            real, fake = make()
            if clear_of_edges(real, fake, ks):
                return real, fake

    def clouds(n, m, d, spread, off, dtype="float64"):
        real = draw.normal(n, d, dtype=dtype, mean=0.5)
        return real, draw.normal(m, d, dtype=dtype, mean=0.5 + off, std=spread)

    main, counts = "precision and recall", "k and counts"
    pair = clear(lambda: clouds(36, 24, 3, 0.55, 0.2), 3)
    yield Case("too narrow, k left out", pair, group=main)
    pair = clear(lambda: clouds(25, 34, 4, 1.7, 0.3, "float32"), 3)
    yield Case("too wide, float32", (*pair, 3), group=main)
    pair = clear(lambda: clouds(30, 30, 2, 0.8, 1.0), 2)
    yield Case("beside it, equal counts", (*pair, 2), group=main)
    pair = clear(lambda: clouds(20, 33, 5, 1.25, 0.0), 1)
    yield Case("k = 1", (*pair, 1), group=counts)
    pair = clear(lambda: clouds(28, 19, 3, 0.7, 0.5), 5)
    yield Case("k = 5", pair, {"k": 5}, group=counts)

    def on_a_line(places):
        """Places of whole numbers, on a line on which their distances are whole numbers, too."""
        order = draw.distinct(0, len(places), len(places))
        return torch.tensor(places, dtype=torch.float64)[order, None] * way + start

    way = draw.integers(1, 4) * torch.tensor([3.0, 4.0], dtype=torch.float64)
    start = draw.integers(-20, 20, 2).double()
    pair = on_a_line([11, 13, 15, 17, 21]), on_a_line([1, 3, 7, 24, 25, 27])
    yield Case("on the edge", (*pair, 2), group=counts)

    def two_modes():
        real = torch.cat(
            [draw.normal(15, 2, dtype="float64"), draw.normal(17, 2, dtype="float64", mean=9.0)]
        )
        return real, draw.normal(26, 2, dtype="float64", mean=9.0, std=0.8)

    yield Case("one of two modes", clear(two_modes, 3), group="cheats")

    def one_point():
        real = draw.normal(21, 3, dtype="float64")
        return real, (real[:1] + 0.01 * draw.normal(1, 3, dtype="float64")).repeat(12, 1)

    yield Case("the same sample again and again", clear(one_point, 3), group="cheats")


memorisation = Exercise(
    id="08.4",
    title="Nearer than chance?",
    names=("memorisation_ratio",),
    points={"the ratio": 2, "copies and noise": 1, "edges": 1},
    difficulty=2,
    minutes=15,
    hints=(
        "For each sample: the distance to the nearest of all training rows. For each held-out row: "
        "the same. Then two medians, and one division.",
        "torch.cdist(x, train) is (len(x), len(train)). Along which axis do you look for the "
        "nearest training row?",
        "Before you divide, look at what you divide by. When is the median of the held-out "
        "distances 0, and what does that say about the held-out set?",
    ),
    library=("undiffuse.metrics.memorisation_ratio",),
)


def value_or_error(answer, samples, train, held_out):
    """The name of the error that the call raises, or "a number"."""
    try:
        answer.memorisation_ratio(samples, train, held_out)
    except (ValueError, ZeroDivisionError) as error:
        return type(error).__name__
    return "a number"


@memorisation.cases
def _(draw: Draw):
    def rows(n, d, dtype="float64", std=1.0):
        return draw.normal(n, d, dtype=dtype, mean=0.4, std=std)

    main, cheats = "the ratio", "copies and noise"
    yield Case("wider than the data", (rows(21, 4, std=1.8), rows(30, 4), rows(15, 4)), group=main)
    args = rows(17, 6, "float32", 0.6), rows(26, 6, "float32"), rows(23, 6, "float32")
    yield Case("narrower, float32", args, group=main, tol=Tol(rtol=1e-4))
    yield Case("equal counts", (rows(13, 3), rows(13, 3), rows(13, 3)), group=main)
    train = rows(40, 5)
    copies = train[draw.distinct(0, 40, 25)]
    some = torch.cat([copies[:8], rows(17, 5, std=1.5)])[draw.distinct(0, 25, 25)]
    yield Case("a third are copies", (some, train, rows(19, 5)), group=cheats)
    yield Case("nothing but copies", (copies, train, rows(19, 5)), group=cheats)
    shaken = copies + rows(25, 5, std=0.05)
    yield Case("shaken copies", (shaken, train, rows(19, 5)), group=cheats)
    far = rows(15, 5)
    far[:4] *= 40.0
    yield Case("four samples far out", (far, train, rows(21, 5)), group="edges")
    yield Case("one sample", (rows(1, 5), train, rows(9, 5)), group="edges")
    # Far from 0, so that a distance by a matrix product does not come out as 0 by luck.
    train = rows(60, 24, "float32") + 5
    args = rows(7, 24, "float32") + 5, train, train[draw.distinct(0, 60, 29)]
    yield Case("held-out rows that are copies", args, group="edges", driver=value_or_error)


@memorisation.judge
def _(case: Case, got, expected):
    if case.driver:
        if got == expected:
            return None
        return f"held-out rows that are training rows gave {got}, where a ValueError is wanted"
    return near(got, expected, case, 5e-3 if expected == 0 else 0.0)


bootstrap = Exercise(
    id="08.5",
    title="How sure is the figure?",
    names=("bootstrap_ci",),
    points={"intervals": 2, "rows and seeds": 1},
    difficulty=2,
    minutes=15,
    hints=(
        "One resample: len(values) row numbers drawn with replacement, the statistic of those "
        "rows. Do that n times and keep the n numbers.",
        "The interval holds the middle `level` of these numbers. What is left over lies half below "
        "and half above it.",
        "torch.quantile interpolates, and wants a tensor of float64 to be exact: "
        "torch.tensor(found, dtype=torch.float64).",
    ),
    library=("undiffuse.metrics.bootstrap_ci",),
)


def mean_of():
    """The mean of all values, as a float."""
    return lambda values: float(values.mean())


def spread_of():
    """The standard deviation, as a float."""
    return lambda values: float(values.std())


def upper_quartile():
    """The 0.75 quantile, as a 0-d tensor: a statistic need not give a float."""
    return lambda values: torch.quantile(values, 0.75)


def ratio_of_columns():
    """Mean of the first column over that of the second: rows (N, 2) must stay together."""
    return lambda rows: float(rows[:, 0].mean() / rows[:, 1].mean())


@bootstrap.cases
def _(draw: Draw):
    def skewed(n, dtype="float64"):
        return draw.normal(n, dtype="float64").exp().to(getattr(torch, dtype)) + 0.3

    main, rest = "intervals", "rows and seeds"
    args = skewed(23), Given(mean_of), 150, 0.9, draw.seed()
    yield Case("a mean, 90 %", args, group=main, tol=LOOSE)
    args = skewed(40), Given(spread_of), 83, 0.8, draw.seed()
    yield Case("a deviation, 80 %", args, group=main, tol=LOOSE)
    args = skewed(31), Given(upper_quartile), 120, 0.95, draw.seed()
    yield Case("a quartile as a tensor, 95 %", args, group=main, tol=LOOSE)
    args = skewed(18, "float32"), Given(mean_of), 60, 0.5, draw.seed()
    yield Case("float32, 50 %", args, group=main, tol=LOOSE)
    rows = skewed(50).reshape(25, 2)
    rows[:, 0] += 0.8 * rows[:, 1]
    args = rows, Given(ratio_of_columns), 90, 0.85, draw.seed()
    yield Case("a ratio of two columns", args, group=rest, tol=LOOSE)
    args = skewed(2), Given(mean_of), 40, 0.7, draw.seed()
    yield Case("two values", args, group=rest, tol=LOOSE)
    args = skewed(20), Given(mean_of), 20, 0.9, draw.seed()
    yield Case("as many resamples as values", args, group=rest, tol=LOOSE)


extrapolate = Exercise(
    id="08.6",
    title="With infinitely many samples",
    names=("fd_vs_n",),
    points={"on the line": 1, "off the line": 1},
    difficulty=2,
    minutes=12,
    core=False,
    hints=(
        "Put 1/n on the horizontal axis. Where on it are infinitely many samples?",
        "A straight line through points (x, y), by least squares: its slope is the covariance of x "
        "and y over the variance of x, and it goes through the point of the two means.",
        "What is asked for is the height of the line at 1/n = 0, and not its slope.",
    ),
    library=("undiffuse.metrics.fd_vs_n",),
)


@extrapolate.cases
def _(draw: Draw):
    def measured(counts, noise, shuffled=True):
        n = torch.tensor(counts, dtype=torch.float64)
        level, slope = draw.uniform(0.8, 4.0), draw.uniform(60.0, 300.0)
        fd = level + slope / n + noise * draw.normal(len(counts), dtype="float64")
        order = draw.distinct(0, len(counts), len(counts)) if shuffled else range(len(counts))
        return [counts[int(i)] for i in order], [float(fd[int(i)]) for i in order]

    exact, rough = "on the line", "off the line"
    yield Case("exactly on a line", measured([100, 200, 400, 1000], 0.0, False), group=exact)
    yield Case("two counts", measured([150, 600], 0.0), group=exact)
    yield Case("the largest first", measured([1000, 500, 250, 125, 80], 0.0, False), group=exact)
    yield Case("rough, in no order", measured([64, 128, 256, 512, 900], 0.4), group=rough)
    counts = [100, 100, 100, 300, 300, 1000]
    yield Case("three, two and one at a count", measured(counts, 0.3), group=rough)
    ns, fds = measured([120, 240, 480, 960], 0.05)
    lower = min(fds)
    yield Case("a limit below 0", (ns, [fd - lower - 0.1 for fd in fds]), group=rough)


spot = Exercise(
    id="08.7",
    title="Spot the cheat",
    names=("spot_the_cheat",),
    points={"one of each": 2, "other mixtures": 1, "other scales": 1},
    difficulty=4,
    minutes=35,
    core=False,
    uses=("08.1", "08.3", "08.4"),
    hints=(
        "One number cannot do it. Go through the three questions: does a set lie too near to the "
        "training data? Does it leave out what the held-out data have? Does it hold what no data "
        "hold? You have written a function for each.",
        "What does each of your measures say of the held-out set itself? That is what honest looks "
        "like, at this count and scale. Judge every set against it, not against a fixed number.",
        "Whoever copies has the precision and the recall of real data, so ask for copies first. "
        "Noise drives samples apart, which makes their balls so large that everything lies in one: "
        "its recall is perfect. Which of the two shares does it spoil, then?",
    ),
)


def suspects(draw: Draw, kinds: list[str], d: int, modes: int, scale: float, n: int = 160) -> dict:
    """{"train", "held_out" and a set for each kind, under names that tell nothing}.

    Real data: ``modes`` clouds of equal share. honest: drawn from the same clouds; copied: rows
    of train; shaken: the same, moved by a hundredth of a cloud's deviation; collapsed: only one
    cloud; repeated: the same with each row twice; noisy: honest with noise of 2.5 times a cloud's
    deviation.
    """
    while True:
        centres = draw.normal(modes, d, dtype="float64", std=4.0)
        apart = torch.cdist(centres, centres) + 1e9 * torch.eye(modes, dtype=torch.float64)
        if float(apart.min()) > 6.0:
            break
    offset = draw.normal(d, dtype="float64", std=3.0)

    def normal(rows, std=1.0):
        return draw.normal(rows, d, dtype="float64", std=std)

    def fresh(rows):
        return centres[draw.distinct(0, rows, rows) % modes] + normal(rows)

    def made(kind):
        if kind == "honest":
            return fresh(n)
        if kind == "collapsed":
            return centres[draw.integers(0, modes)] + normal(n)
        if kind == "repeated":
            return (centres[draw.integers(0, modes)] + normal(n // 2)).repeat(2, 1)
        if kind == "noisy":
            return fresh(n) + normal(n, 2.5)
        rows = train[draw.distinct(0, len(train), n)]
        return rows + normal(n, 0.01) if kind == "shaken" else rows

    train, held_out = fresh(2 * n), fresh(n)
    letters = [f"set {letter}" for letter in "ABCDEFGH"]
    names = [letters[int(i)] for i in draw.distinct(0, len(letters), len(kinds))]
    sets = {"train": train, "held_out": held_out}
    sets |= {name: made(kind) for name, kind in zip(names, kinds)}
    shuffled = [list(sets)[int(i)] for i in draw.distinct(0, len(sets), len(sets))]
    return {name: (scale * (sets[name] + offset)).float() for name in shuffled}


@spot.cases
def _(draw: Draw):
    each = ["honest", "copied", "collapsed", "noisy"]
    mixed, scaled = "other mixtures", "other scales"
    yield Case("one of each", (suspects(draw, each, 6, 5, 1.0),), group="one of each")
    kinds = ["shaken", "honest", "noisy", "collapsed", "copied"]
    yield Case("two copies, one of them shaken", (suspects(draw, kinds, 8, 4, 1.0),), group=mixed)
    kinds = ["honest"] * 4
    yield Case("nobody cheats", (suspects(draw, kinds, 5, 6, 1.0),), group=mixed)
    kinds = ["collapsed", "noisy", "repeated", "shaken"]
    yield Case("everybody cheats", (suspects(draw, kinds, 7, 5, 1.0),), group=mixed)
    each = ["noisy", "collapsed", "honest", "shaken"]
    yield Case("large numbers", (suspects(draw, each, 6, 5, 60.0),), group=scaled)
    yield Case("small numbers", (suspects(draw, each, 7, 4, 0.02),), group=scaled)
