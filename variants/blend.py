"""A weighted average of two checkpoints: the soft reference refresh of TR-DPO (Gorbatovski et al. 2024,
arXiv:2404.09656), as a run between two runs.

    python train_dpo.py +exp=tr_dpo
    python -m variants.blend +exp=tr_dpo                   # writes variant.output
    python train_dpo.py +exp=tr_dpo run.name=tr_dpo/2 run.init=tr_dpo/dpo run.reference=tr_dpo/reference

    weights = share * policy + (1 - share) * reference

TR-DPO does this every 512 steps inside the loop, with a share of 0.6 (TRL's `sync_ref_model`). Here a run
ends where the reference changes, so the cache stays valid for a whole run; the optimiser and the schedule
begin anew. With a share of 1 no file is needed: a run's default reference is the policy it starts from.
The same average joins runs of other seeds or settings (Llama 3 averages its DPO models).
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from conf.program import checkpoint_folder, program
from conf.schema import Config
from data.jsonl import write_provenance
from model.checkpoint import load_model, save_model, weights_digest
from model.transformer import Transformer
from variants.settings import settings


@dataclass
class BlendSettings:
    policy: str  # checkpoint
    reference: str  # checkpoint of the same architecture
    share: float  # of the policy, 0 to 1
    output: str  # folder to write


@torch.no_grad()
def blend(policy: Transformer, reference: Transformer, share: float) -> None:
    """Move the reference towards the policy, in place."""
    mine, theirs = dict(policy.named_parameters()), dict(reference.named_parameters())
    for name, parameter in theirs.items():
        if name not in mine or mine[name].shape != parameter.shape:
            found = list(mine[name].shape) if name in mine else "nothing"
            raise ValueError(f"{name} is {list(parameter.shape)} in the reference, {found} in the policy")
        parameter.lerp_(mine[name].to(parameter), share)


@program
def main(cfg: Config) -> None:
    """Load both, average in float32, save in the policy's layout."""
    wanted = settings(cfg, BlendSettings)
    if not 0 <= wanted.share <= 1:
        raise ValueError(f"variant.share is {wanted.share}, expected a share in [0, 1]")
    policy, reference = (checkpoint_folder(cfg, name) for name in (wanted.policy, wanted.reference))
    output = Path(wanted.output)
    if output.resolve() in (policy.resolve(), reference.resolve()):
        raise ValueError(f"variant.output is {output}, which is one of the two models; name another folder")
    models = [load_model(folder, dtype=torch.float32) for folder in (policy, reference)]
    blend(*models, wanted.share)
    save_model(models[1], output, tokenizer_from=policy)
    digests = {str(folder): weights_digest(folder) for folder in (policy, reference)}
    write_provenance(output, checkpoints=digests, share=wanted.share)
    print(f"blended    {wanted.share:g} * {policy} + {1 - wanted.share:g} * {reference}")
    print(f"written    {output}")


if __name__ == "__main__":
    main()
