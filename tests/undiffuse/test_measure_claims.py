"""The script that measures claims: what it trains and keeps, and how figures become verdicts."""

import importlib.util
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from undiffuse import data, experiments
from undiffuse.experiments import _digit_runs, digit_claims
from undiffuse.experiments._digit_runs import PARTS, losses_by_level, mirrored_share

SCRIPT = Path(__file__).resolve().parents[2] / "data" / "build" / "measure_claims.py"


@pytest.fixture
def claims():
    """The claims with the sizes of the small budget."""
    sizes = _digit_runs.SIZES["small"]
    judged = {name: partial(judge, sizes=sizes) for name, judge in
              (("c1", digit_claims.c1), ("c7", digit_claims.c7), ("c8", digit_claims.c8),
               ("c12", digit_claims.c12))}  # fmt: skip
    return SimpleNamespace(
        SEEDS=digit_claims.SEEDS,
        SCHEDULES=digit_claims.SCHEDULES,
        MOMENTS=sizes.moments,
        FEW=sizes.few,
        PROBE=sizes.probe,
        jobs_of=partial(digit_claims.jobs_of, sizes=sizes),
        job=partial(_digit_runs.job, sizes),
        **judged,
    )


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_BUDGET", "small")
    spec = importlib.util.spec_from_file_location("measure_claims", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(fd, train=0.2, unseen=0.2, nearness=1.0, mirrored=0.1):
    """What is measured of one network, as far as verdicts look at it."""
    one = {"fd": fd, "floor": 0.1, "accuracy": 0.5, "recall": 0.5, "nearness": nearness,
           "mirrored": mirrored}  # fmt: skip
    return {"train": [train, train], "unseen": [unseen, unseen], "log_snr": one, "time": one}


def at(step, *args, **kwargs):
    found = {kind: figures(*args, **kwargs) for kind in ("raw", "average")}
    return {"moments": {str(step): found}}


def over_training(claims, **columns):
    """A run with one value of each column at each moment."""
    moments = {}
    for i, step in enumerate(claims.MOMENTS):
        values = {k: v[i] for k, v in columns.items()}
        moments[str(step)] = {kind: figures(**values) for kind in ("raw", "average")}
    return {"moments": moments}


def test_every_claim_has_three_seeds_and_its_own_difference(claims):
    assert len(claims.SEEDS) >= 3
    c1 = claims.jobs_of("C1")
    assert {job.schedule for job in c1.values()} == set(claims.SCHEDULES)
    assert {job.seed for job in c1.values()} == set(claims.SEEDS)
    c7 = claims.jobs_of("C7")
    assert c7["digits", "none", 0].shift == 0 and not c7["digits", "none", 0].flip
    assert c7["digits", "shifts", 0].shift == 2 and not c7["digits", "shifts", 0].flip
    assert c7["digits", "flips", 0].flip and c7["digits", "flips", 0].shift == 0
    assert c7["fashion", "flips", 1].name == "fashion"
    assert {job.images for job in claims.jobs_of("C8").values()} == {claims.FEW, None}


def test_claims_share_trainings(claims):
    of = {c: set(claims.jobs_of(c).values()) for c in digit_claims.CLAIMS}
    assert of["C12"] == of["C1"] | of["C8"]


def test_recipes_differ_in_what_is_compared_alone(claims):
    plain, shifted = claims.job().recipe().to_dict(), claims.job(shift=2).recipe().to_dict()
    assert {k for k in plain if plain[k] != shifted[k]} == {"shift"}


def test_keys_tell_jobs_apart(claims):
    jobs = {job for c in digit_claims.CLAIMS for job in claims.jobs_of(c).values()}
    assert len({experiments.key_of(job) for job in jobs}) == len(jobs)


def test_claims_of_one_store_share_what_was_found(claims):
    stores = {experiments.find(c).folder("kept") for c in digit_claims.CLAIMS}
    assert len(stores) == 1
    c1, c12 = (experiments.find(c).list_runs("full") for c in ("C1", "C12"))
    assert {experiments.key_of(r) for r in c1} < {experiments.key_of(r) for r in c12}


@pytest.mark.parametrize("budget", experiments.BUDGETS)
def test_a_result_has_what_the_shipped_ones_have(budget):
    """What texts and tables read of C7-digits.json is there, whatever the budget."""
    from undiffuse.results import load_results

    one = experiments.find("C7")
    found = {run: at(run.steps, 2.0 + 0.01 * run.seed) for run in one.list_runs(budget)}
    (made,) = one.conclude(found).items()
    shipped = load_results(data.folder() / "results")[made[0]]
    own = {"claim", "seeds", "command", "budget", "date", "versions", "machine"}
    assert set(shipped) - own == set(made[1])
    assert [set(r) for r in made[1]["rows"]] == [set(r) for r in shipped["rows"]]


def test_c1_tells_a_difference_from_luck(claims):
    def found(worst):
        fds = {"linear": worst, "cosine": 1.0, "sigmoid": 1.1, "flow": 1.05}
        return {(s, seed): at(3, fd + 0.05 * seed) for s, fd in fds.items()
                for seed in claims.SEEDS}  # fmt: skip

    clear = claims.c1(found(5.0))
    assert clear["verdict"].startswith("true here")
    assert clear["factors"]["log_snr"]["worst"] == "linear"
    assert claims.c1(found(1.1))["verdict"].startswith("not shown here")
    assert len(clear["rows"]) == 2 * 4 * len(claims.SEEDS)


def test_c7_says_for_whom(claims):
    def found(shifts, flips, clothes):
        ways = {("digits", "none"): 2.0, ("digits", "shifts"): shifts, ("digits", "flips"): flips,
                ("fashion", "none"): 2.0, ("fashion", "flips"): clothes}  # fmt: skip
        return {(*way, seed): at(3, fd) for way, fd in ways.items() for seed in claims.SEEDS}

    mixed = claims.c7(found(1.0, 4.0, 1.5))["verdict"]
    assert mixed.startswith("depends on")
    assert "shifts help digits" in mixed and "flips harm digits" in mixed
    assert claims.c7(found(1.0, 1.0, 1.0))["verdict"].startswith("true here")
    nothing = claims.c7(found(2.0, 2.05, 2.0))["verdict"]
    assert nothing.startswith("not true here") and "no clear difference" in nothing


def test_c8_tells_a_turn_from_copies(claims):
    n = len(claims.MOMENTS)

    def found(unseen, nearness):
        few = over_training(claims, fd=[1.0] * n, train=[0.2] * n, unseen=unseen, nearness=nearness)
        many = over_training(claims, fd=[1.0] * n, train=[0.2] * n, unseen=[0.2] * n)
        return {(count, seed): run for count, run in ((claims.FEW, few), (None, many))
                for seed in claims.SEEDS}  # fmt: skip

    flat, up = [0.2] * n, [0.2] * (n - 1) + [0.4]
    assert "did not show any" in claims.c8(found(flat, [1.0] * n))["verdict"]
    turned = claims.c8(found(up, [1.0] * (n - 1) + [0.5]))["verdict"]
    assert turned.startswith("true here") and "turned up in every run" in turned
    early = claims.c8(found(up, [0.5] * n))["verdict"]
    assert early.startswith("partly true") and "already nearer" in early


def test_c12_counts_pairs(claims):
    n = len(claims.MOMENTS)
    falling = [1.0 / (i + 1) for i in range(n)]
    many = over_training(claims, fd=falling, train=falling)
    few = over_training(claims, fd=[2.0] * n, train=[v / 2 for v in falling])
    found = {(count, seed): run for count, run in ((claims.FEW, few), (None, many))
             for seed in claims.SEEDS}  # fmt: skip
    for s, train, fd in zip(claims.SCHEDULES, (0.1, 0.2, 0.3, 0.4), (4.0, 3.0, 2.0, 1.0)):
        found |= {(s, seed): at(3, fd, train=train) for seed in claims.SEEDS}
    result = claims.c12(found)
    agreement = {name: v["shares"] for name, v in result["agreement"].items()}
    far, _, across, schedules = agreement.values()
    assert set(far) == {1.0} and set(across) == {0.0} and set(schedules) == {0.0}
    assert result["verdict"].startswith("depends on what is compared")


def test_levels_are_measured_with_fixed_noise(claims):
    job = claims.job()
    x, y = data.digits("validation", claims.PROBE)
    schedule = job.recipe().make_schedule()

    def zero(x, t, cond):
        return torch.zeros_like(x)

    before = torch.get_rng_state()
    first = losses_by_level(zero, schedule, x, y)
    torch.manual_seed(7)
    assert first == losses_by_level(zero, schedule, x, y)
    assert len(first) == PARTS
    # The target is nearly the noise at the clean end, nearly the image at the other.
    assert first[0] == pytest.approx(1, abs=0.1)
    assert first[-1] == pytest.approx(float(x.square().mean()), abs=0.1)
    torch.set_rng_state(before)


def test_mirrored_images_are_counted(claims):
    x, y = data.digits("held_out", 60)
    straight = mirrored_share(x, y, "digits")
    turned = mirrored_share(x.flip(3), y, "digits")
    assert straight < 0.5 < turned


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["C9"], "no claim is called C9"),
        (["C7", "--write"], "small budget"),
        (["C7", "--workers", "0"], "at least 1"),
    ],
)
def test_refusals(script, capsys, arguments, says):
    with pytest.raises(SystemExit):
        script.main(arguments)
    assert says in capsys.readouterr().err
