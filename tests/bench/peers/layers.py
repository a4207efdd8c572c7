"""Single 4-bit linears, asymmetric, groups of 128, of other engines, as tests/bench/bench_layers.c has them: 220 MB of
different ones in turn; the median time of a layer.   layers.py openvino|onnxruntime|ipex|torch THREADS [SECONDS]"""
import os
import sys
import time

engine, threads = sys.argv[1], int(sys.argv[2])
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
os.environ["OMP_NUM_THREADS"] = str(threads)
import numpy as np

SHAPES, ROWS, GROUP = ((4096, 11008), (4096, 4096)), (1, 2, 4, 8, 16, 32, 128, 512), 128
rng = np.random.default_rng(0)


def openvino(K, N, layers):
    import openvino as ov
    from openvino import opset13 as op

    def codes(shape):
        t = ov.Tensor(ov.Type.u4, ov.Shape(list(shape)))
        t.data[:] = rng.integers(0, 256, t.data.shape, dtype=np.uint8)
        return ov.op.Constant(t)
    x = op.parameter([-1, K], np.float32, name="x")
    out = []
    for _ in range(layers):
        q = op.convert(codes((N, K // GROUP, GROUP)), "f16")
        z = op.convert(codes((N, K // GROUP, 1)), "f16")
        s = op.constant((rng.random((N, K // GROUP, 1)) * 0.01 + 0.01).astype(np.float16))
        w = op.convert(op.reshape(op.multiply(op.subtract(q, z), s), np.array([N, K]), False), "f32")
        out.append(op.matmul(x, w, False, True))
    config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    # fp32 activations rounded to 8 bits in groups: its fastest for few rows; its default, bf16, for many
    fast = {**config, "INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}
    model = ov.Model(out, [x], "m")
    requests = [ov.Core().compile_model(model, "CPU", c).create_infer_request() for c in (fast, config)]

    def call(rows):
        a = ov.Tensor(np.ascontiguousarray(rng.standard_normal((rows, K), dtype=np.float32)), shared_memory=True)
        for r in requests:
            r.set_input_tensor(a)
        return [r.infer for r in requests]
    return "OpenVINO " + ov.__version__.split("-")[0], call, layers


def onnxruntime(K, N, layers):
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper
    nodes, init = [], []
    for i in range(layers):
        init += [numpy_helper.from_array(rng.integers(0, 256, (N, K // GROUP, GROUP // 2), dtype=np.uint8), "b%d" % i),
                 numpy_helper.from_array(rng.random((N, K // GROUP), dtype=np.float32) * 0.01 + 0.01, "s%d" % i),
                 numpy_helper.from_array(rng.integers(0, 256, (N, K // GROUP // 2), dtype=np.uint8), "z%d" % i)]
        nodes.append(helper.make_node("MatMulNBits", ["x", "b%d" % i, "s%d" % i, "z%d" % i], ["y%d" % i],
                                      domain="com.microsoft", K=K, N=N, bits=4, block_size=GROUP, accuracy_level=4))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", K])],
                              [helper.make_tensor_value_info("y%d" % i, TensorProto.FLOAT, ["m", N])
                               for i in range(layers)], init)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17),
                                                    helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 9
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def call(rows):
        a = rng.standard_normal((rows, K), dtype=np.float32)
        return [lambda: session.run(None, {"x": a})]
    return "ONNX Runtime " + ort.__version__, call, layers


def ipex(K, N, layers):
    import torch
    import intel_extension_for_pytorch as ipex
    from intel_extension_for_pytorch.llm.quantization import QuantDtype, QuantMethod
    from intel_extension_for_pytorch.nn.modules import WeightOnlyQuantizedLinear
    from intel_extension_for_pytorch.quantization import WoqLowpMode, WoqWeightDtype
    torch.set_num_threads(threads)
    config = ipex.quantization.get_weight_only_quant_qconfig_mapping(
        weight_dtype=WoqWeightDtype.INT4, lowp_mode=WoqLowpMode.INT8, group_size=GROUP,
        act_quant_mode=ipex.quantization.WoqActQuantMode.PER_IC_BLOCK)
    word = lambda *shape: torch.randint(-2**31, 2**31 - 1, shape, dtype=torch.int32)
    linears = [WeightOnlyQuantizedLinear.from_weight(
        word(K, N // 8), torch.rand(K // GROUP, N).to(torch.float16) * 0.01, word(K // GROUP, N // 8), K, N, config,
        None, GROUP, None, QuantMethod.AWQ_GEMM, QuantDtype.INT4) for _ in range(layers)]

    def call(rows):
        a = torch.randn(rows, K).to(torch.bfloat16)

        def run():
            with torch.no_grad():
                for linear in linears:
                    linear(a)
        return [run]
    return "IPEX " + ipex.__version__, call, layers


def torch(K, N, layers):
    import torch
    torch.set_num_threads(threads)
    linears = [(torch.ops.aten._convert_weight_to_int4pack_for_cpu(torch.randint(0, 16, (N, K), dtype=torch.int32), 1),
                torch.rand(K // GROUP, N, 2).to(torch.bfloat16)) for _ in range(layers)]

    def call(rows):
        a = torch.randn(rows, K).to(torch.bfloat16)

        def run():
            with torch.no_grad():
                for w, s in linears:
                    torch.ops.aten._weight_int4pack_mm_for_cpu(a, w, GROUP, s)
        return [run]
    return "torch " + torch.__version__, call, layers


for K, N in SHAPES:
    name, call, layers = globals()[engine](K, N, int(220e6 / (K * N / 2)) + 1)
    for rows in ROWS:
        best = None
        for run in call(rows):
            run()
            times, end = [], time.perf_counter() + seconds
            while len(times) < 3 or time.perf_counter() < end:
                t = time.perf_counter()
                run()
                times.append((time.perf_counter() - t) / layers)
            t = sorted(times)[len(times) // 2]
            best = t if best is None or t < best else best
        print("%s K=%d N=%d t=%d M=%d: %.0f us" % (name, K, N, threads, rows, best * 1e6), flush=True)
