"""Keys of config.json that do not change what a trained model computes.

A key that no family reads and that is not here is an error (families.py): ignoring it could mean computing
another model. Leaving a harmless one out of here only locks somebody out, so there are many.
"""

import re
from typing import Any

# fmt: off
NAMES = frozenset([
    # what wrote the file, and for whom
    "architectures", "auto_map", "custom_pipelines", "inference_runner", "is_llama_config", "license",
    "model_max_length", "model_type", "name", "name_or_path", "tokenizer_class", "transformers.js_config",
    "transformers_version", "unsloth_fixed", "unsloth_version", "validate_runner_input",
    # how it is run: memory, precision and kernels
    "attention_softmax_in_fp32", "attn_implementation", "cache_implementation", "chunk_size_feed_forward",
    "dtype", "experts_implementation", "gradient_checkpointing", "max_batch_size", "pad_key_length",
    "pre_allocate_kv_cache", "pretraining_tp", "reorder_and_upcast_attn",
    "scale_attention_softmax_in_fp32", "torch_dtype", "torchscript", "use_bfloat16", "use_cache",
    "use_flash_attention", "use_flash_attention_2", "use_flash_attn",
    # how it was or will be trained
    "attn_pdrop", "embd_pdrop", "initializer_range", "is_decoder", "resid_pdrop",
    # lengths that nothing depends on
    "initial_context_length", "max_seq_len", "max_sequence_length", "max_window_layers", "n_ctx",
    "seq_length",
    # heads for other tasks, and what is returned
    "finetuning_task", "id2label", "keys_to_ignore_at_inference", "label2id", "num_labels",
    "output_attentions", "output_hidden_states", "problem_type", "return_dict", "summary_activation",
    "summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params",
    "tie_encoder_decoder",
    # settings of generation, which older files keep here (transformers drops them too)
    "assistant_confidence_threshold", "assistant_lookbehind", "bad_words_ids", "begin_suppress_tokens",
    "diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff", "exponential_decay_length_penalty",
    "length_penalty", "max_length", "max_new_tokens", "min_length", "min_new_tokens",
    "no_repeat_ngram_size", "num_assistant_tokens", "num_assistant_tokens_schedule", "num_beam_groups",
    "num_beams", "num_return_sequences", "output_scores", "prefix", "remove_invalid_values",
    "repetition_penalty", "return_dict_in_generate", "suppress_tokens", "target_lookbehind", "temperature",
    "top_k", "top_p", "typical_p",
])
# fmt: on
# Private bookkeeping (_name_or_path, _attn_implementation), ids of special tokens, dropout in training.
PATTERN = re.compile(r"_.*|.*_token_ids?|.*dropout")
# Keys that are harmless with this one value: it says what the model does anyway.
NEUTRAL = {
    "full_attn_mod": 1,
    "interpolate_factor": 1,
    "mlp_type": "default",
    "norm_type": "layer_norm",
    "rotary_scaling_factor": 1,
}


def changes_nothing(key: str, value: Any) -> bool:
    """Whether a key that no family reads can be ignored: known to be harmless, or switched off."""
    if key == "layer_types":
        return set(value or ()) <= {"full_attention"}
    if key == "is_causal":
        return value is not False
    harmless = key in NAMES or PATTERN.fullmatch(key) is not None
    return harmless or not value or NEUTRAL.get(key) == value
