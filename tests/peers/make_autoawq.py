#!/usr/bin/env python3
"""make_autoawq.py OUT: by AutoAWQ itself, OUT/autoawq-*, each with OUT/...-plain, its weights not packed."""

import os
import sys

from common import attempt, round_trip, tiny, tokens, write_plain

import transformers
from awq import AutoAWQForCausalLM
from awq.quantize import quantizer

OUT = sys.argv[1]
quantizer.AwqQuantizer.quantize = (
    quantizer.AwqQuantizer.pack
)  # its files are what is tried, not its search, which takes minutes


def make(name, source, version, group):
    cls = {
        "gemm": quantizer.WQLinear_GEMM,
        "gemv": quantizer.WQLinear_GEMV,
        "gemv_fast": quantizer.WQLinear_GEMVFast,
    }[version]
    pack, kept = cls.from_linear, []  # (packed linear, the weights it stands for)

    def remember(linear, w_bit, group_size, init_only=False, scales=None, zeros=None):
        packed = pack(linear, w_bit, group_size, init_only, scales, zeros)
        s, z = (scales.T, zeros.T) if version == "gemm" else (scales, zeros)
        kept.append((packed, round_trip(linear.weight.data, s, z, half_offset=version == "gemv_fast")))
        return packed

    cls.from_linear = remember
    try:
        folder = os.path.join(OUT, name)
        model = AutoAWQForCausalLM.from_pretrained(
            source, device_map="cpu", torch_dtype="auto", use_cache=False
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        model.quantize(
            tokenizer,
            quant_config=dict(zero_point=True, q_group_size=group, w_bit=4, version=version.upper()),
            calib_data=tokens(2, 64),
            max_calib_samples=2,
            max_calib_seq_len=64,
        )
        model.save_quantized(folder)
        tokenizer.save_pretrained(folder)
        names = {id(m): n for n, m in model.model.named_modules()}
        write_plain(folder, {names[id(m)]: w for m, w in kept}, folder + "-plain")
    finally:
        cls.from_linear = pack


sources = {f: tiny(f, os.path.join(OUT, "source-autoawq-" + f)) for f in ("llama", "qwen3", "mixtral")}
for version, group in (
    ("gemm", 32),
    ("gemm", 128),
    ("gemv", 64),
    ("gemv", 128),
    ("gemv_fast", 64),
    ("gemv_fast", 128),
):
    name = f"autoawq-llama-{version}-g{group}"
    attempt(name, make, name, sources["llama"], version, group)
for family in ("qwen3", "mixtral"):
    name = f"autoawq-{family}-gemm-g64"
    attempt(name, make, name, sources[family], "gemm", 64)
