"""Sampling: checkpoint + problems -> completions.jsonl, or one prompt -> the terminal, as it is written.

    python sample.py +exp=quickstart run.checkpoint=dpo run.split=train decode=sample
    python sample.py +exp=quickstart 'prompt="def add(a, b):"'      # protocol=chat: as a user's turn

A finished file is kept when model, tokenizer, prompts and settings are the same; an interrupted one goes on.
The file does not depend on decode.batch_rows or decode.processes: each sample has its own random stream, and
rows end up sorted.
"""

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import hydra
import torch
from omegaconf import OmegaConf
from tqdm import tqdm

from conf.objective import code_of
from conf.program import checkpoint_folder, innermost, program, samples_folder
from conf.schema import Config
from data.json_files import noted
from data.jsonl import (
    JsonlAppender,
    digest,
    free_place,
    iterate_jsonl,
    only_writer,
    write_jsonl,
    write_provenance,
)
from data.problems import load_problems
from data.protocols import Protocol, asked, choose_protocol
from data.tokenizer import StreamDecoder, Tokenizer, check_vocabulary, load_tokenizer
from data.types import Completion, Problem
from model.checkpoint import load_model, read_config, weights_digest
from model.cuda_graphs import graphs_for
from model.families import parse_config
from model.generate import (
    DecodeConfig,
    Generation,
    LogitsHook,
    Request,
    StopStrings,
    check_drawing,
    check_request,
    generate,
)
from model.spread import Work, spread
from model.training import Compute
from model.transformer import Transformer

SMALL_BYTES = 2**28  # of weights: with more, one process uses all cores of a CPU well
MOST_CORES = 8  # each process takes half a gigabyte before it begins
SUFFIXES = ("", ".partial", ".meta.json")  # of completions and of what may lie beside them
GREEDY = -1  # the number of the greedy answer among a problem's samples


def requests(
    prompts: dict[str, list[int]], decode: DecodeConfig, seed: int, done: set[tuple[str, int]]
) -> Iterator[Request]:
    """What is still to sample; longest prompts first, so that prompts in a batch are of similar length."""
    kinds = [(range(decode.n), decode.temperature)] + [((GREEDY,), 0.0)] * decode.greedy
    for task_id in sorted(prompts, key=lambda task_id: (-len(prompts[task_id]), task_id)):
        for numbers, temperature in kinds:
            missing = tuple(number for number in numbers if (task_id, number) not in done)
            if missing:
                yield Request(
                    key=task_id,
                    prompt_ids=prompts[task_id],
                    samples=missing,
                    temperature=temperature,
                    top_p=decode.top_p,
                    top_k=decode.top_k,
                    max_new_tokens=decode.max_new_tokens,
                    seed=seed,
                )


def spelling(generation: Generation, tokenizer: Tokenizer) -> list[int]:
    """The drawn ids, without those that come after a stop string cut the text."""
    ids = generation.ids
    if generation.reason == "stop_string":
        while ids and tokenizer.completion_text(ids[:-1]).startswith(generation.text):
            ids = ids[:-1]
    return ids


def draw(
    model: Transformer,
    tokenizer: Tokenizer,
    decode: DecodeConfig,
    hook: LogitsHook | None,
    requests: Iterable[Request],
) -> Iterator[Generation]:
    """Every sample that the requests ask for, as each ends."""
    return generate(
        model,
        requests,
        batch_size=decode.batch_rows,
        stop_ids=tokenizer.stop_ids,
        stop_strings=decode.stop_strings,
        decode=tokenizer.completion_text,
        usable_ids=tokenizer.usable_ids,
        logits_hook=hook,
        graphs=graphs_for(model.lm_head.weight.device, hook),
    )


def draw_apart(
    folder: Path, compute: Compute, decode: DecodeConfig, threads: int, requests: Iterable[Request]
) -> Iterator[Generation]:
    """`draw` in a process of its own, which loads the model for itself."""
    torch.set_num_threads(threads)
    model = load_model(folder, dtype=compute.weights, device=compute.device)
    with compute.cast():
        yield from draw(model, load_tokenizer(folder), decode, load_hook(decode.logits_hook), requests)


def other_devices(device: str, model: Transformer, decode: DecodeConfig, samples: int) -> list[torch.device]:
    """The device of each further process: decode.processes of them in all, else as many as are worth it.

    These are all GPUs, unless `device` names one; or up to 8 cores, while the model is small. Each gets
    enough samples to be worth its start.
    """
    here, weights = model.lm_head.weight.device, list(model.parameters())
    gpus = torch.cuda.device_count() if here.type == "cuda" and ":" not in device else 1
    small = sum(w.numel() * w.element_size() for w in weights) <= SMALL_BYTES
    cores = min(torch.get_num_threads(), MOST_CORES) if here.type == "cpu" and small else 1
    batches = samples // decode.batch_rows  # for each process 2 on a GPU, 8 on a core: a start takes 5 s
    useful = min(gpus, batches // 2) if gpus > 1 else min(cores, batches // 8)
    others = range(1, useful if decode.processes is None else decode.processes)
    return [torch.device("cuda", (here.index + i) % gpus) if gpus > 1 else here for i in others]


def write_completions(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: dict[str, list[int]],
    decode: DecodeConfig,
    seed: int,
    path: Path,
    *,
    identity: dict,
    hook: LogitsHook | None = None,
    elsewhere: Sequence[Work] = (),
) -> Path:
    """Sample `prompts` (task id -> ids) into `path`, a Completion per line, in the order of `prompts`.

    `identity` says what the completions depend on; a file of another identity is moved aside. `elsewhere`
    draw a part of the requests, each in its own process.
    """
    total = len(prompts) * (decode.n + decode.greedy)
    before = noted(path).get("counts", {})  # noted when it was interrupted
    tokens, start = before.get("tokens", 0), time.perf_counter() - before.get("seconds", 0)
    try:
        with JsonlAppender(path, key=("task_id", "sample")) as file:
            done = {(row["task_id"], row["sample"]) for row in file.done}
            if done:
                print(f"going on   {path}: {len(done)} of {total} completions are there")
            write_provenance(path, identity=identity, counts=before)
            bar = tqdm(initial=len(done), total=total, desc="sample", unit="completion", smoothing=0.1)
            here = partial(draw, model, tokenizer, decode, hook)
            generations = spread(here, elsewhere, requests(prompts, decode, seed, done))
            with closing(generations), bar:  # its line ends before an error's
                for generation in generations:
                    file.write(
                        Completion(
                            task_id=generation.key,
                            sample=generation.sample,
                            text=generation.text,
                            prompt_ids=prompts[generation.key],
                            ids=spelling(generation, tokenizer),
                            finished=generation.finished,
                            temperature=0.0 if generation.sample == GREEDY else decode.temperature,
                            seed=seed,
                        )
                    )
                    tokens += len(generation.ids)
                    bar.update()
    except KeyboardInterrupt:
        counts = {"tokens": tokens, "seconds": round(time.perf_counter() - start, 2)}
        write_provenance(path, identity=identity, counts=counts)
        print(f"stopped; {file.partial} holds what is finished, the same command goes on from there")
        sys.exit(130)
    rank = {task_id: i for i, task_id in enumerate(prompts)}
    rows = sorted(
        (row for _, row in iterate_jsonl(file.partial)), key=lambda row: (rank[row["task_id"]], row["sample"])
    )
    truncated = sum(not row["finished"] for row in rows)
    write_jsonl(path, rows)
    file.partial.unlink()
    seconds = time.perf_counter() - start
    counts = {"completions": total, "truncated": truncated, "tokens": tokens, "seconds": round(seconds, 2)}
    write_provenance(path, identity=identity, counts=counts)
    print(
        f"sampled    {path}: {total} completions ({truncated} cut by the length limit), "
        f"{tokens / seconds:,.0f} tokens/s"
    )
    return path


def check_decoding(decode: DecodeConfig) -> None:
    """ValueError where nothing can be sampled with these settings, whatever model and problems are."""
    if decode.n < 0:
        raise ValueError(f"decode.n is {decode.n}, expected 0 or more samples per problem")
    if not decode.n + decode.greedy:
        raise ValueError("nothing to sample: decode.n is 0 and decode.greedy is off")
    if decode.processes is not None and decode.processes < 1:
        raise ValueError(f"decode.processes is {decode.processes}, expected at least 1, or null")
    if decode.batch_rows < 1:
        raise ValueError(f"decode.batch_rows is {decode.batch_rows}, expected at least 1")
    check_drawing(decode)


def claim(path: Path, identity: dict) -> bool:
    """Whether `path` is finished and of this identity. Files of another one are moved aside.

    In their place come those of this identity, if they were moved aside before.
    """
    if not begun(path):
        return False
    found = noted(path).get("identity", {})
    if found == identity:
        return path.exists()
    aside = free_place(path, SUFFIXES)
    move(path, aside)
    changed = sorted(key for key in identity if identity[key] != found.get(key))
    print(f"moved      {path} to {aside.name}: it differs in {', '.join(changed)}")
    for note in sorted(path.parent.glob(f"{path.stem}.*{path.suffix}.meta.json")):
        earlier = note.with_name(note.name.removesuffix(".meta.json"))
        if begun(earlier) and noted(earlier).get("identity") == identity:
            move(earlier, path)
            print(f"moved      {earlier} back to {path.name}")
            return path.exists()
    return False


def begun(path: Path) -> bool:
    """Whether there are completions, be it of an interrupted run."""
    return path.exists() or path.with_name(path.name + ".partial").exists()


def move(path: Path, target: Path) -> None:
    """Rename completions and what lies beside them; an interrupted run left only the last two."""
    for suffix in SUFFIXES:
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(target.with_name(target.name + suffix))


def load_hook(hook: str | dict | None) -> LogitsHook | None:
    """decode.logits_hook: the name of a function, or a node with `_target_` that makes one."""
    node = {"_target_": hook, "_partial_": True} if isinstance(hook, str) else hook
    try:
        found = hydra.utils.instantiate(node)
    except Exception as error:  # whatever importing it may raise
        cause = innermost(error)
        said = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        raise ValueError(
            f"decode.logits_hook {hook} cannot be loaded ({said}); give module.function"
        ) from error
    if found is not None and not callable(found):
        raise ValueError(f"decode.logits_hook {hook} is no function; give module.function, or a _target_")
    return found


def as_asked(
    protocol: Protocol, problems: Iterable[Problem], source: str, tokenizer: Tokenizer
) -> dict[str, tuple[str, list[int]]]:
    """Task id -> the prompt that the model is to see, as text and as ids. `source` has the examples."""
    problems = asked(
        protocol,
        problems,
        render=tokenizer.render if tokenizer.chat_template else None,
        examples=load_problems(source) if protocol.prompt == "few_shot" and source != "toy" else (),
    )
    as_ids = tokenizer.prompt_ids
    if protocol.prompt == "chat":  # the template's control tokens are tokens, not text
        as_ids = partial(tokenizer.vocabulary.encode, control=True)
    return {problem.task_id: (problem.prompt, as_ids(problem.prompt)) for problem in problems}


def with_protocol(decode: DecodeConfig, protocol: Protocol) -> DecodeConfig:
    return dataclasses.replace(
        decode,
        stop_strings=[*decode.stop_strings, *protocol.stops],
        max_new_tokens=protocol.max_new_tokens or decode.max_new_tokens,
    )


def sample_completions(cfg: Config) -> Path:
    """completions.jsonl of `run.checkpoint` on `run.split`: found, completed or made."""
    folder, path = checkpoint_folder(cfg, cfg.run.checkpoint), samples_folder(cfg) / "completions.jsonl"
    compute = Compute.choose(cfg.device, cfg.model.dtype)
    decode: DecodeConfig = OmegaConf.to_object(cfg.decode)
    check_decoding(decode)
    tokenizer, hook = load_tokenizer(folder), load_hook(decode.logits_hook)

    source, number = cfg.benchmark or cfg.data.problems, getattr(cfg.data, cfg.run.split, None)
    protocol = choose_protocol(cfg.protocol, source, tokenizer.chat_template is not None)
    problems = load_problems(source, cfg.run.split, count=number, seed=cfg.data.seed)
    asked_as = as_asked(protocol, problems, source, tokenizer)
    prompts = {task_id: ids for task_id, (_, ids) in asked_as.items()}
    decode = with_protocol(decode, protocol)
    config = parse_config(read_config(folder))
    check_vocabulary(tokenizer, config.vocab_size)
    for request in requests(prompts, decode, cfg.run.seed, set()):  # before a finished file is moved aside
        check_request(request, config.vocab_size, config.longest)
    settings = {k: v for k, v in dataclasses.asdict(decode).items() if k not in ("batch_rows", "processes")}
    identity = {
        "weights": weights_digest(folder),
        "tokenizer": tokenizer.digest,
        "prompts": digest(prompts),
        "decode": settings,
        "protocol": protocol.name,
        "seed": cfg.run.seed,
        "dtype": compute.dtype,
    }
    if hook:
        identity["hook_code"] = code_of(hook)
    with only_writer(path):
        if claim(path, identity):
            print(f"found      {path}: {len(prompts)} problems x {decode.n + decode.greedy} completions")
            return path
        where = {"dtype": compute.weights, "device": compute.device}
        model = load_model(folder, **where, check_finite=cfg.model.check_weights)
        devices = other_devices(cfg.device, model, decode, len(prompts) * (decode.n + decode.greedy))
        threads = torch.get_num_threads()
        each = max(threads // (len(devices) + 1), 1)
        elsewhere = [partial(draw_apart, folder, compute._replace(device=d), decode, each) for d in devices]
        where = {"identity": identity, "hook": hook, "elsewhere": elsewhere}
        torch.set_num_threads(each)
        try:
            with compute.cast():
                return write_completions(model, tokenizer, prompts, decode, cfg.run.seed, path, **where)
        finally:
            torch.set_num_threads(threads)


def typed(prompt: str) -> str:
    """A prompt typed in one line: there \\n stands for a line break."""
    return prompt if "\n" in prompt else prompt.replace("\\n", "\n")


def print_completion(cfg: Config, prompt: str) -> None:
    """Complete `prompt` on the terminal: greedily where the decode group has greedy answers, else sampled.

    Under a protocol (plain, if none is given) it is asked and stopped as a problem is.
    """
    folder, compute = checkpoint_folder(cfg, cfg.run.checkpoint), Compute.choose(cfg.device, cfg.model.dtype)
    decode: DecodeConfig = OmegaConf.to_object(cfg.decode)
    tokenizer, hook = load_tokenizer(folder), load_hook(decode.logits_hook)
    source = cfg.benchmark or cfg.data.problems
    protocol = choose_protocol(cfg.protocol or "plain", source, tokenizer.chat_template is not None)
    ((prompt, ids),) = as_asked(protocol, [Problem("prompt", prompt, "", "")], source, tokenizer).values()
    decode = with_protocol(decode, protocol)
    where = {"dtype": compute.weights, "device": compute.device}
    model = load_model(folder, **where, check_finite=cfg.model.check_weights)
    check_vocabulary(tokenizer, model.config.vocab_size)
    (request,) = requests(
        {"prompt": ids}, dataclasses.replace(decode, n=1, greedy=False), cfg.run.seed, set()
    )
    if decode.greedy:
        request = dataclasses.replace(request, temperature=0.0)
    request = dataclasses.replace(
        request, max_new_tokens=min(decode.max_new_tokens, max(model.config.longest - len(ids), 1))
    )
    stream, text, shown = StreamDecoder(tokenizer), "", 0
    held = max((len(s) - 1 for s in decode.stop_strings), default=0)  # might begin a stop string
    stops = StopStrings(decode.stop_strings, tokenizer.completion_text)

    def show(key: str, sample: int, i: int) -> None:
        nonlocal prompt, text, shown
        print(prompt, end="", flush=True)  # now that the request has been checked
        prompt = ""
        if i not in tokenizer.stop_ids:
            text += stream.push(i)
            visible = stops.cut(text)[: max(len(text) - held, 0)]
            print(visible[shown:], end="", flush=True)
            shown = max(shown, len(visible))

    with compute.cast():
        (generation,) = generate(
            model,
            [request],
            batch_size=1,
            stop_ids=tokenizer.stop_ids,
            stop_strings=decode.stop_strings,
            decode=tokenizer.completion_text,
            usable_ids=tokenizer.usable_ids,
            logits_hook=hook,
            on_token=show,
        )
    print(generation.text[shown:], flush=True)
    if not generation.finished:
        print(f"(cut after decode.max_new_tokens={request.max_new_tokens} tokens)", file=sys.stderr)


@program
def main(cfg: Config) -> None:
    if cfg.prompt is None:
        sample_completions(cfg)
    else:
        print_completion(cfg, typed(cfg.prompt))


if __name__ == "__main__":
    main()
