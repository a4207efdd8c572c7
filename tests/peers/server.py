#!/usr/bin/env python3
"""server.py AWQ MODEL RANKS LIMIT: vLLM's OpenAI server answers from MODEL as awq.h does.

Starts the server on a free port of 127.0.0.1, with the model's weights split among RANKS processes, and asks
once for a completion and once for a chat, both greedy. Three results for each: the prompt has the tokens that
awq.h gives it; the log probabilities of the five likeliest tokens of every step are within LIMIT of what `awq
logits --exact` says of that same text; and the text is what `awq run --temp 0` writes, or parts from it where
awq.h has the two tokens within LIMIT.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np
from safetensors.numpy import load_file

awq, model, ranks, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
name = f"server {os.path.basename(model)}" + (f" on {ranks} ranks" if ranks > 1 else "")
PROMPT, N = "Bram is a", 24
MESSAGES = [{"role": "user", "content": "Where is the old bridge?"}]
START, ANSWER = 300, 120  # seconds


def report(ok, what, found):
    print(f"{'ok' if ok else 'FAILED':6s} {name}, {what}: {found}", flush=True)


def ours(*arguments):
    return subprocess.run([awq, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def our_logprobs(ids):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "logits.safetensors")
        ours("logits", model, "--tokens", ",".join(map(str, ids)), "--exact", "-o", path, "-q")
        x = load_file(path)["logits"].astype(np.float64)
    x -= x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def ask(port, path, body=None):
    url, headers = f"http://127.0.0.1:{port}{path}", {"Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=ANSWER) as answer:
        return answer.read()


def compare(what, prompt, our_prompt, tokens, steps, text, our_text):
    """steps: for every token {token id: log probability} of the likeliest few"""
    report(
        prompt == our_prompt,
        what,
        f"{len(prompt)} prompt tokens, awq.h {len(our_prompt)}"
        + ("" if prompt == our_prompt else f": {prompt} and {our_prompt}"),
    )
    p = our_logprobs(prompt + tokens)[len(prompt) - 1 : -1]
    d = max(abs(p[i][t] - v) for i, step in enumerate(steps) for t, v in step.items())
    report(d <= limit, what, f"log probabilities of {len(steps)} tokens, D {d:.1e} (limit {limit:g})")
    lead = max(p[i].max() - p[i][t] for i, t in enumerate(tokens))  # 0: each was awq.h's choice as well
    same = text == our_text
    report(
        same or lead and lead <= limit,
        what,
        (
            "the same text"
            if same
            else f"{text!r}, awq.h {our_text!r}, whose choices are up to {lead:.1e} likelier"
        ),
    )


def check(port):
    common = {
        "model": "m",
        "max_tokens": N,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    run = ["run", model, "-n", N, "--temp", "0", "--ignore-eos", "--exact", "--json", "-q"]

    r = json.loads(ask(port, "/v1/completions", {**common, "prompt": PROMPT, "logprobs": 5}))["choices"][0]
    steps = [{int(k.split(":")[1]): v for k, v in s.items()} for s in r["logprobs"]["top_logprobs"]]
    compare(
        "completion",
        r["prompt_token_ids"],
        json.loads(ours("tokenize", model, "--text", PROMPT, "--json"))["ids"],
        r["token_ids"],
        steps,
        r["text"],
        json.loads(ours(*run, "-p", PROMPT))["text"],
    )

    r = json.loads(
        ask(port, "/v1/chat/completions", {**common, "messages": MESSAGES, "logprobs": True, "top_logprobs": 5})
    )
    prompt, r = r["prompt_token_ids"], r["choices"][0]
    steps = [
        {int(t["token"].split(":")[1]): t["logprob"] for t in s["top_logprobs"]}
        for s in r["logprobs"]["content"]
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(MESSAGES, f)
        f.flush()
        text = json.loads(ours("template", model, "--messages", f.name, "--generation-prompt", "--json"))[
            "text"
        ]
    compare(
        "chat",
        prompt,
        json.loads(ours("tokenize", model, "--text", text, "--no-special", "--json"))["ids"],
        r["token_ids"],
        steps,
        r["message"]["content"],
        json.loads(ours(*run, "--chat", "-p", MESSAGES[0]["content"]))["text"],
    )


def main():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = dict(
        os.environ,
        VLLM_TARGET_DEVICE="cpu",
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_NO_USAGE_STATS="1",
        DO_NOT_TRACK="1",
        HF_HUB_OFFLINE="1",
        VLLM_CPU_INT4_W4A8="0",
        VLLM_HOST_IP="127.0.0.1",
        GLOO_SOCKET_IFNAME="lo",
    )
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        model,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--served-model-name",
        "m",
        "--max-model-len",
        "256",
        "--enforce-eager",
        "--logprobs-mode",
        "raw_logprobs",
        "--generation-config",
        "vllm",
    ]
    if ranks > 1:
        command += ["--tensor-parallel-size", str(ranks), "--distributed-executor-backend", "mp"]
        env["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(map(str, range(ranks)))
    log = tempfile.TemporaryFile()
    server = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    try:
        end = time.time() + START
        while True:
            try:
                ask(port, "/health")
                break
            except OSError:
                if server.poll() is None and time.time() < end:
                    time.sleep(1)
                    continue
                log.seek(max(0, log.tell() - 3000))
                sys.stderr.write(log.read().decode(errors="replace"))
                report(False, "start", "stopped" if server.poll() is not None else f"not ready in {START} s")
                return
        check(port)
    finally:
        if server.poll() is None:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(server.pid, signal.SIGKILL)  # what is left of its own group
        except ProcessLookupError:
            pass
        server.wait()


main()
