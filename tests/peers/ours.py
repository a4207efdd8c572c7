#!/usr/bin/env python3
"""ours.py AWQ MODEL ID... -> JSON on stdout: the next token's top-20 log probabilities and 16 greedy tokens, by awq logits."""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

awq, model, ids = sys.argv[1], sys.argv[2], [int(x) for x in sys.argv[3:]]
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "logits.safetensors")

    def last(tokens):
        subprocess.run([awq, "logits", model, "--tokens", ",".join(map(str, tokens)), "--exact", "-o",
                        path, "-q"], check=True)
        return load_file(path)["logits"][-1].astype(np.float64)

    first = last(ids)
    greedy = [int(first.argmax())]
    while len(greedy) < 16:
        greedy.append(int(last(ids + greedy).argmax()))
p = first - first.max()
p -= np.log(np.exp(p).sum())
top = np.argsort(-p)[:20]
print(json.dumps({"engine": "awq.h", "prompt": ids, "top20": [[int(i), float(p[i])] for i in top], "greedy": greedy}))
