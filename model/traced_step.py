"""Decode steps on a CPU without Python between the operations.

A step of a small model is some hundred operations a layer, most of which take less time than Python needs to
start them. torch.jit.trace records them, and its interpreter runs them again. One block is recorded, with its
weights and its part of the cache as inputs, so that all layers share the record; then the step around it.
Sizes are read off the inputs, but for the number of rows: a record, 30 ms, serves until that changes. The
operations are the same ones, so the results have the same bits.

Only models of this project's own modules, all of whose products are packed (packed_linear.py), are recorded.
Any other runs as it is.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from model.attention import Pairs
from model.kv_cache import KVCache, LayerTensors, StepPlan, StepTensors
from model.packed_linear import PackedLinears, traceable
from model.rotary import Tables
from model.transformer import MLP, Attention, Block, Cache, Embedding, Linear, Norm, Transformer

MODULES = {Attention, Block, Embedding, Linear, MLP, nn.Identity, nn.ModuleList, Norm, Transformer}
FIRST = 2  # steps of a plan that run as they are: a record costs what it saves in six
Record = Callable[..., Tensor]
RECORDS: dict[Hashable, Record] = {}  # of this process; they hold no weights


class TracedSteps:
    """The steps of a model whose linear layers are packed. Like those, they keep today's weights."""

    def __init__(self, model: nn.Module, packed: PackedLinears) -> None:
        self.model, self.packed = model, packed
        self.usable = all(_recordable(module, packed) for module in model.modules())
        if self.usable:
            self.parts = [_Part(block.modules(), packed) for block in model.blocks]
            inside = {module for block in model.blocks for module in block.modules()}
            self.around = _Part((m for m in model.modules() if m not in inside), packed)
            self.weights = [tensor for part in (*self.parts, self.around) for tensor in part.tensors]
            self.windows = sorted({block.attention.kind["window"] for block in model.blocks})
            operators = tuple(forward.func for forward in packed.forwards.values())
            self.kind = (model.config, model.lm_head.weight.dtype, operators)
        self.calls: Counter[StepPlan] = Counter()

    def logits(self, ids: Tensor, positions: Tensor, cache: KVCache) -> Tensor:
        """ids, positions [R] -> [R, V], as model.lm_head(model(ids, positions, cache=cache)) gives them."""
        plan, record = cache.plan, None
        if self.usable and cache.layers:
            record = RECORDS.get((*self.kind, plan))
            self.calls[plan] += record is None
        if record is None and self.calls[plan] <= FIRST:
            with self.packed.in_use():
                return self.model.lm_head(self.model(ids, positions, cache=cache))
        masks = (cache.mask(window, cache.layers[0][0]) for window in self.windows)
        layers = (tensor for layer in range(len(self.parts)) for tensor in cache.tensors(layer))
        inputs = (ids, positions, *cache.now, *masks, *layers, *self.weights)
        with torch.jit.optimized_execution(False):  # it would run each record several times to learn
            if record is None:
                step = partial(self._step, plan, {})
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that sizes become numbers, as meant; that jit is old
                    step(*inputs)  # records the blocks
                    record = RECORDS[(*self.kind, plan)] = _record(step, inputs)
            return record(*inputs)

    def _step(self, plan: StepPlan, blocks: dict[tuple, Record], *inputs: Tensor) -> Tensor:
        """`logits` as a function of its inputs alone. `blocks`: records, by what tells blocks apart."""
        given = iter(inputs)
        ids, positions = _take(given, 2)
        now = _take(given, len(StepTensors._fields))
        masks = dict(zip(self.windows, _take(given, len(self.windows)), strict=True))
        layers = [_take(given, len(LayerTensors._fields)) for _ in self.parts]
        weights = [_take(given, len(part.tensors)) for part in self.parts]

        def forward(
            i: int, x: Tensor, tables: Tables | None, pairs: Pairs | None, cache: Cache | None
        ) -> Tensor:
            kind, rope = self.model.blocks[i].attention.kind, self.model.config.layer_rope(i)
            key = (rope and rope.width, *kind.values())
            inputs = (x, *(tables or ()), masks[kind["window"]], *now, *layers[i], *weights[i])
            if key not in blocks:
                blocks[key] = _record(partial(self._block, plan, i, tables is not None), inputs)
            return blocks[key](*inputs)

        try:
            for i, block in enumerate(self.model.blocks):
                block.__dict__["forward"] = partial(forward, i)
            with self.around.holding(given):
                return self.model.lm_head(self.model(ids, positions))
        finally:
            for block in self.model.blocks:
                del block.__dict__["forward"]

    def _block(self, plan: StepPlan, i: int, rotated: bool, x: Tensor, *inputs: Tensor) -> Tensor:
        """Block.forward as a function of its inputs alone."""
        given = iter(inputs)
        tables = tuple(_take(given, 2)) if rotated else None
        (mask,) = _take(given, 1)
        now, layer = (kind(*_take(given, len(kind._fields))) for kind in (StepTensors, LayerTensors))

        def attend(
            _, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int, softcap: float
        ) -> Tensor:
            return plan.attend(q, k, v, mask, now, layer, scale=scale, softcap=softcap)

        with self.parts[i].holding(given):
            return Block.forward(self.model.blocks[i], x, tables, None, SimpleNamespace(attend=attend))


class _Part:
    """Some of the model's modules. Their weights, packed where they are, are inputs of a record."""

    def __init__(self, modules: Iterable[nn.Module], packed: PackedLinears) -> None:
        modules = list(modules)
        self.linears = {module: packed.forwards[module] for module in modules if module in packed.forwards}
        rest = [module for module in modules if module not in self.linears]
        self.places = [
            (module, name) for module in rest for name, _ in module.named_parameters(recurse=False)
        ]
        self.tensors = [module.get_parameter(name) for module, name in self.places]
        for forward in self.linears.values():
            self.tensors += [value for value in forward.keywords.values() if value is not None]

    @contextmanager
    def holding(self, tensors: Iterator[Tensor]) -> Iterator[None]:
        """Within, the modules compute with the next of these `tensors` instead of their own."""
        try:
            for module, name in self.places:
                module._parameters[name] = next(tensors)
            for module, forward in self.linears.items():
                values = {k: None if v is None else next(tensors) for k, v in forward.keywords.items()}
                module.__dict__["forward"] = partial(traceable(forward.func), **values)
            yield
        finally:
            for (module, name), own in zip(self.places, self.tensors, strict=False):
                module._parameters[name] = own
            for module in self.linears:
                module.__dict__.pop("forward", None)


def _recordable(module: nn.Module, packed: PackedLinears) -> bool:
    """Whether the module does the same operations whatever the values are."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    plain = type(module) in MODULES and "forward" not in vars(module) and not hooked
    return plain and (module in packed.forwards or not isinstance(module, Linear))


def _take(given: Iterator[Tensor], count: int) -> list[Tensor]:
    return list(islice(given, count))


def _record(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Record:
    record = torch.jit.trace(lambda *given: function(*given), inputs, check_trace=False)
    vars(record).clear()  # of the function, and with it the model
    return record
