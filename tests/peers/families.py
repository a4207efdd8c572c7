#!/usr/bin/env python3
"""families.py AWQ MODELS OUT ENGINE=PYTHON...: what awq.h makes of every family, and which engines read it.

MODELS holds a folder with a config.json for each family; OUT/FAMILY becomes a random model of that kind, in
sizes that the engines take. It runs if `awq logits --exact` gives transformers' logits; it quantizes if `awq
quantize` accepts it and awq.h then says what transformers says of the result dequantized to fp32; an engine
reads the result if it says what transformers says of it dequantized to fp16, which is what engines multiply
with, or the engine of that one. What awq.h or an engine refuses is in OUT/families.json in its own words; a
refusal is no failure unless the engine reads the same model unquantized.
"""

import json
import os
import subprocess
import sys

import torch
from transformers import AutoConfig

from common import IDS, awq_logits, plain_logits, tokens, write_model

awq, models, out = sys.argv[1:4]
engines = dict(x.split("=", 1) for x in sys.argv[4:])
HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT = IDS[:6]
LIMIT = {"vllm": 0.02, "gptqmodel": 1e-4}  # vLLM runs in fp16
FOLDER = {"llama": "llama_gqa"}
FAMILIES = (os.environ.get("FAMILIES") or """
llama mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe gemma gemma2 gemma3 phi3 smollm3 olmo2 olmo3
olmoe granite granitemoe glm4 glm4_moe cohere stablelm starcoder2 exaone4 ernie4_5 hunyuan_dense
seed_oss deepseek_v2 deepseek_v3 gpt_oss
""").split()
SIZES = dict(
    hidden_size=256,
    intermediate_size=256,
    moe_intermediate_size=128,
    shared_expert_intermediate_size=128,
    head_dim=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=512,
    max_position_embeddings=512,
    kv_lora_rank=64,
    q_lora_rank=64,
    qk_nope_head_dim=64,
    qk_rope_head_dim=32,
    v_head_dim=64,
)
MORE = {
    "deepseek_v2": dict(num_key_value_heads=4, head_dim=32),
    "deepseek_v3": dict(num_key_value_heads=4, head_dim=32),
}


def make(family, folder):
    with open(os.path.join(models, FOLDER.get(family, family), "config.json")) as f:
        config = json.load(f)
    sizes = dict(SIZES, **MORE.get(family, {}))
    config.update({k: v for k, v in sizes.items() if config.get(k)})
    config.pop("qk_head_dim", None)
    kind = config.pop("model_type")
    write_model(folder, AutoConfig.for_model(kind, **config))


def run(*arguments):
    """None, or the sentence with which awq.h refuses"""
    r = subprocess.run([awq, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return None if r.returncode == 0 else r.stderr.strip() or f"exit status {r.returncode}"


def equal_logits(folder, plain):
    ours, theirs = awq_logits(awq, folder), plain_logits(plain)
    d = (ours - theirs).abs().max().item()
    limit = 1e-4 * max(1.0, theirs.abs().max().item() / 10)
    return None if d <= limit else f"logits differ by {d:.1e}, limit {limit:.0e}"


def answers(python, engine, folders):
    found, left = {}, list(folders)
    while left:
        log = open(os.path.join(out, f"{engine}.log"), "a")
        r = subprocess.run(
            [python, os.path.join(HERE, "answers.py"), engine, ",".join(map(str, PROMPT)), *left],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        lines = [json.loads(x) for x in r.stdout.splitlines()]
        found.update({x["folder"]: x for x in lines})
        left = [f for f in left if f not in found]
        if left:
            found[left[0]] = dict(error=f"the process ended with status {r.returncode}")
            left = left[1:]
    return found


def agree(reference, result, limit):
    if "error" in result:
        return False, "refused: " + result["error"]
    a, b = dict(map(tuple, reference["top20"])), dict(map(tuple, result["top20"]))
    shared = set(a) & set(b)
    d = max((abs(a[i] - b[i]) for i in shared), default=float("inf"))
    same = next((i for i, (p, q) in enumerate(zip(reference["greedy"], result["greedy"])) if p != q), 16)
    near = same < 16 and reference["lead"][same] <= limit  # rounding may choose either
    found = f"D {d:.2g}, {same}/16" + (" (a tie)" if near else "")
    return d <= limit and len(shared) >= 19 and (same == 16 or near), found


def line(word, family, text):
    print(f"{word:6s} family {family}: {text}", flush=True)


os.makedirs(out, exist_ok=True)
calibration = os.path.join(out, "calibration.json")
with open(calibration, "w") as f:
    json.dump({"blocks": tokens(32, 64)}, f)
table = {}
for family in FAMILIES:
    folder = os.path.join(out, family)
    row = table[family] = dict(family=family, runs="no", quantizes="no", engines={})
    try:
        make(family, folder)
    except Exception as e:
        row["runs"] = f"no model to try: {type(e).__name__}: {e}"
        line("FAILED", family, row["runs"])
        continue
    said = run("logits", folder, "--tokens", "1,2", "-o", os.path.join(out, "scratch.safetensors"), "-q")
    wrong = None if said else equal_logits(folder, folder)
    row["runs"] = f"refused: {said}" if said else f"no: {wrong}" if wrong else "yes"
    line("skipped" if said else "FAILED" if wrong else "ok", family, f"runs: {row['runs']}")
    if said or wrong:
        continue
    said = run(
        "quantize",
        folder,
        "-o",
        folder + "-awq",
        "--calib",
        calibration,
        "--samples",
        "32",
        "--seq-len",
        "64",
        "--group-size",
        "32",
        "--method",
        "best",
        "-q",
    )
    wrong = None
    if not said:
        for kind in ("fp16", "fp32"):
            wrong = wrong or run(
                "convert", folder + "-awq", "-o", f"{folder}-{kind}", "--dequantize", kind, "-q"
            )
        wrong = wrong or equal_logits(folder + "-awq", folder + "-fp32")
    row["quantizes"] = f"refused: {said}" if said else f"no: {wrong}" if wrong else "yes"
    line("skipped" if said else "FAILED" if wrong else "ok", family, f"quantizes: {row['quantizes']}")

done = [f for f in FAMILIES if table[f]["quantizes"] == "yes"]
paths = {f: os.path.join(out, f) for f in done}
reference = answers(sys.executable, "transformers", [paths[f] + "-fp16" for f in done])
for engine, python in engines.items():
    kind, limit = "transformers" if engine == "gptqmodel" else engine, LIMIT[engine]
    quantized = answers(python, kind, [paths[f] + "-awq" for f in done])
    quantized = {f: quantized[paths[f] + "-awq"] for f in done}
    agreed = {f: agree(reference[paths[f] + "-fp16"], quantized[f], limit) for f in done}
    doubtful = [f for f in done if not agreed[f][0]]
    plain = answers(python, kind, [paths[f] + "-fp16" for f in doubtful])
    for family in done:
        ok, said = agreed[family]
        word = "ok"
        if not ok:
            its = plain[paths[family] + "-fp16"]
            if "error" in quantized[family]:
                word = "skipped" if "error" in its else "FAILED"
                said += "" if "error" in its else " (the plain model it reads)"
            else:  # the engine's own rounding may be more than the limit; the file must add nothing to it
                same, own = agree(its, quantized[family], limit) if "error" not in its else (False, "")
                said += f"; to its plain model {own}" if own else ""
                if not same:
                    word, said = "FAILED", "differs: " + said
        line(word, family, f"{engine} {said}")
        table[family]["engines"][engine] = said
with open(os.path.join(out, "families.json"), "w") as f:
    json.dump(list(table.values()), f, indent=1)
