"""Sampling: what is drawn, when it ends, and that it does not depend on who else is in the batch."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from model.cuda_graphs import StepGraphs
from model.generate import (
    WIDE,
    Request,
    StopStrings,
    draw,
    generate,
    truncate,
    uniform_stream,
)
from model.packed_linear import PackedLinears
from model.rotary import Rope
from model.transformer import ModelConfig, Transformer

CONFIG = ModelConfig(
    vocab_size=97,
    width=48,
    layers=2,
    heads=6,
    kv_heads=2,
    head_width=8,
    mlp_width=64,
    context=256,
    rope=Rope(base=10000.0, width=8),
)


def small_transformer(**changes) -> Transformer:
    """Random weights large enough that the next token depends on the text."""
    model = Transformer(dataclasses.replace(CONFIG, **changes))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                scale = 1.0 if "embedding" in name else 3 / parameter.shape[1] ** 0.5
                parameter.normal_(0, scale, generator=generator)
    return model.eval()


class TableModel(nn.Module):
    """The next token's logits depend on the last token alone: row i of `table` [V, V]. No cache."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.config = dataclasses.replace(CONFIG, context=10_000, rope=None)
        self.embedding = nn.Embedding.from_pretrained(torch.eye(len(table)))
        self.lm_head = nn.Linear(len(table), len(table), bias=False)
        self.lm_head.weight.data = table.T.contiguous()

    def forward(self, ids, positions, spans=None, wanted=None, *, cache=None):
        return self.embedding(ids)


def full_logits(model: Transformer, ids: list[int]) -> torch.Tensor:
    """The definition: a forward over the whole text, no cache. -> [len(ids), V]"""
    spans = torch.tensor([[0, len(ids), 0, 0]], dtype=torch.int32)
    with torch.no_grad():
        logits = model.lm_head(model(torch.tensor(ids), torch.arange(len(ids)), spans))
    cap = model.config.logit_softcap
    return cap * torch.tanh(logits / cap) if cap else logits


def ragged_requests(count: int, samples: int = 3, **settings) -> list[Request]:
    """Prompts of 1 to 40 ids."""
    generator = torch.Generator().manual_seed(9)
    lengths = torch.randint(1, 41, (count,), generator=generator).tolist()
    return [
        Request(
            f"task/{i}",
            torch.randint(0, 97, (length,), generator=generator).tolist(),
            tuple(range(samples)),
            **{"max_new_tokens": 30, "seed": 3} | settings,
        )
        for i, length in enumerate(lengths)
    ]


def by_sample(generations) -> dict:
    out = {}
    for g in generations:
        assert (g.key, g.sample) not in out
        out[g.key, g.sample] = g
    return out


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kv_heads": 6},
        {"windows": (0, 7)},
        {"attention_softcap": 2.0, "logit_softcap": 3.0},
        {"learned_positions": True, "rope": None},
    ],
    ids=["grouped", "multi-head", "window", "softcap", "learned positions"],
)
def test_greedy_is_the_argmax_of_full_forwards(changes):
    model = small_transformer(**changes)
    requests = ragged_requests(7, samples=1, temperature=0.0, max_new_tokens=20)
    done = by_sample(generate(model, requests, batch_size=3))
    for request in requests:
        ids = list(request.prompt_ids)
        for _ in range(20):
            ids.append(int(full_logits(model, ids)[-1].argmax()))
        assert done[request.key, 0].ids == ids[len(request.prompt_ids) :]


def test_a_table_of_few_positions_is_enough():
    """The tokens that fill a forward up have positions too."""
    model = small_transformer(learned_positions=True, rope=None, context=40)
    (done,) = generate(
        model, [Request("a", list(range(30)), max_new_tokens=10, temperature=0.0)], batch_size=1
    )
    assert done.ids[-1] == full_logits(model, [*range(30), *done.ids[:-1]])[-1].argmax()


def test_sampled_tokens_are_the_inverse_cdf_of_full_forwards():
    model = small_transformer()
    requests = ragged_requests(3, samples=2, temperature=0.7, max_new_tokens=12)
    for (key, sample), got in by_sample(generate(model, requests, batch_size=4)).items():
        request = next(r for r in requests if r.key == key)
        ids, stream = list(request.prompt_ids), uniform_stream(3, key, sample, 12)
        for uniform in stream:
            cdf = (full_logits(model, ids)[-1].double() / 0.7).softmax(-1).cumsum(-1)
            ids.append(int((cdf > uniform).nonzero()[0]))
        assert got.ids == ids[len(request.prompt_ids) :]


@pytest.mark.usefixtures("two_threads")
def test_the_same_text_for_any_batch_size_order_and_refill():
    model = small_transformer()
    requests = ragged_requests(9, samples=4)
    stop = set(range(4))
    runs = [by_sample(generate(model, requests, batch_size=b, stop_ids=stop)) for b in (1, 8, 32)]
    lengths = {len(g.ids) for g in runs[0].values()}
    assert len(runs[0]) == 36
    assert min(lengths) < 10, "samples must end at different times for rows to be refilled"
    assert max(lengths) == 30
    runs.append(by_sample(generate(model, requests[::-1], batch_size=5, stop_ids=stop)))
    runs.append(by_sample(generate(model, requests, batch_size=8, stop_ids=stop, check_every=4)))
    runs.append(by_sample(generate(model, requests, batch_size=8, stop_ids=stop, on_token=lambda *_: None)))
    assert all(run == runs[0] for run in runs[1:])


@pytest.mark.usefixtures("two_threads")
def test_logits_of_a_row_are_bit_equal_in_any_batch():
    """Not promised everywhere (see the module's header), so demanded only of the kernels it was seen with."""
    model = small_transformer()
    requests = ragged_requests(9, samples=4)
    runs = [by_sample(generate(model, requests, batch_size=b, logps=True)) for b in (1, 8, 32)]
    if torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.backends.mkldnn.is_available():
        assert runs[0] == runs[1] == runs[2]
    for key, one in runs[0].items():
        assert runs[1][key].logps == pytest.approx(one.logps, abs=1e-4)


def test_a_recorded_step_finds_its_tensors_where_they_were():
    """Stands in for a CUDA graph: a replay needs every tensor of the step at its old address."""
    model, replayed = small_transformer(), 0

    def record(step):
        engine = step.__self__

        def addresses() -> list[tuple]:
            cache = engine.cache
            tensors = [
                *vars(engine.rows).values(),
                *sum(cache.layers, []),
                *(t for name, t in cache.now._asdict().items() if name != "column"),
            ]
            tensors += [cache.prompt_length, cache.drawn, engine.row_index, engine.is_stop]
            assert not cache.plan.aligned  # or the column, a number of the host, would be part of the step
            sizes = (engine.count, cache.active, cache.groups, cache.width, cache.P, cache.S, cache.one_slot)
            return [*sizes, *((t.data_ptr(), t.shape, t.stride()) for t in tensors)]

        recorded = addresses()

        def replay() -> None:
            nonlocal replayed
            replayed += 1
            assert addresses() == recorded
            step()

        return replay

    requests = ragged_requests(9, samples=4, max_new_tokens=150)
    settings = {"batch_size": 8, "stop_ids": set(range(4))}
    plain = by_sample(generate(model, requests, **settings))
    graphed = by_sample(generate(model, requests, **settings, graphs=StepGraphs(record)))
    assert graphed == plain
    assert replayed > 100


def test_weights_can_be_packed_before(monkeypatch):
    model, requests = small_transformer(), ragged_requests(3, max_new_tokens=9)
    anew, packed = by_sample(generate(model, requests, batch_size=8)), PackedLinears(model)
    monkeypatch.setattr("model.generate.PackedLinears", lambda model: pytest.fail("packed again"))
    for _ in range(2):
        assert by_sample(generate(model, requests, batch_size=8, packed=packed)) == anew


def test_samples_of_one_prompt_and_runs_of_other_seeds_differ():
    model = small_transformer()
    request = ragged_requests(1, samples=8)[0]
    texts = {tuple(g.ids) for g in generate(model, [request], batch_size=8)}
    assert len(texts) == 8
    other = generate(model, [dataclasses.replace(request, seed=4)], batch_size=8)
    assert texts.isdisjoint(tuple(g.ids) for g in other)


def test_a_sample_does_not_change_when_others_are_asked_for_too():
    model = small_transformer()
    request = ragged_requests(1, samples=5)[0]
    all_five = by_sample(generate(model, [request], batch_size=8))
    alone = by_sample(generate(model, [dataclasses.replace(request, samples=(3,))], batch_size=8))
    assert alone[request.key, 3] == all_five[request.key, 3]


def test_a_longer_limit_only_continues_the_text():
    model = small_transformer()
    request = ragged_requests(1)[0]
    short, long = (
        by_sample(generate(model, [dataclasses.replace(request, max_new_tokens=n)], batch_size=4))
        for n in (10, 100)
    )
    for key, generation in short.items():
        assert long[key].ids[:10] == generation.ids


def test_inverse_cdf_frequencies_are_the_softmax():
    """20,000 draws: a frequency's standard deviation is at most 0.0036."""
    logits = torch.randn(11, generator=torch.Generator().manual_seed(0)) * 2
    uniform = torch.tensor([uniform_stream(1, "task", sample, 1)[0] for sample in range(20_000)])
    drawn = draw((logits - logits.max()).exp().expand(20_000, -1), uniform)
    frequency = drawn.bincount(minlength=11) / 20_000
    torch.testing.assert_close(frequency, logits.softmax(-1), atol=0.015, rtol=0)


def test_uniforms_are_a_function_of_seed_key_sample_and_step():
    stream = uniform_stream(1, "task", 2, 50)
    assert (stream == uniform_stream(1, "task", 2, 80)[:50]).all()
    assert ((stream >= 0) & (stream < 1)).all()
    for other in ((2, "task", 2), (1, "t", 2), (1, "task", 1)):
        assert (stream != uniform_stream(*other, 50)).all()


def test_inverse_cdf_never_draws_a_weight_of_zero():
    weight = torch.tensor([[0.0, 0.0, 1.0, 0.0, 2.0, 0.0]])
    edges = [0.0, 1 / 3 - 1e-12, 1 / 3 + 1e-12, 1 - 2.0**-53]
    drawn = draw(weight.expand(4, -1), torch.tensor(edges, dtype=torch.float64))
    assert drawn.tolist() == [2, 2, 4, 4]


@pytest.mark.parametrize("size", [WIDE + 1, 2 * WIDE])
def test_a_wide_vocabulary_is_searched_by_blocks_with_the_same_result(size):
    torch.manual_seed(0)
    weight = (3 * torch.randn(400, size)).exp()
    weight[:200] *= torch.rand(200, size) < 0.001  # most blocks hold nothing
    uniform = torch.rand(400, dtype=torch.float64)
    uniform[::7], uniform[1::7] = 0.0, 1 - 2.0**-53
    cdf = weight.cumsum(-1, dtype=torch.float64)
    expected = torch.searchsorted(cdf, uniform[:, None] * cdf[:, -1:], right=True)[:, 0]
    drawn = draw(weight, uniform)
    assert torch.equal(drawn, expected)
    assert (weight.gather(1, drawn[:, None]) > 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_of_a_wide_vocabulary_with_a_weight_that_is_not_finite_none_is_drawn(bad):
    weight = torch.ones(2, WIDE + 1)
    weight[0, 77] = bad
    drawn = draw(weight, torch.tensor([0.5, 0.0], dtype=torch.float64))
    assert drawn.tolist() == [WIDE + 1, 0]


def test_truncation_keeps_the_k_likeliest_then_the_smallest_set_with_mass_p():
    weight = torch.tensor([[1.0, 8.0, 4.0, 2.0, 1.0]])  # sum 16
    off_p, off_k = torch.tensor([[2.0]]), torch.tensor([[99]])

    def kept(top_p=off_p, top_k=off_k):
        return truncate(weight, top_p, top_k)[0].nonzero()[:, 0].tolist()

    assert kept() == [0, 1, 2, 3, 4]
    assert kept(top_k=torch.tensor([[2]])) == [1, 2]
    assert kept(top_k=torch.tensor([[4]])) == [0, 1, 2, 3, 4]  # the fourth and fifth are equal
    assert kept(top_p=torch.tensor([[0.5]])) == [1]
    assert kept(top_p=torch.tensor([[0.51]])) == [1, 2]
    assert kept(top_p=torch.tensor([[1e-9]])) == [1]
    assert kept(top_p=torch.tensor([[0.75]]), top_k=torch.tensor([[3]])) == [1, 2]  # 12 of the 14 left


def test_each_request_is_truncated_by_its_own_settings():
    table = torch.zeros(20, 20) + torch.arange(20.0) / 10
    settings = [{"top_k": 2}, {"top_p": 0.2}, {}, {"temperature": 0.0}]
    requests = [Request(str(i), [0], tuple(range(40)), max_new_tokens=5, **s) for i, s in enumerate(settings)]
    drawn: dict[str, set[int]] = {str(i): set() for i in range(4)}
    for g in generate(TableModel(table), requests, batch_size=64):
        drawn[g.key] |= set(g.ids)
    assert drawn["0"] == {18, 19}
    assert drawn["1"] == {18, 19}  # 0.105 + 0.095 of the mass
    assert len(drawn["2"]) == 20
    assert drawn["3"] == {19}


def test_unusable_ids_are_never_drawn_even_when_likely():
    table = torch.zeros(30, 30)
    table[:, 20:] = 50.0
    requests = [Request("t", [3], tuple(range(50)), max_new_tokens=10), Request("g", [3], temperature=0.0)]
    generations = generate(TableModel(table), requests, batch_size=16, usable_ids=range(20))
    drawn = {i for g in generations for i in g.ids}
    assert drawn <= set(range(20))
    assert len(drawn) == 20


def test_a_stop_id_ends_a_sample_and_is_kept_in_its_ids():
    table = torch.full((5, 5), -50.0)
    for i in range(5):
        table[i, (i + 1) % 5] = 0.0  # counts 0 1 2 3 4 0 ...
    done = by_sample(
        generate(
            TableModel(table),
            [Request("a", [0], max_new_tokens=9), Request("b", [4], max_new_tokens=2)],
            batch_size=2,
            stop_ids=[3],
            decode=lambda ids: "".join(map(str, ids)),
        )
    )
    assert done["a", 0][2:5] == ([1, 2, 3], "stop_id", "12")
    assert done["b", 0][2:5] == ([0, 1], "length", "01")
    assert done["a", 0].finished
    assert not done["b", 0].finished


@pytest.mark.parametrize("limit", [1, 2, 16, 17, 100])
def test_max_new_tokens_is_exact(limit):
    model = small_transformer()
    for g in generate(model, ragged_requests(3, max_new_tokens=limit), batch_size=4):
        assert len(g.ids) == limit
        assert g.reason == "length"


PIECES = ["", "d", "ef", " x", "\n", "\nde", "f ", "clas", "s", "a", "é"]


def spell(ids: list[int]) -> str:
    return "".join(PIECES[i] for i in ids)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([9, 5, 2, 3, 9], "a\nde"),  # "a", "\nde", "ef": no stop string is spelt
        ([9, 5, 6, 3, 9], "a"),  # "\nde" + "f "
        ([9, 4, 1, 2, 3, 9], "a"),  # "\n" + "d" + "ef": the string ends inside nothing, begins before
        ([4, 7, 8, 8, 9], ""),  # "\n" + "clas" + "s"
        ([7, 8, 9], "classa"),
    ],
)
def test_stop_strings_are_found_across_tokens(ids, text):
    """A chain of tokens, one after the other; the last one is a stop id so that unstopped chains end."""
    table = torch.full((len(ids) + 2, len(ids) + 2), -50.0)
    for i in range(len(ids) + 1):
        table[i, i + 1] = 0.0
    pieces = ["", *(PIECES[i] for i in ids), ""]
    (got,) = generate(
        TableModel(table),
        [Request("t", [0], temperature=0.0)],
        batch_size=1,
        stop_ids=[len(ids) + 1],
        stop_strings=["\ndef", "\nclass"],
        decode=lambda drawn: "".join(pieces[i] for i in drawn),
    )
    whole = spell(ids)
    stopped = "\ndef" in whole or "\nclass" in whole
    assert got.reason == ("stop_string" if stopped else "stop_id")
    assert got.text == (text if stopped else whole)
    if stopped:
        assert all(s not in "".join(pieces[i] for i in got.ids[:-1]) for s in ("\ndef", "\nclass"))


def test_stop_strings_equal_a_search_of_the_whole_text():
    model = small_transformer()
    pieces = [*"abcd \n", "ab", "bc", "\na", "é"] * 10
    decode = lambda ids: "".join(pieces[i] for i in ids)  # noqa: E731
    requests = ragged_requests(6, samples=4)
    free = by_sample(generate(model, requests, batch_size=8, decode=decode))
    stopped = by_sample(generate(model, requests, batch_size=8, decode=decode, stop_strings=["\nab", "dd"]))
    for key, whole in free.items():
        first = [at for s in ("\nab", "dd") if (at := whole.text.find(s)) >= 0]
        assert stopped[key].text == whole.text[: min(first, default=None)]
        assert (stopped[key].reason == "stop_string") == bool(first)
        assert whole.ids[: len(stopped[key].ids)] == stopped[key].ids
    assert {g.reason for g in stopped.values()} == {"stop_string", "length"}


def test_most_tokens_are_not_decoded_for_stop_strings():
    decoded = []

    def decode(ids: list[int]) -> str:
        decoded.append(len(ids))
        return spell(ids)

    stops = StopStrings(["\nclass"], decode)
    stops.can_end(9)
    decoded.clear()
    assert not stops.found([9] * 1000)
    assert decoded == []
    assert stops.found([9] * 1000 + [4, 7, 8])
    assert max(decoded) < 20


def test_bytes_of_a_character_may_complete_a_stop_string():
    raw = "é".encode()
    decode = lambda ids: bytes(ids).decode("utf-8", errors="replace")  # noqa: E731
    stops = StopStrings(["é"], decode)
    assert not stops.found([65, raw[0]])
    assert stops.found([65, *raw])


def test_logps_are_those_of_a_full_forward():
    model = small_transformer(logit_softcap=4.0)
    for g in generate(model, ragged_requests(4, temperature=0.5, top_k=9), batch_size=5, logps=True):
        prompt = list(next(r for r in ragged_requests(4) if r.key == g.key).prompt_ids)
        logps = full_logits(model, prompt + g.ids).log_softmax(-1)[len(prompt) - 1 : -1]
        expected = logps.gather(1, torch.tensor(g.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(g.logps), expected, atol=2e-5, rtol=1e-5)


DYNAMIC = Rope(8, kind="dynamic", factor=4.0, context=24)
LONGROPE = Rope(8, kind="longrope", context=36, short_factors=(1, 1.5, 2, 3), long_factors=(2, 4, 8, 9))


@pytest.mark.parametrize("graphs", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("rope", [DYNAMIC, LONGROPE], ids=["dynamic", "longrope"])
def test_logps_are_those_of_full_forwards_where_angles_depend_on_the_length(rope, graphs):
    """Each token's are those of the text up to it. Prompts of 1 to 40 ids: rows cross at different steps."""
    model = small_transformer(rope=rope, context=rope.context if rope is DYNAMIC else 256)
    requests = [
        *ragged_requests(6, temperature=0.5),
        Request("edge", list(range(36)), seed=3, max_new_tokens=9),
    ]
    settings = {"stop_ids": set(range(4)), "logps": True, "check_every": 4}
    replay = StepGraphs(record=lambda step: step) if graphs else None
    runs = [by_sample(generate(model, requests, batch_size=b, graphs=replay, **settings)) for b in (1, 5, 32)]
    assert max(len(g.ids) for g in runs[0].values()) == 30
    crossings = 0
    for request in requests:
        for sample in request.samples:
            got, ids = runs[0][request.key, sample], list(request.prompt_ids)
            for token, logp in zip(got.ids, got.logps, strict=True):
                assert logp == pytest.approx(
                    float(full_logits(model, ids)[-1].log_softmax(-1)[token]), abs=1e-4
                )
                ids.append(token)
            crossings += len(request.prompt_ids) <= rope.context < len(ids)
    assert crossings > 5
    for run in runs[1:]:
        for key, got in runs[0].items():
            assert run[key].ids == got.ids
            assert run[key].logps == pytest.approx(got.logps, abs=1e-4)


def test_the_hook_sees_every_rows_ids_and_changes_what_is_drawn():
    model, seen = small_transformer(), []

    def hook(logits: torch.Tensor, ids: list[list[int]]) -> torch.Tensor:
        assert len(logits) == len(ids)
        seen.extend(map(tuple, ids))
        parity = torch.tensor([len(row) % 2 for row in ids])[:, None]
        allowed = torch.arange(97) % 2 == parity
        return logits.masked_fill(~allowed, float("-inf"))

    requests = ragged_requests(5, samples=2)
    for g in generate(model, requests, batch_size=3, logits_hook=hook):
        prompt = tuple(next(r for r in requests if r.key == g.key).prompt_ids)
        assert [i % 2 for i in g.ids] == [(len(prompt) + t) % 2 for t in range(30)]
        assert all(prompt + tuple(g.ids[:t]) in seen for t in range(30))


def test_logps_are_the_models_also_where_a_hook_writes_into_its_logits():
    def inside(logits: torch.Tensor, ids: list[list[int]]) -> torch.Tensor:
        logits[:, 50:] = float("-inf")
        return logits.mul_(0.5)

    def outside(logits: torch.Tensor, ids: list[list[int]]) -> torch.Tensor:
        return inside(logits.clone(), ids)

    model = small_transformer()
    runs = [
        by_sample(generate(model, ragged_requests(3), batch_size=4, logps=True, logits_hook=hook))
        for hook in (inside, outside)
    ]
    assert runs[0] == runs[1]
    assert all(i < 50 for g in runs[0].values() for i in g.ids)


def test_on_token_streams_what_is_returned():
    streamed: dict = {}
    model, requests = small_transformer(), ragged_requests(4)
    add = lambda key, sample, i: streamed.setdefault((key, sample), []).append(i)  # noqa: E731
    done = by_sample(generate(model, requests, batch_size=5, stop_ids=range(5), on_token=add))
    assert streamed == {key: g.ids for key, g in done.items()}


def test_requests_are_taken_only_when_rows_are_free():
    taken = 0

    def requests():
        nonlocal taken
        for request in ragged_requests(30, samples=1):
            taken += 1
            yield request

    next(generate(small_transformer(), requests(), batch_size=4))
    assert taken <= 6


def note_reads(model) -> list[int]:
    """A list that gets the number of tokens of every prefill."""
    read = []
    forward = model.forward

    def spy(ids, positions, spans=None, *rest, **named):
        if spans is not None:
            read.append(len(ids))
        return forward(ids, positions, spans, *rest, **named)

    model.forward = spy
    return read


def test_equal_prompts_share_a_slot():
    model = small_transformer()
    read = note_reads(model)
    request = ragged_requests(1)[0]
    greedy = dataclasses.replace(request, samples=(-1,), temperature=0.0)
    assert len(list(generate(model, [greedy, request], batch_size=8))) == 4
    assert read == [64]  # once, up to a multiple of 64


def test_prompts_are_read_a_bounded_number_of_tokens_at_a_time_with_the_same_samples(monkeypatch):
    """A prompt's last token is read by its samples; each read is filled up to a multiple of 64."""
    model = small_transformer()
    read = note_reads(model)
    requests = [*ragged_requests(20, samples=2), Request("long", [1] * 150, max_new_tokens=30)]
    runs = []
    for limit in (10**6, 64):
        monkeypatch.setattr("model.generate.PREFILL_TOKENS", limit)
        runs.append(by_sample(generate(model, requests, batch_size=64)))
        if limit == 10**6:
            assert len(read) == 1
            read.clear()
    assert sorted(read)[-2:] == [64, 192]  # the long one alone
    assert runs[0] == runs[1]


@pytest.mark.parametrize("temperature", [1e-39, 1e-300])
def test_a_temperature_that_float32_cannot_divide_by_is_zero(temperature):
    model = small_transformer()
    greedy, cold = (
        by_sample(generate(model, ragged_requests(3, samples=2, temperature=t), batch_size=4))
        for t in (0.0, temperature)
    )
    assert cold == greedy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_ids": []}, "empty prompt"),
        ({"prompt_ids": [200]}, "prompt id 200"),
        ({"max_new_tokens": 250}, "exceed the model's 256; lower decode.max_new_tokens"),
        (
            {"prompt_ids": [1] * 256},
            "256 prompt tokens and 5 .*; the prompt alone leaves no room: shorten it",
        ),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, r"decode\.top_k is -1, expected 0 \(off\) or more"),
    ],
)
def test_a_request_that_cannot_be_served_is_named(changes, message):
    request = dataclasses.replace(Request("task/7", [1] * 10), **{"max_new_tokens": 5} | changes)
    with pytest.raises(ValueError, match=message) as error:
        list(generate(small_transformer(), [request], batch_size=2))
    assert "task/7" in str(error.value)


def test_logits_that_are_not_finite_stop_the_run():
    model = small_transformer()
    model.lm_head.weight.data[5] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        list(generate(model, ragged_requests(2), batch_size=4))
