"""compressed-tensors and GPTQModel against awq.h, bit for bit: python layouts.py AWQ [QUANTIZED_FOLDER...]

A small llama is packed by the package for every number of bits, symmetric or not, in groups and whole rows, with rows
that do not fill a word; `awq convert` must dequantize it to the package's numbers and write the package's bytes again.
Checkpoints of the other layouts are written by awq and read by the packages. Folders named beside AWQ (written by
`awq quantize --layout compressed-tensors`) must dequantize to the same numbers in both. Needs compressed-tensors 0.20."""
import json, os, shutil, subprocess, sys, tempfile
import torch
from safetensors.torch import load_file, save_file
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor as Packed
from compressed_tensors.compressors.naive_quantized.base import IntQuantizationCompressor as Int8
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

report = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever the packages print
AWQ = sys.argv[1]
WORK = tempfile.mkdtemp()
CONFIG = {"model_type": "llama", "vocab_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_act": "silu",
          "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "torch_dtype": "float16"}
passed = failed = 0


def check(what, ok):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAILED", what, file=report)


def run(*args):
    r = subprocess.run([AWQ, *args, "-q"], capture_output=True, text=True)
    if r.returncode:
        print(r.stderr)
    return r.returncode == 0


def linears(hidden, inner):
    shapes = {"q_proj": (hidden, hidden), "k_proj": (hidden, hidden), "v_proj": (hidden, hidden), "o_proj": (hidden, hidden),
              "gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    return {f"model.layers.0.{'mlp' if k[0] in 'gud' else 'self_attn'}.{k}": s for k, s in shapes.items()}


def write(folder, hidden, inner, quantization, tensors):
    os.makedirs(folder)
    rest = {f"model.layers.0.{n}_layernorm.weight": torch.ones(hidden, dtype=torch.float16)
            for n in ("input", "post_attention")}
    rest["model.norm.weight"] = torch.ones(hidden, dtype=torch.float16)
    rest["model.embed_tokens.weight"] = torch.randn(32, hidden).half()
    save_file({**rest, **tensors}, f"{folder}/model.safetensors", {"format": "pt"})
    with open(f"{folder}/config.json", "w") as f:
        json.dump({**CONFIG, "hidden_size": hidden, "intermediate_size": inner, "quantization_config": quantization}, f)


def scheme_of(group):
    return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**group["weights"]))


def decompressed(folder):
    """every linear as the package reads it, in fp32: (q - z) * s is exact there"""
    with open(f"{folder}/config.json") as f:
        q = json.load(f)["quantization_config"]
    named = {t: g for g in q["config_groups"].values() for t in g["targets"]}
    compressor = Int8 if q["format"] == "int-quantized" else Packed
    tensors, out = load_file(f"{folder}/model.safetensors"), {}
    for key in [k for k in tensors if k.endswith(".weight_scale")]:
        name = key[:-len(".weight_scale")]
        own = {k[len(name) + 1:]: v for k, v in tensors.items() if k.startswith(name + ".")}
        own["weight_scale"] = own["weight_scale"].float()
        scheme = scheme_of(named.get(name, named["Linear"]))
        out[name] = compressor.decompress(own, scheme)["weight"].float()
    return out


def same(a, b, keys=None):
    keys = keys or a.keys()
    return all(k in b and a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in keys)


def dense(folder):
    out = f"{WORK}/dense"
    shutil.rmtree(out, ignore_errors=True)
    return load_file(f"{out}/model.safetensors") if run("convert", folder, "-o", out, "--dequantize", "fp32") else {}


def reads(what, folder):
    theirs, ours = decompressed(folder), dense(folder)
    check(what, theirs and all(torch.equal(w, ours.get(n + ".weight", torch.empty(0))) for n, w in theirs.items()))


def packed_by_package(bits, symmetric, group, dtype, hidden, inner, compressor=Packed, form="pack-quantized"):
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric,
               **({"strategy": "group", "group_size": group} if group else {"strategy": "channel"})}
    tensors, half = {}, 1 << (bits - 1)
    for name, (n, k) in linears(hidden, inner).items():
        g = k // (group or k)
        scale = (torch.rand(n, g) / 50 + 1e-3).to(dtype)
        zero = torch.randint(1 - half, half, (n, g), dtype=torch.int8) * (not symmetric)  # 0 is refused by gptq
        q = torch.randint(-half, half, (n, k), dtype=torch.int8)
        w = (q.double() - zero.double().repeat_interleave(k // g, 1)) * scale.double().repeat_interleave(k // g, 1)
        state = {"weight": w, "weight_scale": scale, "weight_zero_point": zero}
        for suffix, t in compressor.compress(state, scheme_of({"weights": weights})).items():
            tensors[f"{name}.{suffix}"] = t.to(dtype) if suffix == "weight_scale" else t
    folder = f"{WORK}/p{bits}{symmetric}{group}{dtype}{hidden}{form}".replace("torch.", "")
    write(folder, hidden, inner, {"quant_method": "compressed-tensors", "format": form, "ignore": ["lm_head"],
                                  "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}, tensors)
    return folder


def again(what, folder, *layouts):
    """through the layouts and back: the same bytes"""
    first = load_file(f"{folder}/model.safetensors")
    for i, layout in enumerate(layouts):
        out = f"{WORK}/step{i}"
        shutil.rmtree(out, ignore_errors=True)
        if not run("convert", folder, "-o", out, "--layout", layout):
            return check(what, False)
        folder = out
    last = load_file(f"{folder}/model.safetensors")
    check(what, first.keys() == last.keys() and same(first, last))


torch.manual_seed(1)
for bits in range(2, 9):
    for symmetric in (True, False):
        for group, hidden, inner in ((0, 60, 90), (30, 60, 90), (32, 64, 96), (32, 256, 352)):
            dtype = torch.bfloat16 if symmetric else torch.float16
            folder = packed_by_package(bits, symmetric, group, dtype, hidden, inner)
            what = f"{bits} bits, {'symmetric' if symmetric else 'asymmetric'}, group {group}, {hidden} x {inner}"
            reads(what, folder)
            again(what + ", written again", folder, "compressed-tensors")
            if bits in (2, 3, 4, 8) and not symmetric and group == 32 and hidden == 256:
                again(what + ", by way of gptq", folder, "gptq", "gptq_v2", "compressed-tensors")
for symmetric in (True, False):
    folder = packed_by_package(8, symmetric, 32, torch.bfloat16, 64, 96, Int8, "int-quantized")
    reads(f"int-quantized, symmetric {symmetric}", folder)
    again("int-quantized, by way of pack-quantized", folder, "compressed-tensors", "int-quantized")

# GPTQ as GPTQModel reads it
try:
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module
except ImportError as e:
    print("skipped GPTQModel,", e, file=report)
else:
    for bits in (2, 3, 4, 8):
        source, folder = f"{WORK}/p{bits}False32float16256pack-quantized", f"{WORK}/gptq{bits}"
        check(f"gptq, {bits} bits", run("convert", source, "-o", folder, "--layout", "gptq"))
        tensors, want = load_file(f"{folder}/model.safetensors"), dense(source)
        for name, (n, k) in linears(256, 352).items():
            m = TorchLinear(bits=bits, group_size=32, sym=False, desc_act=False, in_features=k, out_features=n, bias=False,
                            pack_dtype=torch.int32, register_buffers=True)
            m.load_state_dict({s: tensors[f"{name}.{s}"] for s in ("qweight", "qzeros", "scales", "g_idx")}, strict=False)
            convert_gptq_v1_to_v2_format_module(m, bits=bits, pack_dtype=torch.int32)
            m.post_init()
            w = m.dequantize_weight().T.float()
            check(f"gptq, {bits} bits, {name}", (w - want[name + ".weight"]).abs().max() <= 2e-3 * w.abs().max())

for folder in sys.argv[2:]:
    reads(folder, folder)
shutil.rmtree(WORK)
print(f"{'FAILED' if failed else 'ok'} layouts: {passed} equal, {failed} not", file=report)
report.flush()
sys.exit(failed != 0)
