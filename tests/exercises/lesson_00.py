"""Checks of lesson 00, what a diffusion model is: cases, drivers, judges; answers are elsewhere."""

import torch

from coursework.exercise import Case, Draw, Exercise, Lesson

LESSON = Lesson("00", provides=("undiffuse.data", "undiffuse.plots"))


def amounts(draw: Draw, n: int, dtype: str = "float32") -> torch.Tensor:
    """n amounts of noise (n,), all different and none near one half, where mistakes look alike."""
    low = draw.uniform(0.05, 0.35, n, dtype=dtype)
    high = draw.uniform(0.65, 0.95, n, dtype=dtype)
    flip = torch.arange(n) % 2 == draw.integers(0, 2)
    return torch.where(flip, low, high)


def mixing_cases(draw: Draw):
    """Cases for both ways of mixing noise in: (x, amount, noise)."""

    def inputs(*shape: int, dtype: str = "float32"):
        x = draw.normal(*shape, dtype=dtype, mean=0.4)
        return x, amounts(draw, shape[0], dtype), draw.normal(*shape, dtype=dtype)

    yield Case("pictures of odd size", inputs(5, 1, 7, 9), group="pictures")
    yield Case("as many pictures as pixels in a row", inputs(6, 3, 6, 6), group="pictures")
    x, _, noise = inputs(4, 1, 6, 5)
    ends = torch.tensor([0.0, 1.0, draw.uniform(0.1, 0.35), draw.uniform(0.65, 0.9)])
    yield Case("no noise at all, and nothing but noise", (x, ends, noise), group="pictures")
    yield Case("sound", inputs(5, 1, 43), group="sound")
    yield Case("stereo sound, one clip", inputs(1, 2, 31), group="sound")
    yield Case("points (B, 2)", inputs(7, 2), group="other shapes and types")
    yield Case("float64", inputs(3, 2, 5, 4, dtype="float64"), group="other shapes and types")


to_model_range = Exercise(
    id="00.1",
    title="From bytes to the model's range",
    names=("to_model_range",),
    points={"digits": 1, "any picture": 1},
    difficulty=1,
    minutes=5,
    hints=(
        "Which number must 0 become, which 255, and which the middle? A straight line does it.",
        "uint8 arithmetic wraps around at 256, and it has no negative numbers. What has to happen "
        "before the first subtraction or multiplication?",
        "Turn the bytes into float32 first. Then scale, so that the range is 2 wide, and shift, "
        "so that its middle is 0. Use 255, the largest byte, and not the largest pixel you see.",
    ),
    library=("undiffuse.data.to_model_range", "undiffuse.process.to_model_range"),
)


@to_model_range.cases
def _(draw: Draw):
    def pixels(low: int, high: int, *shape: int) -> torch.Tensor:
        return draw.integers(low, high, *shape).to(torch.uint8)

    digits = pixels(0, 256, 4, 28, 28) * (pixels(0, 10, 4, 28, 28) > 6)
    yield Case("digits (B, 28, 28)", (digits,), group="digits")
    yield Case("with a channel (B, 1, 28, 28)", (digits[:2, None].clone(),), group="digits")
    yield Case("every byte there is", (torch.arange(256, dtype=torch.uint8),), group="any picture")
    yield Case("pale colours", (pixels(120, 231, 2, 3, 5, 7),), group="any picture")
    yield Case(
        "black pictures only", (torch.zeros(2, 1, 4, 6, dtype=torch.uint8),), group="any picture"
    )
    yield Case("one dark picture", (pixels(3, 60, 1, 1, 9, 5),), group="any picture")


corrupt = Exercise(
    id="00.2",
    title="Mix noise in",
    names=("corrupt",),
    points={"pictures": 2, "sound": 1, "other shapes and types": 1},
    difficulty=1,
    minutes=10,
    hints=(
        "At amount 0 the result is x, at amount 1 it is the noise. In between it is on the "
        "straight line from one to the other.",
        "amount has shape (B,) and x has more axes. Torch lines shapes up from the *right*, so "
        "(B,) meets the last axis of x. Which shape must amount have to meet the first one?",
        "Give amount as many axes as x, all of size 1 but the first: x.ndim tells how many. Then "
        "write the formula as it stands, making a new tensor.",
    ),
    library=("undiffuse.process.corrupt",),
)
corrupt.cases(mixing_cases)


variance_preserving_corrupt = Exercise(
    id="00.3",
    title="Mix noise in and keep the variance",
    names=("variance_preserving_corrupt",),
    points={"pictures": 2, "sound": 1, "other shapes and types": 1},
    difficulty=1,
    minutes=5,
    hints=(
        "What is the variance of 3 times a variable of variance 1? And of the sum of two "
        "independent variables?",
        "The two *variances* must add up to 1: one of them is amount, the other what is left. A "
        "factor on a variable is squared in its variance.",
        "Take corrupt and change the two factors only: each is the square root of what stood "
        "there before.",
    ),
    library=("undiffuse.process.variance_preserving_corrupt",),
)
variance_preserving_corrupt.cases(mixing_cases)


# Facts that are asked for one by one: each is a case, so that each answer has its own hint.


def facts_of(answer, name: str):
    """What the learner's function gives, called once for all cases of a check."""
    if not hasattr(answer, "facts"):
        answer.facts = getattr(answer, name)()
    return answer.facts


def plain_fact(value):
    """``value`` without its wrapping: one-element tensors as numbers, names sorted in a list."""
    if isinstance(value, (set, frozenset, tuple, list)):
        return sorted((str(v) for v in value), key=str)
    if isinstance(value, str):
        return value.strip().lower()
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    return value


def autopsy_fact(answer, key: str):
    """The entry ``key`` of autopsy(), wrapped so that a missing one is no error."""
    facts = facts_of(answer, "autopsy")
    if not isinstance(facts, dict):
        return {"not a dict": type(facts).__name__}
    return {"value": plain_fact(facts[key])} if key in facts else {"lacks": list(facts)}


def fact_check_entry(answer, key: str):
    """The entry ``key`` of fact_check(), wrapped so that a missing one is no error."""
    facts = facts_of(answer, "fact_check")
    if not isinstance(facts, dict):
        return {"not a dict": type(facts).__name__}
    if key not in facts:
        return {"lacks": list(facts)}
    value = plain_fact(facts[key])
    if isinstance(value, str):  # spelling is not what is asked for
        value = value.removeprefix("latent ").replace("auto-regressive", "autoregressive")
    return {"value": value}


def wrapping_fault(name: str, key: str, got) -> str | None:
    """What is wrong with the dict itself, or None."""
    if not isinstance(got, dict):
        return f"{name}() must return a dict"
    if "not a dict" in got:
        if got["not a dict"] == "NoneType":
            return f"{name}() returns None: is a return missing?"
        return f"{name}() must return a dict, not a {got['not a dict']}"
    if "lacks" in got:
        there = ", ".join(repr(k) for k in got["lacks"]) or "none"
        return f"the dict lacks this key (its keys: {there})"
    return None


AUTOPSY = {
    "depends_on_noise": "call one model twice on the same x, with two different tensors as noise, "
    "and compare with torch.equal. Build the model once: a new one has new weights.",
    "depends_on_time": "call one model twice on the same x, with t=0 and with t=9, and compare "
    "with torch.equal.",
    "draws_random_numbers": "build one model, then call it twice on the same x with another "
    "torch.manual_seed before each call. Seeds set before *building* change the weights, which "
    "is another question.",
    "unused_arguments": "change one argument of __init__ or forward at a time, always with the "
    "same torch.manual_seed before building, and see whether the output for the same x changes. "
    "An argument that is only stored changes nothing.",
    "runs_on_image": "build DiffusionModel(784, 128, 10) and hand it torch.zeros(2, 1, 28, 28) as "
    "it is. Does a result come back, or an error?",
    "is_one_linear_layer": "for one layer W x + b, f(u + v) - f(v) equals f(u) - f(0) for every u "
    "and v, up to rounding. Does it for the whole model? Any activation between the layers?",
    "settles": "feed the output back in as x, 200 times, and print how far each step moves. Does "
    "the distance go to nothing, or does it stay?",
    "end_depends_on_start": "start the repetition from two quite different x, and compare where "
    "they are after 200 rounds.",
}

autopsy = Exercise(
    id="00.4",
    title="Autopsy of a snippet",
    names=("autopsy",),
    points={"what changes the output": 2, "what it takes": 2, "what repeating it does": 2},
    difficulty=2,
    minutes=15,
    hints=(
        "Each key is an experiment of three lines: build, call twice with one thing changed, "
        "compare with torch.equal or torch.allclose.",
        "Build with the same torch.manual_seed whenever two models are compared, or the weights "
        "differ and everything seems to matter. Within one model, the seed before the call is "
        "what tells whether the call draws random numbers.",
        "For the repetition, write a loop of 200 rounds x = model(x) under torch.no_grad(), keep "
        "the distance between one round and the next, and do it from two starts. For the "
        "arguments, inspect.signature lists them; then change them one at a time.",
    ),
)


@autopsy.cases
def _(draw: Draw):
    groups = {
        "what changes the output": ("depends_on_noise", "depends_on_time", "draws_random_numbers"),
        "what it takes": ("unused_arguments", "runs_on_image"),
        "what repeating it does": ("is_one_linear_layer", "settles", "end_depends_on_start"),
    }
    for group, keys in groups.items():
        for key in keys:
            yield Case(key, (key,), group=group, driver=autopsy_fact, picture="none")


@autopsy.judge
def _(case: Case, got, expected):
    key = case.args[0]
    fault = wrapping_fault("autopsy", key, got)
    if fault:
        return fault
    value, wanted = got["value"], expected["value"]
    if isinstance(wanted, bool):
        if not isinstance(value, bool):
            return f"{value!r} is given; True or False is wanted"
        return None if value == wanted else f"the experiment says otherwise. {_try(key)}"
    if not isinstance(value, list):
        return f"{value!r} is given; a list of argument names is wanted"
    if value == wanted:
        return None
    wrong = [v for v in value if v not in wanted]
    lacking = sum(v not in value for v in wanted)
    parts = [f"{', '.join(wrong)} should not be in the list"] * bool(wrong)
    parts += [f"{lacking} of the names that belong there are missing"] * bool(lacking)
    parts = parts or ["a name stands there twice"]
    return f"{'; '.join(parts)}. {_try(key)}"


def _try(key: str) -> str:
    return "Try it: " + AUTOPSY[key]


FAMILIES = ("autoregressive", "diffusion", "gan", "vae", "flow")
SOURCES = {
    "WaveNet": "https://arxiv.org/abs/1609.03499",
    "DiffWave": "https://arxiv.org/abs/2009.09761",
    "AudioLM": "https://arxiv.org/abs/2209.03143",
    "Riffusion": "https://huggingface.co/riffusion/riffusion-model-v1",
    "DALL-E": "https://arxiv.org/abs/2102.12092",
    "DALL-E 2": "https://arxiv.org/abs/2204.06125",
    "Stable Diffusion": "https://arxiv.org/abs/2112.10752",
}
SOUND = ("WaveNet", "DiffWave", "AudioLM", "Riffusion")

fact_check = Exercise(
    id="00.5",
    title="Check the facts",
    names=("fact_check",),
    points={"sound": 2, "pictures": 2},
    difficulty=1,
    minutes=15,
    hints=(
        "Don't go by the name. Open the source and look for the sentence that says how an output "
        "is *drawn*.",
        "Two questions settle it. Is the output made piece by piece, each piece conditioned on "
        "those before it? Or does all of it start as noise, to be cleaned up together?",
        "Some of these have several parts. An autoencoder that turns data into codes and back is "
        "a codec: the family is that of the part that draws the codes.",
    ),
)


@fact_check.cases
def _(draw: Draw):
    for name in SOURCES:
        group = "sound" if name in SOUND else "pictures"
        yield Case(name, (name,), group=group, driver=fact_check_entry, picture="none")


@fact_check.judge
def _(case: Case, got, expected):
    key = case.args[0]
    fault = wrapping_fault("fact_check", key, got)
    if fault:
        return fault
    value = got["value"]
    if value not in FAMILIES:
        return f"{value!r} is none of the families {', '.join(map(repr, FAMILIES))}"
    if value != expected["value"]:
        return (
            f"not {value!r}. How is an output drawn, piece by piece or by cleaning up noise? "
            f"Look in {SOURCES[key]}"
        )
    return None
