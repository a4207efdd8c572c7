#!/usr/bin/env python3
"""make_autoround.py OUT: by auto-round itself, OUT/autoround-*, each with OUT/...-plain, its weights not packed."""

import os
import sys

from common import attempt, round_trip, tiny, tokens, write_plain

import torch
from auto_round import AutoRound
from transformers import AutoModelForCausalLM, AutoTokenizer

OUT = sys.argv[1]
DATA = [torch.tensor([row]) for row in tokens(8, 64)]


def make(name, source, form, sym, group):
    folder = os.path.join(OUT, name)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    rounder = AutoRound(
        model,
        AutoTokenizer.from_pretrained(source),
        scheme="W4A16",
        group_size=group,
        sym=sym,
        dataset=DATA,
        iters=2,
        nsamples=8,
        seqlen=64,
        batch_size=4,
        device_map="cpu",
        enable_torch_compile=False,
        low_cpu_mem_usage=False,
    )
    model, _ = rounder.quantize()
    rounded = {
        n: round_trip(m.weight.data, m.scale.half(), torch.as_tensor(m.zp).expand_as(m.scale))
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and hasattr(m, "scale")
    }
    if not rounded:
        raise RuntimeError("no layer has a scale after quantize()")
    rounder.save_quantized(folder, format=form, inplace=True)
    write_plain(folder, rounded, folder + "-plain")


sources = {f: tiny(f, os.path.join(OUT, "source-autoround-" + f)) for f in ("llama", "qwen3")}
for form, sym in (
    ("auto_round", True),
    ("auto_gptq", True),
    ("auto_gptq", False),
    ("auto_awq", True),
    ("auto_awq", False),
    ("llm_compressor", True),
):  # its asymmetric auto_round and llm_compressor fail in its own packers
    name = f"autoround-llama-{form}-{'sym' if sym else 'asym'}-g64"
    attempt(name, make, name, sources["llama"], form, sym, 64)
attempt(
    "autoround-qwen3-auto_round-sym-g128",
    make,
    "autoround-qwen3-auto_round-sym-g128",
    sources["qwen3"],
    "auto_round",
    True,
    128,
)
