"""The same numbers as TRL's own code, for every loss TRL has. Skipped where trl is not installed.

TRL computes its DPO-family losses inside the trainer's step, so the step itself is called, with a stand-in
for trainer and model that hands it chosen log-probs. Documented exceptions, where TRL means something else:

- sigmoid ignores label_smoothing (cDPO is not in TRL's DPO trainer); its CPO trainer has it.
- bco_pair has no running shift: compare with shift=False.
- sft and CPO's likelihood average over the tokens of the batch: sft_token.
- alpha divergence: TRL's coefficient is 1 - alpha, and clamps the exponent at 80, ours at 30.
- WPO is not clamped at 1: compare with clamp=False.
- ORPO returns +log sigmoid and subtracts it later; its own likelihood covers the prompt too.
- TPO's likelihood is of a third, gold answer, which a pair does not have: here that is the chosen one.
- TPO's and CPO's hinge and IPO have no reference: ours against a reference of zeros.
"""

import contextlib
import sys
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from losses.alpha_po import alpha_po_loss
from losses.aot import aot_loss
from losses.apo import apo_down_loss, apo_zero_loss
from losses.bco import bco_loss
from losses.cpo import cpo_loss
from losses.discopop import discopop_loss
from losses.dpo import dpo_loss
from losses.exo import exo_loss
from losses.f_divergence import f_divergence_loss
from losses.hinge import hinge_loss
from losses.ipo import ipo_loss
from losses.kto import kto_loss
from losses.ld_dpo import ld_weights
from losses.mixture import mixture_loss
from losses.nca import nca_loss
from losses.orpo import orpo_loss
from losses.robust import robust_loss
from losses.sft import sft_token_loss
from losses.sigmoid_norm import sigmoid_norm_loss
from losses.simpo import simpo_loss
from losses.sppo import sppo_loss
from losses.types import PairLogps
from losses.wpo import log_weights, wpo_loss

pytest.importorskip("trl", reason="compares with TRL's code")
from trl import DPOTrainer, KTOTrainer

PROMPT = 2
LENGTHS = torch.tensor([5, 3, 8, 6, 4, 7, 2, 8])  # four chosen, then four rejected completions
B, ROWS, WIDTH = 4, len(LENGTHS), PROMPT + int(LENGTHS.max())
SHIFTED = torch.arange(1, WIDTH)[None]  # the position each log-prob belongs to
MASK = (SHIFTED >= PROMPT) & (PROMPT + LENGTHS[:, None] > SHIFTED)  # [2B, WIDTH - 1]


def token_logps(seed):
    """Log-probs [2B, WIDTH - 1], zero outside the completions, as TRL's models return them."""
    generator = torch.Generator().manual_seed(seed)
    return -2 * torch.rand(ROWS, WIDTH - 1, generator=generator) * MASK


POLICY, REFERENCE = token_logps(0), token_logps(1)
LOG_COLLISION = -torch.rand(ROWS, WIDTH - 1, generator=torch.Generator().manual_seed(2))


def sums(logps, weights=None):
    weighted = logps if weights is None else logps * weights
    return PairLogps(*weighted.sum(1).chunk(2), *LENGTHS.float().chunk(2))


def stand_in_model(log_probs):
    """A model whose fused head returns these log-probs."""
    zeros = torch.zeros_like(log_probs)
    outputs = SimpleNamespace(
        log_probs=log_probs,
        log_sum_sq_probs=LOG_COLLISION,
        entropy=zeros,
        mean_logits=zeros,
        is_top1=zeros > 0,
    )
    return lambda **_: outputs


ACCELERATOR = SimpleNamespace(
    device=torch.device("cpu"),
    gather=lambda x: x,
    gather_for_metrics=lambda x: x,
    unwrap_model=lambda m: m,
)
INPUTS = {
    "input_ids": torch.zeros(ROWS, WIDTH, dtype=torch.long),
    "attention_mask": torch.ones(ROWS, WIDTH, dtype=torch.long),
    "completion_mask": torch.cat([torch.zeros(ROWS, 1, dtype=torch.long), MASK.long()], dim=1),
}


def no_context(*_):
    return contextlib.nullcontext()


def trainer_step(trainer_class, settings, inputs, model=None):
    """The loss of one step of a trainer that has these attributes."""
    module = sys.modules[trainer_class.__module__]
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=ACCELERATOR,
        ref_model=stand_in_model(REFERENCE),
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        beta=0.3,
        args=SimpleNamespace(
            gradient_checkpointing=False, gradient_checkpointing_kwargs=None, discopop_tau=0.05
        ),
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    vars(trainer).update(settings)
    with pytest.MonkeyPatch.context() as patch:  # the stand-in has no checkpointing or adapters to look into
        patch.setattr(module, "disable_gradient_checkpointing", no_context, raising=False)
        patch.setattr(module, "is_peft_model", lambda _: False, raising=False)
        return trainer_class._compute_loss(trainer, model or stand_in_model(POLICY), inputs, False)


def trl_loss(loss_type, **settings):
    """The mean loss of one DPOTrainer step on the completions above."""
    types = [loss_type] if isinstance(loss_type, str) else loss_type
    defaults = {
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5,
        "ld_alpha": None,
        "use_weighting": False,
        "label_smoothing": 0.0,
        "loss_types": types,
        "loss_weights": [1.0] * len(types),
    }
    return trainer_step(DPOTrainer, defaults | settings, INPUTS)


def mean(result):
    return result.losses.mean()


@pytest.mark.parametrize(
    ("loss_type", "settings", "loss", "ours"),
    [
        ("sigmoid", {}, dpo_loss, {}),
        ("hinge", {}, hinge_loss, {}),
        ("ipo", {}, ipo_loss, {}),
        ("exo_pair", {"label_smoothing": 0.01}, exo_loss, {"label_smoothing": 0.01}),
        ("nca_pair", {}, nca_loss, {}),
        ("robust", {"label_smoothing": 0.1}, robust_loss, {"label_smoothing": 0.1}),
        ("bco_pair", {}, bco_loss, {"shift": False}),
        ("sppo_hard", {}, sppo_loss, {}),
        ("aot", {"label_smoothing": 0.1}, aot_loss, {"label_smoothing": 0.1}),
        ("aot_unpaired", {}, aot_loss, {"paired": False}),
        ("apo_zero", {}, apo_zero_loss, {}),
        ("apo_down", {}, apo_down_loss, {}),
        ("discopop", {}, discopop_loss, {"tau": 0.05}),
        ("sigmoid_norm", {}, sigmoid_norm_loss, {}),
        ("sigmoid", {"f_divergence_type": "forward_kl"}, f_divergence_loss, {"divergence": "forward_kl"}),
        ("sigmoid", {"f_divergence_type": "js_divergence"}, f_divergence_loss, {"divergence": "js"}),
        (
            "sigmoid",
            {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
            f_divergence_loss,
            {"divergence": "alpha", "alpha": 0.3},
        ),
    ],
)
def test_dpo_trainer(loss_type, settings, loss, ours):
    result = loss(sums(POLICY), sums(REFERENCE), beta=0.3, **ours)
    torch.testing.assert_close(mean(result), trl_loss(loss_type, **settings))


def test_dpo_trainer_likelihood():
    torch.testing.assert_close(mean(sft_token_loss(sums(POLICY), sums(REFERENCE))), trl_loss("sft"))


def test_dpo_trainer_mixture():
    """MPO: preference, quality and likelihood."""
    parts = [
        lambda p, r: dpo_loss(p, r, beta=0.3),
        lambda p, r: bco_loss(p, r, beta=0.3, shift=False),
        sft_token_loss,
    ]
    ours = mixture_loss(sums(POLICY), sums(REFERENCE), parts=parts, weights=[0.8, 0.2, 1.0])
    theirs = trl_loss(["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0])
    torch.testing.assert_close(mean(ours), theirs)


def test_dpo_trainer_discounted_tails():
    row = torch.arange(ROWS).repeat_interleave(LENGTHS)
    weights = torch.zeros(ROWS, WIDTH - 1)
    weights[MASK] = ld_weights(row, LENGTHS, 0.4)
    ours = dpo_loss(sums(POLICY, weights), sums(REFERENCE, weights), beta=0.3)
    torch.testing.assert_close(mean(ours), trl_loss("sigmoid", ld_alpha=0.4))


def test_dpo_trainer_on_policy_weights():
    row = torch.arange(ROWS).repeat_interleave(LENGTHS)
    log_weight = log_weights(POLICY[MASK], LOG_COLLISION[MASK], row, LENGTHS.float())
    ours = wpo_loss(
        sums(POLICY),
        sums(REFERENCE),
        loss=lambda p, r: dpo_loss(p, r, beta=0.3),
        log_weight=log_weight,
        clamp=False,
    )
    torch.testing.assert_close(mean(ours), trl_loss("sigmoid", use_weighting=True))


@pytest.mark.parametrize("shift", [2.0, -2.0])
def test_kto_trainer(shift):
    """TRL scores mismatched completions in `_compute_kl_logps`: here numbers of either mean."""
    mismatched = torch.tensor([0.5, -0.5, 1.0, 0.0]) + shift
    settings = {
        "loss_type": "kto",
        "calculate_KL": True,
        "desirable_weight": 1.0,
        "undesirable_weight": 1.2,
        "_compute_kl_logps": lambda model, _: mismatched if model().log_probs is POLICY else torch.zeros(4),
    }
    theirs = trainer_step(KTOTrainer, settings, INPUTS | {"label": torch.tensor([1] * B + [0] * B)})
    ours = kto_loss(sums(POLICY), sums(REFERENCE), beta=0.3, undesirable_weight=1.2, kl=mismatched)
    torch.testing.assert_close(mean(ours), theirs)


def test_kto_trainer_apo_zero_unpaired():
    """TRL takes the mean over examples, ours over pairs: twice as much."""
    settings = {"loss_type": "apo_zero_unpaired", "calculate_KL": False}
    settings |= {"desirable_weight": 1.0, "undesirable_weight": 1.0, "_compute_kl_logps": lambda *_: None}
    theirs = trainer_step(KTOTrainer, settings, INPUTS | {"label": torch.tensor([1] * B + [0] * B)})
    torch.testing.assert_close(mean(apo_zero_loss(sums(POLICY), sums(REFERENCE), beta=0.3)), 2 * theirs)


def stand_in(**settings):
    return SimpleNamespace(
        **{"accelerator": ACCELERATOR, "label_smoothing": 0.0, "alpha": 0.0, "beta": 2.0} | settings
    )


def averages():
    policy = sums(POLICY)
    return policy.chosen / policy.chosen_length, policy.rejected / policy.rejected_length


def test_cpo_trainer():
    from trl.experimental.cpo import CPOTrainer

    policy = sums(POLICY)
    trainer = stand_in(loss_type="sigmoid", label_smoothing=0.1)
    theirs = CPOTrainer.cpo_loss(trainer, policy.chosen, policy.rejected)[0]
    ours = cpo_loss(policy, sums(REFERENCE), beta=2.0, alpha=0.0, label_smoothing=0.1)
    torch.testing.assert_close(ours.losses, theirs)


ZEROS = PairLogps(torch.zeros(B), torch.zeros(B))


def test_cpo_trainer_hinge_and_ipo():
    from trl.experimental.cpo import CPOTrainer

    policy = sums(POLICY)
    theirs = CPOTrainer.cpo_loss(stand_in(loss_type="hinge"), policy.chosen, policy.rejected)[0]
    torch.testing.assert_close(hinge_loss(policy, ZEROS, beta=2.0).losses, theirs)
    theirs = CPOTrainer.cpo_loss(stand_in(loss_type="ipo"), *averages())[0]
    torch.testing.assert_close(ipo_loss(policy, ZEROS, beta=2.0).losses, theirs)


@pytest.mark.parametrize(
    ("loss_type", "ours"),
    [
        ("sigmoid", lambda p: cpo_loss(p, ZEROS, beta=0.3, alpha=0.0, label_smoothing=0.1)),
        ("hinge", lambda p: hinge_loss(p, ZEROS, beta=0.3)),
        ("ipo", lambda p: ipo_loss(p, ZEROS, beta=0.3)),
        ("tpo-l", lambda p: simpo_loss(p, ZEROS, beta=0.3, gamma_beta_ratio=0.5, label_smoothing=0.1)),
    ],
)
def test_tpo_trainer_where_the_gold_answer_is_the_chosen_one(loss_type, ours):
    """A vocabulary of two tokens, of which the target has the log-probs above."""
    from trl.experimental.tpo import TPOTrainer

    logps = torch.cat([POLICY, POLICY[:B]]).clamp(max=-1e-6)
    logits = torch.stack([logps, torch.log(-torch.expm1(logps))], dim=-1)
    logits = torch.cat([logits, logits[:, -1:]], dim=1)  # of the last position, which predicts nothing
    settings = {
        "loss_type": loss_type,
        "label_smoothing": 0.1 * (loss_type in ("sigmoid", "tpo-l")),
        "tpo_alpha": 0.7,
        "tpo_l_gamma": 0.15,
    }
    inputs = {name: torch.cat([value, value[:B]]) for name, value in INPUTS.items()}
    outputs = SimpleNamespace(logits=logits)
    theirs = trainer_step(TPOTrainer, settings, inputs, lambda **_: outputs)
    likelihood = mean(sft_token_loss(sums(POLICY), ZEROS))
    torch.testing.assert_close(mean(ours(sums(POLICY))) + 0.7 * likelihood, theirs)


def test_cpo_trainer_simpo():
    from trl.experimental.cpo import CPOTrainer

    trainer = stand_in(loss_type="simpo", simpo_gamma=0.8, label_smoothing=0.1)
    theirs = CPOTrainer.cpo_loss(trainer, *averages())[0]
    ours = simpo_loss(sums(POLICY), sums(REFERENCE), beta=2.0, gamma_beta_ratio=0.4, label_smoothing=0.1)
    torch.testing.assert_close(ours.losses, theirs)


def test_cpo_trainer_alpha_po():
    from trl.experimental.cpo import CPOTrainer

    trainer = stand_in(loss_type="simpo", simpo_gamma=0.8, alpha=0.25)
    theirs = CPOTrainer.cpo_loss(trainer, *averages())[0]
    ours = alpha_po_loss(sums(POLICY), sums(REFERENCE), beta=2.0, gamma_beta_ratio=0.4, alpha=0.25)
    torch.testing.assert_close(ours.losses, theirs)


def test_orpo_trainer():
    from trl.experimental.orpo import ORPOTrainer

    theirs = -ORPOTrainer.odds_ratio_loss(stand_in(beta=0.1), *averages())[0] - averages()[0]
    torch.testing.assert_close(orpo_loss(sums(POLICY), sums(REFERENCE), beta=0.1).losses, theirs)
