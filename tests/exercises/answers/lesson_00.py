"""Answers of lesson 00: references, misconceptions, alternatives. Loaded only where judged."""

import numpy as np
import torch

from coursework.exercise import Answers

# --- 00.1 to_model_range

a_to_model_range = Answers("00.1")


@a_to_model_range.reference
def to_model_range(images):
    return images.float() / 127.5 - 1.0


@a_to_model_range.misconception(
    "zero-to-one",
    "You map bytes to [0, 1]. The noise has mean 0 and goes both ways, so the data should lie "
    "around 0 as well: stretch to a width of 2 and move the middle to 0.",
)
def to_model_range(images):
    return images.float() / 255


@a_to_model_range.misconception(
    "integer-division",
    "You divide integers by integers with //, which throws away everything after the point: all "
    "grey levels but the brightest become the same value. Make floats before you divide.",
)
def to_model_range(images):
    return (images // 255).float() * 2 - 1


@a_to_model_range.misconception(
    "byte-arithmetic",
    "You calculate while the pixels are still bytes. A uint8 has no negative numbers and wraps "
    "around at 256, so bright pixels turn dark. Convert first, calculate afterwards.",
)
def to_model_range(images):
    return (images * 2 - 255).float() / 255


@a_to_model_range.misconception(
    "standardised",
    "You subtract the batch's mean and divide by its deviation. Then the range depends on which "
    "pictures happen to be in the batch, an all-black one gives NaN, and the same pixel has "
    "another value in the next batch. The map wanted is fixed: 0 to -1, 255 to 1.",
)
def to_model_range(images):
    x = images.float()
    return (x - x.mean()) / x.std()


@a_to_model_range.misconception(
    "stretched-to-its-extremes",
    "You stretch between the darkest and the brightest pixel that are there. A dark picture "
    "becomes bright, and one pixel changes all others. Use the range a byte can have, 0 to 255, "
    "whatever is in the picture.",
)
def to_model_range(images):
    x = images.float()
    return 2 * (x - x.min()) / (x.max() - x.min()) - 1


@a_to_model_range.misconception(
    "float64-kept",
    "The values are right, but they are float64. Weights and noise are float32; mixing the two "
    "raises an error in a network, or doubles its memory. Say which float you want.",
)
def to_model_range(images):
    return images.double() / 127.5 - 1.0


@a_to_model_range.misconception(
    "divided-by-128",
    "You divide by 128, so that 255 becomes a little less than 1 and there is no exact way back "
    "to bytes by the usual rule. The width of the byte range, from 0 to 255, is 255.",
)
def to_model_range(images):
    return images.float() / 128 - 1.0


@a_to_model_range.misconception(
    "normalised-without-scaling",
    "You subtract 0.5 and divide by 0.5, which is right for pixels that are in [0, 1] already. "
    "These go up to 255: the step that brings them to [0, 1] is missing.",
)
def to_model_range(images):
    return (images.float() - 0.5) / 0.5


@a_to_model_range.misconception(
    "not-centred",
    "You made the range 2 wide, but it begins at 0. Its middle has to lie at 0.",
)
def to_model_range(images):
    return images.float() / 127.5


@a_to_model_range.alternative("two-steps")
def to_model_range(images):
    unit = images.to(torch.float32).div(255)
    return unit.mul(2).sub(1)


@a_to_model_range.alternative("centred-first")
def to_model_range(images):
    return (images.float() - 127.5) / 127.5


@a_to_model_range.alternative("table")
def to_model_range(images):
    return torch.linspace(-1, 1, 256)[images.long()]


@a_to_model_range.alternative("numpy")
def to_model_range(images):
    return torch.from_numpy((images.numpy() / 127.5 - 1).astype(np.float32))


# --- 00.2 corrupt

a_corrupt = Answers("00.2")


@a_corrupt.reference
def corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - amount) * x + amount * noise


@a_corrupt.misconception(
    "amount-swapped",
    "You give x the weight amount, and the noise the rest. amount says how much *noise* there "
    "is: at 0 nothing may have happened to x.",
)
def corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return amount * x + (1 - amount) * noise


@a_corrupt.misconception(
    "first-amount-for-all",
    "You use the first sample's amount for the whole batch. Each sample has its own: amount[i] "
    "belongs to x[i].",
)
def corrupt(x, amount, noise):
    return (1 - amount[0]) * x + amount[0] * noise


@a_corrupt.misconception(
    "mean-amount-for-all",
    "You average the amounts and treat the whole batch alike. Each sample has its own: amount[i] "
    "belongs to x[i].",
)
def corrupt(x, amount, noise):
    mean = amount.mean()
    return (1 - mean) * x + mean * noise


@a_corrupt.misconception(
    "amount-not-broadcast",
    "amount, of shape (B,), meets the *last* axis of x, since torch lines shapes up from the "
    "right. That is an error for most shapes, and worse where the sizes happen to be equal: it "
    "runs, and is wrong. Give amount one axis of size 1 for every further axis of x.",
)
def corrupt(x, amount, noise):
    return (1 - amount) * x + amount * noise


@a_corrupt.misconception(
    "pictures-only",
    "You give amount the shape (B, 1, 1, 1), which fits pictures alone: with sound (B, C, L) or "
    "points (B, D) it makes new axes. How many axes are needed, x itself can tell.",
)
def corrupt(x, amount, noise):
    amount = amount.view(-1, 1, 1, 1)
    return (1 - amount) * x + amount * noise


@a_corrupt.misconception(
    "sounds-only",
    "You give amount the shape (B, 1, 1), which fits sound alone: with pictures (B, C, H, W) it "
    "meets the channels, and with points (B, D) it makes a new axis. How many axes are needed, x "
    "itself can tell.",
)
def corrupt(x, amount, noise):
    amount = amount[:, None, None]
    return (1 - amount) * x + amount * noise


@a_corrupt.misconception(
    "changes-x",
    "The result is right, but you overwrote the caller's x to make it. The clean data would be "
    "gone after one call. Operators that end in = and methods that end in _ work in place; make "
    "a new tensor.",
)
def corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    x *= 1 - amount
    x += amount * noise
    return x


@a_corrupt.misconception(
    "changes-noise",
    "The result is right, but you scaled the caller's noise in place. Training compares with "
    "that very noise later. Make a new tensor.",
)
def corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - amount) * x + noise.mul_(amount)


@a_corrupt.misconception(
    "x-does-not-fade",
    "You add noise but leave x at full strength, so that at amount 1 the data is still there, "
    "under the noise. What the noise gains, x has to lose.",
)
def corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return x + amount * noise


@a_corrupt.misconception(
    "own-noise",
    "You draw noise of your own instead of using the noise that is handed in. The caller must "
    "know which noise went in: it is what a network will have to predict.",
)
def corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - amount) * x + amount * torch.randn_like(x)


@a_corrupt.misconception(
    "clamped",
    "You cut the result off at -1 and 1. Noise is not bound to the range of pictures, and "
    "cutting it makes it something else than the Gaussian that every later formula needs.",
)
def corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return ((1 - amount) * x + amount * noise).clamp(-1, 1)


@a_corrupt.misconception(
    "precision-lost",
    "The values are right to seven digits, but float64 went in and float32 came out. Keep the "
    "type of x: exact comparisons are made in float64.",
)
def corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return ((1 - amount) * x + amount * noise).float()


@a_corrupt.alternative("lerp")
def corrupt(x, amount, noise):
    return torch.lerp(x, noise, amount[(...,) + (None,) * (x.ndim - 1)].expand_as(x))


@a_corrupt.alternative("loop")
def corrupt(x, amount, noise):
    return torch.stack([(1 - a) * one + a * n for one, a, n in zip(x, amount, noise)])


@a_corrupt.alternative("einsum")
def corrupt(x, amount, noise):
    return torch.einsum("b,b...->b...", 1 - amount, x) + torch.einsum("b,b...->b...", amount, noise)


@a_corrupt.alternative("difference")
def corrupt(x, amount, noise):
    while amount.ndim < x.ndim:
        amount = amount.unsqueeze(-1)
    return x + amount * (noise - x)


@a_corrupt.alternative("copy-in-place")
def corrupt(x, amount, noise):
    amount = amount.view([len(x)] + [1] * (x.dim() - 1))
    out = x.clone()
    out *= 1 - amount
    out += amount * noise
    return out


# --- 00.3 variance_preserving_corrupt

a_preserving = Answers("00.3")


@a_preserving.reference
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - amount).sqrt() * x + amount.sqrt() * noise


@a_preserving.misconception(
    "no-roots",
    "You use the amounts themselves as factors, as corrupt does. A factor is squared in the "
    "variance, so (1 - amount) and amount give less than 1 together. Their roots are needed.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - amount) * x + amount * noise


@a_preserving.misconception(
    "one-minus-root",
    "You give x the factor 1 minus the root of amount. The *squares* of the two factors have to "
    "add up to 1, and these two add up to 1 themselves: subtract first, then take the root.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - amount.sqrt()) * x + amount.sqrt() * noise


@a_preserving.misconception(
    "squares",
    "You square the amounts. The variance squares the factors by itself: a factor is to be such "
    "that its square is the share.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - amount) ** 2 * x + amount**2 * noise


@a_preserving.misconception(
    "root-on-the-noise-only",
    "You take the root for the noise and not for x. Then x brings (1 - amount) squared in place "
    "of 1 - amount, and the variance sags in between.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - amount) * x + amount.sqrt() * noise


@a_preserving.misconception(
    "root-on-x-only",
    "You take the root for x and not for the noise. Then the noise brings amount squared in "
    "place of amount, and the variance sags in between.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - amount).sqrt() * x + amount * noise


@a_preserving.misconception(
    "amount-swapped",
    "You give x the root of amount, and the noise the rest. amount says how much *noise* there "
    "is: at 0 nothing may have happened to x.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return amount.sqrt() * x + (1 - amount).sqrt() * noise


@a_preserving.misconception(
    "amount-as-a-deviation",
    "You treat amount as the noise's standard deviation: sqrt(1 - amount^2) and amount do keep "
    "the variance, but here amount is the noise's share of the *variance*.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - amount**2).sqrt() * x + amount * noise


@a_preserving.misconception(
    "rescaled-afterwards",
    "You mix as corrupt does and divide by the deviation that comes out. That keeps the variance "
    "too, but at an amount of 0.2 the noise then has another share than 0.2. Here the share of "
    "the variance is amount itself.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    mixed = (1 - amount) * x + amount * noise
    return mixed / ((1 - amount) ** 2 + amount**2).sqrt()


@a_preserving.misconception(
    "cosine-and-sine",
    "You turn from x to the noise by an angle, with cosine and sine. That keeps the variance, and "
    "lesson 01 has a schedule of this kind, but the amount asked for here is the noise's share of "
    "the variance.",
)
def variance_preserving_corrupt(x, amount, noise):
    angle = amount.reshape(-1, *[1] * (x.ndim - 1)) * torch.pi / 2
    return angle.cos() * x + angle.sin() * noise


@a_preserving.misconception(
    "same-amount-for-all",
    "You use the first sample's amount for the whole batch. Each sample has its own: amount[i] "
    "belongs to x[i].",
)
def variance_preserving_corrupt(x, amount, noise):
    return (1 - amount[0]).sqrt() * x + amount[0].sqrt() * noise


@a_preserving.misconception(
    "amount-not-broadcast",
    "amount, of shape (B,), meets the last axis of x, since torch lines shapes up from the "
    "right. Give it one axis of size 1 for every further axis of x, as in 00.2.",
)
def variance_preserving_corrupt(x, amount, noise):
    return (1 - amount).sqrt() * x + amount.sqrt() * noise


@a_preserving.misconception(
    "pictures-only",
    "You give amount the shape (B, 1, 1, 1), which fits pictures alone. How many axes are "
    "needed, x itself can tell.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.view(-1, 1, 1, 1)
    return (1 - amount).sqrt() * x + amount.sqrt() * noise


@a_preserving.misconception(
    "changes-x",
    "The result is right, but you overwrote the caller's x to make it. Make a new tensor.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    x *= (1 - amount).sqrt()
    x += amount.sqrt() * noise
    return x


@a_preserving.misconception(
    "changes-amount",
    "The result is right, but you took the root of the caller's amount in place (a method that "
    "ends in _). Make a new tensor.",
)
def variance_preserving_corrupt(x, amount, noise):
    amount = amount.reshape(-1, *[1] * (x.ndim - 1))
    kept = (1 - amount).sqrt()
    return kept * x + amount.sqrt_() * noise


@a_preserving.alternative("powers")
def variance_preserving_corrupt(x, amount, noise):
    amount = amount[(...,) + (None,) * (x.ndim - 1)]
    return x * (1 - amount) ** 0.5 + noise * amount**0.5


@a_preserving.alternative("loop")
def variance_preserving_corrupt(x, amount, noise):
    pieces = []
    for i in range(len(x)):
        pieces.append(torch.sqrt(1 - amount[i]) * x[i] + torch.sqrt(amount[i]) * noise[i])
    return torch.stack(pieces)


@a_preserving.alternative("flattened")
def variance_preserving_corrupt(x, amount, noise):
    a = amount[:, None]
    flat = (1 - a).sqrt() * x.flatten(1) + a.sqrt() * noise.flatten(1)
    return flat.reshape(x.shape)


# --- 00.4 autopsy
# Facts are cases of their own, so a mistake is told by its entry, whatever the other entries say.


def entry(got, cases, key):
    """The value given for ``key``, or None."""
    for outcome, case in zip(got, cases):
        if case.args[0] == key and outcome.status == "ok" and isinstance(outcome.value, dict):
            return outcome.value.get("value")
    return None


def believes(got, cases) -> bool:
    """Whether all that the names promise was taken for true."""
    keys = ("depends_on_noise", "depends_on_time", "draws_random_numbers")
    return all(entry(got, cases, k) is True for k in keys)


def says(key, *wrong):
    """A detector: ``key`` is answered by one of ``wrong``, but not all names were believed."""

    def detect(got, expected, cases):
        return entry(got, cases, key) in wrong and not believes(got, cases)

    return detect


a_autopsy = Answers("00.4")


@a_autopsy.reference
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": False,
        "draws_random_numbers": False,
        "unused_arguments": ["hidden_dim", "noise", "t"],
        "runs_on_image": False,
        "is_one_linear_layer": True,
        "settles": True,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "names-believed",
    "You report what the names promise: noise, time, chance. Nothing of it is in the code that "
    "runs. A name is a claim; call the model twice with one thing changed, and compare.",
    detect=lambda got, expected, cases: believes(got, cases),
)
def autopsy():
    return {
        "depends_on_noise": True,
        "depends_on_time": True,
        "draws_random_numbers": True,
        "unused_arguments": [],
        "runs_on_image": True,
        "is_one_linear_layer": False,
        "settles": True,
        "end_depends_on_start": True,
    }


@a_autopsy.misconception(
    "noise-is-used",
    "You say that the noise matters. forward takes it and never reads it. If your two outputs "
    "differed, look whether you built two models: each has random weights of its own.",
    detect=says("depends_on_noise", True),
)
def autopsy():
    return {
        "depends_on_noise": True,
        "depends_on_time": False,
        "draws_random_numbers": False,
        "unused_arguments": ["hidden_dim", "noise", "t"],
        "runs_on_image": False,
        "is_one_linear_layer": True,
        "settles": True,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "time-is-used",
    "You say that the time step matters. The loop counts steps of its own and always runs all of "
    "them; the t that you hand in is never read. So no noise level can be told to it.",
    detect=says("depends_on_time", True),
)
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": True,
        "draws_random_numbers": False,
        "unused_arguments": ["hidden_dim", "noise", "t"],
        "runs_on_image": False,
        "is_one_linear_layer": True,
        "settles": True,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "weights-taken-for-chance",
    "You say that a call draws random numbers. The random numbers were drawn once, for the "
    "weights, when the model was built; after that a call is a fixed function of x. Build once "
    "and seed before the calls.",
    detect=says("draws_random_numbers", True),
)
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": False,
        "draws_random_numbers": True,
        "unused_arguments": ["hidden_dim", "noise", "t"],
        "runs_on_image": False,
        "is_one_linear_layer": True,
        "settles": True,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "stored-taken-for-used",
    "Your list has forward's arguments only. Look at the constructor too: one argument is stored "
    "on self and never read again. Storing is not using.",
    detect=says("unused_arguments", ["noise", "t"]),
)
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": False,
        "draws_random_numbers": False,
        "unused_arguments": ["noise", "t"],
        "runs_on_image": False,
        "is_one_linear_layer": True,
        "settles": True,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "constructor-only",
    "Your list has the constructor's argument only. forward has a signature too: change each of "
    "its optional arguments and see whether anything happens.",
    detect=says("unused_arguments", ["hidden_dim"]),
)
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": False,
        "draws_random_numbers": False,
        "unused_arguments": ["hidden_dim"],
        "runs_on_image": False,
        "is_one_linear_layer": True,
        "settles": True,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "all-arguments-used",
    "Your list is empty. Torch never complains about an argument that nobody reads. Change them "
    "one at a time, with the same seed for the weights, and compare the outputs.",
    detect=says("unused_arguments", []),
)
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": False,
        "draws_random_numbers": False,
        "unused_arguments": [],
        "runs_on_image": False,
        "is_one_linear_layer": True,
        "settles": True,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "steps-taken-for-unused",
    "num_timesteps is in your list, but it does something: it decides how many layers there are. "
    "That is all that is left of time here, and it is a depth and not a time.",
    detect=says("unused_arguments", ["hidden_dim", "noise", "num_timesteps", "t"]),
)
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": False,
        "draws_random_numbers": False,
        "unused_arguments": ["hidden_dim", "noise", "num_timesteps", "t"],
        "runs_on_image": False,
        "is_one_linear_layer": True,
        "settles": True,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "image-flattened",
    "You say that it runs on an image. A linear layer reads the last axis, which has 28 entries "
    "and not 784, so the image as it is gives an error. If it ran for you, you flattened it first, "
    "or built the model for rows of 28.",
    detect=says("runs_on_image", True),
)
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": False,
        "draws_random_numbers": False,
        "unused_arguments": ["hidden_dim", "noise", "t"],
        "runs_on_image": True,
        "is_one_linear_layer": True,
        "settles": True,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "depth-taken-for-power",
    "You say that the stack is more than one linear layer. With nothing between them, linear "
    "layers multiply out: W2 (W1 x + b1) + b2 is again one matrix and one shift, however many "
    "there are. If a comparison failed for you, allow for rounding with torch.allclose.",
    detect=says("is_one_linear_layer", False),
)
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": False,
        "draws_random_numbers": False,
        "unused_arguments": ["hidden_dim", "noise", "t"],
        "runs_on_image": False,
        "is_one_linear_layer": False,
        "settles": True,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "taken-for-restless",
    "You say that repeating never comes to rest. With torch's starting weights each layer "
    "shrinks what goes through, so the steps get smaller and smaller. Print the distance between "
    "one round and the next.",
    detect=says("settles", False),
)
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": False,
        "draws_random_numbers": False,
        "unused_arguments": ["hidden_dim", "noise", "t"],
        "runs_on_image": False,
        "is_one_linear_layer": True,
        "settles": False,
        "end_depends_on_start": False,
    }


@a_autopsy.misconception(
    "start-thought-to-matter",
    "You say that the end depends on the start. Run it from two starts: every difference between "
    "them shrinks from round to round, until both stand at the one point that the biases decide. "
    "A generator that ends at one point has one output.",
    detect=says("end_depends_on_start", True),
)
def autopsy():
    return {
        "depends_on_noise": False,
        "depends_on_time": False,
        "draws_random_numbers": False,
        "unused_arguments": ["hidden_dim", "noise", "t"],
        "runs_on_image": False,
        "is_one_linear_layer": True,
        "settles": True,
        "end_depends_on_start": True,
    }


@a_autopsy.alternative("by-experiment")
def autopsy():
    import torch
    from torch import nn

    class DiffusionModel(nn.Module):
        def __init__(self, input_dim, hidden_dim, num_timesteps):
            super().__init__()
            self.num_timesteps = num_timesteps
            self.hidden_dim = hidden_dim
            self.noise_schedule = nn.ModuleList(
                [nn.Linear(input_dim, input_dim) for _ in range(num_timesteps)]
            )

        def forward(self, x, t=None, noise=None):
            for step in range(self.num_timesteps):
                x = self.noise_schedule[step](x)
            return x

    @torch.no_grad()
    def run(x, input_dim=16, hidden_dim=8, num_timesteps=10, **rest):
        torch.manual_seed(0)
        return DiffusionModel(input_dim, hidden_dim, num_timesteps)(x, **rest)

    torch.manual_seed(1)
    x, y = torch.randn(4, 16), torch.randn(4, 16)
    base = run(x)
    changed = {
        "hidden_dim": run(x, hidden_dim=99),
        "num_timesteps": run(x, num_timesteps=3),
        "noise": run(x, noise=torch.randn(4, 16)),
        "t": run(x, t=torch.full((4,), 7)),
    }
    unused = sorted(k for k, v in changed.items() if torch.equal(v, base))

    torch.manual_seed(2)
    model = DiffusionModel(16, 8, 10)
    outputs = []
    with torch.no_grad():
        for seed in (3, 4):
            torch.manual_seed(seed)
            outputs.append(model(x))
        f0, fx, fy, fxy = model(torch.zeros_like(x)), model(x), model(y), model(x + y)
        a, b = x, 50 * y
        for _ in range(200):
            last, a, b = a, model(a), model(b)
        try:
            DiffusionModel(784, 128, 1)(torch.zeros(2, 1, 28, 28))
            runs = True
        except RuntimeError:
            runs = False
    return {
        "depends_on_noise": "noise" not in unused,
        "depends_on_time": "t" not in unused,
        "draws_random_numbers": not torch.equal(*outputs),
        "unused_arguments": unused,
        "runs_on_image": runs,
        "is_one_linear_layer": torch.allclose(fxy - fy, fx - f0, atol=1e-5),
        "settles": bool((a - last).norm() < 1e-5),
        "end_depends_on_start": not torch.allclose(a, b, atol=1e-5),
    }


@a_autopsy.alternative("numpy-bools-and-a-tuple")
def autopsy():
    no, yes = np.bool_(False), np.bool_(True)
    return dict(
        depends_on_noise=no,
        depends_on_time=no,
        draws_random_numbers=no,
        unused_arguments=("t", "noise", "hidden_dim"),
        runs_on_image=no,
        is_one_linear_layer=yes,
        settles=yes,
        end_depends_on_start=no,
    )


@a_autopsy.alternative("tensor-bools-and-a-set")
def autopsy():
    same = torch.zeros(3) == torch.zeros(3)
    facts = dict.fromkeys(["is_one_linear_layer", "settles"], same.all())
    for key in ["depends_on_noise", "depends_on_time", "draws_random_numbers"]:
        facts[key] = ~same.all()
    facts["runs_on_image"] = facts["end_depends_on_start"] = ~same.all()
    facts["unused_arguments"] = {"t", "noise", "hidden_dim"}
    facts["note"] = "found by reading"
    return facts


# --- 00.5 fact_check

CLAIMED = ("WaveNet", "DALL-E", "AudioLM")


def all_diffusion(got, cases) -> bool:
    """Whether everything was called diffusion, as the claim has it."""
    return all(entry(got, cases, name) == "diffusion" for name in CLAIMED)


def called(name, *wrong):
    """A detector: ``name`` is given one of the families ``wrong``, and not all are diffusion."""

    def detect(got, expected, cases):
        return entry(got, cases, name) in wrong and not all_diffusion(got, cases)

    return detect


a_fact_check = Answers("00.5")


@a_fact_check.reference
def fact_check():
    return {
        "WaveNet": "autoregressive",
        "DiffWave": "diffusion",
        "AudioLM": "autoregressive",
        "Riffusion": "diffusion",
        "DALL-E": "autoregressive",
        "DALL-E 2": "diffusion",
        "Stable Diffusion": "diffusion",
    }


@a_fact_check.misconception(
    "everything-called-diffusion",
    "You call all of them diffusion models, as the claim does. Three of them make their output "
    "piece by piece, each piece drawn given those before it. Their papers say so in the abstract.",
    detect=lambda got, expected, cases: all_diffusion(got, cases),
)
def fact_check():
    return {
        "WaveNet": "diffusion",
        "DiffWave": "diffusion",
        "AudioLM": "diffusion",
        "Riffusion": "diffusion",
        "DALL-E": "diffusion",
        "DALL-E 2": "diffusion",
        "Stable Diffusion": "diffusion",
    }


@a_fact_check.misconception(
    "wavenet-called-diffusion",
    "WaveNet is not a diffusion model. It draws one sample of the waveform after the other, each "
    "given all those before it: 16,000 network calls for a second of sound. Diffusion came to "
    "waveforms four years later, with DiffWave and WaveGrad, whose networks borrow WaveNet's "
    "dilated convolutions.",
    detect=called("WaveNet", "diffusion"),
)
def fact_check():
    return {
        "WaveNet": "diffusion",
        "DiffWave": "diffusion",
        "AudioLM": "autoregressive",
        "Riffusion": "diffusion",
        "DALL-E": "autoregressive",
        "DALL-E 2": "diffusion",
        "Stable Diffusion": "diffusion",
    }


@a_fact_check.misconception(
    "diffwave-called-autoregressive",
    "DiffWave looks like WaveNet inside, with the same kind of layers, but it is not used in the "
    "same way: it starts from white noise of the full length and cleans all of it in a few steps. "
    "The family is how an output is drawn, and not the layers.",
    detect=called("DiffWave", "autoregressive"),
)
def fact_check():
    return {
        "WaveNet": "autoregressive",
        "DiffWave": "autoregressive",
        "AudioLM": "autoregressive",
        "Riffusion": "diffusion",
        "DALL-E": "autoregressive",
        "DALL-E 2": "diffusion",
        "Stable Diffusion": "diffusion",
    }


@a_fact_check.misconception(
    "audiolm-called-diffusion",
    "AudioLM has LM, language model, in its name: it turns sound into tokens and predicts the next "
    "token, over and over. Nothing is denoised.",
    detect=called("AudioLM", "diffusion"),
)
def fact_check():
    return {
        "WaveNet": "autoregressive",
        "DiffWave": "diffusion",
        "AudioLM": "diffusion",
        "Riffusion": "diffusion",
        "DALL-E": "autoregressive",
        "DALL-E 2": "diffusion",
        "Stable Diffusion": "diffusion",
    }


@a_fact_check.misconception(
    "riffusion-called-autoregressive",
    "Riffusion makes sound, but not from left to right. It is Stable Diffusion trained further on "
    "pictures of spectrograms: the whole picture starts as noise, and the clean one is turned "
    "into sound.",
    detect=called("Riffusion", "autoregressive"),
)
def fact_check():
    return {
        "WaveNet": "autoregressive",
        "DiffWave": "diffusion",
        "AudioLM": "autoregressive",
        "Riffusion": "autoregressive",
        "DALL-E": "autoregressive",
        "DALL-E 2": "diffusion",
        "Stable Diffusion": "diffusion",
    }


@a_fact_check.misconception(
    "dall-e-called-diffusion",
    "That is DALL-E 2. The first DALL-E is a transformer that draws text and picture tokens one "
    "after the other, as a language model does. Only the name was kept.",
    detect=called("DALL-E", "diffusion"),
)
def fact_check():
    return {
        "WaveNet": "autoregressive",
        "DiffWave": "diffusion",
        "AudioLM": "autoregressive",
        "Riffusion": "diffusion",
        "DALL-E": "diffusion",
        "DALL-E 2": "diffusion",
        "Stable Diffusion": "diffusion",
    }


@a_fact_check.misconception(
    "dall-e-called-after-its-codec",
    "There is a discrete VAE in DALL-E, but it only turns pictures into tokens and back. What "
    "draws the tokens, one by one, decides the family.",
    detect=called("DALL-E", "vae"),
)
def fact_check():
    return {
        "WaveNet": "autoregressive",
        "DiffWave": "diffusion",
        "AudioLM": "autoregressive",
        "Riffusion": "diffusion",
        "DALL-E": "vae",
        "DALL-E 2": "diffusion",
        "Stable Diffusion": "diffusion",
    }


@a_fact_check.misconception(
    "dall-e-2-called-autoregressive",
    "That is the first DALL-E. DALL-E 2 (unCLIP) draws the picture with a diffusion decoder from "
    "a CLIP embedding. The paper tried an autoregressive prior for the embedding as well, and "
    "found the diffusion prior better.",
    detect=called("DALL-E 2", "autoregressive"),
)
def fact_check():
    return {
        "WaveNet": "autoregressive",
        "DiffWave": "diffusion",
        "AudioLM": "autoregressive",
        "Riffusion": "diffusion",
        "DALL-E": "autoregressive",
        "DALL-E 2": "autoregressive",
        "Stable Diffusion": "diffusion",
    }


@a_fact_check.misconception(
    "stable-diffusion-called-after-its-codec",
    "Stable Diffusion has an autoencoder, trained with a VAE's penalty and a GAN's loss, but that "
    "is its codec: it makes pictures small and large again. The small ones, the latents, are drawn "
    "by diffusion.",
    detect=called("Stable Diffusion", "vae", "gan"),
)
def fact_check():
    return {
        "WaveNet": "autoregressive",
        "DiffWave": "diffusion",
        "AudioLM": "autoregressive",
        "Riffusion": "diffusion",
        "DALL-E": "autoregressive",
        "DALL-E 2": "diffusion",
        "Stable Diffusion": "vae",
    }


@a_fact_check.alternative("grouped")
def fact_check():
    families = {
        "autoregressive": ["WaveNet", "DALL-E", "AudioLM"],
        "diffusion": ["DiffWave", "DALL-E 2", "Stable Diffusion", "Riffusion"],
    }
    return {name: family for family, names in families.items() for name in names}


@a_fact_check.alternative("other-spellings-and-more-names")
def fact_check():
    facts = dict.fromkeys(["DiffWave", "DALL-E 2", "Stable Diffusion", "Riffusion"], "Diffusion")
    facts |= dict.fromkeys(["WaveNet", "DALL-E", "AudioLM"], "Auto-regressive ")
    facts["Stable Diffusion"] = "latent diffusion"
    facts["GPT-2"] = "autoregressive"
    return facts
