#!/usr/bin/env python3
"""foreign.py AWQ FOLDER: checkpoints that other packages wrote, run by awq.h.

For every FOLDER/NAME that has a FOLDER/NAME-plain, the weights that the package itself takes it for: the
logits of `awq logits NAME --exact` are those of transformers in fp32 on NAME-plain to 1e-4. Some are refused,
and have to be, in the words below.
"""

import glob
import os
import sys

from common import awq_logits, plain_logits

awq, folder = sys.argv[1:3]
LIMIT = 1e-4
REFUSED = {"gptqmodel-llama-gptq-order-g64": "columns in activation order are not supported"}


def check(name):
    path = os.path.join(folder, name)
    try:
        ours, said = awq_logits(awq, path), "not refused"
    except RuntimeError as e:
        ours, said = None, str(e)
    if ours is None or name in REFUSED:
        return ours is None and REFUSED.get(name, "\n") in said, said
    theirs = plain_logits(path + "-plain")
    d = (ours - theirs).abs().max().item()
    return d <= LIMIT, f"logits up to {theirs.abs().max().item():.1f}, D {d:.1e} (limit {LIMIT:g})"


for path in sorted(glob.glob(os.path.join(folder, "*-plain"))):
    name = os.path.basename(path)[: -len("-plain")]
    ok, found = check(name)
    print(f"{'ok' if ok else 'FAILED':6s} foreign {name}: {found}", flush=True)
