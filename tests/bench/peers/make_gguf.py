"""A llama of random weights as llama-quantize would mix its types: make_gguf.py tiny|3b q4_0|q4_1|q4_k_m OUT.gguf
Blocks are written as bytes; scales are small, so that numbers stay finite."""
import sys
import numpy as np
import gguf

SHAPES = {"tiny": (2048, 5632, 22, 32, 4, 64, 32000, 10000.0), "3b": (3072, 8192, 28, 24, 8, 128, 128256, 500000.0)}
G = gguf.GGMLQuantizationType
BLOCKS = {G.Q4_0: (32, 18, (0,)), G.Q4_1: (32, 20, (0, 2)), G.Q4_K: (256, 144, (0, 2)), G.Q6_K: (256, 210, (208,))}

shape, mix, out = sys.argv[1:4]
H, I, L, heads, kv, dim, V, theta = SHAPES[shape]
plain = {"q4_0": G.Q4_0, "q4_1": G.Q4_1, "q4_k_m": G.Q4_K}[mix]
rng = np.random.default_rng(1)


def more_bits(layer):
    return mix == "q4_k_m" and (layer < L // 8 or layer >= 7 * L // 8 or (layer - L // 8) % 3 == 2)


tensors = [("token_embd.weight", V, H, G.Q6_K if shape == "3b" else plain)]  # tied: it is the head too
if shape == "tiny":
    tensors.append(("output.weight", V, H, G.Q6_K))
tensors.append(("output_norm.weight", H, 0, None))
for layer in range(L):
    p, best = "blk.%d." % layer, G.Q6_K if more_bits(layer) else plain
    tensors += [(p + "attn_norm.weight", H, 0, None), (p + "ffn_norm.weight", H, 0, None),
                (p + "attn_q.weight", heads * dim, H, plain), (p + "attn_k.weight", kv * dim, H, plain),
                (p + "attn_v.weight", kv * dim, H, best), (p + "attn_output.weight", H, heads * dim, plain),
                (p + "ffn_gate.weight", I, H, plain), (p + "ffn_up.weight", I, H, plain),
                (p + "ffn_down.weight", H, I, best)]

w = gguf.GGUFWriter(out, "llama")
w.add_name("random-" + shape)
w.add_context_length(4096)
w.add_embedding_length(H)
w.add_block_count(L)
w.add_feed_forward_length(I)
w.add_head_count(heads)
w.add_head_count_kv(kv)
w.add_rope_dimension_count(dim)
w.add_layer_norm_rms_eps(1e-5)
w.add_rope_freq_base(theta)
w.add_vocab_size(V)
w.add_file_type({"q4_0": 2, "q4_1": 3, "q4_k_m": 15}[mix])
w.add_tokenizer_model("llama")
tokens = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)]
tokens += [b"t%d" % i for i in range(V - len(tokens))]
w.add_token_list(tokens)
w.add_token_scores([0.0] * 259 + [-float(i) for i in range(V - 259)])
w.add_token_types([2, 3, 3] + [6] * 256 + [1] * (V - 259))
w.add_bos_token_id(1)
w.add_eos_token_id(2)
w.add_unk_token_id(0)
for name, rows, columns, kind in tensors:
    if kind is None:
        w.add_tensor_info(name, (rows,), np.dtype(np.float32), 4 * rows)
        continue
    n, size, _ = BLOCKS[kind]
    w.add_tensor_info(name, (rows, columns // n * size), np.dtype(np.uint8), rows * columns // n * size, raw_dtype=kind)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_ti_data_to_file()
for name, rows, columns, kind in tensors:
    if kind is None:
        w.write_tensor_data(np.ones(rows, np.float32))
        continue
    n, size, halves = BLOCKS[kind]
    blocks = np.frombuffer(rng.bytes(rows * columns // n * size), np.uint8).reshape(-1, size).copy()
    for at in halves:
        scale = 0.2 / np.sqrt(columns) / (64 if size > 100 else 1)
        blocks[:, at:at + 2] = np.array([scale], np.float16).view(np.uint8)
    w.write_tensor_data(blocks.reshape(rows, -1))
w.close()
