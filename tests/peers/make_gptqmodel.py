#!/usr/bin/env python3
"""make_gptqmodel.py OUT: by GPTQModel itself, OUT/gptqmodel-*, each with OUT/...-plain, its reading of them."""

import os
import sys

from common import attempt, gptqmodel_weights, tiny, tokens, write_plain

import torch
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from gptqmodel.quantization import FORMAT, METHOD

OUT = sys.argv[1]
DATA = [{"input_ids": [row], "attention_mask": [[1] * len(row)]} for row in tokens(32, 64)]


def make(name, source, **config):
    folder = os.path.join(OUT, name)
    model = GPTQModel.load(
        source,
        QuantizeConfig(bits=config.pop("bits", 4), offload_to_disk=False, **config),
        device="cpu",
        dtype=torch.float16,
    )
    backend = BACKEND.AWQ_TORCH if config.get("method") == METHOD.AWQ else BACKEND.GPTQ_TORCH
    model.quantize(DATA, batch_size=1, backend=backend)
    model.save(folder)
    write_plain(folder, dict(gptqmodel_weights(folder)), folder + "-plain")


sources = {f: tiny(f, os.path.join(OUT, "source-gptqmodel-" + f)) for f in ("llama", "qwen3", "mixtral")}
for group in (32, 128):
    for sym in (True, False):
        for form in (FORMAT.GPTQ, FORMAT.GPTQ_V2):
            name = f"gptqmodel-llama-{form.value}-{'sym' if sym else 'asym'}-g{group}"
            attempt(name, make, name, sources["llama"], group_size=group, sym=sym, format=form, desc_act=False)
for name, family, config in (
    ("gptqmodel-llama-gptq-order-g64", "llama", dict(group_size=64, desc_act=True)),
    ("gptqmodel-llama-gptq-8bit-g64", "llama", dict(group_size=64, bits=8)),
    ("gptqmodel-llama-gptq-row", "llama", dict(group_size=-1, act_group_aware=False)),
    ("gptqmodel-qwen3-gptq-sym-g64", "qwen3", dict(group_size=64)),
    ("gptqmodel-mixtral-gptq-sym-g64", "mixtral", dict(group_size=64)),
    (
        "gptqmodel-llama-awq-asym-g64",
        "llama",
        dict(group_size=64, sym=False, method=METHOD.AWQ, format=FORMAT.GEMM),
    ),
    (
        "gptqmodel-llama-awq-sym-g64",
        "llama",
        dict(group_size=64, sym=True, method=METHOD.AWQ, format=FORMAT.GEMM),
    ),
):
    attempt(name, make, name, sources[family], **config)
