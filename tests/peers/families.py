#!/usr/bin/env python3
"""families.py AWQ MODELS OUT ENGINE=PYTHON...: what awq.h makes of every family, and which engines read it.

MODELS holds a folder with a config.json for each family; OUT/FAMILY becomes a random model of that kind, in
sizes that the engines take. It runs if `awq logits --exact` gives transformers' logits; it quantizes if `awq
quantize` accepts it and awq.h then says what transformers says of the result dequantized to fp32; an engine
(transformers, which takes gptqmodel's kernels; gptqmodel's own loader; vllm) reads the result if it says what
transformers says of it dequantized to fp16, which is what engines multiply with, or the engine of that one. What
awq.h or an engine refuses is in OUT/families.json in its own words; a refusal is no failure if the engine refuses
the same model unquantized, or for one of the reasons in UNABLE. Where an engine wants a file in another form
(ADAPT), it gets that.
"""

import json
import os
import shutil
import subprocess
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from common import IDS, MIXTRAL, awq_logits, plain_logits, read_tensors, tokens, write_model

awq, models, out = sys.argv[1:4]
engines = dict(x.split("=", 1) for x in sys.argv[4:])
HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT = IDS[:6]
LIMIT = {"vllm": 0.02, "gptqmodel": 0.02, "transformers": 1e-4}  # the first two round to fp16
LIMIT_BF16 = {("vllm", f): 0.15 for f in ("gemma2", "gemma3", "glm4")}  # which it runs in bf16, 8 times coarser
LIMIT_EXPERTS = {"vllm": 0.1}  # its kernel for experts of 4 bits takes activations of 8
UNABLE = {  # part of an engine's refusal: why it is none of the file
    "transformers": {".experts.": "dequantized only"},  # its modules hold all experts in one dense tensor
    "gptqmodel": {
        "'tuple' object has no attribute 'sigmoid'": "no, its router fails",
        "gate_up_proj.q": "no, wants gate and up apart",
        ".experts.": "no, other names",
    },
    "vllm": {"No WNA16 MoE backend": "no CPU kernel for these experts"},
}
FOLDER = {"llama": "llama_gqa"}
FAMILIES = (os.environ.get("FAMILIES") or """
llama mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe gemma gemma2 gemma3 phi3 smollm3 olmo2 olmo3
olmoe granite granitemoe glm4 glm4_moe cohere stablelm starcoder2 exaone4 ernie4_5 hunyuan_dense
seed_oss deepseek_v2 deepseek_v3 gpt_oss
""").split()
OTHER = {  # engines that take a family's tensors for something else
    ("vllm", "deepseek_v2"): "differs, so does its plain model",  # from transformers, by as much
    ("gptqmodel", "gpt_oss"): "no, mixes gate and up twice",  # it splits the mixed rows in halves, and mixes them again
}
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
LATENT = dict(num_key_value_heads=4, head_dim=64, kv_lora_rank=512, qk_rope_head_dim=64)  # all that vLLM has there
MORE = {
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
}
SET = {  # beside the sizes, as published models have them
    "deepseek_v3": dict(topk_method="noaux_tc"),
    "qwen3_moe": dict(mlp_only_layers=[]),
}


def make(family, folder):
    with open(os.path.join(models, FOLDER.get(family, family), "config.json")) as f:
        config = json.load(f)
    sizes = dict(SIZES, **MORE.get(family, {}))
    config.update({k: v for k, v in sizes.items() if config.get(k)})
    config.update(SET.get(family, {}))
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


def renamed(folder, to):
    """experts as gptqmodel's modules are called, mlp.experts.N.gate_proj, not block_sparse_moe.experts.N.w1"""
    tensors = read_tensors(folder)
    for its, theirs in MIXTRAL:
        tensors = {name.replace(theirs, its): t for name, t in tensors.items()}
    write(folder, to, tensors)


def with_scales(folder, to):
    """AutoAWQ divides starcoder2's activation by scales, which transformers then demands"""
    tensors = read_tensors(folder)
    for name in [n for n in tensors if n.endswith("mlp.c_fc.scales")]:
        tensors[name.replace("c_fc", "act")] = torch.ones(tensors[name].shape[1], dtype=torch.float16)
    write(folder, to, tensors)


def write(folder, to, tensors):
    shutil.copytree(folder, to)
    save_file(tensors, os.path.join(to, "model.safetensors"), {"format": "pt"})


ADAPT = {
    ("gptqmodel", "mixtral"): (renamed, "renamed"),
    ("transformers", "starcoder2"): (with_scales, "with act.scales"),
}


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


def has_experts(folder):
    return any(".experts." in x or ".input_linear" in x for x in read_tensors(folder))


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
    files, note = {f: paths[f] + "-awq" for f in done}, {}
    for f in done:
        adapt, note[f] = ADAPT.get((engine, f), (None, ""))
        if adapt:
            files[f] = f"{paths[f]}-for-{engine}"
            adapt(paths[f] + "-awq", files[f])
            wrong = equal_logits(files[f], paths[f] + "-fp32")
            line("FAILED" if wrong else "ok", f, f"{note[f]}, awq.h reads it{', but ' + wrong if wrong else ''}")
    quantized = answers(python, engine, list(files.values()))
    quantized = {f: quantized[files[f]] for f in done}
    experts = {f: LIMIT_EXPERTS.get(engine, 0) if has_experts(paths[f]) else 0 for f in done}
    limit = {f: max(LIMIT[engine], experts[f], LIMIT_BF16.get((engine, f), 0)) for f in done}
    agreed = {f: agree(reference[paths[f] + "-fp16"], quantized[f], limit[f]) for f in done}
    known = {f: next((w for x, w in UNABLE[engine].items() if x in quantized[f].get("error", "")), "") for f in done}
    doubtful = [f for f in done if not agreed[f][0] and not known[f]]
    plain = answers(python, "transformers" if engine == "gptqmodel" else engine, [paths[f] + "-fp16" for f in doubtful])
    for family in done:
        ok, said = agreed[family]
        word = "ok"
        if known[family]:
            word, said = "skipped", f"{known[family]}: {quantized[family]['error']}"
        elif not ok:
            its = plain[paths[family] + "-fp16"]
            if "error" in quantized[family]:
                word = "skipped" if "error" in its else "FAILED"
                said += "" if "error" in its else " (the plain model it reads)"
            else:  # the engine's own rounding may be more than the limit; the file must add nothing to it
                same, own = agree(its, quantized[family], limit[family]) if "error" not in its else (False, "")
                said += f"; to its plain model {own}" if own else ""
                if not same:
                    word, said = "FAILED", "differs: " + said
                if not same and (engine, family) in OTHER:
                    word, said = "skipped", f"{OTHER[engine, family]}: {said}"
        if note[family] and word == "ok":
            said = f"{note[family]}: {said}"
        line(word, family, f"{engine} {said}")
        table[family]["engines"][engine] = said
with open(os.path.join(out, "families.json"), "w") as f:
    json.dump(list(table.values()), f, indent=1)
