#!/usr/bin/env python3
"""Trains the demo model on the text of generate.py (needs torch, transformers, tokenizers, safetensors).

    python3 generate.py --seed 1 --mb 70 > train.txt
    python3 train.py --data train.txt --out model --minutes 42 --spread 0.75

Writes a Hugging Face folder: byte-level BPE tokenizer of 2048 tokens, a llama of 8 layers in float16.
Every linear layer has in and out sizes that are multiples of 128, so that 4-bit groups of 128 fit.
"""

import argparse
import json
import math
import os
import time

import numpy as np
import torch

SPECIAL = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
VOCAB = 2048
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_tokenizer(text_file, out):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    with open(text_file, encoding="utf-8") as f:
        head = f.read(12_000_000)
    for s in SPECIAL:
        head = head.replace(s, "\n")
    tok.train_from_iterator(head.split("\n\n"), trainer)
    assert tok.get_vocab_size() == VOCAB
    tok.save(os.path.join(out, "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
        "pad_token": "<|end|>",
        "unk_token": None,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
        "chat_template": TEMPLATE,
    }
    with open(os.path.join(out, "tokenizer_config.json"), "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    return tok


def encode(tok, text_file):
    """All of the text as one stream of ids, blank lines included."""
    paragraphs = open(text_file, encoding="utf-8").read().split("\n\n")
    parts = []
    for i in range(0, len(paragraphs), 20000):
        for e in tok.encode_batch(
            [p + "\n\n" for p in paragraphs[i : i + 20000] if p], add_special_tokens=False
        ):
            parts.append(np.array(e.ids, dtype=np.uint16))
    return np.concatenate(parts)


def attention(module, q, k, v, mask, scaling=None, dropout=0.0, **kwargs):
    """Causal, q, k, v: [B, heads, T, 32]. On one core two products beat the fused kernel's backward pass."""
    t = q.shape[2]
    w = torch.matmul(q.to(torch.bfloat16) * scaling, k.to(torch.bfloat16).transpose(2, 3))
    w = w + torch.full((t, t), float("-inf"), dtype=w.dtype).triu(1)
    w = torch.softmax(w, -1).to(torch.bfloat16)
    return torch.matmul(w, v.to(torch.bfloat16)).transpose(1, 2).contiguous(), None


def make_model(a):
    from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

    AttentionInterface.register("plain", attention)
    torch.manual_seed(a.seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=128,
        intermediate_size=a.ffn,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=a.init,
        attn_implementation="plain",
    )
    return LlamaForCausalLM(config)


def spread(model, sigma):
    """Makes the channels unequal without changing the function: norm gains (and rows of v and up) times t, the
    columns that read them divided by t; t is log-normal and cut at 2 sigma. Large models grow such outlier
    channels in long training. One this small and young does not, and plain rounding would cost it nothing.
    Training goes on afterwards.
    """
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in model.model.layers:
            a, m = layer.self_attn, layer.mlp
            for before, after in (
                (layer.input_layernorm, (a.q_proj, a.k_proj, a.v_proj)),
                (a.v_proj, (a.o_proj,)),
                (layer.post_attention_layernorm, (m.gate_proj, m.up_proj)),
                (m.up_proj, (m.down_proj,)),
            ):
                t = torch.exp(sigma * torch.randn(before.weight.shape[0], generator=g).clamp(-2, 2))
                before.weight.mul_(t[:, None] if before.weight.dim() == 2 else t)
                for lin in after:
                    lin.weight.div_(t)


def optimizer(model, a):
    decay = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW(
        [{"params": decay, "weight_decay": a.wd}, {"params": rest, "weight_decay": 0.0}],
        lr=a.lr,
        betas=(0.9, 0.98),
        fused=True,
    )


def save(model, a):
    from safetensors.torch import save_file

    t = {
        k: v.detach().to(torch.float16).contiguous()
        for k, v in model.state_dict().items()
        if k != "lm_head.weight" and "rotary" not in k
    }
    assert all(torch.isfinite(v).all() for v in t.values())
    save_file(t, os.path.join(a.out, "model.safetensors"), metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "head_dim": 32,
        "hidden_act": "silu",
        "hidden_size": 128,
        "initializer_range": a.init,
        "intermediate_size": a.ffn,
        "max_position_embeddings": 512,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_hidden_layers": 8,
        "num_key_value_heads": 4,
        "pad_token_id": 1,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "transformers_version": "4.46.0",
        "use_cache": True,
        "vocab_size": VOCAB,
    }
    for name, obj in (
        ("config.json", config),
        (
            "generation_config.json",
            {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        ),
    ):
        with open(os.path.join(a.out, name), "w") as f:
            json.dump(obj, f, indent=2)
            f.write("\n")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", default="train.txt")
    ap.add_argument("--out", default="model")
    ap.add_argument(
        "--minutes", type=float, default=42, help="length of the run; the learning rate follows the clock"
    )
    ap.add_argument(
        "--steps", type=int, default=0, help="length of the run in steps instead of minutes (reproducible)"
    )
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--wd", type=float, default=0.05)
    ap.add_argument("--tokens", type=int, default=4096, help="tokens of a step")
    ap.add_argument(
        "--long",
        type=float,
        default=0.35,
        help="last part of the run: windows of 512 instead of 256 tokens",
    )
    ap.add_argument("--spread", type=float, default=0.5, help="sigma of the channel gains, see spread()")
    ap.add_argument(
        "--resume",
        type=float,
        default=0.0,
        help="go on from the model in --out, this share of the run being done",
    )
    ap.add_argument("--ffn", type=int, default=512)
    ap.add_argument("--init", type=float, default=0.05)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    os.makedirs(a.out, exist_ok=True)

    if a.resume:
        from tokenizers import Tokenizer

        tok = Tokenizer.from_file(os.path.join(a.out, "tokenizer.json"))
    else:
        tok = make_tokenizer(a.data, a.out)
    ids = encode(tok, a.data)
    newline = tok.encode("a\n\n").ids[-1]
    starts = np.flatnonzero((ids[1:-514] == newline) & (ids[:-515] == newline)) + 2
    print("tokens %d, paragraphs %d" % (len(ids), len(starts)), flush=True)

    model = make_model(a)
    print("parameters %d" % sum(p.numel() for p in model.parameters()), flush=True)
    if a.resume:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(os.path.join(a.out, "model.safetensors")), strict=False)
    opt, fresh, late = optimizer(model, a), 0, False
    rng = np.random.default_rng(a.seed)
    begin, step, seen = time.time() - a.resume * a.minutes * 60, int(a.resume * a.steps), 0.0
    first, start = step, time.time()
    while True:
        done = step / a.steps if a.steps else (time.time() - begin) / (a.minutes * 60)
        if done >= 1:
            break
        if done >= 1 - a.long and not late:
            spread(model, a.spread)
            opt, fresh, late = optimizer(model, a), step, True
        lr = (
            a.lr * min(1.0, (step - fresh + 1) / 150) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        )
        for g in opt.param_groups:
            g["lr"] = lr
        seq = 512 if late else 256
        batch = a.tokens // seq
        # Half of the windows start with a paragraph, as prompts do, and half anywhere.
        at = np.where(
            rng.random(batch) < 0.5,
            starts[rng.integers(0, len(starts), batch)],
            rng.integers(0, len(ids) - 514, batch),
        )
        x = torch.from_numpy(np.stack([ids[i : i + seq + 1] for i in at]).astype(np.int64))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=x[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().reshape(-1, VOCAB), x[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        seen = loss.item() if step == first + 1 else 0.95 * seen + 0.05 * loss.item()
        if step % 50 == 0 or step == 5:
            t = time.time() - start
            print(
                "step %d loss %.4f lr %.2e tokens/s %.0f minutes %.1f"
                % (step, seen, lr, (step - first) * a.tokens / t, t / 60),
                flush=True,
            )
        if step % 500 == 0:
            save(model, a)
    save(model, a)
    print("done: %d steps, %.1fM tokens, loss %.4f" % (step, (step - first) * a.tokens / 1e6, seen))


if __name__ == "__main__":
    main()
