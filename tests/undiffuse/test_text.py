"""Prompts as numbers and back, what is said of what is not understood, and the text networks."""

import pytest
import torch

from undiffuse import presets, text
from undiffuse.blocks import CrossAttention, masked_attention
from undiffuse.guidance import drop_labels, guided, guided_by_prompts, guided_by_two
from undiffuse.unet import UNet

VOCAB = text.make_vocab(["a cook with medium-dark skin", "a pilot's hat"])
SMALL = {"words": 12, "length": 6, "width": 8, "layers": 1, "heads": 2}


def test_words_and_numbers():
    assert list(VOCAB)[:2] == ["<pad>", "<unk>"] and VOCAB["<pad>"] == text.PAD
    assert text.words_of("A Pilot's HAT, medium-dark!") == ["a", "pilot's", "hat", "medium-dark"]
    tokens = text.tokenize(["a COOK, with", "", "a sofa"], VOCAB, 3)
    want = [[VOCAB["a"], VOCAB["cook"], VOCAB["with"]], [0, 0, 0], [VOCAB["a"], text.UNKNOWN, 0]]
    assert tokens.tolist() == want and tokens.dtype == torch.int64
    assert text.tokenize([], VOCAB, 4).shape == (0, 4)
    with pytest.raises(TypeError, match="list"):
        text.tokenize("a cook", VOCAB, 4)
    with pytest.raises(ValueError, match="length"):
        text.tokenize(["a"], VOCAB, 0)


@pytest.mark.parametrize(
    "prompt, says",
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("a kook", "'kook' is not a word that it knows; did you mean cook"),
        ("消防士", "not a word that it knows"),
        ("a cook 🚒", "'🚒' is no word"),
        ("🚒", "as if without"),
        ("a cook " * 5000, "9,994 words are not read: it reads 6"),
        ("x" * 5000, "…' is not a word"),
    ],
)
def test_what_is_not_understood_is_said(prompt, says):
    assert any(says in line for line in text.read(prompt, VOCAB, 6).said())


def test_a_known_prompt_has_no_remarks():
    reading = text.read("A cook with medium-dark skin.", VOCAB, 6)
    assert reading.said() == [] and len(reading.known) == 5 and not reading.unknown


def test_words_are_left_out_one_by_one():
    tokens = torch.randint(2, 12, (400, 6), generator=torch.Generator().manual_seed(0))
    tokens[::2, 4:] = text.PAD
    out = text.drop_words(tokens, 0.3, torch.Generator().manual_seed(1))
    real = int((tokens != text.PAD).sum())
    kept = int((out != text.PAD).sum())
    # Binomial with 2,000 draws: a share 0.06 off has a probability below 1e-8.
    assert abs(kept / real - 0.7) < 0.06
    for before, after in zip(tokens.tolist(), out.tolist()):
        words = [w for w in after if w]
        assert after == words + [0] * (6 - len(words))  # together, pads behind
        rest = iter(w for w in before if w)
        assert all(w in rest for w in words)  # in their order
    assert torch.equal(text.drop_words(tokens, 0.0), tokens)
    assert not text.drop_words(tokens, 1.0).any()
    with pytest.raises(ValueError, match="p must"):
        text.drop_words(tokens, 1.5)


def test_dropped_prompts_are_empty_as_a_whole():
    tokens = torch.randint(2, 9, (1000, 5), generator=torch.Generator().manual_seed(0))
    out = drop_labels(tokens, 0.25, text.PAD, torch.Generator().manual_seed(1))
    gone = (out == text.PAD).all(1)
    assert bool((gone | (out == tokens).all(1)).all())
    assert 0.15 < gone.double().mean() < 0.35  # 7 deviations either way: below 1e-11


def test_attention_without_words_gives_zeros():
    q, k, v = (torch.randn(2, 2, n, 4) for n in (3, 5, 5))
    mask = torch.tensor([[True, False, True, False, False], [False] * 5])
    out = masked_attention(q, k, v, mask)
    scores = q[0] @ k[0][:, [0, 2]].mT / 2
    torch.testing.assert_close(out[0], scores.softmax(-1) @ v[0][:, [0, 2]])
    assert torch.equal(out[1], torch.zeros_like(out[1]))


def test_pads_change_nothing():
    torch.manual_seed(0)
    encoder = text.TextEncoder(**SMALL).eval()
    tokens = torch.tensor([[3, 4, 5], [6, 7, 0]])
    longer = torch.cat([tokens, torch.zeros(2, 3, dtype=torch.int64)], 1)
    (each, whole), (more, same) = encoder(tokens), encoder(longer)
    torch.testing.assert_close(more[:, :3], each)
    torch.testing.assert_close(same, whole)
    assert not more[:, 3:].any() and not each[1, 2].any()
    empty, nothing = encoder(torch.zeros(2, 4, dtype=torch.int64))
    assert not empty.any() and not nothing.any()


def test_cross_attention_starts_as_nothing_and_leaves_the_unprompted_alone():
    torch.manual_seed(0)
    layer = CrossAttention(8, 6, 2)
    x, words = torch.randn(2, 8, 3, 3), torch.randn(2, 4, 6)
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    assert torch.equal(layer(x, words, mask), x)
    torch.nn.init.normal_(layer.proj.weight)
    out = layer(x, words, mask)
    assert not torch.allclose(out[0], x[0]) and torch.equal(out[1], x[1])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = UNet(3, (16, 16), attention=(False, True), text=SMALL, heads=2, patch=2).eval()
    for name, p in net.named_parameters():
        if "proj" in name or "conv_out" in name or "conv2" in name:
            torch.nn.init.normal_(p, std=0.2)
    return net


def test_a_network_reads_its_prompt(network):
    x = torch.randn(2, 3, 8, 8)
    tokens = torch.tensor([[3, 4, 0, 0], [5, 6, 7, 0]])
    with torch.no_grad():
        told, other = network(x, 0.4, tokens), network(x, 0.4, tokens.flip(0))
        none, empty = network(x, 0.4), network(x, 0.4, torch.zeros_like(tokens))
    assert told.shape == x.shape and not torch.allclose(told, other)
    torch.testing.assert_close(none, empty)  # no prompt is the empty prompt
    assert network.null == text.PAD and network.config["text"] == SMALL


def test_networks_without_text_are_as_before():
    torch.manual_seed(0)
    net = UNet(1, (16, 16), attention=(False, True), classes=3, patch=2)
    assert not any("encoder" in name or ".kv." in name for name in net.state_dict())
    assert "text" not in net.config


@pytest.mark.parametrize(
    "cond, says",
    [
        (torch.zeros(2, dtype=torch.int64), "tokens int64"),
        (torch.zeros(2, 4), "tokens int64"),
        (torch.full((2, 4), 12), "0 to 11"),
        (torch.full((2, 4), -1), "0 to 11"),
        (torch.zeros(2, 9, dtype=torch.int64), "up to 6"),
    ],
)
def test_wrong_prompts_are_refused(network, cond, says):
    with pytest.raises(ValueError, match=says):
        network(torch.zeros(2, 3, 8, 8), 0.5, cond)


def test_two_directions():
    null, a, b = (torch.randn(2, 3, dtype=torch.float64) for _ in range(3))
    got = guided_by_two(null, a, b, 2.5, -1.25)
    torch.testing.assert_close(got, null + 2.5 * (a - null) - 1.25 * (b - null))
    with pytest.raises(ValueError, match="alike"):
        guided_by_two(null, a, b[:1], 1.0, 1.0)


def test_a_second_prompt_of_scale_zero_is_plain_guidance(network):
    x = torch.randn(2, 3, 8, 8)
    tokens, second = torch.tensor([[3, 4, 0]] * 2), torch.tensor([[8, 0, 0]] * 2)
    with torch.no_grad():
        plain = guided(network, text.PAD, 2.0)(x, 0.4, tokens)
        two = guided_by_prompts(network, text.PAD, 2.0, second, 0.0)(x, 0.4, tokens)
        away = guided_by_prompts(network, text.PAD, 2.0, second, -1.5)(x, 0.4, tokens)
        outside = guided_by_prompts(network, text.PAD, 2.0, second, -1.5, (0.6, 0.9))
        torch.testing.assert_close(outside(x, 0.4, tokens), network(x, 0.4, tokens))
    torch.testing.assert_close(two, plain, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(away, plain)
    with pytest.raises(ValueError, match="one shape"):
        guided_by_prompts(network, text.PAD, 2.0, second, 1.0)(x, 0.4, tokens[:1])


def test_the_cost_of_a_network_with_words(network):
    assert presets.flops_per_call(network, (3, 8, 8)) > 0
