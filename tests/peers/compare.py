#!/usr/bin/env python3
"""compare.py equal|differ LIMIT REFERENCE.json RESULT.json

Two results {"top20": [[id, log probability], ...], "greedy": [16 ids]} of one prompt. D is the largest difference over
the ids both have in their top 20. "equal": D <= LIMIT, at least 19 shared ids and the same 16 greedy tokens. "differ":
the opposite, or RESULT is empty because the engine refused the files. One line, ok or FAILED.
"""
import json
import os
import sys

want, limit, reference, result = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
name = os.path.basename(result)[: -len(".json")]
if os.path.getsize(result) == 0:
    equal = False
    found = "no result, the engine stopped"
else:
    a, b = (json.load(open(path)) for path in (reference, result))
    x, y = dict(map(tuple, a["top20"])), dict(map(tuple, b["top20"]))
    shared = set(x) & set(y)
    d = max((abs(x[i] - y[i]) for i in shared), default=float("inf"))
    tokens = next((i for i, (p, q) in enumerate(zip(a["greedy"], b["greedy"])) if p != q), len(a["greedy"]))
    equal = d <= limit and len(shared) >= 19 and tokens == 16
    found = f"D {d:.2e} (limit {limit:g}), {len(shared)} of 20 shared, {tokens} of 16 greedy tokens"
ok = equal == (want == "equal")
print(f"{'ok' if ok else 'FAILED':6s} {name:34s} {want:6s} {found}")
