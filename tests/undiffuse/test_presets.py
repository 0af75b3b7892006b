"""Networks by purpose: they can be built, cost what is said, and a recipe may name them."""

import pytest
import torch
from torch import nn

from undiffuse import presets, recipes
from undiffuse.recipes import RecipeError


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_runs_and_says_its_cost(name):
    chosen = presets.preset(name)
    torch.manual_seed(0)
    model = presets.build(name).eval()
    parameters, flops = presets.cost(name)
    assert parameters == sum(p.numel() for p in model.parameters())
    x = torch.randn(2, *chosen.shape)
    assert model(x, 0.3, torch.tensor([0, 1])).shape == x.shape
    assert flops > parameters / 20 and len(chosen.purpose) > 10


def test_flops_are_counted_as_two_a_product():
    """A convolution of 3 x 3 from 2 to 4 channels on 5 x 5 places, by hand."""

    class Plain(nn.Conv2d):
        def forward(self, x, t):
            assert not self.training
            return super().forward(x)

    model = Plain(2, 4, 3, padding=1)
    assert presets.flops_per_call(model, (2, 5, 5)) == 2 * 9 * 2 * 4 * 25
    assert model.training


def test_changes_to_a_preset():
    assert presets.build("tiny", classes=None).null is None
    with pytest.raises(ValueError, match="no preset 'one-our'; did you mean one-hour"):
        presets.build("one-our")


def test_a_recipe_names_a_preset():
    recipe = recipes.from_dict({"name": "a", "network": {"preset": "tiny", "dropout": 0.2}})
    assert recipe.network == presets.PRESETS["tiny"].network | {"dropout": 0.2}
    assert recipes.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match="mean tiny"):
        recipes.from_dict({"name": "a", "network": {"preset": "tinny"}})
    with pytest.raises(RecipeError, match="'patches'; did you mean patch"):
        recipes.from_dict({"name": "a", "network": {"preset": "tiny", "patches": 2}})
