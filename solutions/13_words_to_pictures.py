# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 13 · Words to pictures
# <!-- lesson-header -->
#
# A label says one of ten things. A prompt says anything. In this lesson you build what lies between
# words and pictures, and measure whether it does what it is famed for: to draw what it has never
# seen. You will be able to
#
# - turn prompts into numbers, and read them with a small transformer,
# - let every place of a picture look at every word (*cross-attention*),
# - guide by words, away from words, and by two prompts at once,
# - hold combinations out of training, and say how often they come out right, beside real drawings
#   and beside two ways that need no model at all.
#
# You need lesson 04 (attention), lesson 07 (guidance) and lesson 08 (floors).

# %% tags=["setup"]
import re

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from coursework import check, hint
from undiffuse import budget, data, palette, plots, schedules

# %% [markdown]
# ## Your guesses first
#
# Nothing has run yet. Write down what you expect; you will meet each answer below.

# %% [markdown] tags=["remark"]
# 1. A network has seen pilots, dark skin, and drawings in the style of noto, each with each other,
#    but never all three at once. In how many of ten drawings will it get all three right? My guess:
# 2. A prompt is empty. What does the network draw? My guess:
# 3. A drawing is steered away from the words "dark skin", and from nothing else. Will anything else
#    in it change? My guess:
# 4. A program without any network answers a prompt with the training picture whose prompt is most
#    like it. How often would a judge call that right? My guess:

# %% [markdown]
# ## Drawings with words
#
# The data are emoji, 32 x 32 pixels, as three makers draw them: Google (*noto*), Twitter
# (*twemoji*) and Microsoft (*fluent*). Portraits come in 139 roles and gestures and six tones of
# skin. A tone is a code point of Unicode, and what it looks like is each maker's choice.
#
# A prompt is made by rule from what is known of a drawing, so that any combination has one.

# %%
people = data.load("portraits32")
things = data.load("emoji32")
role, tone, style = (people.values[k] for k in ("role", "tone", "style"))
chosen = ["pilot", "man firefighter", "woman: red hair", "cook"]
place = {
    key: row for row, key in enumerate(zip(*(people.attributes[k].tolist() for k in people.values)))
}
wall = [
    people.images[place[role.index(r), t, s]]
    for r in chosen
    for s in range(3)
    for t in (0, 1, 3, 5)
]

# %% tags=["figure"]
fig = plots.image_grid(torch.from_numpy(np.stack(wall)).permute(0, 3, 1, 2), columns=12)
plots.show(
    fig,
    alt="Four rows of small drawn people: pilots, men as firefighters, women with red hair, cooks. "
    "Each row shows four tones of skin in each of three styles of drawing.",
    caption="A row a role; from left to right four tones in noto's style, the same in twemoji's "
    "and in fluent's. Google and other contributors, Apache-2.0; Twitter and other contributors, "
    "CC BY 4.0; Microsoft, MIT.",
)
print(people.prompt(role=role.index("pilot"), tone=5, style=0))
print(people.prompt(role=role.index("woman: red hair"), tone=1, style=2))
row = things.attributes["concept"].tolist().index(things.values["concept"].index("red apple"))
print(*things.prompts([row]))

# %% [markdown]
# ### What is held out
#
# Of the six tones of each role in each style, three are trained on. The others are for the
# classifier that judges, for the reference of the Fréchet distance, and for the test. So each
# role, tone and style was seen in training, and each pair of them; a *held-out* triple was not. Of
# the emoji, whole categories are missing in one style: no food was ever drawn in fluent's, for one.

# %% tags=["compare"]
for name, drawings in (("portraits", people), ("emoji", things)):
    parts = {split: len(rows) for split, rows in drawings.splits.items()}
    print(name, parts)
seen = {
    tuple(int(people.attributes[k][row]) for k in ("role", "tone", "style"))
    for row in people.splits["train"]
}
held = [
    tuple(int(people.attributes[k][row]) for k in ("role", "tone", "style"))
    for row in people.splits["held_out"]
]
print("held-out triples that were trained on:", sum(t in seen for t in held))
for i, j, what in ((0, 1, "role and tone"), (0, 2, "role and style"), (1, 2, "tone and style")):
    known = {(t[i], t[j]) for t in seen}
    print(f"{what}: {sum((t[i], t[j]) in known for t in held)} of {len(held)} pairs were")

# %% [markdown]
# ## Words as numbers
#
# A network computes with numbers, so each word gets one. The list of words with their numbers is
# the *vocabulary*, a word's number is its *token*. Two tokens stand for no word: `<pad>` fills up
# short prompts, so that all rows of a batch have one length, and `<unk>` stands for words that the
# vocabulary does not have.

# %% [markdown]
# <!-- exercise 13.1 -->
#
# Write `tokenize`. What a word is, the stub says. Its numbers are those of `vocab` and no others:
# the pad need not be 0.


# %% tags=["answer"] exercise="13.1"
def tokenize(texts: list[str], vocab: dict[str, int], length: int) -> torch.Tensor:
    """Prompts as rows of numbers.

    texts: B prompts; B may be 0, and a prompt may be empty.
    vocab: word -> number, with "<pad>" and "<unk>" among them. All words in it are lower case;
        capitals in a prompt make no difference.
    length: numbers a row, at least 1.
    A word is a run of letters, digits, hyphens and apostrophes: ``re.findall(r"[\\w'-]+", text)``.
    A word that vocab lacks gets the number of "<unk>". A prompt with fewer words is filled up
    behind them with the number of "<pad>"; of one with more the first ``length`` words are taken.
    Returns int64 (B, length).
    """
    # BEGIN SOLUTION
    tokens = torch.full((len(texts), length), vocab["<pad>"])
    for row, text in zip(tokens, texts):
        words = re.findall(r"[\w'-]+", text.lower())[:length]
        numbers = [vocab.get(word, vocab["<unk>"]) for word in words]
        row[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    return tokens
    # END SOLUTION


# %% tags=["check"]
check("13.1")

# %% tags=["compare"]
from undiffuse.text import make_vocab

vocab = make_vocab(people.prompts(people.splits["train"]))
print(len(vocab), "tokens")
print(tokenize(["A pilot with dark skin", "a gardener"], vocab, 6).tolist())
lengths = [
    int((tokenize([p], vocab, 40) != vocab["<pad>"]).sum()) for p in people.prompts(range(400))
]
print("the longest of 400 prompts has", max(lengths), "words")

# %% [markdown]
# ## A reader of prompts
#
# A token says nothing by itself. The reader gives each word a row of numbers (an *embedding*, as
# for labels in 07.2), adds a row for its place in the prompt, and lets the words look at one
# another, so that *dark* can come to mean "dark skin" and not "dark suit". What comes out is a
# vector for each word, and one for the whole prompt: the mean over its words.
#
# With $H$ the rows of all words, one layer is what you know from 04.3, for words in place of
# pixels. New is the second half: a small network of two linear layers (`mlp`) that treats each
# word by itself. Networks made of such layers are called *transformers* (Vaswani et al. 2017).
#
# $$H \leftarrow H + \operatorname{proj}\big(\operatorname{attention}(\operatorname{norm}_1 H)\big),
# \qquad H \leftarrow H + \operatorname{mlp}(\operatorname{norm}_2 H).$$
#
# And there is a **mask**: True where there is a word. Pads are no words. Nothing may look at them,
# and they do not count in the mean. Else a prompt would mean something else in a longer row. The
# prompt that matters most later is the empty one, all pads: it has to give zeros, not NaN.

# %% [markdown]
# <!-- exercise 13.2 -->
#
# Write `forward`; the constructor is given. `F.scaled_dot_product_attention(q, k, v,
# attn_mask=...)` does the attention; its mask is True where a query may look.


# %% tags=["answer"] exercise="13.2"
class TextEncoder(nn.Module):
    """A vector for each word of a prompt, and one for the whole.

    words: how many tokens there are; length: of the longest prompt; width: of the vectors, divided
    evenly among the heads.

    forward(tokens, mask): tokens int64 (B, L) with L <= length; mask bool (B, L), True where there
    is a word (not always at the front). Returns (each, whole):
        each (B, L, width): x = embedding + the first L of ``places``; then x + proj(attention),
            whose queries, keys and values are, in this order, the thirds of qkv(norm1(x)), each
            (heads, width / heads); then x + mlp(norm2(x)). Words look at words only. Zero where
            there is no word.
        whole (B, width): the mean of ``each`` over the words of the prompt.
    A prompt without words gives zeros in both.
    """

    def __init__(self, words: int, length: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(words, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(
        self, tokens: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # BEGIN SOLUTION
        b, n = tokens.shape
        x = self.embed(tokens) + self.places[:n]
        qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, width / heads)
        # A prompt without words may look anywhere: what it sees is set to zero below.
        keys = mask | ~mask.any(1, keepdim=True)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=keys[:, None, None, :])
        x = x + self.proj(h.transpose(1, 2).reshape(b, n, -1))
        x = x + self.mlp(self.norm2(x))
        each = x * mask[..., None]
        whole = each.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return each, whole
        # END SOLUTION


# %% tags=["check"]
check("13.2")

# %% [markdown]
# ## Places look at words
#
# How does a picture get to know the words? One way is to add `whole` to the embedding of time, as
# labels are added. But then every place is told the same, and "blue hat, red coat" becomes a bag of
# four words. In *cross-attention* every place asks by itself: its query is made of the picture,
# keys and values are made of the words (Rombach et al. 2022). A place that is going to be a hat
# finds the words that speak of hats.
#
# $$h_p = \sum_{w} \operatorname{softmax}_w\!\left(\frac{q_p \cdot k_w}{\sqrt{d}}\right) v_w ,$$
#
# with $h_p$ what place $p$ gets to know, $q_p$ its query, $k_w$ and $v_w$ key and value of word
# $w$, and $d$ the channels of a head. The shares of the *words* add up to one, for each place.

# %% [markdown]
# <!-- exercise 13.3 -->
#
# Write `forward`. Who asks whom is easily mixed up; the shapes in the stub tell.


# %% tags=["answer"] exercise="13.3"
class CrossAttention(nn.Module):
    """Every place of a picture looks at the words of its prompt, beside a shortcut.

    forward(x, context, mask): x (B, C, H, W); context (B, L, context_dim), a row for each word;
    mask bool (B, L), True where there is a word. Returns x + proj(h), the shape of x.
        Queries are q(norm(x)), their C channels in the order (heads, C / heads). Keys are the first
        C numbers of kv(context), values the last C, each in the same order. h has the channels of
        the heads side by side again. Scores are divided by sqrt(C / heads).
    For a prompt without words x comes back as it was.
    """

    def __init__(self, channels: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(4, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.kv = nn.Linear(context_dim, 2 * channels)
        self.proj = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # BEGIN SOLUTION
        b, c = x.shape[:2]
        split = (self.heads, c // self.heads)
        q = self.q(self.norm(x)).reshape(b, *split, -1).transpose(2, 3)  # (B, heads, places, d)
        k, v = self.kv(context).reshape(b, -1, 2, *split).permute(2, 0, 3, 1, 4)
        some = mask.any(1, keepdim=True)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=(mask | ~some)[:, None, None, :])
        h = h * some[:, :, None, None]
        return x + self.proj(h.transpose(2, 3).reshape(x.shape))
        # END SOLUTION


# %% tags=["check"]
check("13.3")

# %% [markdown]
# ## No prompt, now and then
#
# Guidance needs to know what the network would say without the prompt (lesson 07). So in training
# some prompts are replaced by the empty one: a row of pads, or whatever `tokenize([""])` gives for
# the vocabulary at hand. It is an ordinary prompt, and the same reader reads it.

# %% [markdown]
# <!-- exercise 13.4 -->
#
# Write `drop_prompts`. It is 07.1 for rows. How you draw is up to you, as long as every draw comes
# from `generator`: the check looks at the distribution (and would fail a right answer by chance in
# fewer than one of a million checks).


# %% tags=["answer"] exercise="13.4"
def drop_prompts(
    tokens: torch.Tensor,
    p: float,
    empty: torch.Tensor,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Prompts for training, some of them replaced by the empty one.

    tokens: int64 (B, L). Not changed in place.
    p: the probability with which a prompt is dropped, in [0, 1], ends included. Each prompt is
        dropped as a whole or kept as a whole, whatever happens to the others.
    empty: int64 (L,), the tokens of the empty prompt; what a dropped one becomes.
    generator: all draws come from it, in any order and number.
    Returns int64 (B, L).
    """
    # BEGIN SOLUTION
    draw = torch.rand(len(tokens), generator=generator)
    return torch.where((draw < p)[:, None], empty, tokens)
    # END SOLUTION


# %% tags=["check"]
check("13.4")

# %% [markdown]
# ## Your parts at work
#
# Before the large network, a world so small that you can train in it within a minute, and that can
# be judged exactly: one shape in one colour on one side. Of the 40 combinations, eight are held
# out.

# %%
from undiffuse.blocks import ResBlock, timestep_embedding
from undiffuse.guidance import guided
from undiffuse.sampling import sample
from undiffuse.trainer import denoising_loss

COLOURS = {
    "red": (0.9, -0.8, -0.7),
    "green": (-0.7, 0.4, -0.7),
    "blue": (-0.8, -0.5, 0.9),
    "yellow": (0.9, 0.7, -0.9),
    "black": (-0.9, -0.9, -0.9),
}
SHAPES = {
    "square": ("#####", "#####", "#####", "#####", "#####"),
    "ring": (".###.", "#...#", "#...#", "#...#", ".###."),
    "cross": ("..#..", "..#..", "#####", "..#..", "..#.."),
    "stairs": ("#....", "##...", "###..", "####.", "#####"),
}
SIDES = {"left": 0, "right": 7}
WORLD = [(c, s, p) for c in COLOURS for s in SHAPES for p in SIDES]
HELD = [w for i, w in enumerate(WORLD) if (i // 2 + 3 * (i % 2)) % 5 == 1]
KNOWN = [w for w in WORLD if w not in HELD]


def picture(colour: str, shape: str, side: str) -> torch.Tensor:
    """(3, 12, 12) on white."""
    x = torch.ones(3, 12, 12)
    form = torch.tensor([[sign == "#" for sign in line] for line in SHAPES[shape]])
    area = x[:, 3:8, SIDES[side] : SIDES[side] + 5]
    area[:, form] = torch.tensor(COLOURS[colour])[:, None]
    return x


def sentence(colour: str, shape: str, side: str) -> str:
    return f"a {colour} {shape} at the {side}"


toy_words = make_vocab(sentence(*w) for w in KNOWN)
EMPTY = tokenize([""], toy_words, 6)[0]
schedule = schedules.cosine_schedule()


class ToyNet(nn.Module):
    """A small network for the world of shapes, ``(x_t, t, tokens) -> v``, made of your parts."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.reader = TextEncoder(len(toy_words), 6, 32, 2)
        self.time = nn.Linear(32, 64)
        self.first = nn.Conv2d(5, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResBlock(width, width, 64) for _ in range(3))
        self.looks = nn.ModuleList(CrossAttention(width, 32, 4) for _ in range(2))
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, t, tokens: torch.Tensor) -> torch.Tensor:
        mask = tokens != toy_words["<pad>"]
        each, _ = self.reader(tokens, mask)
        t = torch.as_tensor(t, dtype=x.dtype).expand(len(x))
        emb = self.time(timestep_embedding(1000 * t, 32))
        where = torch.linspace(-1, 1, 12)
        across = torch.stack(torch.meshgrid(where, where, indexing="ij")).expand(len(x), 2, 12, 12)
        h = self.blocks[0](self.first(torch.cat([x, across], 1)), emb)
        for look, block in zip(self.looks, self.blocks[1:]):
            h = block(look(h, each, mask), emb)
        return self.last(h)


def train_toy(seed: int, steps: int, batch: int = 48) -> ToyNet:
    """Trains on the known combinations, with one prompt in eight dropped."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    net = ToyNet()
    optimizer = torch.optim.Adam(net.parameters())
    x0 = torch.stack([picture(*w) for w in KNOWN])
    tokens = tokenize([sentence(*w) for w in KNOWN], toy_words, 6)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 20) * (1 - step / steps)
        rows = torch.randint(len(KNOWN), (batch,), generator=g)
        t = torch.rand(batch, generator=g)
        noise = torch.randn(batch, 3, 12, 12, generator=g)
        told = drop_prompts(tokens[rows], 0.125, EMPTY, g)
        loss = denoising_loss(net, schedule, x0[rows], t, noise, told)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def shown(net: ToyNet, asked: list, seed: int, scale: float = 2.0) -> torch.Tensor:
    """A drawing for each combination."""
    tokens = tokenize([sentence(*w) for w in asked], toy_words, 6)
    model = guided(net, toy_words["<pad>"], scale)
    g = torch.Generator().manual_seed(seed)
    shape = (len(asked), 3, 12, 12)
    return sample(model, schedule, shape, kind="v", calls=15, cond=tokens, generator=g,
                  clip=(-1, 1))  # fmt: skip


ideal = torch.stack([picture(*w) for w in WORLD]).flatten(1)


def right(drawings: torch.Tensor, asked: list) -> float:
    """The share whose nearest clean picture of the whole world is the one asked for."""
    nearest = torch.cdist(drawings.flatten(1), ideal).argmin(1).tolist()
    return sum(WORLD[i] == w for i, w in zip(nearest, asked)) / len(asked)


SEEDS = budget(full=(0, 1, 2), small=(0,))
toy_steps = budget(full=350, small=60)
nets = [train_toy(seed, toy_steps) for seed in SEEDS]
toy = {
    name: [right(shown(net, 4 * asked, s), 4 * asked) for s, net in zip(SEEDS, nets)]
    for name, asked in (("trained on", KNOWN), ("held out", HELD))
}

# %% tags=["figure"]
for name, shares in toy.items():
    print(f"{name}: right in {min(shares):.2f} to {max(shares):.2f} of the drawings, "
          f"{len(SEEDS)} seeds")  # fmt: skip
fig = plots.image_grid(
    shown(nets[0], HELD, 7), [" ".join((c, s, p)) for c, s, p in HELD], columns=4
)
plots.show(
    fig,
    alt="Eight drawings of 12 by 12 pixels, one for each held-out combination of colour, shape and "
    f"side, with its words below. {right(shown(nets[0], HELD, 7), HELD):.0%} of them show it.",
    caption="Combinations that the network never saw. Judge: the nearest clean picture.",
)

# %% [markdown]
# Nothing tells the network that colours and shapes are separate things. That it often draws
# combinations it never saw comes from the words: what it learnt of *red* serves every shape.

# %% [markdown]
# ## The shipped networks
#
# `portraits` and `emoji` are U-Nets with these parts, larger and trained for longer: a reader of
# two layers, cross-attention at the coarser levels. What made them is in `data/recipes`, what they
# were measured to do in their cards.

# %%
from undiffuse import checkpoints, prompts

portraits = checkpoints.load("portraits")
emoji = checkpoints.load("emoji")
CALLS = budget(full=20, small=4)
GRID = budget(full=16, small=4)
asked = [
    people.prompts([row])[0] for row in people.splits["held_out"][:GRID]
]  # in the order of the split: not chosen
drawn = prompts.ask(portraits, asked, calls=CALLS)

# %% tags=["figure"]
fig = plots.image_grid(drawn.samples, columns=8)
plots.show(
    fig,
    alt=f"{GRID} small drawings of people in different roles, tones of skin and styles.",
    caption=f"The first {GRID} held-out combinations, drawn with {CALLS} calls of the network, "
    "seed 0. The first four prompts: " + "; ".join(asked[:4]) + ".",
)

# %% [markdown]
# Type what you like. Unknown words are named, with the nearest that the network knows; a sentence
# of ten thousand words is cut off; an empty prompt draws somebody.


# %%
def draw_for_box(prompt, negative, seed, progress):
    """What the box calls: pictures, the estimates on the way to them, remarks."""
    trail = []
    found = prompts.ask(
        portraits, prompt, 4, negative=negative, seed=seed, calls=CALLS, progress=progress,
        trail=trail,
    )  # fmt: skip
    return found.samples, torch.stack(trail[0].x0), found.said


# %% tags=["figure"]
plots.prompt_box(
    draw_for_box,
    start="a pilot with dark skin, in the style of noto",
    calls=CALLS,
    alt="Four rows, a drawing each, from the first to the last call of the network: blurs of "
    "colour become people.",
    caption="The network's estimate of the finished drawing, call by call. First where there is "
    "something, then which colours, then the details.",
)

# %% [markdown]
# What is understood, and what is said about it:

# %% tags=["compare"]
for text in (
    "a firefihter with darrk skin",
    "",
    "消防士 🚒",
    "a cook " * 5000,
):
    reading = prompts.understand(portraits, text)
    print(f"{text[:32]!r}: {'; '.join(reading.said())}")

# %% [markdown]
# ### Where do the places look?
#
# The scores of cross-attention can be drawn: how much of its attention each place gives to a word,
# averaged over heads, here in the last layer of the network at a middle noise level.

# %%
from undiffuse.blocks import CrossAttention as LibraryCrossAttention


def attention_maps(checkpoint, prompt: str, seed: int = 0, t: float = 0.5):
    """(words, places a side, places a side): the last cross-attention, on a drawing with noise."""
    found = prompts.ask(checkpoint, prompt, 1, seed=seed, calls=CALLS)
    layers = [m for m in checkpoint.model.modules() if isinstance(m, LibraryCrossAttention)]
    kept = {}

    def keep(layer, inputs, output):
        x, context, mask = inputs
        size = x.shape[1] // layer.heads
        q = layer.q(layer.norm(x)).reshape(1, layer.heads, size, -1)
        k = layer.kv(context).reshape(1, -1, 2, layer.heads, size)[:, :, 0]
        scores = torch.einsum("bhdp,blhd->bhpl", q, k) / size**0.5
        shares = scores.masked_fill(~mask[:, None, None, :], -1e9).softmax(-1)
        kept["map"] = shares.mean((0, 1)).T.reshape(-1, *x.shape[2:])

    handle = layers[-1].register_forward_hook(keep)
    alpha, sigma = checkpoint.schedule.alpha(t), checkpoint.schedule.sigma(t)
    noise = torch.randn(found.samples.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        checkpoint.model(alpha * found.samples + sigma * noise, t, found.tokens)
    handle.remove()
    return found.samples[0], kept["map"]


sentence_ = "a woman firefighter with dark skin in the style of noto"
words = sentence_.split(" ")
_, maps = attention_maps(portraits, sentence_)
least, most = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
pale = 2 * (maps - least) / (most - least).clamp(min=1e-9) - 1

# %% tags=["figure"]
fig = plots.image_grid(pale[: len(words)], words, columns=11)
plots.show(
    fig,
    alt="A small map in grey for each word of a prompt: bright where places of the picture give it "
    "much of their attention. The maps differ from word to word.",
    caption="Each map is scaled from its least to its greatest. Words like *the* get attention, "
    "too: shares add up to one, and have to go somewhere.",
)

# %% [markdown]
# ## Two prompts at once
#
# Guidance goes along what a prompt adds to no prompt. Nothing keeps us from adding two such
# directions, or from going along one of them backwards (Liu et al. 2022):
#
# $$\hat\varepsilon = \varepsilon_u + w_a (\varepsilon_a - \varepsilon_u)
# + w_b (\varepsilon_b - \varepsilon_u),$$
#
# with $\varepsilon_u$, $\varepsilon_a$ and $\varepsilon_b$ the noise predicted without a prompt,
# with prompt $a$ and with prompt $b$, and a scale $w$ for each prompt. With $w_b$ below 0, $b$ is a
# *negative prompt*: what the drawing shall not be.

# %% [markdown]
# <!-- exercise 13.5 -->
#
# Write it. Programs differ: many put $\varepsilon_b$ where $\varepsilon_u$ stood and have
# no second scale. This course uses the formula above.


# %% tags=["answer"] exercise="13.5"
def guided_by_two(
    eps_null: torch.Tensor,
    eps_a: torch.Tensor,
    eps_b: torch.Tensor,
    scale_a: float,
    scale_b: float,
) -> torch.Tensor:
    """Guidance by two prompts.

    eps_null + scale_a (eps_a - eps_null) + scale_b (eps_b - eps_null)

    eps_null, eps_a, eps_b: predictions without a prompt, with prompt a and with prompt b, one shape
        (B, ...). Not changed.
    scale_a, scale_b: any numbers; below 0 goes away from that prompt, 0 leaves it out.
    Returns the guided prediction, the same shape and dtype.
    """
    # BEGIN SOLUTION
    return eps_null + scale_a * (eps_a - eps_null) + scale_b * (eps_b - eps_null)
    # END SOLUTION


# %% tags=["check"]
check("13.5")

# %%
from undiffuse.draw import generators


def draw_with_two(checkpoint, a: str, b: str, scale_a: float, scale_b: float, n: int, seed: int):
    """n drawings guided by your function."""
    tokens = [
        prompts.known_tokens([text], checkpoint.vocab, prompts.length_of(checkpoint)).repeat(n, 1)
        for text in ("", a, b)
    ]

    def model(x_t, t, cond):
        answers = checkpoint.model(torch.cat([x_t] * 3), t, torch.cat(tokens)).chunk(3)
        return guided_by_two(*answers, scale_a, scale_b)

    return sample(
        model, checkpoint.schedule, (n, *checkpoint.shape), kind=checkpoint.kind, calls=CALLS,
        generator=generators(seed, 0, n), clip=(-1, 1),
    )  # fmt: skip


N = budget(full=6, small=2)
rows_of = {
    "a person, in the style of fluent": ("a person in the style of fluent", "", 2.0, 0.0),
    "without: dark skin": ("a person in the style of fluent", "dark skin", 2.0, -1.5),
    "without: woman": ("a person in the style of fluent", "woman", 2.0, -1.5),
    "and: astronaut": ("a person in the style of fluent", "an astronaut", 1.0, 2.0),
    "and: red hair": ("a person in the style of fluent", "red hair", 1.5, 2.5),
}
compared = {name: draw_with_two(portraits, *args, N, 0) for name, args in rows_of.items()}

# %% tags=["figure"]
fig = plots.forward_strip(
    torch.stack(list(compared.values()), 1),
    range(1, N + 1),
    row_labels=list(compared),
    level_name="seed's sample",
    row_name="",
)
plots.show(
    fig,
    alt="Rows of drawings from the same noise: a person in fluent's style, the same with a "
    "negative prompt for dark skin and for woman, and the same with astronaut and with red hair "
    "added.",
    caption="The same noise in each column. Look for what a second prompt changes, and what it "
    "leaves.",
)

# %% [markdown]
# A negative prompt is no order. It pushes away from what the words add, along with all that goes
# with them in the training data. Look for a row where something else changed as well.

# %% [markdown]
# ## Which text belongs to which picture?
#
# A first measure of whether drawings say what their prompts said. Take $N$ drawings and their $N$
# prompts, all as vectors in one space, and ask of each drawing which of the prompts is nearest.
#
# Such spaces are learnt from millions of pairs (CLIP). Ours is made in a line: the classifier that
# judges gives 64 features of a picture, and a linear map from the words of a prompt to those
# features is fitted by least squares on the split `features`, which nothing here was trained on.

# %% [markdown]
# <!-- exercise 13.6 -->
#
# Write `retrieval_accuracy`. Two prompts may be alike: be careful with ties.


# %% tags=["answer"] exercise="13.6"
def retrieval_accuracy(image_features: torch.Tensor, text_features: torch.Tensor) -> float:
    """The share of pictures whose nearest text is their own.

    image_features, text_features: (N, D), floating point; row i of both belong together. No row is
        all zeros.
    Near is a large cosine: the dot product of the vectors after each row was divided by its length.
    Cosines within 1e-6 of the greatest count as equal to it. If k texts are equally near and its
        own is one of them, a picture counts as 1 / k.
    Returns a Python float in [0, 1].
    """
    # BEGIN SOLUTION
    images = F.normalize(image_features.double(), dim=1)
    texts = F.normalize(text_features.double(), dim=1)
    alike = images @ texts.T
    best = alike >= alike.amax(1, keepdim=True) - 1e-6
    return float((best.diagonal() / best.sum(1)).mean())
    # END SOLUTION


# %% tags=["check"]
check("13.6")

# %%
from undiffuse import classifiers, prompt_judging
from undiffuse.attributes import shares_right

try:
    retrieval_accuracy(torch.eye(2), torch.eye(2))
    retrieve = retrieval_accuracy
except NotImplementedError:  # 13.6 is an extra: without it, no share of equals

    def retrieve(image_features, text_features):
        a, b = (F.normalize(x.double(), dim=1) for x in (image_features, text_features))
        return float(((a @ b.T).argmax(1) == torch.arange(len(a))).double().mean())


judge = classifiers.load("portraits")


def bag(tokens: torch.Tensor) -> torch.Tensor:
    """Which words a prompt has: (N, tokens) float64."""
    found = torch.zeros(len(tokens), len(portraits.vocab), dtype=torch.float64)
    return found.scatter_(1, tokens, 1.0)[:, 2:]


taught = classifiers.examine(judge, data.portraits("features")[0])[0].double()
centre = taught.mean(0)
said_of = bag(prompt_judging.tokens_of("portraits", "features"))
ridge = said_of.T @ said_of + torch.eye(said_of.shape[1], dtype=torch.float64)
to_features = torch.linalg.solve(ridge, said_of.T @ (taught - centre))

COUNT = budget(full=200, small=12)
tokens = prompt_judging.tokens_of("portraits", "held_out")[:COUNT]
from undiffuse.draw import draw

guidance = portraits.recipe.guidance
held_drawn = {
    seed: draw(portraits, COUNT, labels=tokens, calls=CALLS, seed=seed)[0]
    for seed in budget(full=(0,), small=(0,))
}
real_held, _ = data.portraits("held_out", COUNT)
told = bag(tokens) @ to_features
for name, pictures in (("real drawings", real_held), ("drawn", held_drawn[0])):
    features = classifiers.examine(judge, pictures)[0].double() - centre
    found = retrieve(features, told)
    print(f"{name}: of {COUNT} prompts the right one is nearest in {found:.0%} "
          f"(by chance {1 / COUNT:.1%})")  # fmt: skip

# %% [markdown]
# The real drawings are the ceiling here: what they miss is the fault of the space, and not of any
# generator.

# %% [markdown]
# ## The experiment: combinations never seen
#
# The judge is a classifier of role, tone and style that was trained on other drawings of other
# combinations. It errs, so its word on real held-out drawings stands beside. So do two ways to
# answer a prompt without a model:
#
# - **nearest**: the training drawing whose prompt shares most words with the one asked for. It is a
#   perfect drawing, and one of its three attributes is wrong.
# - **transplant**: a training drawing of the right role and style in another tone, plus the mean
#   difference between the two tones over all roles that were trained on in both.
#
# A model that only stored its training set would do no better than the first. The second is what
# an artist's trick with colours can do.

# %%
from undiffuse.results import record

held_wanted = {k: v[:COUNT] for k, v in prompt_judging.wanted("portraits", "held_out").items()}
ways = {
    "real": real_held,
    "nearest": prompt_judging.nearest_training("portraits", "held_out")[:COUNT],
    "transplant": prompt_judging.transplanted("portraits", "held_out")[:COUNT],
    "model": held_drawn[0],
}
scores = {name: shares_right(judge, x, held_wanted) for name, x in ways.items()}

# %% tags=["figure"]
print(f"portraits: {COUNT} held-out combinations, seed 0, guidance {guidance:g}, {CALLS} calls")
print(f"{'':12}" + "".join(f"{k:>8}" for k in scores["real"]))
for name, right_ in scores.items():
    print(f"{name:12}" + "".join(f"{v:8.2f}" for v in right_.values()))
few = min(8, COUNT)
fig = plots.forward_strip(
    torch.stack([ways[k][:few] for k in ("real", "model", "nearest", "transplant")], 1),
    range(1, few + 1),
    row_labels=["real", "model", "nearest", "transplant"],
    level_name="held-out combination",
    row_name="",
)
plots.show(
    fig,
    alt="Four rows of drawings for the same held-out prompts: the real ones, the model's, the "
    "nearest training drawing, and the transplant.",
    caption="The first held-out prompts, in the order of the split. The model has never seen the "
    "drawings of the first row.",
)

# %% [markdown]
# The whole of it, all prompts and three seeds, is in the checkpoints' records. They are made by
# `data/build/train_checkpoints.py`, which you may run to check them. For the Fréchet distance the
# model draws the prompts of one split, its drawings are compared with the real ones of another, and
# the floor is what the real drawings of the first get there. So few drawings are far from any
# others: the floor is high, and a ratio near 1 says no more than that they are as far.

# %%
import json
import statistics

rows = []
for name in ("portraits", "emoji"):
    kept = json.loads((checkpoints.folder() / f"{name}.json").read_text(encoding="utf-8"))
    quality = kept["quality"]
    for key, real in quality["real"].items():
        row_ = {"set": name, "attribute": key, "real": f"{real:.3f}"}
        for way in ("held_out", "nearest", "transplant", "seen"):
            shares = [run[way][key] for run in quality["runs"]]
            row_[way] = f"{statistics.mean(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})"
        rows.append(row_)
    ratios = [run["ratio_apart"] for run in quality["runs"]]
    print(f"{name}: FD over the floor {statistics.mean(ratios):.2f} "
          f"({min(ratios):.2f} to {max(ratios):.2f}), n = {quality['n']['distance']}")  # fmt: skip

# %% tags=["figure"]
quality = json.loads((checkpoints.folder() / "portraits.json").read_text(encoding="utf-8"))[
    "quality"
]
fig = plots.bar_with_spread(
    {
        "real": torch.tensor([quality["real"]["all"]] * len(quality["runs"])),
        **{
            {"held_out": "model", "seen": "model, seen prompts"}.get(way, way): torch.tensor(
                [run[way]["all"] for run in quality["runs"]]
            )
            for way in ("held_out", "nearest", "transplant", "seen")
        },
    },
    ylabel="role, tone and style all right",
)
plots.show(
    fig,
    alt="Bars of the share of portraits with all three attributes right: real drawings, the model "
    "on held-out prompts, the nearest training drawing, the transplant, the model on prompts that "
    "it was trained on.",
    caption="Each bar is the mean over three seeds, with its spread. The judge errs on real "
    "drawings, too: the first bar is the ceiling.",
)


# %% [markdown]
# The verdict, from those figures:


# %%
def verdict_on(name: str) -> str:
    kept = json.loads((checkpoints.folder() / f"{name}.json").read_text(encoding="utf-8"))
    quality = kept["quality"]
    shares = {
        way: statistics.mean(run[way]["all"] for run in quality["runs"])
        for way in ("held_out", "nearest", "transplant")
    }
    above = [
        way
        for way in ("nearest", "transplant")
        if min(r["held_out"]["all"] for r in quality["runs"])
        > max(r[way]["all"] for r in quality["runs"])
    ]
    beats = " and ".join(above) or "neither way without a model"
    return (
        f"{name}: combinations never seen are right in every attribute in {shares['held_out']:.0%} "
        f"of the drawings (real ones {quality['real']['all']:.0%}); it beats {beats}"
    )


_ = record(
    "L13",
    rows,
    verdict="; ".join(verdict_on(name) for name in ("portraits", "emoji")),
    seeds=quality["seeds"],
    n=quality["n"],
)

# %% [markdown]
# What would change it? Fewer tones or styles in training: the fewer combinations a role was seen
# in, the less tells its looks from theirs. A judge that errs less. And a harder test: roles that
# are never drawn in one style at all, as the emoji's categories are.

# %% [markdown] tags=["remark"]
# Which of your four guesses were off? Ask the box for something that the training set cannot know
# (a role that is not there, two people, a hat of a colour). What does the network do?

# %% [markdown]
# ## What to remember
#
# - A prompt becomes tokens, tokens become vectors that have looked at one another, and each place
#   of the picture asks them by cross-attention.
# - Pads are no words: nothing looks at them, and they count in no mean. The empty prompt gives
#   zeros.
# - Dropping whole prompts in training buys guidance; two prompts have two directions and two
#   scales.
# - "It follows prompts" is a number: held-out combinations, a judge, its accuracy on real drawings.
# - Without the two ways that need no model, that number says little.
#
# **Where it goes next.** Lesson 14 puts trained models to work: repairing, editing, making data.
#
# ## References
#
# - Vaswani et al. 2017, [Attention is all you need](https://arxiv.org/abs/1706.03762), section 3.
# - Rombach, Blattmann, Lorenz, Esser, Ommer 2022,
#   [High-resolution image synthesis with latent diffusion models](https://arxiv.org/abs/2112.10752),
#   section 3.3: cross-attention.
# - Saharia et al. 2022, [Photorealistic text-to-image diffusion models](https://arxiv.org/abs/2205.11487):
#   how much the reader of the text matters.
# - Liu, Li, Du, Torralba, Tenenbaum 2022, eq. 11:
#   [Compositional visual generation with composable diffusion models](https://arxiv.org/abs/2206.01714).
# - Radford et al. 2021, [Learning transferable visual models from natural language supervision](https://arxiv.org/abs/2103.00020):
#   CLIP, and retrieval.
# - Okawa, Lubana, Dick, Tanaka 2023, [Compositional abilities emerge multiplicatively](https://arxiv.org/abs/2310.09336):
#   held-out combinations in a world of shapes.
