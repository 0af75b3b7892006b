"""The script that measures flows and transformers: equal compute, what is kept, and verdicts."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "data" / "build" / "measure_flow.py"


@pytest.fixture(params=["small"])
def flow(request, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_BUDGET", request.param)
    spec = importlib.util.spec_from_file_location("measure_flow", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runs(flow, excess):
    """Runs as the script leaves them; excess(network, way, sampler, seed) of FD, the floor is 1."""
    found = []
    for network in flow.NETWORKS:
        for way in flow.WAYS:
            for seed in flow.SEEDS:
                samples = {
                    f"{solver}, {calls} calls": {
                        "fd": 1.0 + excess(network, way, f"{solver}, {calls} calls", seed),
                        "floor": 1.0, "accuracy": 0.9, "recall": 0.5, "precision": 0.6,
                    }
                    for solver, _ in flow.SAMPLERS for calls in flow.CALLS
                }  # fmt: skip
                found.append({
                    "network": network, "way": way, "seed": seed, "samples": samples, "steps": 5,
                    "optimizer": "muon", "lr": 0.02, "parameters": 10, "seconds": 1.0,
                    "training FLOPs": 100, "machine": "one",
                })  # fmt: skip
    return found


@pytest.mark.parametrize("flow", ["", "small"], indirect=True)
def test_all_networks_cost_the_same(flow):
    wanted = flow.STEPS * flow.flops_per_step("U-Net")
    for network in flow.NETWORKS:
        steps = flow.steps_of(network, flow.STEPS)
        assert abs(steps * flow.flops_per_step(network) - wanted) <= flow.flops_per_step(network)
        recipe = flow.recipe_of(network, "flow, straight", 0, "muon", 0.02, steps)
        assert (recipe.prediction, recipe.schedule) == ("flow", "flow")
        assert recipe.make_network((1, 28, 28)).null == 10
    assert len(flow.SEEDS) >= 3 and flow.TUNING_SEED not in flow.SEEDS


def test_a_single_run_is_kept_whole(flow, tmp_path):
    path = flow.file_of(tmp_path, "run", "DiT", "flow, straight", 0)
    assert path.name == "run-DiT-flow__straight-0.json"
    flow.main(["run", "--network", "DiT", "--way", "flow, straight", "--seed", "0",
               "--out", str(path)])  # fmt: skip
    found = json.loads(path.read_text())
    assert found["samples"].keys() == {
        f"{solver}, {calls} calls" for solver, _ in flow.SAMPLERS for calls in flow.CALLS
    }
    assert found["validation loss"] > 0 and list(tmp_path.iterdir()) == [path]


def test_the_best_optimiser_is_chosen_for_each(flow, tmp_path):
    losses = {("muon", 0.02): 0.3, ("muon", 0.01): 0.2, ("adamw", 2e-3): 0.4}
    for way in flow.WAYS:
        for (optimizer, lr), loss in losses.items():
            found = {"network": "U-Net", "way": way, "optimizer": optimizer, "lr": lr,
                     "validation loss": loss if way == "v, cosine" else 1 - loss}  # fmt: skip
            flow.file_of(tmp_path, "tuning", way, optimizer, lr).write_text(json.dumps(found))
        found = {"network": "U-Net", "way": way, "optimizer": "adamw", "lr": 1, "diverged": "nan"}
        flow.file_of(tmp_path, "tuning", way, "adamw", 1).write_text(json.dumps(found))
    assert flow.chosen(tmp_path) == {
        ("U-Net", "v, cosine"): ("muon", 0.01), ("U-Net", "flow, straight"): ("adamw", 2e-3),
    }  # fmt: skip


def test_verdicts_need_all_seeds_to_agree(flow):
    def excess(network, way, sampler, seed):
        if way == "v, cosine":
            return 1.5 if network == "DiT" else 1.0
        return [0.25, 0.3, 0.6][seed] if network == "DiT" else 0.5

    said, rows = flow.verdict(runs(flow, excess))
    assert "DiT against the U-Net (v, cosine): excess FD clearly higher (1.50" in said
    assert "DiT against the U-Net (flow, straight): excess FD no clear difference" in said
    assert "straight paths against v in the U-Net: clearly lower (0.50" in said
    assert len(rows) == 4 * len(flow.SAMPLERS) * len(flow.CALLS)
    with pytest.raises(SystemExit, match=r"U-Net, v, cosine: runs of seeds \[1, 2\]"):
        flow.verdict(runs(flow, excess)[1:])


def test_rows_of_speed_count_though_it_was_stopped(flow, tmp_path):
    assert flow.speed_rows(tmp_path) == []
    (tmp_path / "speed.jsonl").write_text('{"network": "a", "batch": 4}\n{"network": "b", "ba')
    assert flow.speed_rows(tmp_path) == [{"network": "a", "batch": 4}]


def test_switches_for_tf32_are_put_back(flow):
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for name, said in (("TF32", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")):
        with flow.precision(name) as found:
            assert found == said and torch.backends.cuda.matmul.allow_tf32 == (name == "TF32")
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


def test_figures_of_the_small_budget_are_not_written(flow, tmp_path):
    with pytest.raises(SystemExit, match="mean nothing and are not written"):
        flow.main(["write", str(tmp_path)])
