"""Tokens per second of model/generate.py, beside transformers.generate where that is installed.

    python bench/generate.py --model DIR                          16 samples of 64 tokens, one prompt of 256
    python bench/generate.py --model DIR --mixed                  many ragged prompts, 16 samples each
    python bench/generate.py --model DIR --n 64 --dtype bf16 --device cuda

All samples are drawn at temperature 0.8 and never stop (--mixed: each ends at a random length, as samples of
programs do; transformers then runs batches of --batch rows until the longest row of each ends). Methods take
turns, --rounds times after a warm-up; the table and the last line, `BENCH {json}`, hold medians. Weights are
loaded and packed (model/packed_linear.py) once, before; --pack-again packs them in every round.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from model.checkpoint import load_model
from model.generate import Request, generate
from model.memory import keep_freed_memory
from model.packed_linear import PackedLinears
from model.transformer import Transformer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TEMPERATURE = 0.8


def workload(args: argparse.Namespace, vocabulary: int, context: int) -> list[Request]:
    """One request per prompt; ids and lengths are random, from a fixed seed. Mixed: a limit per sample."""
    generator = torch.Generator().manual_seed(1)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=generator))

    def prompt(length: int) -> list[int]:
        return torch.randint(3, vocabulary, (length,), generator=generator).tolist()

    if not args.mixed:
        samples = tuple(range(args.n))
        return [Request("prompt", prompt(args.prompt), samples, TEMPERATURE, max_new_tokens=args.new)]
    requests = []
    for task in range(args.prompts):
        ids = prompt(integer(args.prompt // 4, args.prompt))
        for sample in range(args.n):
            limit = integer(args.new // 4, args.new)
            requests.append(Request(f"task/{task}", ids, (sample,), TEMPERATURE, max_new_tokens=limit))
    if args.prompt + args.new > context:
        raise ValueError(
            f"--prompt {args.prompt} and --new {args.new} exceed the model's context of {context}"
        )
    return requests


def ours(model: Transformer, requests: list[Request], batch: int, packed: PackedLinears | None) -> int:
    """Tokens written."""
    return sum(len(g.ids) for g in generate(model, requests, batch_size=batch, packed=packed))


def theirs(model: object, requests: list[Request], batch: int) -> int:
    """Tokens written by transformers, padding not counted: static batches, left padding."""
    device, tokens = model.device, 0
    rows = [(r.prompt_ids, r.max_new_tokens) for r in requests for _ in r.samples]
    shared = len(requests) == 1
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        longest, limit = (max(column) for column in zip(*((len(ids), n) for ids, n in part), strict=True))
        prompts = part[:1] if shared else part
        ids = torch.tensor([[0] * (longest - len(ids)) + list(ids) for ids, _ in prompts], device=device)
        mask = torch.tensor(
            [[0] * (longest - len(ids)) + [1] * len(ids) for ids, _ in prompts], device=device
        )
        out = model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            top_p=1.0,
            num_return_sequences=len(part) // len(prompts),
            min_new_tokens=limit,
            max_new_tokens=limit,
            pad_token_id=0,
        )
        assert out.shape == (len(part), longest + limit)
        tokens += sum(n for _, n in part)
    return tokens


def load_peer(folder: Path, dtype: torch.dtype, device: str) -> object | None:
    """transformers' model of the same folder; None when it is not installed."""
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        return None
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()


def timed(run: Callable[[], int], device: str) -> tuple[float, float, int]:
    """(seconds, CPU seconds, tokens)."""
    clock, cpu = time.perf_counter(), time.process_time()
    tokens = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - cpu, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--n", type=int, default=16, help="samples per prompt")
    parser.add_argument("--prompt", type=int, default=256, help="ids of the (longest) prompt")
    parser.add_argument("--new", type=int, default=64, help="ids of the (longest) answer")
    parser.add_argument("--mixed", action="store_true", help="many prompts of ragged length")
    parser.add_argument("--prompts", type=int, default=40, help="how many, with --mixed")
    parser.add_argument("--batch", type=int, default=128, help="rows at a time, with --mixed")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pack-again", action="store_true", help="time packing the weights, too")
    args = parser.parse_args()

    keep_freed_memory()  # as the programs do; every method here profits
    dtype = DTYPES[args.dtype]
    model = load_model(args.model, dtype=dtype, device=args.device)
    requests = workload(args, model.config.vocab_size, model.config.context)
    batch = args.batch if args.mixed else args.n
    packed = None if args.pack_again else PackedLinears(model)
    methods = {"project": lambda: ours(model, requests, batch, packed)}
    peer = load_peer(args.model, dtype, args.device)
    if peer is not None:
        methods["transformers"] = lambda: theirs(peer, requests, batch)
    seconds, cpu = ({name: [] for name in methods} for _ in range(2))
    with torch.inference_mode():
        for turn in range(args.rounds + 1):
            for name, method in methods.items():
                s, c, tokens = timed(method, args.device)
                if turn:
                    seconds[name].append(s)
                    cpu[name].append(c)

    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{tokens} tokens, {args.dtype}, {args.device}, {torch.get_num_threads()} threads")
    print(f"{'':14}{'seconds':>9}{'CPU s':>9}{'tokens/s':>10}{'ratio':>7}")
    for name, median in medians.items():
        ratio = median / medians["project"]
        print(
            f"{name:14}{median:9.3f}{statistics.median(cpu[name]):9.3f}{tokens / median:10,.0f}{ratio:7.2f}"
        )
    result = {"gen_s": medians["project"], "tokens": tokens, "cpu_s": statistics.median(cpu["project"])}
    if peer is not None:
        result["transformers_s"] = medians["transformers"]
    print("BENCH " + json.dumps({k: round(v, 5) for k, v in result.items()}))


if __name__ == "__main__":
    main()
