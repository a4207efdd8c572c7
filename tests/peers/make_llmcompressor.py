#!/usr/bin/env python3
"""make_llmcompressor.py OUT: by llm-compressor itself, OUT/llmc-*, each with OUT/...-plain, its reading of them."""

import json
import os
import shutil
import sys

from common import attempt, read_tensors, tiny, tokens, write_plain

import torch
from compressed_tensors.compressors import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationScheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from transformers import AutoModelForCausalLM

OUT = sys.argv[1]
DATA = Dataset.from_dict({"input_ids": tokens(16, 128), "attention_mask": [[1] * 128] * 16})
torch.Tensor.pin_memory = lambda self: self  # its AWQ pins memory for a GPU that is not there
IGNORE = ["lm_head", "re:.*block_sparse_moe.gate$", "re:.*mlp.gate$"]


def weights(bits, symmetric, group, **more):
    return dict(
        config_groups={
            "group_0": dict(
                targets=["Linear"],
                weights=dict(
                    num_bits=bits, type="int", symmetric=symmetric, strategy="group", group_size=group, **more
                ),
            )
        },
        ignore=IGNORE,
    )


def make(name, source, recipe, calibrate=True):
    folder = os.path.join(OUT, name)
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", device_map={"": "cpu"})
    if not calibrate:
        oneshot(model=model, recipe=recipe, pipeline="datafree")
    else:
        oneshot(model=model, recipe=recipe, dataset=DATA, num_calibration_samples=16, max_seq_length=128)
    model.save_pretrained(folder, save_compressed=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(source, file), folder)
    write_plain(folder, weights_of(folder), folder + "-plain")


def weights_of(folder):
    with open(os.path.join(folder, "config.json")) as f:
        scheme = QuantizationScheme(**json.load(f)["quantization_config"]["config_groups"]["group_0"])
    tensors, found = read_tensors(folder), {}
    for name in [t[: -len(".weight_packed")] for t in tensors if t.endswith(".weight_packed")]:
        parts = {
            t[len(name) + 1 :]: v.float() if t.endswith("scale") else v
            for t, v in tensors.items()
            if t.startswith(name + ".")
        }
        found[name] = PackedQuantizationCompressor.decompress(parts, scheme)["weight"]
    return found


llama = tiny("llama", os.path.join(OUT, "source-llmc-llama"))
bfloat = tiny("llama", os.path.join(OUT, "source-llmc-llama-bf16"), "bfloat16")
for name, source, settings in (
    ("llama-W4A16", llama, dict(targets=["Linear"], scheme="W4A16", ignore=IGNORE)),
    ("llama-W4A16_ASYM", llama, dict(targets=["Linear"], scheme="W4A16_ASYM", ignore=IGNORE)),
    ("llama-W8A16", llama, dict(targets=["Linear"], scheme="W8A16", ignore=IGNORE)),
    ("llama-w4-sym-g32", llama, weights(4, True, 32)),
    ("llama-w4-asym-g32-bf16", bfloat, weights(4, False, 32)),
    ("llama-w8-asym-g64", llama, weights(8, False, 64)),
    ("qwen3-w4-asym-g64", tiny("qwen3", os.path.join(OUT, "source-llmc-qwen3")), weights(4, False, 64)),
    ("mixtral-w4-asym-g64", tiny("mixtral", os.path.join(OUT, "source-llmc-mixtral")), weights(4, False, 64)),
):
    attempt("llmc-" + name, make, "llmc-" + name, source, QuantizationModifier(**settings), calibrate=False)
for name, recipe in (
    ("llama-awq-asym-g64", [AWQModifier(), QuantizationModifier(**weights(4, False, 64))]),
    ("llama-gptq-sym-g64-static", GPTQModifier(**weights(4, True, 64), actorder="static")),
    ("llama-gptq-sym-g64-weight", GPTQModifier(**weights(4, True, 64), actorder="weight")),
):
    attempt("llmc-" + name, make, "llmc-" + name, llama, recipe)
