"""The transformer's parts against their definitions, and the flat pair layout against separate forwards."""

import math
from dataclasses import replace

import pytest
import torch

from model import attention
from model.attention import pairs_apart, unshare
from model.fused import half_attention, rms_norm, swiglu
from model.rotary import Rope, frequencies, rotary_tables, rotate
from model.transformer import ModelConfig, Norm, Transformer, pair_attention

LONGROPE = Rope(
    8, kind="longrope", context=12, scale=1.1, short_factors=(1, 1.5, 2, 3), long_factors=(2, 4, 8, 9)
)
BASE = ModelConfig(
    vocab_size=50,
    width=32,
    layers=3,
    heads=4,
    kv_heads=2,
    head_width=8,
    mlp_width=40,
    context=64,
    rope=Rope(8),
)
VARIANTS = {
    "llama": BASE,
    "mqa-tied": replace(BASE, kv_heads=1, tied=True),
    "mha-biases": replace(BASE, kv_heads=4, qkv_bias=True, out_bias=True, mlp_bias=True),
    "windows": replace(BASE, windows=(3, 0, 5), local_rope=Rope(8, base=100.0)),
    "softcap": replace(BASE, attention_softcap=2.0, attention_scale=0.7, windows=(4, 0, 0)),
    "gemma2-like": replace(
        BASE, norm_plus_one=True, norm_outputs=True, embedding_scale=32**0.5, activation="gelu_tanh"
    ),
    "post-norm-full": replace(BASE, norm_inputs=False, norm_outputs=True, qk_norm="full"),
    "head-norm-nope": replace(BASE, qk_norm="head", layers_without_rope=(1,)),
    "parallel-layer-norm": replace(
        BASE, norm="layer", norm_bias=True, parallel=True, qk_norm="heads", rope=Rope(2), residual_scale=0.3
    ),
    "positions": replace(
        BASE, rope=None, learned_positions=True, norm="layer", gated=False, activation="gelu"
    ),
    "bare-norm-clip": replace(BASE, norm="layer", norm_weight=False, qkv_clip=0.05, logit_scale=0.25),
    "linear": replace(BASE, rope=Rope(8, kind="linear", factor=4.0)),
    "yarn": replace(BASE, rope=Rope(8, kind="yarn", factor=4.0, context=16, scale=1.2, low=1, high=32)),
    "llama3": replace(BASE, rope=Rope(8, kind="llama3", factor=8.0, context=16)),
}
LENGTH_VARIANTS = {  # some of PAIRS have sequences of different angles; decoding changes them on the way
    "dynamic": replace(BASE, rope=Rope(8, kind="dynamic", factor=2.0, context=9)),
    "longrope": replace(BASE, rope=LONGROPE),
}
PAIRS = [(5, 4, 6), (1, 1, 3), (7, 3, 0), (4, 1, 1), (6, 9, 2)]  # prompt, chosen, rejected lengths


def build(config: ModelConfig, dtype: torch.dtype = torch.float64) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model


def layout(pairs: list[tuple[int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """positions [T] and spans [B, 4]."""
    positions, spans, start = [], [], 0
    for prompt, chosen, rejected in pairs:
        positions += [*range(prompt + chosen), *range(prompt, prompt + rejected)]
        spans.append((start, prompt, chosen, rejected))
        start += prompt + chosen + rejected
    return torch.tensor(positions), torch.tensor(spans, dtype=torch.int32)


def written_out_mask(spans: torch.Tensor, window: int = 0) -> torch.Tensor:
    """[T, T] bool, token by token as the layout is defined."""
    tokens = []  # (pair, part, position)
    for pair, (_, prompt, chosen, rejected) in enumerate(spans.tolist()):
        tokens += [(pair, "prompt", i) for i in range(prompt)]
        tokens += [(pair, "chosen", prompt + i) for i in range(chosen)]
        tokens += [(pair, "rejected", prompt + i) for i in range(rejected)]

    def sees(i: tuple, j: tuple) -> bool:
        near = not window or i[2] - j[2] < window
        return i[0] == j[0] and j[2] <= i[2] and j[1] in ("prompt", i[1]) and near

    return torch.tensor([[sees(i, j) for j in tokens] for i in tokens])


# --------------------------------------------------------------------------------------------- definitions


def test_rms_norm_is_its_formula_and_its_gradient():
    x, w = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 3, 8), (8,)))
    expected = x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5) * w
    torch.testing.assert_close(rms_norm(x, w, 1e-5), expected)
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-5), (x, w))
    half = rms_norm(x.bfloat16(), w.bfloat16(), 1e-5)
    torch.testing.assert_close(half.double(), expected, atol=0.05, rtol=0.02)


@pytest.mark.parametrize("dim", [0, 1])
def test_swiglu_is_its_formula_and_its_gradient(dim):
    x = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    gate, up = x.chunk(2, dim)
    torch.testing.assert_close(swiglu(x, dim), gate / (1 + torch.exp(-gate)) * up)
    assert torch.autograd.gradcheck(lambda x: swiglu(x, dim), (x,))


def test_norms_with_one_weight_per_head_and_with_plus_one():
    x = torch.randn(7, 4, 8, dtype=torch.float64)
    norm = Norm(replace(BASE, norm="layer"), 4, 8).double()
    torch.nn.init.normal_(norm.weight)
    for head in range(4):
        expected = torch.nn.functional.layer_norm(x[:, head], (8,), norm.weight[head], eps=norm.eps)
        torch.testing.assert_close(norm(x)[:, head], expected)
    plus_one = Norm(replace(BASE, norm_plus_one=True), 8).double()
    torch.nn.init.zeros_(plus_one.weight)
    torch.testing.assert_close(plus_one(x), x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt())


@pytest.mark.parametrize("width", [8, 4])
def test_rotation_is_multiplication_of_complex_numbers(width):
    rope = Rope(width, base=50.0)
    x = torch.randn(6, 3, 8, dtype=torch.float64, requires_grad=True)
    positions = torch.tensor([0, 1, 2, 5, 40, 41])
    half = width // 2
    angle = positions[:, None, None] * 50.0 ** (-torch.arange(half) * 2 / width)
    z = torch.complex(x[..., :half], x[..., half:width]) * torch.polar(torch.ones(()), angle)
    expected = torch.cat([z.real, z.imag, x[..., width:]], dim=-1).to(x.dtype)
    tables = tuple(t.double() for t in rotary_tables(rope, positions))
    torch.testing.assert_close(rotate(x, tables), expected, atol=1e-5, rtol=0)
    assert torch.autograd.gradcheck(lambda x: rotate(x, tables), (x,))


def test_scores_of_rotated_vectors_depend_on_the_distance_only():
    q, k = torch.randn(2, 1, 1, 8, dtype=torch.float64)
    score = lambda i, j: (  # noqa: E731
        rotate(q, rotary_tables(BASE.rope, torch.tensor([i])))
        * rotate(k, rotary_tables(BASE.rope, torch.tensor([j])))
    ).sum()
    torch.testing.assert_close(score(9, 4), score(25, 20), atol=1e-5, rtol=0)
    assert abs(score(9, 4) - score(9, 5)) > 1e-3


def test_frequencies_of_the_context_extensions():
    plain = frequencies(Rope(8), "cpu")
    torch.testing.assert_close(plain, 10000.0 ** (-torch.arange(0, 8, 2) / 8))
    torch.testing.assert_close(frequencies(Rope(8, kind="linear", factor=4.0), "cpu"), plain / 4)
    llama3 = frequencies(Rope(8, kind="llama3", factor=8.0, context=64), "cpu")
    assert llama3[0] == plain[0]  # wavelength 6 < 64/4
    torch.testing.assert_close(llama3[2:], plain[2:] / 8)  # wavelengths above 64
    yarn = frequencies(Rope(64, kind="yarn", factor=4.0, context=64, low=1, high=32), "cpu")
    assert yarn[0] == 1.0
    torch.testing.assert_close(yarn[-1], frequencies(Rope(64), "cpu")[-1] / 4)
    backwards = Rope(8, base=4.0, kind="yarn", factor=4.0, context=4096, low=1, high=32)  # from 8 to 7
    torch.testing.assert_close(frequencies(backwards, "cpu"), frequencies(Rope(8, base=4.0), "cpu") / 4)
    lengths = torch.tensor([12, 13])
    short, long = frequencies(LONGROPE, "cpu", lengths)
    torch.testing.assert_close(short * torch.tensor(LONGROPE.short_factors), plain)
    torch.testing.assert_close(long * torch.tensor(LONGROPE.long_factors), plain)
    dynamic = frequencies(Rope(8, kind="dynamic", factor=2.0, context=16), "cpu", torch.tensor([16, 32]))
    torch.testing.assert_close(dynamic[0], plain)
    torch.testing.assert_close(dynamic[1], (10000.0 * 3 ** (8 / 6)) ** (-torch.arange(0, 8, 2) / 8))


@pytest.mark.parametrize("window", [0, 1, 3, 100])
@pytest.mark.parametrize("softcap", [0.0, 1.5])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_pair_attention_equals_the_written_out_mask(window, softcap, kv_heads):
    _, spans = layout(PAIRS)
    total = int(spans[:, 1:].sum())
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(total, heads, 8, dtype=torch.float64, requires_grad=True)
        for heads in (4, kv_heads, kv_heads)
    )
    wide_k, wide_v = (t.repeat_interleave(4 // kv_heads, dim=1) for t in (k, v))
    scores = torch.einsum("ihe,jhe->hij", q, wide_k) * 0.3
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~written_out_mask(spans, window), -math.inf)
    expected = torch.einsum("hij,jhe->ihe", scores.softmax(-1), wide_v)
    found = pair_attention(q, k, v, spans, scale=0.3, window=window, softcap=softcap)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    weight = torch.randn_like(expected)
    ours = torch.autograd.grad((found * weight).sum(), (q, k, v))
    theirs = torch.autograd.grad((expected * weight).sum(), (q, k, v))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_the_variable_length_kernel_is_asked_for_the_same_thing(monkeypatch):
    def written_out(q, k, v, ends_q, ends_k, max_q, max_k, *, scale, window_size, enable_gqa):
        """As flash attention documents it: the last query at the last key, left window without self."""
        out = []
        for (a, b), (c, d) in zip(*[zip(e[:-1], e[1:], strict=True) for e in (ends_q, ends_k)], strict=True):
            assert b - a <= max_q
            assert d - c <= max_k
            age = torch.arange(d - c - (b - a), d - c)[:, None] - torch.arange(d - c)
            seen = (age >= 0) & (age <= (window_size[0] if window_size[0] >= 0 else d))
            heads = (t.transpose(0, 1)[None] for t in (q[a:b], k[c:d], v[c:d]))
            mixed = torch.nn.functional.scaled_dot_product_attention(
                *heads, seen, scale=scale, enable_gqa=enable_gqa
            )
            out.append(mixed[0].transpose(0, 1))
        return torch.cat(out)

    monkeypatch.setattr(attention, "varlen", lambda: (written_out, {"scale", "window_size", "enable_gqa"}))
    _, spans = layout(PAIRS)
    pairs = attention.Pairs(spans, int(spans[:, 1:].sum()))
    q, k, v = (torch.randn(len(pairs.longest()), heads, 8) for heads in (4, 2, 2))
    index = pairs.keys(q.device)
    for window in (0, 3):
        expected = pair_attention(q, k, v, spans, scale=0.3, window=window)
        found = attention.one_call(q, k[index], v[index], pairs, 0.3, window)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("window", [0, 7, 150])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_attention_equals_the_kernel_in_double_precision(window, dtype):
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(n, heads, 16).to(dtype).requires_grad_() for n, heads in ((300, 4), (340, 2), (340, 2))
    )

    def mask(new: int, total: int) -> torch.Tensor:
        age = torch.arange(total - new, total)[:, None] - torch.arange(total)
        hidden = (age < 0) | (age >= window) if window else age < 0
        return torch.zeros(new, total).masked_fill(hidden, -math.inf)

    exact = torch.nn.functional.scaled_dot_product_attention(
        *(t.double().transpose(0, 1)[None] for t in (q, k, v)),
        mask(300, 340).double(),
        scale=0.4,
        enable_gqa=True,
    )[0].transpose(0, 1)

    found = half_attention(q, k, v, 0.4, mask)
    weight = torch.randn(found.shape)
    ours = torch.autograd.grad((found.float() * weight).sum(), (q, k, v))
    theirs = torch.autograd.grad((exact * weight).sum(), (q, k, v))
    for a, b in zip((found, *ours), (exact, *theirs), strict=True):  # bfloat16 holds 8 bits: 2^-8 of the size
        assert (a - b).abs().max() < (0.012 if dtype == torch.bfloat16 else 2e-6) * b.abs().max()


# ------------------------------------------------------------------------------------------ the pair layout


def separate_forwards(
    model: Transformer, ids: torch.Tensor, pairs: list[tuple[int, int, int]]
) -> torch.Tensor:
    """The same hidden states [T, D] from one forward per sequence, nothing shared."""
    out, start = [], 0
    for prompt, chosen, rejected in pairs:
        piece = ids[start : start + prompt + chosen + rejected]
        both = (piece[: prompt + chosen], torch.cat([piece[:prompt], piece[prompt + chosen :]]))
        for part, sequence in enumerate(both):
            if part == 1 and not rejected:
                continue
            spans = torch.tensor([[0, len(sequence), 0, 0]], dtype=torch.int32)
            hidden = model(sequence, torch.arange(len(sequence)), spans)
            out.append(hidden if part == 0 else hidden[prompt:])
        start += len(piece)
    return torch.cat(out)


@pytest.mark.parametrize("name", VARIANTS | LENGTH_VARIANTS)
def test_the_pair_layout_equals_separate_forwards_values_and_gradients(name):
    model = build((VARIANTS | LENGTH_VARIANTS)[name])
    positions, spans = layout(PAIRS)
    ids = torch.randint(0, 50, (len(positions),))
    weight = torch.randn(len(positions), 32, dtype=torch.float64)
    results = []
    for hidden in (model(ids, positions, spans), separate_forwards(model, ids, PAIRS)):
        gradients = torch.autograd.grad(
            ((hidden * weight) @ model.lm_head.weight.T).square().sum(),
            tuple(model.parameters()),
            allow_unused=True,
        )
        results.append((hidden.detach(), gradients))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-10, rtol=0)
    for (parameter, _), a, b in zip(model.named_parameters(), results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10, msg=parameter)


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("name", VARIANTS | LENGTH_VARIANTS)
def test_wanted_tokens_equal_those_of_the_whole_forward_values_and_gradients(name, recomputed):
    model = build((VARIANTS | LENGTH_VARIANTS)[name])
    model.checkpoint_activations = recomputed
    positions, spans = layout(PAIRS)
    ids = torch.randint(0, 50, (len(positions),))
    again = 1 if name in VARIANTS else 0  # where lengths change the angles, twice means for both sides
    wanted = torch.tensor([3, 1, again, len(ids) - 1, 2])  # in any order, also twice
    results = []
    for hidden in (model(ids, positions, spans, wanted), model(ids, positions, spans)[wanted]):
        gradients = torch.autograd.grad(
            (hidden * torch.arange(5.0)[:, None]).square().sum(),
            tuple(model.parameters()),
            allow_unused=True,
        )
        results.append((hidden.detach(), gradients))
    torch.testing.assert_close(*(hidden for hidden, _ in results), atol=1e-12, rtol=0)
    for (parameter, _), a, b in zip(model.named_parameters(), results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10, msg=parameter)


def test_the_last_block_computes_only_what_is_wanted():
    model, rows = build(BASE), []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda _, inputs, out: rows.append((len(inputs[0]), len(out))))
    positions, spans = layout(PAIRS)
    ids = torch.randint(0, 50, (len(positions),))
    assert model(ids, positions, spans, torch.arange(4)).shape == (4, 32)
    assert rows == [(len(ids),) * 2] * (len(model.blocks) - 1) + [(4, 4)]


@pytest.mark.parametrize("name", VARIANTS | LENGTH_VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_of_nothing_passes_with_gradients_of_zero(name, dtype):
    """A process gets one where there are fewer microbatches than processes, and must still take part."""
    model = build((VARIANTS | LENGTH_VARIANTS)[name], dtype)
    nothing = torch.empty(0, dtype=torch.int64)
    hidden = model(nothing, nothing, nothing.view(0, 4), nothing)
    assert hidden.shape == (0, 32)
    hidden.sum().backward()
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_batch_mates_change_nothing():
    model = build(BASE, torch.float32)
    _, spans = layout(PAIRS)
    positions, _ = layout(PAIRS)
    ids = torch.randint(0, 50, (len(positions),))
    together = model(ids, positions, spans)
    for pair in spans.tolist():
        start, size = pair[0], sum(pair[1:])
        alone = model(
            ids[start : start + size],
            positions[start : start + size],
            torch.tensor([[0, *pair[1:]]], dtype=torch.int32),
        )
        torch.testing.assert_close(together[start : start + size], alone, atol=1e-6, rtol=0)


def test_how_a_plain_sequence_is_split_does_not_matter():
    model = build(BASE)
    ids, positions = torch.randint(0, 50, (9,)), torch.arange(9)
    a, b = (
        model(ids, positions, torch.tensor([[0, prompt, 9 - prompt, 0]], dtype=torch.int32))
        for prompt in (9, 2)
    )
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_only_pairs_whose_lengths_give_other_angles_are_taken_apart():
    spans = torch.tensor([[0, 5, 4, 6], [15, 5, 8, 3], [31, 6, 9, 0], [46, 6, 9, 7]], dtype=torch.int32)
    assert pairs_apart(spans, {LONGROPE}) == [False, True, False, False]
    dynamic = Rope(8, kind="dynamic", factor=2.0, context=12)
    assert pairs_apart(spans, {dynamic, LONGROPE}) == [False, True, False, True]
    assert pairs_apart(spans, {Rope(8)}) == pairs_apart(None, {LONGROPE}) == []
    index, spans, places = unshare(spans, [False, True, False, True])
    assert spans.tolist() == [
        [0, 5, 4, 6], [15, 5, 8, 0], [28, 5, 3, 0], [36, 6, 9, 0], [51, 6, 9, 0], [66, 6, 7, 0],
    ]  # fmt: skip
    assert index[places].tolist() == list(range(68))


@pytest.mark.parametrize("rope", [LONGROPE, Rope(8, kind="dynamic", factor=2.0, context=12)])
def test_a_prompts_token_wanted_by_both_sides_is_turned_by_the_angles_of_each(rope):
    model = build(replace(BASE, rope=rope))
    pairs = [(4, 2, 3), (6, 8, 3), (6, 3, 9)]  # two of them straddle the length of 12
    positions, spans = layout(pairs)
    ids = torch.randint(0, 50, (len(positions),))
    wanted, expected = [], []
    for start, prompt, chosen, rejected in spans.tolist():
        own = torch.arange(start, start + prompt + chosen + rejected)
        for part in own[prompt:].split([chosen, rejected]):
            sequence = torch.cat([own[:prompt], part])
            whole = torch.tensor([[0, len(sequence), 0, 0]])
            wanted.append(sequence[prompt - 2 :])  # the prompt's last two are wanted by both
            expected.append(model(ids[sequence], torch.arange(len(sequence)), whole)[prompt - 2 :])
    found = model(ids, positions, spans, torch.cat(wanted))
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-10, rtol=0)


def test_spans_that_do_not_cover_the_tokens_are_an_error():
    model = build(BASE)
    with pytest.raises(ValueError, match="spans cover 8 of 9 tokens"):
        model(
            torch.zeros(9, dtype=torch.int64),
            torch.arange(9),
            torch.tensor([[0, 4, 4, 0]], dtype=torch.int32),
        )


# --------------------------------------------------------------------------------------------- decoding


class PlainCache:
    """One sequence, its keys and values in a list: the smallest cache there can be."""

    def __init__(self):
        self.kept = {}

    def record(self, layer, k, v):
        self.kept[layer] = (k, v)

    def attend(self, layer, q, k, v, *, scale, window, softcap):
        k, v = (torch.cat([old, new]) for old, new in zip(self.kept[layer], (k, v), strict=True))
        self.kept[layer] = (k, v)
        if window:
            k, v = k[-window:], v[-window:]
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
        scores = torch.einsum("ihe,jhe->hij", q, k) * scale
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        return torch.einsum("hij,jhe->ihe", scores.softmax(-1), v)


@pytest.mark.parametrize("name", VARIANTS)
def test_cached_decoding_equals_the_full_forward(name):
    model = build(VARIANTS[name])
    ids = torch.randint(0, 50, (14,))
    with torch.no_grad():
        full = model(ids, torch.arange(14), torch.tensor([[0, 14, 0, 0]], dtype=torch.int32))
        cache = PlainCache()
        spans = torch.tensor([[0, 6, 0, 0]], dtype=torch.int32)
        hidden = [model(ids[:6], torch.arange(6), spans, cache=cache)]
        for i in range(6, 14):
            hidden.append(model(ids[i : i + 1], torch.tensor([i]), cache=cache))
    torch.testing.assert_close(torch.cat(hidden), full, atol=1e-10, rtol=0)


# --------------------------------------------------------------------------------------------- the module


def test_recomputing_activations_changes_no_gradient():
    model = build(BASE, torch.float32)
    positions, spans = layout(PAIRS)
    ids = torch.randint(0, 50, (len(positions),))
    gradients = []
    for model.checkpoint_activations in (False, True):
        model.zero_grad()
        model(ids, positions, spans).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_a_tied_head_is_one_parameter_and_the_model_builds_on_meta():
    with torch.device("meta"):
        tied, untied = (Transformer(replace(BASE, tied=tied)) for tied in (True, False))
    assert tied.lm_head.weight is tied.embedding.weight
    assert untied.lm_head.weight is not untied.embedding.weight
    assert all(p.is_meta for p in untied.parameters())


def test_new_weights_follow_the_seed_and_start_near_uniform_predictions():
    torch.manual_seed(1)
    first = Transformer(BASE)
    torch.manual_seed(1)
    second = Transformer(BASE)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    positions, spans = layout(PAIRS)
    logits = first(torch.randint(0, 50, (len(positions),)), positions, spans) @ first.lm_head.weight.T
    assert logits.log_softmax(-1).sub(-math.log(50)).abs().max() < 0.7


def test_autocast_keeps_the_residual_stream_in_float32():
    model = build(BASE, torch.float32)
    positions, spans = layout(PAIRS)
    ids = torch.randint(0, 50, (len(positions),))
    exact = model(ids, positions, spans)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model(ids, positions, spans)
    assert hidden.dtype == torch.float32
    torch.testing.assert_close(hidden, exact, atol=0.1, rtol=0.05)
