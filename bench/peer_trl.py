"""The steps of bench/step.py taken by TRL's DPOTrainer: the same options, the same keys in the BENCH line.

    python bench/peer_trl.py --model DIR --pairs FILE --steps 4 --batch 4 --dtype fp32 [--precompute]

Settings beyond those of bench/step.py are TRL's defaults, except that activation checkpointing is off (this
code's steps do not recompute either) and pairs come in the file's order. The ids reach the trainer's
collator as they are. `bf16` keeps the weights in bfloat16, without float32 masters: TRL has none.
"""

import logging
import os
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import torch

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import datasets
from tokenizers import Tokenizer, models
from transformers import (
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

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
from bench.shapes import CONFIGS, random_pairs, random_peer


class Trainer(DPOTrainer):
    """DPOTrainer that takes token ids, and notes the loss of each step and the time of the reference pass."""

    def _prepare_dataset(self, dataset: datasets.Dataset, *_: object) -> datasets.Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: datasets.Dataset, *arguments: object) -> datasets.Dataset:
        start = time.perf_counter()
        scored = super()._precompute_ref_logps(dataset, *arguments)
        self.reference_seconds, self.reference_pairs = time.perf_counter() - start, len(dataset)
        return scored

    def compute_loss(self, *arguments: object, **options: object) -> torch.Tensor:
        loss = super().compute_loss(*arguments, **options)
        self.last_loss = loss.detach()
        return loss


class StepClock(TrainerCallback):
    """Laps from the end of a step to the end of the next: batch, forward, backward, update, log."""

    def __init__(self, run: Run, device: str) -> None:
        self.run, self.device = run, device
        self.trainer: Trainer | None = None

    def on_train_begin(self, args: TrainingArguments, state: object, control: object, **_: object) -> None:
        self.clock = Clock(self.device)

    def on_step_end(self, args: TrainingArguments, state: object, control: object, **_: object) -> None:
        self.run.note(self.clock.lap(), float(self.trainer.last_loss))


def config(args: Namespace, folder: str) -> DPOConfig:
    return DPOConfig(
        output_dir=folder,
        beta=BETA,
        learning_rate=LEARNING_RATE,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        adam_epsilon=EPS,
        weight_decay=DECAY,
        max_grad_norm=CLIP,
        lr_scheduler_type="constant",
        max_steps=args.steps,
        per_device_train_batch_size=args.micro or args.batch,
        gradient_accumulation_steps=args.batch // (args.micro or args.batch),
        gradient_checkpointing=args.checkpoint_activations,
        max_length=None,
        precompute_ref_log_probs=args.precompute,
        bf16=args.dtype == "amp",
        use_cpu=args.device == "cpu",
        train_sampling_strategy="sequential",
        dataloader_pin_memory=args.device != "cpu",
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        model_init_kwargs=None
        if args.config
        else {"dtype": "bfloat16" if args.dtype == "bf16" else "float32"},
    )


def measure(args: Namespace) -> Run:
    run = Run("trl precomputed" if args.precompute else "trl", base_mb=memory_mb())
    if args.config:
        pairs = random_pairs(CONFIGS[args.config], args.batch, *args.lengths)
    else:
        pairs = read_ids(args.pairs, args.steps * args.batch)
    # one row per place, so that the end of the file does not cut a batch
    order = [i for step in range(args.steps) for i in places(step, args.batch, len(pairs))]
    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = datasets.Dataset.from_dict(
        {name: [getattr(pairs[i], name) for i in order] for name in columns},
    )
    end = "</s>"  # DPOTrainer wants a tokenizer; nothing is tokenised
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({end: 0}, unk_token=end)), eos_token=end, pad_token=end
    )
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    steps = StepClock(run, args.device)
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        trainer = Trainer(
            model=random_peer(CONFIGS[args.config], dtype, args.device) if args.config else str(args.model),
            args=config(args, folder),
            train_dataset=rows,
            processing_class=tokenizer,
            data_collator=DataCollatorForPreference(pad_token_id=0),
            callbacks=[steps],
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        steps.trainer = trainer
        trainer.train()
    run.ref_s = getattr(trainer, "reference_seconds", 0.0)
    run.ref_pairs = getattr(trainer, "reference_pairs", 0)
    return run


def main() -> None:
    parser = arguments(__doc__, files=False)
    parser.add_argument("--precompute", action="store_true", help="reference log-probs before training")
    parser.add_argument("--checkpoint-activations", action="store_true")
    parser.add_argument("--config", choices=CONFIGS, help="random weights of this shape, not --model")
    parser.add_argument("--lengths", type=int, nargs=2, help="with --config: tokens of prompts, completions")
    parser.add_argument("--micro", type=int, help="pairs at a time, of --batch")
    logging.disable(logging.WARNING)
    args = parser.parse_args()
    if not (args.model and args.pairs) and not (args.config and args.lengths):
        parser.error("--model and --pairs, or --config and --lengths")
    measure(args).report()


if __name__ == "__main__":
    main()
