"""Sampling: token ids in, token ids out, many samples of many prompts at a time.

A prompt is read once for all its samples (model/kv_cache.py). Rows that finish are refilled at once, so the
batch stays full. Every sample owns a stream of uniform numbers keyed by (seed, key, sample), and the number
at step t picks token t by inverse CDF: neither batch size nor order nor refilling changes what is drawn.

What the stream cannot promise is that the logits are the same: a matrix product may round differently in a
batch of another size, and a uniform that falls between the two CDFs (about one token in a million in float32)
then picks the neighbour. Shapes are chosen so that on CPU in float32 the logits of a row have been bit-equal
for every batch tried; in bfloat16, or with another matrix library, expect the rare difference.

LongRoPE and dynamic NTK turn positions by angles that depend on the length (model/rotary.py). Where a row's
next token changes them, its text is read anew: once for LongRoPE, at every token past the context for dynamic
NTK. So each token's logits are those of a forward over the text up to it.

Letters: R rows · V vocabulary.
"""

import hashlib
import heapq
import json
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cuda_graphs import StepGraphs
from model.kv_cache import KVCache, padded
from model.packed_linear import PackedLinears
from model.traced_step import TracedSteps

ROW_BLOCK = 8  # rows are computed in multiples of it: odd counts take other kernels, and cost as much
PROMPT_BLOCK = 64  # the same for the tokens of prompts
FIRST_COLUMNS = 64  # drawn tokens per row that `Rows` has room for before it grows
PREFILL_TOKENS = 4096  # of prompts in one forward, unless a single one is longer
COLDEST = torch.finfo(torch.float32).tiny  # a lower temperature counts as 0
NO_LIMIT = 2**40
WIDE = 8192  # ids; with more, `draw` looks for the block first, then for the id in it
BLOCK = 128

LogitsHook = Callable[[Tensor, list[list[int]]], Tensor]


@dataclass
class DecodeConfig:
    """How to sample a set of problems (conf/decode/)."""

    n: int = 1  # samples per problem
    temperature: float = 1.0
    top_p: float = 1.0  # 1: off
    top_k: int = 0  # 0: off
    greedy: bool = False  # also one answer at temperature 0, recorded as sample -1
    max_new_tokens: int = 256
    stop_strings: list[str] = field(default_factory=list)  # besides the tokenizer's stop ids
    batch_rows: int = 128  # samples written at a time, by each process
    processes: int | None = None  # null: one per GPU; on a CPU one per core for small models and many samples
    logits_hook: Any = None  # null, or {_target_: module.function_or_class, ...} giving a LogitsHook


@dataclass(frozen=True)
class Request:
    """Samples wanted of one prompt. `key` and each sample's number name its random stream."""

    key: str
    prompt_ids: Sequence[int]
    samples: Sequence[int] = (0,)
    temperature: float = 1.0  # 0: the most likely token
    top_p: float = 1.0  # the most likely tokens that together reach this mass, after temperature and top_k
    top_k: int = 0  # the most likely tokens; equals of the last one stay too
    max_new_tokens: int = 256
    seed: int = 0


def check_drawing(settings: DecodeConfig | Request, whose: str = "") -> None:
    """ValueError where one of the numbers allows no token; `whose` begins its message."""
    for name, holds, expected in (
        ("max_new_tokens", settings.max_new_tokens > 0, "at least 1"),
        ("temperature", 0 <= settings.temperature < math.inf, "0 (the most likely token) or more"),
        ("top_p", 0 < settings.top_p <= 1, "above 0 and at most 1 (off)"),
        ("top_k", settings.top_k >= 0, "0 (off) or more"),
    ):
        if not holds:
            raise ValueError(f"{whose}decode.{name} is {getattr(settings, name)}, expected {expected}")


def check_request(request: Request, vocabulary: int, longest: int) -> None:
    """ValueError where a model of so many ids, for texts so long, cannot serve a request."""
    length = len(request.prompt_ids)
    if not length:
        raise ValueError(f"{request.key}: an empty prompt; at least one token is needed to go on from")
    if not all(0 <= i < vocabulary for i in request.prompt_ids):
        raise ValueError(
            f"{request.key}: prompt id {max(request.prompt_ids)} is not one of the model's "
            f"{vocabulary}; is it the model's own tokenizer?"
        )
    if length + request.max_new_tokens > longest:
        way = "lower decode.max_new_tokens, or take a protocol whose answers are shorter"
        if length >= longest:
            way = "the prompt alone leaves no room: shorten it, or leave that problem out"
        raise ValueError(
            f"{request.key}: {length} prompt tokens and {request.max_new_tokens} new ones exceed the "
            f"model's {longest}; {way}"
        )
    check_drawing(request, f"{request.key}: ")


class Prompt(NamedTuple):
    """What a slot of the cache holds."""

    ids: tuple[int, ...]
    regime: tuple[int, ...]


class Generation(NamedTuple):
    """One sample. `ids` are all drawn tokens, a stop id included; `text` ends before a stop id or string."""

    key: str
    sample: int
    ids: list[int]
    reason: str  # stop_id | stop_string | length
    text: str | None  # None when generate was given no `decode`
    logps: list[float] | None  # of `ids`, at temperature 1 without truncation; None unless asked for

    @property
    def finished(self) -> bool:
        return self.reason != "length"


def uniform_stream(seed: int, key: str, sample: int, count: int) -> np.ndarray:
    """The first `count` numbers in [0, 1) of a sample's stream: Philox keyed by a hash, 53 bits each."""
    name = hashlib.sha256(json.dumps([seed, key, sample]).encode()).digest()
    bits = np.random.Philox(key=int.from_bytes(name[:16], "little")).random_raw(count)
    return (bits >> np.uint64(11)) * 2.0**-53


def truncate(weight: Tensor, top_p: Tensor, top_k: Tensor) -> Tensor:
    """weight [R, V] with zeros outside the top_k [R, 1] and, of what that leaves, the top_p [R, 1] share."""
    ordered = weight.sort(dim=-1, descending=True).values
    kept = torch.arange(weight.shape[-1], device=weight.device) < top_k
    mass = (ordered * kept).cumsum(-1, dtype=top_p.dtype)
    kept &= mass - ordered < top_p * mass[:, -1:]
    floor = ordered.masked_fill(~kept, float("inf")).amin(-1, keepdim=True)
    return weight.masked_fill(weight < floor, 0)


def draw(weight: Tensor, uniform: Tensor) -> Tensor:
    """Inverse CDF, weight [R, V], uniform [R] -> [R]: the first id whose running sum exceeds uniform * total.

    That product is below the total for any uniform below 1, so an id with weight is found; where the weights
    are not finite none is, and the answer is V. A wide vocabulary is searched by blocks: running sums over
    152k ids cost a CPU five times as much, and a GPU a fourteenth of a recorded step of a 1.5B model.
    """
    if weight.shape[-1] <= WIDE:
        cdf = weight.cumsum(-1, dtype=uniform.dtype)
        return torch.searchsorted(cdf, uniform[:, None] * cdf[:, -1:], right=True)[:, 0]
    missing = -weight.shape[-1] % BLOCK
    blocks = (F.pad(weight, (0, missing)) if missing else weight).unflatten(-1, (-1, BLOCK))
    sums = blocks.sum(-1, dtype=uniform.dtype)
    cdf = sums.cumsum(-1)
    goal = uniform[:, None] * cdf[:, -1:]
    block = torch.searchsorted(cdf, goal, right=True)
    lost = block == sums.shape[1]
    block = block.masked_fill(lost, 0)
    inside = blocks.gather(1, block[..., None].expand(-1, -1, BLOCK))[:, 0].cumsum(-1, dtype=uniform.dtype)
    goal = goal - (cdf.gather(1, block) - sums.gather(1, block))
    below = torch.nextafter(inside[:, -1:], torch.zeros_like(goal))  # rounding must not leave the block
    place = torch.searchsorted(inside, torch.minimum(goal.clamp(min=0), below), right=True)
    return (block * BLOCK + place).masked_fill(lost, weight.shape[-1])[:, 0]


class StopStrings:
    """Strings that end a sample, found in decoded text, wherever the token boundaries are."""

    def __init__(self, strings: Sequence[str], decode: Callable[[list[int]], str]) -> None:
        self.strings, self.decode = list(strings), decode
        self.window = max((len(s.encode()) for s in strings), default=0) + 8
        self.enders: dict[int, bool] = {}

    def can_end(self, i: int) -> bool:
        """Whether a stop string may be complete with this id: only then is it worth decoding."""
        if i not in self.enders:
            once, twice = self.decode([i]), self.decode([i, i])
            piece = twice[len(once) :]  # what the id adds when it is not the first
            self.enders[i] = "\ufffd" in twice or any(
                s in piece or any(piece.startswith(s[k:]) for k in range(1, len(s))) for s in self.strings
            )
        return self.enders[i]

    def found(self, ids: list[int]) -> bool:
        """Whether the last id completed a stop string."""
        if not self.can_end(ids[-1]):
            return False
        tail = self.decode(ids[-self.window :])
        return any(s in tail for s in self.strings)

    def cut(self, text: str) -> str:
        """`text` up to the first stop string."""
        return text[: min((at for s in self.strings if (at := text.find(s)) >= 0), default=len(text))]


def prefill_groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Consecutive texts, by position, of at most PREFILL_TOKENS together, or a single longer one."""
    group, tokens = [], 0
    for i, length in enumerate(lengths):
        if group and tokens + length > PREFILL_TOKENS:
            yield group
            group, tokens = [], 0
        group.append(i)
        tokens += length
    if group:
        yield group


@dataclass
class Sample:
    """The host's side of a row."""

    request: Request
    number: int
    slot: int
    regime: tuple[int, ...]  # of the angles that its keys are turned by; see Engine.regime
    born: int = 0  # value of the step counter when it got its row
    ids: list[int] = field(default_factory=list)  # kept up to date only where the host reads every token
    stopped: bool = False  # by a stop string


class Rows:
    """The device's side: tensors with one entry per row. `columns` is the most tokens a row may draw."""

    def __init__(self, count: int, columns: int, device: torch.device) -> None:
        real = torch.float32 if device.type == "mps" else torch.float64
        self.token = torch.zeros(count, dtype=torch.int64, device=device)  # the id read next
        self.step = torch.zeros_like(self.token)  # ids drawn
        self.prompt_length = torch.zeros_like(self.token)  # the last prompt id is read as a row's first token
        self.limit = torch.zeros_like(self.token)
        self.top_k = torch.zeros_like(self.token)
        self.top_p = torch.ones(count, dtype=real, device=device)
        self.temperature = torch.ones(count, device=device)
        self.done = torch.ones(count, dtype=torch.bool, device=device)
        self.uniform = torch.zeros(count, columns + 1, dtype=real, device=device)  # + 1: where a row that is
        self.ids = torch.zeros(count, columns + 1, dtype=torch.int64, device=device)  # done goes on writing
        self.logps = torch.zeros(count, columns + 1, device=device)

    def widen(self, columns: int) -> None:
        for name in ("uniform", "ids", "logps"):
            old = getattr(self, name)
            if old.shape[1] <= columns:
                new = old.new_zeros(len(old), columns + 1)
                new[:, : old.shape[1]] = old
                setattr(self, name, new)

    def move(self, source: int, target: int) -> None:
        for tensor in vars(self).values():
            tensor[target] = tensor[source]

    def start(self, rows: list[int], samples: list[Sample], prompt_lengths: list[int]) -> None:
        """Begin `samples` in `rows`."""
        self.widen(max(s.request.max_new_tokens for s in samples))
        requests = [s.request for s in samples]
        columns = self.uniform.shape[1]
        below_one = 1 - torch.finfo(self.uniform.dtype).eps / 2  # float32 would round some up
        names = [(s.request.seed, s.request.key, s.number) for s in samples]
        values = {
            "token": [r.prompt_ids[-1] for r in requests],
            "step": [0] * len(rows),
            "prompt_length": prompt_lengths,
            "limit": [r.max_new_tokens for r in requests],
            "top_k": [r.top_k or NO_LIMIT for r in requests],
            "top_p": [r.top_p if r.top_p < 1 else 2.0 for r in requests],  # 2: keep all
            "temperature": [r.temperature for r in requests],
            "done": [False] * len(rows),
            "uniform": np.minimum([uniform_stream(*name, columns) for name in names], below_one),
        }
        where = torch.tensor(rows, device=self.token.device)
        for name, value in values.items():
            tensor = getattr(self, name)
            tensor[where] = torch.as_tensor(value, dtype=tensor.dtype).to(tensor.device)


class Engine:
    """The running batch. Rows 0..len(self.samples) are in use, without holes between steps."""

    def __init__(
        self,
        model: nn.Module,
        source: Iterator[Request],
        batch_size: int,
        stop_ids: Collection[int],
        stops: StopStrings | None,
        usable_ids: Iterable[int] | None,
        hook: LogitsHook | None,
        on_token: Callable[[str, int, int], None] | None,
        logps: bool,
        graphs: StepGraphs | None,
        packed: PackedLinears | None,
    ) -> None:
        weight = model.lm_head.weight
        self.model, self.source, self.batch_size = model, source, batch_size
        self.device, self.vocabulary = weight.device, weight.shape[0]
        self.stops, self.hook, self.on_token, self.logps = stops, hook, on_token, logps
        self.stop_ids = frozenset(stop_ids)
        self.reads_tokens = bool(stops or hook or on_token)
        capacity = padded(batch_size, ROW_BLOCK)
        self.packed = PackedLinears(model) if packed is None else packed
        self.traced = TracedSteps(model, self.packed)
        self.rows = Rows(capacity, FIRST_COLUMNS, self.device)
        self.graphs = graphs
        self.cache = KVCache(capacity, self.device, coarse=graphs is not None)
        self.samples: list[Sample] = []
        self.ready: deque[Sample] = deque()  # their prompt is read, they wait for a row
        self.ropes = [rope for rope in model.config.ropes() if rope.depends_on_length]
        self.slots: dict[Prompt, int] = {}  # of the prompts in the cache
        self.users: dict[int, list] = {}  # slot -> [prompt, samples that still need it]
        self.free_slots: list[int] = []
        self.steps, self.moved = 0, None
        self.all_advance = False  # no row that is done waits to be noticed
        self.row_index = torch.arange(capacity, device=self.device)
        self.is_stop = torch.zeros(self.vocabulary + 1, dtype=torch.bool, device=self.device)
        self.is_stop[[*sorted(self.stop_ids), self.vocabulary]] = True  # the last one: see `draw`
        self.mask = None
        if usable_ids is not None and len(usable := sorted(set(usable_ids))) < self.vocabulary:
            self.mask = torch.full((self.vocabulary,), float("-inf"), device=self.device)
            self.mask[usable] = 0

    # Prompts

    def read_prompts(self, wanted: int) -> None:
        """Take requests until `wanted` samples and some more are ready, and read their prompts."""
        new, tokens = [], 0
        while len(self.ready) < wanted or (
            len(self.ready) < wanted + self.batch_size // 4 and tokens < PREFILL_TOKENS
        ):
            request = next(self.source, None)
            if request is None:
                break
            check_request(request, self.vocabulary, self.model.config.longest)
            if request.temperature < COLDEST:
                request = replace(request, temperature=0.0)
            prompt = Prompt(tuple(request.prompt_ids), self.regime(len(request.prompt_ids) - 1))
            if prompt not in self.slots:
                new.append(prompt)
                tokens += len(prompt.ids)
            slot = self.take(prompt, len(request.samples))
            self.ready.extend(Sample(request, number, slot, prompt.regime) for number in request.samples)
        new = [prompt for prompt in new if len(prompt.ids) > 1]
        if not new:
            return
        texts = [prompt.ids[:-1] for prompt in new]  # the last id is what its samples read as their first
        slots, lengths = [self.slots[prompt] for prompt in new], [len(ids) for ids in texts]
        self.cache.reserve(slots=max(slots) + 1, prompt=max(lengths))  # at once, not group after group
        for group in prefill_groups(lengths):
            self.cache.start_prompts([slots[i] for i in group], [lengths[i] for i in group])
            self.prefill([texts[i] for i in group])

    def take(self, prompt: Prompt, samples: int) -> int:
        """The slot of a prompt that so many more samples need."""
        if prompt not in self.slots:
            slot = heapq.heappop(self.free_slots) if self.free_slots else len(self.slots)
            self.slots[prompt], self.users[slot] = slot, [prompt, 0]
        slot = self.slots[prompt]
        self.users[slot][1] += samples
        return slot

    def prefill(self, texts: Sequence[Sequence[int]]) -> None:
        """One forward over texts, for the cache to record."""
        lengths = [len(ids) for ids in texts]
        filler = -sum(lengths) % PROMPT_BLOCK  # one more sequence, of zeros, which the cache does not record
        ids = torch.tensor([i for ids in texts for i in ids] + [0] * filler, device=self.device)
        counts = torch.tensor([*lengths, filler] if filler else lengths, dtype=torch.int32)
        positions = torch.cat([*map(torch.arange, lengths), torch.zeros(filler, dtype=torch.int64)])
        spans = torch.zeros(len(counts), 4, dtype=torch.int32)
        spans[:, 0], spans[:, 1] = counts.cumsum(0) - counts, counts
        with self.packed.in_use():
            wanted = ids.new_zeros(1)  # keys and values are; the last block need not go on to anything else
            self.model(ids, positions.to(self.device), spans, wanted, cache=self.cache)

    def release(self, slot: int) -> None:
        """One sample less needs the prompt."""
        prompt, users = self.users[slot]
        self.users[slot][1] = users - 1
        if users == 1:
            del self.slots[prompt], self.users[slot]
            heapq.heappush(self.free_slots, slot)

    # Angles that depend on the length

    def regime(self, length: int) -> tuple[int, ...]:
        """What a text's length decides about the angles of its positions; () in most models."""
        return tuple(rope.regime(length) for rope in self.ropes)

    def read_again(self) -> None:
        """Read the tokens of rows anew whose length asks for other angles than their keys were turned by.

        Turning the keys would not do: behind the first layer they depend on what was attended to before.
        """
        regimes = [self.regime(len(s.request.prompt_ids) + self.steps - s.born) for s in self.samples]
        rows = [i for i, s in enumerate(self.samples) if s.regime != regimes[i]]
        if not rows:
            return
        done = self.rows.done.tolist()
        rows = [row for row in rows if not done[row]]
        for row in rows:
            sample = self.samples[row]
            self.release(sample.slot)
            sample.regime = regimes[row]
            sample.slot = self.take(Prompt(tuple(sample.request.prompt_ids), sample.regime), 1)
        samples = [self.samples[row] for row in rows]
        lengths = [len(s.request.prompt_ids) + self.steps - s.born for s in samples]
        for group in prefill_groups(lengths):
            self.read_rows([rows[i] for i in group])
        self.assign()

    def read_rows(self, rows: list[int]) -> None:
        samples = [self.samples[row] for row in rows]
        prompts = [s.request.prompt_ids for s in samples]
        pairs = zip(rows, samples, strict=True)
        drawn = [self.rows.ids[row, : self.steps - s.born].tolist() for row, s in pairs]
        # The last id, which the row reads next, belongs to the length; its key is written once more then.
        self.cache.start_rows(
            rows, [s.slot for s in samples], [len(p) - 1 for p in prompts], [len(ids) + 1 for ids in drawn]
        )
        self.prefill([[*prompt, *ids] for prompt, ids in zip(prompts, drawn, strict=True)])

    # Rows

    def fill(self, holes: list[int]) -> None:
        """Put waiting samples into the holes and behind the last row; close the holes that remain."""
        wanted = self.batch_size - len(self.samples) + len(holes)
        if wanted and len(self.ready) < wanted:
            self.read_prompts(wanted)
        places = sorted(holes) + list(range(len(self.samples), self.batch_size))
        places = places[: min(len(self.ready), wanted)]
        for row in places:
            sample = self.ready.popleft()
            sample.born = self.steps
            self.samples[row : row + 1] = [sample]
        if places:
            samples = [self.samples[row] for row in places]
            lengths = [len(s.request.prompt_ids) - 1 for s in samples]
            self.rows.start(places, samples, lengths)
        for hole in sorted(set(holes) - set(places), reverse=True):
            last = len(self.samples) - 1
            if hole < last:
                self.rows.move(last, hole)
                self.cache.move_row(last, hole, self.steps - self.samples[last].born)
                self.samples[hole] = self.samples[last]
            self.samples.pop()
            self.rows.step[last] = self.rows.prompt_length[last] = 0  # harmless when computed along
            self.rows.done[last] = True
        if self.samples and (holes or places):
            self.count = len(self.row_index) if self.graphs else padded(len(self.samples), ROW_BLOCK)
            self.assign()
            requests = [s.request for s in self.samples]
            self.longest_prompt = max(len(r.prompt_ids) - 1 for r in requests)
            self.oldest = min(s.born for s in self.samples)
            self.youngest = max(s.born for s in self.samples)
            self.any_greedy = any(r.temperature == 0 for r in requests)
            self.any_truncated = any(r.top_p < 1 or r.top_k for r in requests if r.temperature)

    def assign(self) -> None:
        idle = [self.samples[0].slot] * (self.count - len(self.samples))
        self.cache.assign([s.slot for s in self.samples] + idle)

    def advance(self) -> None:
        """Draw one token in every row."""
        if self.ropes:
            self.read_again()
        cache, rows = self.cache, self.rows
        longest_own = self.steps - self.oldest + 1
        aligned = self.all_advance and self.oldest == self.youngest
        cache.start_step(rows.prompt_length, rows.step, self.longest_prompt, longest_own, aligned)
        if self.graphs:
            if self.moved != (moved := (cache.moved, rows.uniform.data_ptr())):
                self.moved = moved
                self.graphs.forget()
            shape = (cache.P, cache.S, cache.groups, cache.width, cache.one_slot)
            self.graphs.run((*shape, self.any_greedy, self.any_truncated), self.draw_tokens)
        else:
            self.draw_tokens()
        self.steps += 1

    def draw_tokens(self) -> None:
        """The device's part of a step."""
        rows, count = self.rows, self.count
        step, done = rows.step[:count], rows.done[:count]
        positions = rows.prompt_length[:count] + step
        logits = self.traced.logits(rows.token[:count], positions, self.cache).float()
        cap = self.model.config.logit_softcap
        if cap:
            logits = cap * torch.tanh(logits / cap)
        plain = logits.clone() if self.hook and self.logps else logits  # a hook may write into its logits
        if self.hook:
            ids = [[*s.request.prompt_ids, *s.ids] for s in self.samples]
            logits = torch.cat([self.hook(logits[: len(ids)], ids), logits[len(ids) :]])
        if self.mask is not None:
            logits = logits + self.mask
        token = self.choose(logits, count)
        place = (self.row_index[:count], step)
        rows.ids[place] = token
        torch.clamp(token, max=self.vocabulary - 1, out=rows.token[:count])
        if self.logps:
            rows.logps[place] = plain.gather(1, rows.token[:count, None])[:, 0] - plain.logsumexp(-1)
        step += ~done
        done |= self.is_stop[token] | (step >= rows.limit[:count])

    def choose(self, logits: Tensor, count: int) -> Tensor:
        """logits [R, V] -> ids [R]. Weights are exp((logit - max) / temperature): no need to normalise."""
        rows = self.rows
        top = logits.amax(-1, keepdim=True)
        temperature = rows.temperature[:count, None]
        if self.any_greedy:
            greedy = temperature == 0
            temperature = temperature.masked_fill(greedy, 1.0)
        weight = (logits - top).div_(temperature).exp_()
        if self.any_truncated:
            weight = truncate(weight, rows.top_p[:count, None], rows.top_k[:count, None])
        token = draw(weight, rows.uniform[self.row_index[:count], rows.step[:count]])
        if self.any_greedy:
            token = torch.where(greedy[:, 0] & (token < self.vocabulary), logits.argmax(-1), token)
        return token

    def read_tokens(self) -> None:
        """Bring the new tokens to the host, for those who look at each."""
        for sample, token in zip(self.samples, self.rows.token[: len(self.samples)].tolist(), strict=True):
            sample.ids.append(token)
            if self.on_token:
                self.on_token(sample.request.key, sample.number, token)
            if self.stops and token not in self.stop_ids:
                sample.stopped = self.stops.found(sample.ids)

    def harvest(self, decode: Callable[[list[int]], str] | None) -> tuple[list[Generation], list[int]]:
        """What is finished, and the rows it leaves empty. This waits for the device."""
        finished = self.rows.done[: len(self.samples)].nonzero()[:, 0].tolist()
        if self.stops:
            finished = sorted({*finished, *(i for i, s in enumerate(self.samples) if s.stopped)})
        if not finished:
            return [], []
        where = torch.tensor(finished, device=self.device)
        columns = [t[where].tolist() for t in (self.rows.ids, self.rows.step, self.rows.logps)]
        if any(self.vocabulary in ids[:length] for ids, length in zip(*columns[:2], strict=True)):
            raise ValueError(
                "the model's logits are not finite: the checkpoint is damaged, its training diverged, or "
                "a logits hook left no token possible"
            )
        out = []
        for row, ids, length, logps in zip(finished, *columns, strict=True):
            sample = self.samples[row]
            ids = ids[:length]
            by_id = ids[-1] in self.stop_ids
            text = decode(ids[:-1] if by_id else ids) if decode else None
            out.append(
                Generation(
                    key=sample.request.key,
                    sample=sample.number,
                    ids=ids,
                    reason="stop_id" if by_id else "stop_string" if sample.stopped else "length",
                    text=self.stops.cut(text) if self.stops else text,
                    logps=logps[:length] if self.logps else None,
                )
            )
            self.release(sample.slot)
        return out, finished


@torch.inference_mode()
def generate(
    model: nn.Module,
    requests: Iterable[Request],
    *,
    batch_size: int,
    stop_ids: Collection[int] = (),
    stop_strings: Sequence[str] = (),
    decode: Callable[[list[int]], str] | None = None,
    usable_ids: Iterable[int] | None = None,
    logits_hook: LogitsHook | None = None,
    on_token: Callable[[str, int, int], None] | None = None,
    logps: bool = False,
    check_every: int | None = None,
    graphs: StepGraphs | None = None,
    packed: PackedLinears | None = None,
) -> Iterator[Generation]:
    """Yield every sample of every request, each as soon as it ends; the order is not that of the requests.

    model: Transformer, or anything with forward(ids, positions, spans, wanted, cache=), lm_head and a
        ModelConfig as config. requests are taken as rows become free; put long prompts beside long ones.
    batch_size: samples written at a time. usable_ids: the ids that may be drawn (None: all).
    logits_hook(logits [R, V] float32, ids of each row, prompt included) -> logits. on_token(key, sample, id).
    check_every: steps between looks at which rows are done; rows write in vain until then. Default 8 on CUDA,
        where a look makes the device wait, else 1. Always 1 with stop strings, a hook or on_token.
    graphs: StepGraphs() replays steps as CUDA graphs (model/cuda_graphs.py).
    packed: PackedLinears(model), of a caller that generates again before weights change; default: made anew.
    """
    if graphs and logits_hook:
        raise ValueError("a logits hook runs on the host, so its steps cannot be recorded: leave graphs out")
    if stop_strings and decode is None:
        raise ValueError("stop_strings are matched on text: give generate a `decode`")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")
    stops = StopStrings(stop_strings, decode) if stop_strings else None
    engine = Engine(
        model,
        iter(requests),
        batch_size,
        stop_ids,
        stops,
        usable_ids,
        logits_hook,
        on_token,
        logps,
        graphs,
        packed,
    )
    if engine.reads_tokens:
        check_every = 1
    check_every = check_every or (8 if engine.device.type == "cuda" else 1)
    engine.all_advance = check_every == 1
    engine.fill([])
    while engine.samples:
        for _ in range(check_every):
            engine.advance()
        if engine.reads_tokens:
            engine.read_tokens()
        generations, holes = engine.harvest(decode)
        yield from generations
        if holes:
            engine.fill(holes)
