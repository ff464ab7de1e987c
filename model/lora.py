"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685): W x + alpha/rank * B A x, only A and B are trained.

q, k and v are one matrix here, but adapters are published per projection. So every published matrix inside
a fused one gets its own A [rank, in] and B [out, rank], and the stored files are PEFT's: adapter_config.json
and adapter_model.safetensors. Targets are Llama's names of projections for any family (`q_proj` also means
Phi-3's `qkv_proj`), or ends of the family's own names. Embedding, norms and head get no adapters.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.half_products import linear
from model.layouts import Published, published_tensors
from model.transformer import Transformer
from model.wrong_folder import what_it_is

PROJECTIONS = {
    "attention.qkv": ("q_proj", "k_proj", "v_proj"),
    "attention.out": ("o_proj",),
    "mlp.gate_up": ("gate_proj", "up_proj"),
    "mlp.up": ("up_proj",),
    "mlp.down": ("down_proj",),
}
REFUSED = (  # settings of PEFT with which an adapter is more than B A, or belongs to another base
    "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication", "lora_bias",
    "trainable_token_indices", "target_parameters", "alora_invocation_tokens", "use_qalora", "use_bdlora",
    "arrow_config", "kasa_config", "monteclora_config", "velora_config",
)  # fmt: skip
CHANGE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")  # ways to start that change the base's weights

MERGE_FIRST = "merge such adapters into their base with PEFT (merge_and_unload) and use that folder"
ADAPTER_NAME = re.compile(r"(?:base_model\.)?(?:model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")


class Adapter(nn.Module):
    """A [rank, in] and B [out, rank] of one published matrix; B starts at zero: no change."""

    def __init__(self, rank: int, rows: int, like: Tensor, generator: torch.Generator | None) -> None:
        super().__init__()
        bound = 1 / math.sqrt(like.shape[1])  # what nn.Linear, and so PEFT, starts with
        a = torch.empty(rank, like.shape[1]).uniform_(-bound, bound, generator=generator)
        self.a = nn.Parameter(a.to(like))
        self.b = nn.Parameter(like.new_zeros(rows, rank))


class AdaptedLinear(nn.Module):
    """A linear layer with adapters on the published matrices it is made of. Its own names stay."""

    def __init__(
        self, layer: nn.Linear, place: Published, adapters: dict[str, Adapter], scale: float
    ) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.adapters, self.scale, self.enabled = nn.ModuleDict(adapters), scale, True
        self.place = place

    def forward(self, x: Tensor) -> Tensor:
        base = linear(x, self.weight, self.bias)
        if not self.enabled:
            return base
        change = [
            linear(linear(x, adapter.a), adapter.b) if adapter else x.new_zeros(*x.shape[:-1], rows)
            for adapter, rows in self.parts()
        ]
        change = torch.cat(change, dim=-1) if len(change) > 1 else change[0]
        if self.place.order is not None:
            change = change[..., self.place.order.to(change.device)]
        return base + change * self.scale

    def parts(self) -> list[tuple[Adapter | None, int]]:
        """Every published matrix in here: its adapter, if it has one, and its rows."""
        adapters = dict(self.adapters.items())
        return [(adapters.get(leaf(part.name)), part.rows) for part in self.place.parts]

    @torch.no_grad()
    def merged_weight(self, weight: Tensor, adapters: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
        """weight + scale * B A, summed in float32; `adapters`: leaf name -> (A, B)."""
        change = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
        for part, rows in zip(
            self.place.parts, change.split([p.rows for p in self.place.parts]), strict=True
        ):
            if leaf(part.name) in adapters:
                a, b = adapters[leaf(part.name)]
                torch.mm(b.float(), a.float(), out=rows)
        if self.place.order is not None:
            change = change[self.place.order.to(change.device)]
        return (weight.float() + change * self.scale).to(weight.dtype)


def matrix(name: str) -> str:
    """model.layers.0.self_attn.q_proj.weight -> model.layers.0.self_attn.q_proj"""
    return name.removesuffix(".weight")


def leaf(name: str) -> str:
    """model.layers.0.self_attn.q_proj.weight -> q_proj"""
    return matrix(name).split(".")[-1]


def adapted(model: Transformer) -> Iterator[tuple[str, AdaptedLinear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, AdaptedLinear))


def add_adapters(
    model: Transformer,
    rank: int,
    alpha: float,
    targets: Iterable[str],
    *,
    generator: torch.Generator | None = None,
) -> list[str]:
    """Put adapters on every target and freeze all else -> names of the adapted matrices, as published.

    The model computes what it did before until B is trained. ValueError for a target no layer has.
    """
    if rank < 1:
        raise ValueError(f"the rank of adapters must be at least 1, found {rank}")
    if any(adapted(model)):
        raise ValueError("the model has adapters already; merge them before adding others")
    targets, places = set(targets), published_tensors(model)
    unknown = targets - {name for names in PROJECTIONS.values() for name in names}
    chosen: dict[str, dict[str, int]] = {}  # our module -> published leaf name -> rows
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or name == "lm_head":
            continue
        ours, parts = PROJECTIONS[".".join(name.split(".")[2:])], places[f"{name}.weight"].parts
        for i, part in enumerate(parts):
            own = {target for target in targets if f".{matrix(part.name)}".endswith(f".{target}")}
            if own or targets & set(ours[i : i + 1] if len(parts) == len(ours) else ours):
                chosen.setdefault(name, {})[leaf(part.name)] = part.rows
            unknown -= own
    if unknown or not chosen:
        blocks = [place.parts for name, place in places.items() if "norm" not in name and ".bias" not in name]
        known = sorted({leaf(part.name) for parts in blocks for part in parts if ".0." in part.name})
        raise ValueError(
            f"adapter targets {sorted(unknown or targets)} are no layers of a {model.config.family} model; "
            f"it has {', '.join(known)}"
        )
    model.requires_grad_(False)
    for name, parts in chosen.items():
        linear = model.get_submodule(name)
        adapters = {part: Adapter(rank, rows, linear.weight, generator) for part, rows in parts.items()}
        layer = AdaptedLinear(linear, places[f"{name}.weight"], adapters, alpha / rank)
        model.set_submodule(name, layer)
    return [published for published, _ in named_adapters(model)]


def named_adapters(model: Transformer) -> Iterator[tuple[str, Adapter]]:
    """(published name of the matrix without `.weight`, its adapter)."""
    for _, layer in adapted(model):
        for part in layer.place.parts:
            if leaf(part.name) in layer.adapters:
                yield matrix(part.name), layer.adapters[leaf(part.name)]


@contextmanager
def disabled(model: Transformer) -> Iterator[None]:
    """Inside, the model is its base, bit for bit."""
    layers = [layer for _, layer in adapted(model)]
    before = [layer.enabled for layer in layers]
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer, enabled in zip(layers, before, strict=True):
            layer.enabled = enabled


def merged_state(model: Transformer, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Parameter name -> tensor of the model with its adapters added in, under the names it has without any.

    `state` (name -> full tensor) stands in for the parameters where those are sharded.
    """
    state = state or {name: parameter.detach() for name, parameter in model.named_parameters()}
    merged = {name: tensor for name, tensor in state.items() if ".adapters." not in name}
    for name, layer in adapted(model):
        prefix = f"{name}.adapters."
        adapters = {part: (state[f"{prefix}{part}.a"], state[f"{prefix}{part}.b"]) for part in layer.adapters}
        merged[f"{name}.weight"] = layer.merged_weight(state[f"{name}.weight"], adapters)
    return merged


def merge(model: Transformer) -> None:
    """Add the adapters into the weights and remove them; every parameter trains again."""
    state = merged_state(model)
    for name, layer in list(adapted(model)):
        rows, columns = layer.weight.shape
        linear = nn.Linear(columns, rows, bias=layer.bias is not None, device="meta")
        linear.weight, linear.bias = nn.Parameter(state[f"{name}.weight"]), layer.bias
        model.set_submodule(name, linear)
    model.requires_grad_(True)


def save_adapters(
    model: Transformer, folder: Path | str, *, base: str = "", state: dict[str, Tensor] | None = None
) -> None:
    """Write the two files that PEFT reads; `base` names the model that the adapters belong to.

    `state` (name -> full tensor) stands in for the parameters where those are sharded.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    adapters = dict(named_adapters(model))
    if not adapters:
        raise ValueError("the model has no adapters to save")
    _, layer = next(adapted(model))
    rank = next(iter(adapters.values())).a.shape[0]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, adapter in adapters.items():
        for letter, parameter in (("A", adapter.a), ("B", adapter.b)):
            full = state[names[id(parameter)]] if state else parameter
            tensors[f"base_model.model.{name}.lora_{letter}.weight"] = full.detach().cpu().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": layer.scale * rank,
        "target_modules": target_names(model),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": layer.place.transposed,
        "inference_mode": True,
        "modules_to_save": None,
        "use_rslora": False,
        "use_dora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def target_names(model: Transformer) -> list[str]:
    """The shortest published names that mean the adapted matrices and no others (GPT-2 has two `c_proj`)."""
    places = published_tensors(model)
    everything = [matrix(part.name) for place in places.values() for part in place.parts]
    wanted = {name for name, _ in named_adapters(model)}
    names = set()
    for name in wanted:
        parts = name.split(".")
        for size in range(1, len(parts) + 1):
            suffix = ".".join(parts[-size:])
            if {n for n in everything if f".{n}".endswith(f".{suffix}")} <= wanted:
                names.add(suffix)
                break
    return sorted(names)


def load_adapters(model: Transformer, folder: Path | str) -> list[str]:
    """Add the adapters that `save_adapters` or PEFT wrote -> published names of their matrices."""
    folder = Path(folder)
    config, stored = read_adapter_config(folder), read_adapters(folder)
    rank, alpha = config["r"], config["lora_alpha"]
    if config.get("use_rslora"):  # alpha / sqrt(rank), Kalajdzievski 2023, arXiv:2312.03732
        alpha *= math.sqrt(rank)
    add_adapters(model, rank, alpha, {name for name, _ in stored})
    adapters = dict(named_adapters(model))
    for (short, letter), tensor in stored.items():
        name = next(name for name in adapters if f".{name}".endswith(f".{short}"))
        parameter = getattr(adapters[name], letter)
        if tensor.shape != parameter.shape:
            expected = f"{list(tensor.shape)}, expected {list(parameter.shape)}"
            raise ValueError(f"{folder}: lora_{letter.upper()} of {name} has shape {expected}")
        parameter.data.copy_(tensor)
    return list(adapters)


def read_adapter_config(folder: Path) -> dict:
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing: a folder with adapters has it beside adapter_model.safetensors")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is not JSON: {what_it_is(path)}") from None
    odd = [key for key in REFUSED if config.get(key)]
    odd += ["bias"] * (config.get("bias", "none") != "none")
    odd += ["init_lora_weights"] * str(config.get("init_lora_weights")).startswith(CHANGE_BASE)
    odd += ["r"] * (not isinstance(config.get("r"), int)) + ["lora_alpha"] * ("lora_alpha" not in config)
    if config.get("peft_type") != "LORA" or odd:
        raise ValueError(
            f"{folder}: only plain LORA is supported, found {config.get('peft_type')} {odd}; {MERGE_FIRST}"
        )
    return config


def read_adapters(folder: Path) -> dict[tuple[str, str], Tensor]:
    """(name of the matrix, "a" or "b") -> tensor of an adapter folder."""
    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} is missing; save the adapters as safetensors")
    try:
        tensors = load_file(path)
    except Exception:  # the package has its own kinds
        raise ValueError(f"{path} is not a safetensors file: {what_it_is(path)}") from None
    stored = {}
    for name, tensor in tensors.items():
        found = ADAPTER_NAME.fullmatch(name)
        if not found:
            raise ValueError(f"{path}: {name} is not the lora_A or lora_B of a layer's matrix; {MERGE_FIRST}")
        stored[found[1], found[2].lower()] = tensor
    lost = [name for name, letter in stored if (name, "ab".replace(letter, "")) not in stored]
    if lost:
        raise ValueError(f"{path}: {lost[0]} has only one of lora_A and lora_B")
    return stored
