#!/usr/bin/env python3
"""gptq_smollm2.py MODEL CALIBRATION.json OUT GROUP sym|asym order|plain -> GPTQModel's own 4-bit GPTQ of a
model, its weights dequantized to fp32 as the plain Hugging Face folder OUT, so that awq eval can measure it;
one JSON line says how it was made. CALIBRATION.json: {"blocks": [[token id, ...], ...]}. "order": desc_act,
columns in the order of their activations.
"""

import json
import os
import resource
import shutil
import sys
import tempfile
import time

out, sys.stdout = sys.stdout, sys.stderr
from common import gptqmodel_weights, write_plain

import gptqmodel
import torch
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig

source, calibration, target, group, sym, order = sys.argv[1:7]
blocks = json.load(open(calibration))["blocks"]
config = QuantizeConfig(bits=4, group_size=int(group), sym=sym == "sym", desc_act=order == "order")
with tempfile.TemporaryDirectory() as folder:
    model = GPTQModel.load(source, config, device="cpu", dtype=torch.float16)
    begin = time.time()
    model.quantize(
        [{"input_ids": [b], "attention_mask": [[1] * len(b)]} for b in blocks],
        batch_size=1,
        backend=BACKEND.GPTQ_TORCH,
    )
    seconds = time.time() - begin
    model.save(folder)
    write_plain(folder, dict(gptqmodel_weights(folder)), target)
    shutil.copy(os.path.join(folder, "config.json"), os.path.join(target, "quantized.config.json"))
print(
    json.dumps(
        dict(
            package="gptqmodel " + gptqmodel.__version__,
            group_size=int(group),
            sym=config.sym,
            desc_act=config.desc_act,
            act_group_aware=config.act_group_aware,
            format=str(config.format.value),
            blocks=len(blocks),
            seconds=round(seconds),
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )
    ),
    file=out,
)
