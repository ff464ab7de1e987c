"""The steps of bench/step.py as the DPO code published with the paper (2023) computes them.

    python bench/peer_2023.py --model DIR --pairs FILE --steps 4 --batch 4 --dtype fp32

Written here from what it does, for comparison of the arithmetic alone: chosen and rejected sequences, each
with its prompt, are padded to the longest and go through the model in one batch; logits over the whole
vocabulary, at every position, are turned to float32 and log-softmaxed, the labels gathered, the completion
summed; a second model, the frozen reference, does the same in every step. The optimiser is bench/step.py's,
not RMSprop. The model is the one of `transformers`.
"""

import os
import sys
from argparse import Namespace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from transformers import AutoModelForCausalLM

from bench.measure import (
    BETA,
    BETAS,
    CLIP,
    DECAY,
    EPS,
    LEARNING_RATE,
    Clock,
    Run,
    arguments,
    memory_mb,
    places,
    read_ids,
)
from data.types import PreferencePair


def padded(pairs: list[PreferencePair], device: str) -> dict[str, Tensor]:
    """ids, attention and completion mask, [2B, L] each: B chosen rows, then B rejected rows."""
    completions = [p.chosen_ids for p in pairs] + [p.rejected_ids for p in pairs]
    rows = [p.prompt_ids + c for p, c in zip(pairs * 2, completions, strict=True)]
    inside = [[0] * len(p.prompt_ids) + [1] * len(c) for p, c in zip(pairs * 2, completions, strict=True)]

    def pad(lists: list[list[int]]) -> Tensor:
        return pad_sequence([torch.tensor(row) for row in lists], batch_first=True).to(device)

    return {"ids": pad(rows), "attention": pad([[1] * len(row) for row in rows]), "completion": pad(inside)}


def completion_logps(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Sum over each completion of log softmax of the logits at its label, [2B]."""
    logits = model(batch["ids"], attention_mask=batch["attention"]).logits.to(torch.float32)  # [2B, L, V]
    labels = batch["ids"][:, 1:]
    per_token = logits[:, :-1].log_softmax(-1).gather(2, labels.unsqueeze(2)).squeeze(2)
    return (per_token * batch["completion"][:, 1:]).sum(1)


def measure(args: Namespace) -> Run:
    run = Run("2023 loop", base_mb=memory_mb())
    pairs = read_ids(args.pairs, args.steps * args.batch)
    weights = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(args.model, dtype=weights).to(args.device) for _ in range(2)
    )
    optimizer = torch.optim.AdamW(
        policy.parameters(), LEARNING_RATE, BETAS, EPS, weight_decay=DECAY, fused=True
    )
    clock = Clock(args.device)
    for step in range(args.steps):
        clock.lap()
        batch = padded([pairs[i] for i in places(step, args.batch, len(pairs))], args.device)
        with torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=args.dtype == "amp"):
            logps = completion_logps(policy, batch)
            with torch.no_grad():
                reference_logps = completion_logps(reference, batch)
        chosen, rejected = (logps - reference_logps).chunk(2)
        loss = -F.logsigmoid(BETA * (chosen - rejected)).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        run.note(clock.lap(), loss.item())
    return run


def main() -> None:
    measure(arguments(__doc__).parse_args()).report()


if __name__ == "__main__":
    main()
