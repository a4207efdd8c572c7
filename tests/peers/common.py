"""What the scripts of this folder share: small random models and plain copies of what a package quantized."""

import glob
import json
import os
import shutil
import subprocess
import tempfile

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # it fails with the 1 it takes on two cores
torch.set_num_threads(2)
VOCAB = 512
IDS = [1, 5, 9, 42, 77, 100, 3, 250, 17, 64, 33, 201, 8, 90, 151, 12]
PART = (
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".weight_packed",
    ".weight_scale",
    ".weight_shape",
    ".weight_zero_point",
    ".weight_g_idx",
)
MIXTRAL = (
    (".mlp.", ".block_sparse_moe."),
    (".gate_proj.", ".w1."),
    (".up_proj.", ".w3."),
    (".down_proj.", ".w2."),
)


def tokens(rows, length, seed=1):
    """Random calibration: lists of token ids, the special ones left out."""
    return torch.randint(3, 256, (rows, length), generator=torch.Generator().manual_seed(seed)).tolist()


def write_tokenizer(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names = ["<pad>", "<s>", "</s>"] + sorted(pre_tokenizers.ByteLevel.alphabet())
    t = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(names[:3])
    t.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(
            dict(
                tokenizer_class="PreTrainedTokenizerFast",
                bos_token="<s>",
                eos_token="</s>",
                pad_token="<pad>",
                model_max_length=512,
            ),
            f,
        )


def randomize(model, seed):
    """Weights of the size that keeps activations and logits near 1, so that an error anywhere shows in these."""
    g = torch.Generator().manual_seed(seed)
    tied = model.config.get_text_config().tie_word_embeddings
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=g)
            if p.ndim == 1:
                p += 0.1 * noise  # norms keep their 0 or 1, biases 0
            elif "embed" in name:
                p.copy_(noise * (2.5 / p.shape[-1] ** 0.5 if tied else 1))
            else:
                p.copy_(noise * (2.5 if "lm_head" in name else 1) / p.shape[-1] ** 0.5)
                p[..., ::7, :].abs_()  # groups whose zero point is 0, and those where it is 15
                p[..., 3::11, :].abs_().neg_()
    return model


def write_model(folder, config, dtype="float16", seed=7):
    from transformers import AutoModelForCausalLM

    model = randomize(AutoModelForCausalLM.from_config(config).float(), seed)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    write_tokenizer(folder)


def tiny(family, folder, dtype="float16"):
    """A random model of two layers which every package here can quantize in groups of up to 128."""
    from transformers import AutoConfig

    more = {
        "llama": {},
        "qwen3": dict(head_dim=32),
        "mixtral": dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    }
    write_model(
        folder,
        AutoConfig.for_model(
            family,
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=VOCAB,
            max_position_embeddings=512,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            tie_word_embeddings=False,
            **more[family],
        ),
        dtype,
    )
    return folder


def read_tensors(folder):
    from safetensors.torch import load_file

    tensors = {}
    for path in glob.glob(os.path.join(folder, "*.safetensors")):
        tensors.update(load_file(path))
    return tensors


def write_plain(checkpoint, weights, folder):
    """A quantized checkpoint as a plain fp32 one, with `weights` by linear for the packed tensors."""
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    tensors = {name: t.float() for name, t in read_tensors(checkpoint).items() if not name.endswith(PART)}
    tensors.update({name + ".weight": w.float().contiguous() for name, w in weights.items()})
    with open(os.path.join(checkpoint, "config.json")) as f:
        config = json.load(f)
    if config["model_type"] == "mixtral":  # some packages write the names of its newer relatives
        for theirs, its in MIXTRAL:
            tensors = {name.replace(theirs, its): t for name, t in tensors.items()}
    save_file(tensors, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    config.pop("quantization_config", None)
    for key in ("dtype", "torch_dtype"):
        if key in config:
            config[key] = "float32"
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if os.path.exists(os.path.join(checkpoint, name)):
            shutil.copy(os.path.join(checkpoint, name), folder)


def round_trip(weight, scales, zeros, half_offset=False):
    """(q - zero) * scale in fp32, of a weight [out, in] that a package rounded; scales, zeros [out, groups].
    half_offset: q * scale + offset, where the file has the offset -zero * scale as fp16."""
    out, k = weight.shape
    w, s, z = (
        weight.float().reshape(out, scales.shape[1], -1),
        scales.float()[..., None],
        zeros.float()[..., None],
    )
    offset = -(s * z)
    return (torch.round(w / s + z) * s + (offset.half().float() if half_offset else offset)).reshape(out, k)


def awq_logits(awq, folder):
    """[IDS, vocabulary] by `awq logits --exact`; RuntimeError(its sentence) when awq.h refuses"""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "logits.safetensors")
        run = subprocess.run(
            [awq, "logits", folder, "--tokens", ",".join(map(str, IDS)), "--exact", "-o", path, "-q"],
            stderr=subprocess.PIPE,
            text=True,
        )
        if run.returncode:
            raise RuntimeError(run.stderr.strip() or f"exit status {run.returncode}")
        return load_file(path)["logits"]


def plain_logits(folder):
    """the same by transformers in fp32"""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits[0]


def gptqmodel_weights(folder):
    """(name, fp32 weight [out, in]) of every quantized linear, as gptqmodel reads and dequantizes it."""
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    with open(os.path.join(folder, "config.json")) as f:
        method = json.load(f)["quantization_config"]["quant_method"]
    model = GPTQModel.load(
        folder, device="cpu", backend=BACKEND.AWQ_TORCH if method == "awq" else BACKEND.GPTQ_TORCH
    )
    tensors = read_tensors(folder)
    for name, m in model.model.named_modules():
        if not isinstance(m, BaseQuantLinear):
            continue
        m.scales = tensors[name + ".scales"].float()  # it may hold them as bf16, and would round the product
        w = (
            dequantize_gemm(m.qweight, m.qzeros, m.scales, m.bits, m.group_size)
            if method == "awq"
            else m.dequantize_weight()
        )
        yield name, w.T.contiguous().float()


def attempt(what, make, *arguments, **settings):
    """Make one checkpoint; a package that cannot is one line of the output, not the end of the others."""
    import traceback

    try:
        make(*arguments, **settings)
        print(f"made {what}", flush=True)
    except Exception as e:
        traceback.print_exc()
        print(
            f"not made: {what}: {type(e).__name__}: {str(e).strip().splitlines()[0][:200] if str(e) else ''}",
            flush=True,
        )
