"""Medians and ratios of what run.sh wrote, as tables: summary.py FOLDER"""
import collections
import os
import re
import statistics
import sys

folder = sys.argv[1]


def lines(name):
    path = os.path.join(folder, name)
    return open(path).read().splitlines() if os.path.exists(path) else []


layers = collections.defaultdict(list)
engines = []
for line in lines("layers.txt"):
    m = re.match(r"(.+) K=(\d+) N=(\d+) t=(\d+) M=(\d+): (\d+) us", line)
    if m:
        if m[1] not in engines:
            engines.append(m[1])
        layers[m[1], int(m[2]), int(m[3]), int(m[4]), int(m[5])].append(int(m[6]))
cases = sorted({k[1:] for k in layers}, key=lambda c: (c[2], -c[1], c[3]))
if cases:
    others = [e for e in engines if e != "awq.h"]
    print("| layer K x N | threads | rows | awq.h, us | " + " | ".join(others) + " | best of them / awq.h |")
    print("|---" * (5 + len(others)) + "|")
    for c in cases:
        t = {e: statistics.median(layers[(e,) + c]) for e in engines if layers.get((e,) + c)}
        if "awq.h" not in t or len(t) < 2:
            continue
        best = min(v for e, v in t.items() if e != "awq.h")
        print("| %d x %d | %d | %d | %.0f | %s | %.2f |" % (
            c[0], c[1], c[2], c[3], t["awq.h"], " | ".join("%.0f" % t[e] if e in t else "" for e in others),
            best / t["awq.h"]))
    print()

models = collections.defaultdict(list)
limits = collections.defaultdict(list)
for line in lines("models.txt"):
    m = re.match(r"(\S+) t=(\d+): (?:(llama\.cpp \S+ \S+), )?(prompt of 512|1 token): (?:[\d.]+ ms, )?([\d.]+) tokens/s"
                 r"(?:, ([\d.]+) % of the limit)?", line)
    if m:
        models[m[1], int(m[2]), m[4], m[3] or "awq.h"].append(float(m[5]))
        if m[6]:
            limits[m[1], int(m[2])].append(float(m[6]))
if models:
    print("| model | threads | work | engine | tokens/s | awq.h / it | share of the limit |")
    print("|---|---|---|---|---|---|---|")
    for k in sorted(models, key=lambda k: (k[0] != "tiny", k[1], k[2] == "1 token", k[3] != "awq.h", k[3])):
        ours = statistics.median(models[k[0], k[1], k[2], "awq.h"] or [0])
        v = statistics.median(models[k])
        share = "%.1f %%" % statistics.median(limits[k[0], k[1]]) if k[3] == "awq.h" and k[2] == "1 token" else ""
        print("| %s | %d | %s | %s | %.2f | %s | %s |" % (
            k[0], k[1], k[2], k[3], v, "" if k[3] == "awq.h" else "%.2f" % (ours / v), share))
