#!/usr/bin/env python3
"""Is the demo model a fair subject? RTN and AWQ (scale search, then clip search) at 4 bits, in compact PyTorch.

    python3 check_awq.py --model model --calib calib.txt --text heldout.txt [--suite suite.jsonl] [--say]

Prints the perplexity of FP16, RTN and AWQ over blocks of 256 tokens and the paired difference AWQ - RTN in nats
per token with its standard error; exit 0 when it is at least 3 standard errors below zero. With --suite also
the share of right answers (greedy, all phrasings). It shares no code with awq.h.
"""

import argparse
import copy
import json
import math
import sys

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

BLOCK = 256


def quantize(w, group, bits=4):
    """Asymmetric round to nearest; w: [out, in], groups along in."""
    g = w.reshape(-1, group)
    hi, lo, top = g.amax(1, keepdim=True), g.amin(1, keepdim=True), 2**bits - 1
    scale = (hi - lo).clamp(min=1e-5) / top
    zero = (-torch.round(lo / scale)).clamp(0, top)
    return ((torch.clamp(torch.round(g / scale) + zero, 0, top) - zero) * scale).reshape(w.shape)


def linears(layer):
    a, m = layer.self_attn, layer.mlp
    return dict(
        q_proj=a.q_proj,
        k_proj=a.k_proj,
        v_proj=a.v_proj,
        o_proj=a.o_proj,
        gate_proj=m.gate_proj,
        up_proj=m.up_proj,
        down_proj=m.down_proj,
    )


def rtn(model, group):
    for layer in model.model.layers:
        for lin in linears(layer).values():
            lin.weight.data = quantize(lin.weight.data, group)


def record(model, blocks):
    """Per layer: name -> inputs [B, T, in] of each linear that starts a scaling group, nothing quantized."""
    seen = [{k: [] for k in ("q_proj", "o_proj", "gate_proj", "down_proj")} for _ in model.model.layers]
    hooks = []
    for store, layer in zip(seen, model.model.layers):
        for name in store:
            hooks.append(
                linears(layer)[name].register_forward_pre_hook(
                    lambda m, x, s=store[name]: s.append(x[0].detach())
                )
            )
    for b in blocks.split(8):
        model(input_ids=b, use_cache=False)
    for h in hooks:
        h.remove()
    return [{k: torch.cat(v) for k, v in s.items()} for s in seen]


def search_scales(x, group_linears, run, group, duo):
    """x: [B, T, in], run: x -> output to compare. Returns s [in] and (ratio, loss, loss of plain rounding)."""
    w = torch.cat([lin.weight.data for lin in group_linears])
    by_group = w.abs().reshape(w.shape[0], -1, group)
    w_mean = (by_group / (by_group.amax(2, keepdim=True) + 1e-6)).reshape(w.shape).mean(0)
    x_mean = x.abs().reshape(-1, x.shape[-1]).mean(0)
    keep = [lin.weight.data for lin in group_linears]
    ref = run(x)

    def loss_of(s):
        for lin, k in zip(group_linears, keep):
            lin.weight.data = quantize(k * s, group) / s
        loss = (run(x) - ref).pow(2).mean().item()
        for lin, k in zip(group_linears, keep):
            lin.weight.data = k
        return loss

    best = (math.inf, 0.0, None)
    for i in range(20):
        r = i / 20
        s = x_mean.pow(r) / (w_mean.pow(1 - r) + 1e-4) if duo else x_mean.pow(r)
        s = s.clamp(min=1e-4)
        s = s / (s.max() * s.min()).sqrt()
        loss = loss_of(s)
        if loss < best[0]:
            best = (loss, r, s)
    return best[2], (best[1], best[0], loss_of(torch.ones_like(x_mean)))


def search_clip(w, x, group):
    """w: [out, in], x: [N, in]. Per row and group the bound of |w| with the least output error."""
    x = x[:: max(1, x.shape[0] // 512)]
    rows, n = w.shape[0], w.shape[1] // group
    wg, xg = w.reshape(rows, n, group), x.reshape(-1, n, group)
    top = wg.abs().amax(2, keepdim=True)
    ref = torch.einsum("tng,rng->trn", xg, wg)
    best, bound = torch.full((rows, n), 1e9), top.clone()
    for i in range(10):
        m = top * (1 - i / 20)
        c = torch.maximum(torch.minimum(wg, m), -m)
        err = (
            (torch.einsum("tng,rng->trn", xg, quantize(c.reshape(rows, -1), group).reshape(wg.shape)) - ref)
            .pow(2)
            .mean(0)
        )
        better = err < best
        best = torch.where(better, err, best)
        bound = torch.where(better[..., None], m, bound)
    return torch.maximum(torch.minimum(wg, bound), -bound).reshape(w.shape)


def awq(model, blocks, group, duo, verbose=False):
    mask = torch.full((blocks.shape[1], blocks.shape[1]), float("-inf")).triu(1)[None, None]
    where = model.model.rotary_emb(torch.zeros(1), torch.arange(blocks.shape[1])[None])
    for n, (layer, seen) in enumerate(zip(model.model.layers, record(model, blocks))):
        lin = linears(layer)
        attention = lambda x: torch.cat(
            [
                layer.self_attn(hidden_states=b, position_embeddings=where, attention_mask=mask)[0]
                for b in x.split(16)
            ]
        )
        plan = [
            (layer.input_layernorm, ["q_proj", "k_proj", "v_proj"], attention),
            (lin["v_proj"], ["o_proj"], lin["o_proj"]),
            (layer.post_attention_layernorm, ["gate_proj", "up_proj"], layer.mlp),
            (lin["up_proj"], ["down_proj"], lin["down_proj"]),
        ]
        found = [
            search_scales(seen[names[0]], [lin[k] for k in names], run, group, duo)
            for _, names, run in plan
        ]
        features = {}
        for (before, names, _), (s, info) in zip(plan, found):
            if verbose:
                print(
                    "  layer %d %-10s ratio %.2f loss / RTN loss %.3f s_max/s_min %.1f"
                    % (n, names[0], info[0], info[1] / info[2], s.max() / s.min())
                )
            before.weight.data = before.weight.data / (s[:, None] if before.weight.dim() == 2 else s)
            for k in names:
                lin[k].weight.data = lin[k].weight.data * s
                features[k] = (seen[names[0]] / s).reshape(-1, s.numel())
        for k in lin:
            if k not in ("q_proj", "k_proj"):
                lin[k].weight.data = search_clip(lin[k].weight.data, features[k], group)
            lin[k].weight.data = quantize(lin[k].weight.data, group)


def block_nll(model, blocks):
    """Mean nats per predicted token of each block."""
    out = []
    for b in blocks.split(8):
        logits = model(input_ids=b, use_cache=False).logits[:, :-1].float()
        nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), b[:, 1:], reduction="none")
        out.append(nll.double().mean(1))
    return torch.cat(out)


def answer(model, tok, question, limit=60):
    ids = tok.encode("<|begin|><|user|>" + question + "<|end|><|assistant|>").ids
    end, n = tok.token_to_id("<|end|>"), len(ids)
    while len(ids) < n + limit:
        nxt = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if nxt == end:
            break
        ids.append(nxt)
    return tok.decode(ids[n:])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", default="model")
    ap.add_argument("--calib", default="calib.txt")
    ap.add_argument("--text", default="heldout.txt")
    ap.add_argument("--suite")
    ap.add_argument("--say", action="store_true", help="print the FP16 answers")
    ap.add_argument("--group", type=int, default=128)
    ap.add_argument(
        "--no-duo", action="store_true", help="scales from activations only (llm-awq) instead of AutoAWQ's"
    )
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("-v", action="store_true")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    tok = Tokenizer.from_file(a.model + "/tokenizer.json")

    def blocks(path, size):
        ids = tok.encode(open(path, encoding="utf-8").read(), add_special_tokens=False).ids
        return torch.tensor(ids[: len(ids) // size * size]).reshape(-1, size)

    base = LlamaForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
    text, calib = blocks(a.text, BLOCK), blocks(a.calib, 512)
    models = {"FP16": base, "RTN": copy.deepcopy(base), "AWQ": copy.deepcopy(base)}
    rtn(models["RTN"], a.group)
    awq(models["AWQ"], calib, a.group, not a.no_duo, a.v)
    nll = {k: block_nll(m, text) for k, m in models.items()}
    print(
        "%d blocks of %d tokens, calibration %d tokens, group %d"
        % (len(text), BLOCK, calib.numel(), a.group)
    )
    for k in models:
        d = nll[k] - nll["FP16"]
        print(
            "%-5s PPL %.4f   ratio %.4f   NLL - FP16 %+.5f +- %.5f"
            % (k, nll[k].mean().exp(), d.mean().exp(), d.mean(), d.std() / math.sqrt(len(d)))
        )
    d = nll["AWQ"] - nll["RTN"]
    mean, se = d.mean().item(), (d.std() / math.sqrt(len(d))).item()
    print("AWQ - RTN %+.5f +- %.5f nats per token (%.1f standard errors)" % (mean, se, mean / se))
    if a.suite:
        rows = [x for x in map(json.loads, open(a.suite)) if "answer" in x]
        for k, m in models.items():
            right = total = 0
            for row in rows:
                for q in [row["question"]] + row["paraphrases"]:
                    text_of = answer(m, tok, q)
                    good = row["answer"].lower() in text_of.lower()
                    right, total = right + good, total + 1
                    if a.say and k == "FP16":
                        print("  %s %s -> %s [%s]" % ("ok " if good else "BAD", q, text_of, row["answer"]))
            print("%-5s right answers %d of %d" % (k, right, total))
    return 0 if mean < -3 * se else 1


if __name__ == "__main__":
    sys.exit(main())
