"""Answers of lesson 05: references, named mistakes with what to say about them, alternatives."""

import copy
import io
import math
import os
from pathlib import Path

import torch
from torch import nn

from coursework.exercise import Answers
from undiffuse.losses import simple_loss
from undiffuse.prediction import network_time
from undiffuse.process import q_sample, v_target

# --- 05.1 ----------------------------------------------------------------------------------

a_times = Answers("05.1")


@a_times.reference
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(T, (batch,), generator=generator)
    place = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = ((torch.arange(batch) + place) / batch * T).long()
    return t[torch.randperm(batch, generator=generator)]


@a_times.misconception(
    "never-the-last",
    "t = T - 1 never comes: torch.randint leaves its upper bound out already. The network would "
    "not be trained at the noisiest level, where sampling begins.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(T - 1, (batch,), generator=generator)
    place = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = ((torch.arange(batch) + place) / batch * (T - 1)).long()
    return t[torch.randperm(batch, generator=generator)]


@a_times.misconception(
    "one-to-T",
    "Your times run from 1 to T, as they do in papers. Here they index alpha_bar from 0: T is "
    "outside, and the least noisy level is never trained.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(1, T + 1, (batch,), generator=generator)
    place = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = ((torch.arange(batch) + place) / batch * T).long() + 1
    return t[torch.randperm(batch, generator=generator)]


@a_times.misconception(
    "not-mixed",
    "The stratified times are in ascending order: the first image of a batch always gets little "
    "noise, the last one much. Where batches have an order (by class, say), each class would see "
    "its own levels only. Mix the order.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(T, (batch,), generator=generator)
    place = torch.rand(batch, generator=generator, dtype=torch.float64)
    return ((torch.arange(batch) + place) / batch * T).long()


@a_times.misconception(
    "generator-ignored",
    "A draw does not use the generator, so the same seed gives other times, and a run that is "
    "resumed goes on differently. Every torch.randint, torch.rand and torch.randperm takes "
    "generator=generator.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(T, (batch,))
    t = ((torch.arange(batch) + torch.rand(batch, dtype=torch.float64)) / batch * T).long()
    return t[torch.randperm(batch)]


@a_times.misconception(
    "order-from-the-global-generator",
    "The places come from the generator, but the mixing does not: torch.randperm draws too.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(T, (batch,), generator=generator)
    place = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = ((torch.arange(batch) + place) / batch * T).long()
    return t[torch.randperm(batch)]


@a_times.misconception(
    "always-at-the-start",
    "Each time stands at the beginning of its part. Then most levels between are never trained: "
    "the place within the part is to be drawn.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(T, (batch,), generator=generator)
    t = (torch.arange(batch) / batch * T).long()
    return t[torch.randperm(batch, generator=generator)]


@a_times.misconception(
    "rounded-not-floored",
    "You round to the nearest whole number. So 0 and T each get half a share, and T is no index "
    "any more. Cut the fraction off instead.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return (torch.rand(batch, generator=generator) * T).round().long()
    place = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = ((torch.arange(batch) + place) / batch * T).round().long()
    return t[torch.randperm(batch, generator=generator)]


@a_times.misconception(
    "each-time-once",
    "Within a batch no time comes twice: that is drawing without replacement. Plain times are "
    "independent of each other (and a batch may be larger than T).",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randperm(max(T, batch), generator=generator)[:batch] % T
    place = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = ((torch.arange(batch) + place) / batch * T).long()
    return t[torch.randperm(batch, generator=generator)]


@a_times.misconception(
    "one-time-for-all",
    "The whole batch shares one time. The loss is then that of one level, and jumps from step to "
    "step with the level. Draw a time for each image.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(T, (1,), generator=generator).expand(batch)
    place = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = ((torch.arange(batch) + place) / batch * T).long()
    return t[torch.randperm(batch, generator=generator)]


@a_times.misconception(
    "stratified-ignored",
    "stratified=True changes nothing in yours: some parts of [0, T) get no time, others several.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    return torch.randint(T, (batch,), generator=generator)


@a_times.misconception(
    "fractions",
    "The times are fractions in [0, 1). alpha_bar is indexed with whole numbers: multiply by T, "
    "round down, and turn them into int64.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.rand(batch, generator=generator)
    t = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    return t[torch.randperm(batch, generator=generator)]


def _parts_of_whole_width(got, expected, cases):
    """A ``detect``: time i of a batch of 4 in 10 steps is 2 i or 2 i + 1, and never above 7."""
    for outcome, case in zip(got, cases):
        batch, T, *_ = case.args
        if case.group != "stratified" or batch == 1 or not T % batch or batch > T:
            continue
        times = outcome.value.get("times") if isinstance(outcome.value, dict) else None
        if not isinstance(times, torch.Tensor) or times.dtype != torch.int64:
            return False
        part = times.sort(1).values // (T // batch)
        return len(times.unique()) == T // batch * batch and bool(
            (part == torch.arange(batch)).all()
        )
    return False


@a_times.misconception(
    "parts-of-whole-width",
    "Your parts are T // batch wide. Where batch does not divide T, they end too early: the last "
    "times never come. A part is T / batch wide, a fraction; round down only at the end.",
    detect=_parts_of_whole_width,
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(T, (batch,), generator=generator)
    place = torch.rand(batch, generator=generator, dtype=torch.float64)
    t = ((torch.arange(batch) + place) * (T // batch)).long()
    return t[torch.randperm(batch, generator=generator)]


@a_times.misconception(
    "always-in-the-middle",
    "Each time stands in the middle of its part. Then most levels between are never trained: the "
    "place within the part is to be drawn.",
)
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(T, (batch,), generator=generator)
    t = ((torch.arange(batch) + 0.5) / batch * T).long()
    return t[torch.randperm(batch, generator=generator)]


@a_times.alternative("from-rand")
def sample_timesteps(batch, T, generator=None, stratified=False):
    u = torch.rand(batch, generator=generator, dtype=torch.float64)
    if stratified:
        u = (torch.randperm(batch, generator=generator) + u) / batch
    return torch.floor(u * T).to(torch.int64)


@a_times.alternative("one-place-for-all-parts")
def sample_timesteps(batch, T, generator=None, stratified=False):
    if not stratified:
        return torch.randint(0, T, size=(batch,), generator=generator)
    u = torch.rand(1, generator=generator, dtype=torch.float64)
    u = torch.linspace(0, 1, batch + 1, dtype=torch.float64)[:-1] + u / batch
    order = torch.argsort(torch.rand(batch, generator=generator))
    return (u * T).long().clamp(max=T - 1)[order]


# --- 05.2 ----------------------------------------------------------------------------------

a_step = Answers("05.2")


@a_step.reference
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    from undiffuse.losses import simple_loss

    model.train()
    t = sample_timesteps(len(x0), len(alpha_bar), generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    loss = simple_loss(model, x0, t, alpha_bar, noise, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _plain_times(batch, T, generator):
    return torch.randint(T, (batch,), generator=generator)


def _loss(model, x0, alpha_bar, generator, cond, prediction):
    t = _plain_times(len(x0), len(alpha_bar), generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    return simple_loss(model, x0, t, alpha_bar, noise, cond, prediction)


@a_step.misconception(
    "gradients-accumulate",
    "From the second step on, the gradients of all steps before are in the sum: backward() adds to "
    "what is there. Clear them before each backward().",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    loss = _loss(model, x0, alpha_bar, generator, cond, prediction)
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "step-before-backward",
    "optimizer.step() comes before backward(). The first call steps along no gradient at all; in "
    "the second, the step changes the weights that the new loss was computed with, and torch "
    "refuses to go backward. First the gradient, then the step.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    loss = _loss(model, x0, alpha_bar, generator, cond, prediction)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


@a_step.misconception(
    "nothing-moves",
    "The weights are the same after the step as before, and the gradients are gone: they are "
    "cleared between backward() and optimizer.step(), so there is nothing left to step along.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    loss = _loss(model, x0, alpha_bar, generator, cond, prediction)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "no-step",
    "There is a gradient, but the weights are the same as before: optimizer.step() is missing, or "
    "comes before the gradient is there.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    loss = _loss(model, x0, alpha_bar, generator, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


@a_step.misconception(
    "returns-the-tensor",
    "The loss comes back as a tensor. As long as somebody keeps it (in a list of losses, say), the "
    "whole computation of that step stays in memory. Return a plain number.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    loss = _loss(model, x0, alpha_bar, generator, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@a_step.misconception(
    "evaluation-mode",
    "The network stays in the mode that it came in. After somebody evaluated it, dropout and batch "
    "normalisation would stay in evaluation for the rest of the training: call model.train().",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    loss = _loss(model, x0, alpha_bar, generator, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "leaves-evaluation-mode",
    "The network is in training mode during the step, and in evaluation mode afterwards. Leave it "
    "in training mode: whoever evaluates it changes the mode for that.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    loss = _loss(model, x0, alpha_bar, generator, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    model.eval()
    return loss.item()


@a_step.misconception(
    "labels-lost",
    "cond is not passed on: the network is trained as if nobody knew the labels, and cannot learn "
    "to follow them.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    loss = _loss(model, x0, alpha_bar, generator, None, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "always-the-noise",
    "prediction is not passed on: the target is the noise, whatever was asked for.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    loss = _loss(model, x0, alpha_bar, generator, cond, "eps")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "labels-and-target-lost",
    "Neither cond nor prediction is passed on: the network is trained without labels, and on the "
    "noise, whatever was asked for.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    loss = _loss(model, x0, alpha_bar, generator, None, "eps")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "training-mode-too-late",
    "The network is put into training mode after the loss was computed. If it came in evaluation "
    "mode, this step is made without dropout: call model.train() first.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    loss = _loss(model, x0, alpha_bar, generator, cond, prediction)
    model.train()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "noise-of-its-own",
    "The noise does not come from the generator (torch.randn_like has no generator). The same seed "
    "then gives another run.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    t = _plain_times(len(x0), len(alpha_bar), generator)
    noise = torch.randn_like(x0)
    loss = simple_loss(model, x0, t, alpha_bar, noise, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "noise-before-times",
    "You draw the noise first and the times second. Both orders train alike, but one had to be "
    "agreed on, so that the same seed gives the same numbers: times first.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    t = _plain_times(len(x0), len(alpha_bar), generator)
    loss = simple_loss(model, x0, t, alpha_bar, noise, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "times-of-one-level",
    "Every image of the batch gets the same time. Draw len(x0) of them.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    t = _plain_times(1, len(alpha_bar), generator).expand(len(x0))
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    loss = simple_loss(model, x0, t, alpha_bar, noise, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "stratified-times",
    "Your times are stratified. They would do their work, and the lesson shows how much; but here "
    "the plain ones were agreed on, so that the same seed gives the same numbers.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    u = torch.rand(len(x0), generator=generator, dtype=torch.float64)
    t = ((torch.arange(len(x0)) + u) / len(x0) * len(alpha_bar)).long()
    t = t[torch.randperm(len(x0), generator=generator)]
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    loss = simple_loss(model, x0, t, alpha_bar, noise, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.misconception(
    "loss-after-the-step",
    "The weights are right, but the loss that you return is computed anew after the step. That "
    "takes a second pass through the network; the loss before the step is there already.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    t = _plain_times(len(x0), len(alpha_bar), generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    loss = simple_loss(model, x0, t, alpha_bar, noise, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return simple_loss(model, x0, t, alpha_bar, noise, cond, prediction).item()


@a_step.misconception(
    "noise-always-float32",
    "Your noise is float32 whatever x0 is: where x0 is float64, the generator gives other numbers. "
    "Pass dtype=x0.dtype.",
)
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    t = _plain_times(len(x0), len(alpha_bar), generator)
    noise = torch.randn(x0.shape, generator=generator)
    loss = simple_loss(model, x0, t, alpha_bar, noise, cond, prediction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@a_step.alternative("clears-afterwards")
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train(True)
    t = _plain_times(x0.shape[0], alpha_bar.shape[0], generator)
    noise = torch.randn(*x0.shape, generator=generator, dtype=x0.dtype)
    loss = simple_loss(model, x0, t, alpha_bar, noise, cond=cond, prediction=prediction)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


@a_step.alternative("loss-written-out")
def train_step(model, optimizer, x0, alpha_bar, generator=None, cond=None, prediction="eps"):
    model.train()
    for p in model.parameters():
        p.grad = None
    t = _plain_times(len(x0), len(alpha_bar), generator)
    noise = torch.empty_like(x0).normal_(generator=generator)
    x_t = q_sample(x0, t, alpha_bar, noise)
    target = {"eps": noise, "x0": x0, "v": v_target(x0, t, alpha_bar, noise)}[prediction]
    out = model(x_t, network_time(t, len(alpha_bar), x0.dtype), cond)
    loss = nn.functional.mse_loss(out, target)
    loss.backward()
    optimizer.step()
    return loss.item()


# --- 05.3 ----------------------------------------------------------------------------------

a_ema = Answers("05.3")


@a_ema.reference
class EMA:
    def __init__(self, model, decay=0.999):
        self.decay, self.updates = decay, 0
        self.shadow = {k: v.clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, p in model.named_parameters():
            self.shadow[name].mul_(d).add_((1 - d) * p)
        for name, b in model.named_buffers():
            self.shadow[name].copy_(b)


class _Average:
    """What the wrong versions below change one piece of."""

    def __init__(self, model, decay=0.999):
        self.decay, self.updates = decay, 0
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def weight(self):
        self.updates += 1
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    def mix(self, name, p, d):
        self.shadow[name] = d * self.shadow[name] + (1 - d) * p

    def copy(self, name, b, d):
        self.shadow[name] = b.clone()

    @torch.no_grad()
    def update(self, model):
        d = self.weight()
        for name, p in model.named_parameters():
            self.mix(name, p, d)
        for name, b in model.named_buffers():
            self.copy(name, b, d)


@a_ema.misconception(
    "decay-swapped",
    "d and 1 - d have changed places: with a decay of 0.999 the average would follow the model at "
    "once and forget all that was. d belongs to the average.",
)
class EMA(_Average):
    def mix(self, name, p, d):
        self.shadow[name] = (1 - d) * self.shadow[name] + d * p


@a_ema.misconception(
    "shares-memory",
    "Your average is the model's own memory: to change one is to change the other. state_dict() "
    "hands out the tensors themselves. Clone each.",
)
class EMA(_Average):
    def __init__(self, model, decay=0.999):
        super().__init__(model, decay)
        self.shadow = {k: v.detach() for k, v in model.state_dict().items()}

    def mix(self, name, p, d):
        self.shadow[name].mul_(d).add_((1 - d) * p)

    def copy(self, name, b, d):
        self.shadow[name].copy_(b)


@a_ema.misconception(
    "buffers-forgotten",
    "The parameters are right, but the buffers stay as they were at the start. A normalisation's "
    "running mean belongs to the model as much as its weights: copy the buffers at every update.",
)
class EMA(_Average):
    def copy(self, name, b, d):
        pass


@a_ema.misconception(
    "buffers-left-out",
    "shadow has the parameters only. Loaded into a model, it would lack the buffers: begin with "
    "all of model.state_dict().",
)
class EMA(_Average):
    def __init__(self, model, decay=0.999):
        super().__init__(model, decay)
        self.shadow = {k: v.detach().clone() for k, v in model.named_parameters()}

    def copy(self, name, b, d):
        pass


@a_ema.misconception(
    "buffers-averaged",
    "You average the buffers as well. They are running averages already, or counters, for which a "
    "weighted mean makes no sense: copy them.",
)
class EMA(_Average):
    def copy(self, name, b, d):
        self.shadow[name] = (d * self.shadow[name] + (1 - d) * b).to(b.dtype)


@a_ema.misconception(
    "counters-averaged",
    "You average the buffers as well, and a counter becomes a fraction. Buffers are running "
    "averages already, or counters, for which a weighted mean makes no sense: copy them.",
)
class EMA(_Average):
    def copy(self, name, b, d):
        self.shadow[name] = d * self.shadow[name] + (1 - d) * b


@a_ema.misconception(
    "buffers-share-memory",
    "The parameters are the average's own, but update takes the model's buffers as they are, "
    "memory and all: when the model moves on, they move too. Copy them into the average's own "
    "tensors (copy_), or clone them.",
)
class EMA(_Average):
    def copy(self, name, b, d):
        self.shadow[name] = b


@a_ema.misconception(
    "keeps-gradients",
    "The average needs gradients. Either a parameter was cloned without detach() at the start, or "
    "update was computed with the graph on, which then grows until memory is full. Detach what you "
    "clone, and keep @torch.no_grad() on update.",
)
class EMA(_Average):
    def update(self, model):
        d = self.weight()
        for name, p in model.named_parameters():
            self.mix(name, p, d)
        for name, b in model.named_buffers():
            self.copy(name, b, d)


@a_ema.misconception(
    "no-warm-up",
    "You use the full decay from the first update on. The random weights of the start then weigh "
    "heavily for thousands of steps. d = min(decay, (1 + n) / (10 + n)).",
)
class EMA(_Average):
    def weight(self):
        self.updates += 1
        return self.decay


@a_ema.misconception(
    "counts-from-zero",
    "Your warm-up is one update late: the first update is n = 1, so count before you compute d.",
)
class EMA(_Average):
    def weight(self):
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        return d


@a_ema.misconception(
    "max-for-min",
    "You take the larger of the two. The warm-up is there to make d smaller at the beginning.",
)
class EMA(_Average):
    def weight(self):
        self.updates += 1
        return max(self.decay, (1 + self.updates) / (10 + self.updates))


@a_ema.misconception(
    "starts-at-zero",
    "The average starts at zero and is pulled towards it for a long time. Start from a copy of the "
    "model.",
)
class EMA(_Average):
    def __init__(self, model, decay=0.999):
        super().__init__(model, decay)
        self.shadow = {k: torch.zeros_like(v) for k, v in self.shadow.items()}


@a_ema.misconception(
    "mean-of-all",
    "This is the plain mean of all weights so far. The average is to forget: early weights, from "
    "before the model knew anything, have to lose their influence.",
)
class EMA(_Average):
    def weight(self):
        self.updates += 1
        return self.updates / (self.updates + 1)


@a_ema.misconception(
    "writes-into-the-model",
    "update changes the model: it puts the average back into it. Training must go on with the raw "
    "weights; the average is kept beside them.",
)
class EMA(_Average):
    @torch.no_grad()
    def update(self, model):
        super().update(model)
        model.load_state_dict(self.shadow)


@a_ema.misconception(
    "warm-up-stuck",
    "The first update is right, and from the second on d stays what it was at the first. Either "
    "the updates are not counted, or the warmed-up value is stored in self.decay and caps all that "
    "follow: keep it in a variable of its own.",
)
class EMA(_Average):
    def weight(self):
        self.updates += 1
        self.decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        return self.decay


@a_ema.misconception(
    "not-cloned-at-the-start",
    "The first update mixes the model with itself: until then your average is the model's own "
    "memory, which has moved on. Clone each tensor of state_dict() in the constructor.",
)
class EMA(_Average):
    def __init__(self, model, decay=0.999):
        super().__init__(model, decay)
        self.shadow = {k: v.detach() for k, v in model.state_dict().items()}


@a_ema.alternative("lerp-over-the-state")
class EMA:
    def __init__(self, model, decay=0.999):
        self.decay = decay
        self.updates = 0
        self.shadow = copy.deepcopy(model.state_dict())

    def update(self, model):
        self.updates = self.updates + 1
        n = self.updates
        d = (1 + n) / (10 + n)
        if d > self.decay:
            d = self.decay
        learned = dict(model.named_parameters())
        for name, value in model.state_dict().items():
            value = value.detach()
            if name in learned:
                self.shadow[name].lerp_(value, 1 - d)
            else:
                self.shadow[name] = value.clone()


@a_ema.alternative("a-second-model")
class EMA:
    def __init__(self, model, decay=0.999):
        self.decay, self.updates = decay, 0
        self.model = copy.deepcopy(model).requires_grad_(False)

    @property
    def shadow(self):
        return self.model.state_dict()

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        d = min(self.decay, 1 - 9 / (10 + self.updates))
        for mine, theirs in zip(self.model.parameters(), model.parameters()):
            mine.add_(theirs - mine, alpha=1 - d)
        for mine, theirs in zip(self.model.buffers(), model.buffers()):
            mine.copy_(theirs)


# --- 05.4 ----------------------------------------------------------------------------------

a_lr = Answers("05.4")


@a_lr.reference
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, (step - warmup) / (total - 1 - warmup))
    return final + (base_lr - final) * (1 + math.cos(math.pi * share)) / 2


@a_lr.misconception(
    "restarts",
    "Past the end the rate climbs again: the cosine goes on. Hold the share at 1, so that a run "
    "that goes on longer stays at final.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = (step - warmup) / (total - 1 - warmup)
    return final + (base_lr - final) * (1 + math.cos(math.pi * share)) / 2


@a_lr.misconception(
    "first-step-zero",
    "At step 0 your rate is 0, so the first step does nothing, and the warm-up is over one step "
    "late. Steps count from 0: step 0 already gets its share.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * step / warmup
    share = min(1.0, (step - warmup) / (total - 1 - warmup))
    return final + (base_lr - final) * (1 + math.cos(math.pi * share)) / 2


@a_lr.misconception(
    "ends-one-step-late",
    "The last step, total - 1, does not reach final: the share becomes 1 one step later. From "
    "warmup to total - 1 there are total - 1 - warmup steps.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, (step - warmup) / (total - warmup))
    return final + (base_lr - final) * (1 + math.cos(math.pi * share)) / 2


@a_lr.misconception(
    "straight-line",
    "The rate falls along a straight line, and below zero past the end, where each step would "
    "climb. A half cosine is wanted: slow at both ends, and held at final.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = (step - warmup) / (total - 1 - warmup)
    return final + (base_lr - final) * (1 - share)


@a_lr.misconception(
    "straight-but-held",
    "The rate falls along a straight line. A half cosine is wanted, which is slow at both ends.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, (step - warmup) / (total - 1 - warmup))
    return final + (base_lr - final) * (1 - share)


@a_lr.misconception(
    "final-added-on-top",
    "You add final to a cosine that starts at base_lr: it begins above base_lr. The cosine has to "
    "span what is between the two.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, (step - warmup) / (total - 1 - warmup))
    return final + base_lr * (1 + math.cos(math.pi * share)) / 2


@a_lr.misconception(
    "final-ignored",
    "Your rate ends at 0, whatever final is.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, (step - warmup) / (total - 1 - warmup))
    return base_lr * (1 + math.cos(math.pi * share)) / 2


@a_lr.misconception(
    "cosine-from-step-0",
    "The cosine runs from step 0, not from the end of the warm-up: the rate jumps down where the "
    "warm-up ends, and never is base_lr in between.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, step / (total - 1))
    return final + (base_lr - final) * (1 + math.cos(math.pi * share)) / 2


@a_lr.misconception(
    "quarter-cosine",
    "You use the cosine from 0 to pi / 2, which is steep at the end. From 0 to pi it is level at "
    "both ends; it then goes from 1 to -1, so it has to be lifted and halved.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, (step - warmup) / (total - 1 - warmup))
    return final + (base_lr - final) * math.cos(math.pi / 2 * share)


@a_lr.misconception(
    "no-warm-up",
    "There is no warm-up in yours: the cosine starts at step 0 with the full rate.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    share = min(1.0, max(0.0, (step - warmup) / (total - 1 - warmup)))
    return final + (base_lr - final) * (1 + math.cos(math.pi * share)) / 2


@a_lr.misconception(
    "upside-down",
    "Your cosine rises from final to base_lr. It is to fall: 1 + cos goes from 2 to 0, 1 - cos the "
    "other way.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, (step - warmup) / (total - 1 - warmup))
    return final + (base_lr - final) * (1 - math.cos(math.pi * share)) / 2


@a_lr.misconception(
    "half-forgotten",
    "1 + cos goes from 2 to 0, so your rate begins at nearly twice base_lr. Halve it.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, (step - warmup) / (total - 1 - warmup))
    return final + (base_lr - final) * (1 + math.cos(math.pi * share))


@a_lr.misconception(
    "degrees",
    "math.cos wants radians: half a turn is math.pi, not 180.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, (step - warmup) / (total - 1 - warmup))
    return final + (base_lr - final) * (1 + math.cos(180 * share)) / 2


@a_lr.misconception(
    "length-from-step-0",
    "The cosine begins at the right step, but it is stretched over the whole run, so that it does "
    "not arrive: from warmup to total - 1 there are total - 1 - warmup steps.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    share = min(1.0, (step - warmup) / (total - 1))
    return final + (base_lr - final) * (1 + math.cos(math.pi * share)) / 2


@a_lr.misconception(
    "warm-up-one-step-too-long",
    "Your warm-up also takes step = warmup, at which it is above base_lr (and without a warm-up "
    "divides by 0). Steps count from 0, so the warm-up has the steps below warmup.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step <= warmup:
        return base_lr * (step + 1) / warmup
    if step >= total:
        return final
    share = (step - warmup) / (total - 1 - warmup)
    return final + (base_lr - final) / 2 * (1 + math.cos(math.pi * share))


@a_lr.misconception(
    "warms-up-from-final",
    "Your warm-up begins near final. It is to begin near 0, whatever the end is: final belongs to "
    "the cosine alone.",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return final + (base_lr - final) * (step + 1) / warmup
    share = min((step - warmup) / (total - 1 - warmup), 1.0)
    return final + (base_lr - final) / 2 * (1 + math.cos(math.pi * share))


@a_lr.misconception(
    "zero-past-the-end",
    "Past the end your rate is 0, and final is wanted. (Within the run it is right.)",
)
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        return base_lr * (step + 1) / warmup
    if step >= total:
        return 0.0
    share = (step - warmup) / (total - 1 - warmup)
    return final + (base_lr - final) * (1 + math.cos(math.pi * share)) / 2


@a_lr.alternative("squared-cosine")
def lr_at(step, warmup, total, base_lr, final=0.0):
    if warmup > 0 and step <= warmup - 1:
        return (step + 1) / warmup * base_lr
    if step >= total - 1:
        return float(final)
    part = (step - warmup) / (total - warmup - 1)
    return final + (base_lr - final) * math.cos(math.pi * part / 2) ** 2


@a_lr.alternative("weighted-mean-of-both-ends")
def lr_at(step, warmup, total, base_lr, final=0.0):
    if step < warmup:
        rise = torch.linspace(base_lr / warmup, base_lr, warmup, dtype=torch.float64)
        return rise[step].item()
    gone = (min(step, total - 1) - warmup) / (total - 1 - warmup)
    share = 0.5 * (1 - math.cos(gone * math.pi))
    return (1 - share) * base_lr + share * final


# --- 05.5 ----------------------------------------------------------------------------------

a_val = Answers("05.5")


@a_val.reference
@torch.no_grad()
def validation_loss(
    model, data, alpha_bar, bins=10, seed=0, prediction="eps", cond=None, batch=250
):
    from undiffuse.losses import simple_loss

    generator = torch.Generator().manual_seed(seed)
    n, T = len(data), len(alpha_bar)
    part = torch.arange(n) % bins
    place = torch.rand(n, generator=generator, dtype=torch.float64)
    t = ((part + place) / bins * T).long()
    noise = torch.randn(data.shape, generator=generator, dtype=data.dtype)
    total = torch.zeros(bins, dtype=torch.float64)
    mode = model.training
    model.eval()
    for k in range(bins):
        for i in (part == k).nonzero()[:, 0].split(batch):
            labels = None if cond is None else cond[i]
            loss = simple_loss(model, data[i], t[i], alpha_bar, noise[i], labels, prediction)
            total[k] += loss.item() * len(i)
    model.train(mode)
    return total / torch.bincount(part)


class _Validation:
    """The reference in pieces; the wrong versions below replace one of them."""

    def __init__(self, model, data, alpha_bar, bins, seed, prediction, cond, batch):
        self.model, self.data, self.alpha_bar = model, data, alpha_bar
        self.bins, self.seed, self.prediction = bins, seed, prediction
        self.cond, self.batch = cond, batch
        self.n, self.T = len(data), len(alpha_bar)

    def part(self):
        return torch.arange(self.n) % self.bins

    def generator(self):
        return torch.Generator().manual_seed(self.seed)

    def place(self, g):
        return torch.rand(self.n, generator=g, dtype=torch.float64)

    def noise(self, g):
        return torch.randn(self.data.shape, generator=g, dtype=self.data.dtype)

    def before(self):
        self.mode = self.model.training
        self.model.eval()

    def after(self):
        self.model.train(self.mode)

    def of_bin(self, values, sizes):
        return sum(v * s for v, s in zip(values, sizes)) / sum(sizes)

    @torch.no_grad()
    def run(self):
        g = self.generator()
        part = self.part()
        t = ((part + self.place(g)) / self.bins * self.T).long()
        noise = self.noise(g)
        self.before()
        result = []
        for k in range(self.bins):
            values, sizes = [], []
            for i in (part == k).nonzero()[:, 0].split(self.batch):
                y = None if self.cond is None else self.cond[i]
                loss = simple_loss(
                    self.model, self.data[i], t[i], self.alpha_bar, noise[i], y, self.prediction
                )
                values.append(loss.item())
                sizes.append(len(i))
            result.append(self.of_bin(values, sizes))
        self.after()
        return torch.tensor(result, dtype=torch.float64)


def _rounded(self, u):
    """Places from which rounding down makes what rounding to the nearest makes of ``u``."""
    part = self.part()
    t = ((part + u) / self.bins * self.T).round().clamp(max=self.T - 1)
    return (t + 0.5) * self.bins / self.T - part


def _total(values, sizes):
    return sum(v * s for v, s in zip(values, sizes))


def _variant(**pieces):
    """A ``validation_loss`` in which methods of ``_Validation`` are replaced."""
    kind = type("Variant", (_Validation,), pieces)

    def validation_loss(
        model, data, alpha_bar, bins=10, seed=0, prediction="eps", cond=None, batch=250
    ):
        return kind(model, data, alpha_bar, bins, seed, prediction, cond, batch).run()

    return {"validation_loss": validation_loss}


a_val.misconception(
    "new-noise-each-call",
    "Every call draws other times and noise, from the global generator. Two losses then differ by "
    "luck as well, and you cannot tell whether the model got better. Use a generator of its own, "
    "seeded with seed.",
    defines=_variant(generator=lambda self: None),
)
a_val.misconception(
    "disturbs-the-global-generator",
    "The values are right, but to get them you seed torch's global generator. Whatever draws from "
    "it afterwards (dropout, say) repeats itself after each validation. Make a torch.Generator.",
    defines=_variant(generator=lambda self: torch.manual_seed(self.seed) and None),
)
a_val.misconception(
    "seed-unused",
    "The seed has no effect: a generator that nobody seeds starts from the same number each time.",
    defines=_variant(generator=lambda self: torch.Generator()),
)
a_val.misconception(
    "leaves-evaluation-mode",
    "After the call the network is in evaluation mode, and the training goes on without dropout. "
    "Put it back into the mode that it came in.",
    defines=_variant(after=lambda self: None),
)
a_val.misconception(
    "leaves-training-mode",
    "After the call the network is in training mode, even if it was not before. Note the mode "
    "before you change it.",
    defines=_variant(after=lambda self: self.model.train()),
)
a_val.misconception(
    "measured-in-training-mode",
    "The network is in training mode while it is measured: dropout is on, and batch normalisation "
    "learns from the validation data. Call model.eval() first.",
    defines=_variant(before=lambda self: setattr(self, "mode", self.model.training)),
)
a_val.misconception(
    "mean-of-means",
    "You take the mean of the pieces' means. The last piece of a bin is smaller than the others, "
    "and its samples count for more. Weigh each mean with how many samples it is of.",
    defines=_variant(of_bin=lambda self, values, sizes: sum(values) / len(values)),
)
a_val.misconception(
    "blocks-for-bins",
    "The first samples go to the first bin, the next ones to the second. If the data are in an "
    "order, by class say, each bin measures another class. Sample i belongs to part i % bins.",
    defines=_variant(part=lambda self: torch.arange(self.n) * self.bins // self.n),
)
a_val.misconception(
    "start-of-the-bin",
    "Every sample of a bin gets the bin's first time. The place within the bin is to be drawn, or "
    "most levels are never measured.",
    defines=_variant(place=lambda self, g: torch.zeros(self.n, dtype=torch.float64)),
)
a_val.misconception(
    "rounded-not-floored",
    "You round the times to the nearest whole number: half of a bin's edge goes to its neighbour, "
    "and the largest time would be T. The formula cuts the fraction off.",
    defines=_variant(
        place=lambda self, g: _rounded(self, _Validation.place(self, g)),
    ),
)
a_val.misconception(
    "divided-by-all",
    "You divide the sum of each bin by the number of all samples. Each bin's mean is over its own "
    "samples.",
    defines=_variant(of_bin=lambda self, values, sizes: _total(values, sizes) / self.n),
)
a_val.misconception(
    "bins-taken-as-equal",
    "You divide each bin by N // bins. Where bins does not divide N, some bins have a sample more.",
    defines=_variant(
        of_bin=lambda self, values, sizes: _total(values, sizes) / (self.n // self.bins)
    ),
)
a_val.misconception(
    "noise-before-places",
    "You draw the noise before the places. As the numbers are to be the same for everybody, the "
    "order is agreed on: first the places, then the noise.",
    defines=_variant(
        generator=lambda self: torch.Generator().manual_seed(self.seed),
        place=lambda self, g: (
            setattr(self, "drawn", _Validation.noise(self, g)) or _Validation.place(self, g)
        ),
        noise=lambda self, g: self.drawn,
    ),
)
a_val.misconception(
    "all-at-once",
    "All samples of a bin go through the network at once, however many there are. A large "
    "validation set does not fit into memory that way: at most batch at a time.",
    defines=_variant(
        before=lambda self: (_Validation.before(self), setattr(self, "batch", self.n))[0]
    ),
)
a_val.misconception(
    "labels-lost",
    "cond is not passed on, so the network is measured without labels.",
    defines=_variant(
        before=lambda self: (_Validation.before(self), setattr(self, "cond", None))[0]
    ),
)
a_val.misconception(
    "first-labels-for-all",
    "Every piece gets the first labels of cond, not those of its own samples. Index cond as you "
    "index the data.",
    defines=_variant(
        run=lambda self: _with_first_labels(self),
    ),
)
a_val.misconception(
    "first-noise-for-all",
    "Every piece gets the first rows of the noise, not those of its own samples. Index the noise "
    "as you index the data.",
    defines=_variant(noise=lambda self, g: _FirstLabels(_Validation.noise(self, g))),
)
a_val.misconception(
    "never-the-last-time",
    "You spread the times over T - 1 steps. The formula rounds down already, so the noisiest time "
    "would never be measured: multiply by T.",
    defines=_variant(
        place=lambda self, g: setattr(self, "T", self.T - 1) or _Validation.place(self, g)
    ),
)
a_val.misconception(
    "always-the-noise",
    "prediction is not passed on: the target is the noise, whatever the network predicts.",
    defines=_variant(
        before=lambda self: (_Validation.before(self), setattr(self, "prediction", "eps"))[0]
    ),
)


class _FirstLabels:
    """Labels, or noise, that give the first rows for any index."""

    def __init__(self, cond):
        self.cond = cond

    def __getitem__(self, i):
        return self.cond[: len(i)]


def _with_first_labels(self):
    if self.cond is not None:
        self.cond = _FirstLabels(self.cond)
    return _Validation.run(self)


@a_val.alternative("errors-of-all-then-added-up")
def validation_loss(
    model, data, alpha_bar, bins=10, seed=0, prediction="eps", cond=None, batch=250
):
    g = torch.Generator()
    g.manual_seed(seed)
    part = torch.arange(len(data)).remainder(bins)
    u = torch.rand(len(data), generator=g, dtype=torch.float64)
    t = torch.floor(len(alpha_bar) * (part + u) / bins).long()
    noise = torch.randn(data.shape, generator=g, dtype=data.dtype)
    target = {"eps": noise, "x0": data, "v": v_target(data, t, alpha_bar, noise)}[prediction]
    x_t = q_sample(data, t, alpha_bar, noise)
    time = network_time(t, len(alpha_bar), data.dtype)
    was = model.training
    errors = []
    try:
        with torch.inference_mode():
            model.train(False)
            for i in range(0, len(data), batch):
                j = slice(i, i + batch)
                out = model(x_t[j], time[j], cond[j] if cond is not None else None)
                errors.append((out - target[j]).square().flatten(1).mean(1).double())
    finally:
        model.train(was)
    errors = torch.cat(errors)
    return torch.stack([errors[part == k].mean() for k in range(bins)])


@a_val.alternative("one-sample-at-a-time")
def validation_loss(
    model, data, alpha_bar, bins=10, seed=0, prediction="eps", cond=None, batch=250
):
    g = torch.Generator().manual_seed(seed)
    n, T = len(data), len(alpha_bar)
    u = torch.rand(n, generator=g, dtype=torch.float64)
    noise = torch.randn(data.shape, generator=g, dtype=data.dtype)
    was = model.training
    model.eval()
    sums, counts = [0.0] * bins, [0] * bins
    for i in range(n):
        k = i % bins
        t = torch.tensor([int((k + float(u[i])) / bins * T)])
        y = cond[i : i + 1] if cond is not None else None
        with torch.no_grad():
            loss = simple_loss(
                model, data[i : i + 1], t, alpha_bar, noise[i : i + 1], y, prediction
            )
        sums[k] += loss.item()
        counts[k] += 1
    model.train(was)
    return torch.tensor([s / c for s, c in zip(sums, counts)], dtype=torch.float64)


# --- 05.6 ----------------------------------------------------------------------------------

a_check = Answers("05.6")


@a_check.reference
def save_checkpoint(path, model, optimizer, ema, generator, step, **extra):
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": None if ema is None else ema.state_dict(),
        "generator": generator.get_state(),
        "global": torch.get_rng_state(),
        "step": step,
        "extra": extra,
    }
    torch.save(state, f"{path}.new")
    os.replace(f"{path}.new", path)


@a_check.reference
def load_checkpoint(path, model, optimizer, ema, generator):
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if ema is not None:
        ema.load_state_dict(state["ema"])
    generator.set_state(state["generator"])
    torch.set_rng_state(state["global"])
    return state["step"], state["extra"]


def _pair(
    forget=(), write=None, weights_only=True, returns=None, change=None, restart=False, count=True
):
    """save_checkpoint and load_checkpoint with something left out or done otherwise."""

    def save_checkpoint(path, model, optimizer, ema, generator, step, **extra):
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "ema": ema.state_dict() if ema else None,
            "generator": generator.get_state(),
            "global": torch.get_rng_state(),
            "step": step,
            "extra": extra,
        }
        if change:
            change(state, model, generator)
        if write:
            write(state, path)
        else:
            torch.save(state, f"{path}.part")
            os.replace(f"{path}.part", path)

    def load_checkpoint(path, model, optimizer, ema, generator):
        state = torch.load(path, weights_only=weights_only)
        if "model" not in forget:
            model.load_state_dict(state["model"])
        if "optimizer" not in forget:
            optimizer.load_state_dict(state["optimizer"])
        if ema and "ema" not in forget:
            if not count:
                state["ema"]["updates"] = ema.updates
            ema.load_state_dict(state["ema"])
        if "generator" not in forget:
            generator.set_state(state["generator"])
        if restart:
            generator.manual_seed(state["generator"])
        if "global" not in forget:
            torch.set_rng_state(state["global"])
        return returns(state) if returns else (state["step"], state["extra"])

    return {"save_checkpoint": save_checkpoint, "load_checkpoint": load_checkpoint}


a_check.misconception(
    "optimizer-forgotten",
    "The optimizer starts afresh. AdamW keeps two running means for each weight; without them the "
    "first steps after a break have another size and direction.",
    defines=_pair(forget=("optimizer",)),
)
a_check.misconception(
    "average-forgotten",
    "The averaged weights start afresh. They hold thousands of steps that nobody can repeat.",
    defines=_pair(forget=("ema",)),
)
a_check.misconception(
    "generator-forgotten",
    "The generator goes on from somewhere else, so batches, times and noise are others than "
    "without the break. Keep its state.",
    defines=_pair(forget=("generator",)),
)
a_check.misconception(
    "seed-for-state",
    "You keep the generator's seed. That is where it began, not where it is now: after the break "
    "it draws its first numbers again. Keep get_state(), and put it back with set_state.",
    defines=_pair(
        forget=("generator",),
        change=lambda state, model, generator: state.update(generator=generator.initial_seed()),
        restart=True,
    ),
)
a_check.misconception(
    "average-without-its-count",
    "The averaged weights come back, but not the number of updates: the warm-up of the decay "
    "begins anew, and the average is mixed otherwise. Keep ema.state_dict(), not ema.shadow alone.",
    defines=_pair(count=False),
)
a_check.misconception(
    "whole-objects-saved",
    "You write whole objects (the model itself, say) into the file. To read them back, torch would "
    "have to run code, which weights_only=True refuses. Write what state_dict() gives.",
    defines=_pair(change=lambda state, model, generator: state.update(model=model)),
)
a_check.misconception(
    "global-generator-forgotten",
    "All is right but for dropout: it draws from torch's global generator, whose state has to be "
    "kept as well.",
    defines=_pair(forget=("global",)),
)
a_check.misconception(
    "step-forgotten",
    "The run begins to count from 0 again: the learning rate warms up a second time, and the run "
    "takes too many steps.",
    defines=_pair(returns=lambda state: (0, state["extra"])),
)
a_check.misconception(
    "step-off-by-one",
    "The step that comes back is one more than the one that was saved, so one step is left out.",
    defines=_pair(returns=lambda state: (state["step"] + 1, state["extra"])),
)
a_check.misconception(
    "extra-forgotten",
    "What was handed over as extra does not come back.",
    defines=_pair(returns=lambda state: (state["step"], {})),
)
a_check.misconception(
    "model-only",
    "Only the weights of the model come back. That is enough to draw samples, not to go on: the "
    "optimizer, the average and the generators are at their beginning.",
    defines=_pair(forget=("optimizer", "ema", "generator", "global")),
)
a_check.misconception(
    "weights-forgotten",
    "The model keeps the weights that it had before loading. load_state_dict has to be called on "
    "the model too.",
    defines=_pair(forget=("model",)),
)
a_check.misconception(
    "unsafe-load",
    "Reading the file ran code that somebody had put into it. torch.load with weights_only=False "
    "unpickles anything; weights_only=True reads numbers, text and containers only.",
    defines=_pair(weights_only=False),
)
a_check.misconception(
    "written-in-place",
    "The new checkpoint is written over the old one. When that fails half way (a full disk, a "
    "power cut), both are lost. Write beside it, and put it in place when it is whole.",
    defines=_pair(write=lambda state, path: torch.save(state, path)),
)


def _swallow(state, path):
    try:
        torch.save(state, f"{path}.part")
        os.replace(f"{path}.part", path)
    except OSError:
        print("could not save")


a_check.misconception(
    "error-swallowed",
    "When writing fails, nobody hears of it: the error is caught. Whoever trains believes that "
    "there is a new checkpoint. Let the error pass.",
    defines=_pair(write=_swallow),
)


def _through_memory(state, path):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    temporary = Path(path).with_suffix(".tmp")
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(path)


a_check.alternative("through-memory", defines=_pair(write=_through_memory))


def _save_flat(path, model, optimizer, ema, generator, step, **extra):
    random = [generator.get_state(), torch.get_rng_state()]
    parts = [p.state_dict() if p is not None else {} for p in (model, optimizer, ema)]
    new = os.path.join(os.path.dirname(path), "next.pt")
    with open(new, "wb") as file:
        torch.save([parts, random, [step, extra]], file)
    os.rename(new, path)


def _load_flat(path, model, optimizer, ema, generator):
    with open(path, "rb") as file:
        parts, random, rest = torch.load(file, weights_only=True, map_location="cpu")
    for thing, state in zip((model, optimizer, ema), parts):
        if thing is not None:
            thing.load_state_dict(state)
    generator.set_state(random[0])
    torch.random.set_rng_state(random[1])
    return tuple(rest)


a_check.alternative("lists", defines={"save_checkpoint": _save_flat, "load_checkpoint": _load_flat})


# --- 05.7 ----------------------------------------------------------------------------------

a_clip = Answers("05.7")


@a_clip.reference
def clip_and_report(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return norm


@a_clip.misconception(
    "each-parameter-by-itself",
    "Each parameter's gradient is clipped by itself. The step then points elsewhere: large parts "
    "are cut, small ones are not. One norm for all of them, and one factor.",
)
def clip_and_report(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    for g in gradients:
        own = float(g.norm())
        if own > max_norm:
            g.mul_(max_norm / own)
    return norm


@a_clip.misconception(
    "norm-after-clipping",
    "You report the norm after clipping, which is max_norm whenever it matters. The norm before "
    "tells whether training gets restless.",
)
def clip_and_report(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return min(norm, max_norm)


@a_clip.misconception(
    "values-not-norm",
    "Every single number is cut to at most max_norm. That changes the direction of the step, and "
    "leaves a long step of many small numbers as it is.",
)
def clip_and_report(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    for g in gradients:
        g.clamp_(-max_norm, max_norm)
    return norm


@a_clip.misconception(
    "short-ones-stretched",
    "Gradients that are short enough are stretched to max_norm. Clipping only shortens: near the "
    "end of training gradients are small and should be.",
)
def clip_and_report(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    if math.isfinite(max_norm):
        for g in gradients:
            g.mul_(max_norm / (norm + 1e-12))
    return norm


@a_clip.misconception(
    "scaled-without-asking",
    "You multiply by max_norm / norm whatever the norm is. Short gradients are stretched, and with "
    "max_norm = math.inf all become infinite. Scale only where the norm is above max_norm.",
)
def clip_and_report(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    for g in gradients:
        g.mul_(max_norm / norm)
    return norm


@a_clip.misconception(
    "weights-scaled",
    "You measure the gradients, and scale the weights. It is the gradients that are too long: "
    "scale p.grad.",
)
@torch.no_grad()
def clip_and_report(parameters, max_norm):
    parameters = [p for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in parameters))
    if norm > max_norm:
        for p in parameters:
            p.mul_(max_norm / norm)
    return norm


@a_clip.misconception(
    "root-forgotten",
    "You compare the sum of the squares with max_norm, and report it. The norm is its root.",
)
def clip_and_report(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum(float(g.square().sum()) for g in gradients)
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return norm


@a_clip.misconception(
    "norms-added",
    "You add up the norms of the parameters. Lengths of parts that stand at right angles do not "
    "add up; their squares do.",
)
def clip_and_report(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum(float(g.norm()) for g in gradients)
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return norm


@a_clip.misconception(
    "weights-clipped",
    "You measure and scale the weights themselves. It is their gradients that are too long.",
)
@torch.no_grad()
def clip_and_report(parameters, max_norm):
    weights = list(parameters)
    norm = math.sqrt(sum(float(w.square().sum()) for w in weights))
    if norm > max_norm:
        for w in weights:
            w.mul_(max_norm / norm)
    return norm


@a_clip.misconception(
    "returns-a-tensor",
    "What is done to the gradients is right. The norm comes back as a tensor; a plain number is "
    "wanted, for a log.",
)
def clip_and_report(parameters, max_norm):
    return nn.utils.clip_grad_norm_(list(parameters), max_norm)


@a_clip.misconception(
    "walked-through-twice",
    "parameters may be an iterator, as model.parameters() is: it is empty after the first walk. "
    "Your second loop then finds nothing to clip. Make a list first.",
)
def clip_and_report(parameters, max_norm):
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in parameters if p.grad is not None))
    if norm > max_norm:
        for p in parameters:
            if p.grad is not None:
                p.grad.mul_(max_norm / norm)
    return norm


@a_clip.misconception(
    "largest-of-the-norms",
    "You take the largest norm of a single parameter. All gradients together are longer than any "
    "of them: the root of the sum of all squares.",
)
def clip_and_report(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = max(float(g.norm()) for g in gradients)
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return norm


@a_clip.misconception(
    "not-in-place",
    "The norm is right, but the gradients are as long as before: g = g * factor makes a new tensor "
    "and leaves p.grad alone. Scale in place (g.mul_), or assign to p.grad.",
)
def clip_and_report(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    return math.sqrt(sum(float(g.square().sum()) for g in gradients))


@a_clip.alternative("torch's own")
def clip_and_report(parameters, max_norm):
    return float(torch.nn.utils.clip_grad_norm_(parameters, max_norm))


@a_clip.alternative("one long vector")
def clip_and_report(parameters, max_norm):
    having = [p for p in parameters if p.grad is not None]
    norm = torch.cat([p.grad.flatten() for p in having]).norm().item()
    factor = min(1.0, max_norm / (norm + 1e-9))
    for p in having:
        p.grad = p.grad * factor
    return norm


# --- 05.8 ----------------------------------------------------------------------------------

a_augment = Answers("05.8")


@a_augment.reference
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    batch, _, height, width = x.shape
    padded = F.pad(x, [shift] * 4, value=fill)
    moved = torch.empty_like(x)
    for i, (down, right) in enumerate(
        torch.randint(-shift, shift + 1, (batch, 2), generator=generator).tolist()
    ):
        top, left = shift - down, shift - right
        moved[i] = padded[i, :, top : top + height, left : left + width]
    if flip:
        mirrored = torch.rand(batch, generator=generator) < 0.5
        moved = torch.where(mirrored[:, None, None, None], moved.flip(3), moved)
    return moved


F = nn.functional


def _draw(batch, shift, generator):
    return torch.randint(-shift, shift + 1, (batch, 2), generator=generator).tolist()


def _shifted(x, all_moves, fill=-1.0, margin=None):
    """Each image moved by its (down, right)."""
    s = margin if margin is not None else max(1, *(abs(m) for pair in all_moves for m in pair))
    h, w = x.shape[-2:]
    padded = F.pad(x, [s] * 4, value=fill)
    return torch.stack(
        [p[:, s - d : s - d + h, s - r : s - r + w] for p, (d, r) in zip(padded, all_moves)]
    )


def _mirrored(x, generator, axis=3):
    chosen = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None], x.flip(axis), x)


@a_augment.misconception(
    "always-flips",
    "Images are mirrored though flip is False. A mirrored 3 is no 3: for digits and letters this "
    "teaches the model shapes that do not exist.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    return _mirrored(_shifted(x, _draw(len(x), shift, generator), fill), generator)


@a_augment.misconception(
    "one-shift-for-the-batch",
    "All images of a batch move by the same amount. Draw a pair of numbers for each image.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    out = _shifted(x, _draw(1, shift, generator) * len(x), fill)
    return _mirrored(out, generator) if flip else out


@a_augment.misconception(
    "wraps-around",
    "What leaves at one edge comes in at the other: that is what torch.roll does. New pixels are "
    "to be fill.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    pairs = _draw(len(x), shift, generator)
    out = torch.stack([torch.roll(image, pair, (1, 2)) for image, pair in zip(x, pairs)])
    return _mirrored(out, generator) if flip else out


@a_augment.misconception(
    "not-seeded",
    "A draw does not use the generator, so the same seed gives other images and a run cannot be "
    "repeated.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    out = _shifted(x, _draw(len(x), shift, None), fill)
    return _mirrored(out, None) if flip else out


@a_augment.misconception(
    "zeros-come-in",
    "The new pixels are 0. In the model's range 0 is a middle grey and black is -1, so that the "
    "model learns grey edges. Use fill.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    out = _shifted(x, _draw(len(x), shift, generator), 0.0)
    return _mirrored(out, generator) if flip else out


@a_augment.misconception(
    "fill-ignored",
    "What comes in is always -1, whatever fill says: the argument is not used.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    out = _shifted(x, _draw(len(x), shift, generator), -1.0)
    return _mirrored(out, generator) if flip else out


@a_augment.misconception(
    "never-all-the-way",
    "Shifts by +shift never come: torch.randint leaves its upper bound out. On average the images "
    "drift to one side.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    pairs = torch.randint(-shift, max(shift, 1 - shift), (len(x), 2), generator=generator)
    out = _shifted(x, pairs.tolist(), fill)
    return _mirrored(out, generator) if flip else out


@a_augment.misconception(
    "one-way-only",
    "The shifts run from 0 to shift: images move down and right, never up and left.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    pairs = torch.randint(0, shift + 1, (len(x), 2), generator=generator)
    out = _shifted(x, pairs.tolist(), fill)
    return _mirrored(out, generator) if flip else out


@a_augment.misconception(
    "diagonal-only",
    "Down and right are the same number: the images move along the diagonal only. Draw two numbers "
    "for each image.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    one = torch.randint(-shift, shift + 1, (len(x), 1), generator=generator)
    out = _shifted(x, one.expand(-1, 2).tolist(), fill)
    return _mirrored(out, generator) if flip else out


@a_augment.misconception(
    "upside-down",
    "flip turns the images upside down (axis 2 is the height). Mirrored left to right is wanted, "
    "along the last axis.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    out = _shifted(x, _draw(len(x), shift, generator), fill)
    return _mirrored(out, generator, axis=2) if flip else out


@a_augment.misconception(
    "flips-all-or-none",
    "The whole batch is mirrored, or none of it. Each image is to be mirrored or not by itself.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    out = _shifted(x, _draw(len(x), shift, generator), fill)
    if flip and torch.rand(1, generator=generator) < 0.5:
        out = out.flip(3)
    return out


@a_augment.misconception(
    "flips-every-image",
    "With flip=True every image is mirrored. Half of them, by chance, are to stay as they are.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    out = _shifted(x, _draw(len(x), shift, generator), fill)
    return out.flip(3) if flip else out


@a_augment.misconception(
    "writes-into-x",
    "x itself is changed: whoever keeps the images (a data set, say) has them shifted further and "
    "further, until they are gone. Write into a new tensor.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    out = _shifted(x, _draw(len(x), shift, generator), fill)
    return x.copy_(_mirrored(out, generator) if flip else out)


@a_augment.misconception(
    "each-channel-by-itself",
    "The channels of an image move apart: each gets its own shift. One shift for an image, all "
    "its channels together.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    planes = x.flatten(0, 1)[:, None]
    out = _shifted(planes, _draw(len(planes), shift, generator), fill)
    return (_mirrored(out, generator) if flip else out).reshape(x.shape)


@a_augment.misconception(
    "ends-half-as-often",
    "The largest shifts come half as often as the others: that is what rounding a number between "
    "-shift and shift does. torch.randint draws whole numbers evenly.",
)
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    places = torch.rand(len(x), 2, generator=generator) * 2 - 1
    out = _shifted(x, (places * shift).round().long().tolist(), fill)
    return _mirrored(out, generator) if flip else out


@a_augment.alternative("by-index")
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    if flip:
        chosen = torch.randint(2, (len(x),), generator=generator).bool()
        x = torch.where(chosen.reshape(-1, 1, 1, 1), torch.flip(x, [-1]), x)
    b, _, h, w = x.shape
    n = 2 * shift + 1
    one = torch.randint(n * n, (b,), generator=generator)
    padded = F.pad(x, (shift, shift, shift, shift), value=fill)
    rows = (one // n)[:, None] + torch.arange(h)
    columns = (one % n)[:, None] + torch.arange(w)
    out = padded.permute(0, 2, 3, 1)[
        torch.arange(b)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return out.permute(0, 3, 1, 2).contiguous()


@a_augment.alternative("rolled-and-blanked")
def augment(x, generator=None, shift=2, flip=False, fill=-1.0):
    out = []
    for image in x:
        down = int(torch.randint(-shift, shift + 1, (1,), generator=generator))
        right = int(torch.randint(-shift, shift + 1, (1,), generator=generator))
        image = torch.roll(image, (down, right), (1, 2))
        if down > 0:
            image[:, :down] = fill
        if down < 0:
            image[:, down:] = fill
        if right > 0:
            image[:, :, :right] = fill
        if right < 0:
            image[:, :, right:] = fill
        if flip and float(torch.rand(1, generator=generator)) < 0.5:
            image = image.flip(-1)
        out.append(image)
    return torch.stack(out)
