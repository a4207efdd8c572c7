#!/usr/bin/env python3
"""answers.py transformers|gptqmodel|vllm PROMPT FOLDER...: for each folder a line of JSON on stdout, {"folder",
"top20": [[id, log probability], ...], "greedy": [16 ids], "lead": [16 of the chosen over the next]} or {"folder",
"error"}.

PROMPT: token ids, 1,2,3. transformers runs in DTYPE (float32), with gptqmodel's kernels for AWQ files; gptqmodel is
its own loader, whose kernel multiplies with scales in fp16; vLLM in the type of the file. All in one process, as
starting an engine takes longer than its answer; a folder that ends the process has no line.
"""

import gc
import json
import os
import sys

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever the engines print
os.environ.setdefault("HF_HUB_OFFLINE", "1")
N = 16


def of_torch(load):
    import torch

    torch.set_num_threads(2)

    def answer(folder, ids):
        model = load(folder).eval()
        x, steps = torch.tensor([ids]), []
        with torch.no_grad():
            for _ in range(N):
                steps.append(torch.log_softmax(model(x).logits[0, -1].float(), -1))
                x = torch.cat([x, steps[-1].argmax().reshape(1, 1)], 1)
        if not all(s.isfinite().all() for s in steps):
            raise ValueError("the logits are not finite")
        steps = [[list(pair) for pair in zip(i.tolist(), v.tolist())] for v, i in (s.topk(20) for s in steps)]
        return steps, x[0, len(ids) :].tolist()

    return answer


def by_transformers():
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, os.environ.get("DTYPE", "float32"))

    def load(folder):
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, device_map={"": "cpu"}, dtype=dtype, output_loading_info=True
        )
        if found["missing_keys"]:  # it fills them with random numbers and goes on
            raise ValueError(f"missing {sorted(found['missing_keys'])[0]}")
        return model

    return of_torch(load)


def by_gptqmodel():
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # it fails with the 1 it takes on two cores
    import torch
    from gptqmodel import BACKEND, GPTQModel

    from common import read_tensors

    def load(folder):
        kernel = dict(backend=BACKEND.AWQ_TORCH, dtype=torch.float16)
        model = GPTQModel.load(folder, device="cpu", **kernel).model.float()
        unread = sorted(set(read_tensors(folder)) - set(model.state_dict()))
        if unread:  # it goes on with what was in memory
            raise ValueError(f"unread {unread[0]}")
        return model

    return of_torch(load)


def by_vllm():
    os.environ.update(
        VLLM_TARGET_DEVICE="cpu",
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_LOGGING_LEVEL="WARNING",
        VLLM_NO_USAGE_STATS="1",
        DO_NOT_TRACK="1",
        VLLM_CPU_INT4_W4A8="0",
    )  # else activations become int8
    import torch
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    if hasattr(torch.cpu, "_init_amx"):
        torch.cpu._init_amx()  # else its bf16 kernel is an illegal instruction

    def answer(folder, ids):
        try:
            llm = LLM(
                model=folder,
                enforce_eager=True,
                max_model_len=64,
                max_logprobs=20,
                max_num_seqs=4,
                logprobs_mode="raw_logprobs",
            )
            sampling = SamplingParams(temperature=0, max_tokens=N, logprobs=20, ignore_eos=True)
            r = llm.generate([{"prompt_token_ids": ids}], sampling, use_tqdm=False)[0].outputs[0]
            steps = [
                sorted(([int(k), v.logprob] for k, v in s.items()), key=lambda x: -x[1])[:20]
                for s in r.logprobs
            ]
            return steps, list(r.token_ids)
        finally:
            llm = None
            gc.collect()
            cleanup_dist_env_and_memory()

    return answer


def main():
    answer = {"transformers": by_transformers, "gptqmodel": by_gptqmodel, "vllm": by_vllm}[sys.argv[1]]()
    ids = [int(x) for x in sys.argv[2].split(",")]
    for folder in sys.argv[3:]:
        try:
            steps, greedy = answer(folder, ids)
            found = dict(folder=folder, top20=steps[0], greedy=greedy, lead=[s[0][1] - s[1][1] for s in steps])
        except Exception as e:
            found = dict(folder=folder, error=" ".join(f"{type(e).__name__}: {e}".split())[:300])
        print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    main()
