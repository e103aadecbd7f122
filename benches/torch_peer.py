"""PyTorch on the shapes of our benches, for comparison in the same run.

    python3 benches/torch_peer.py [--json]           # beside cargo bench -p benches --bench gpu
    python3 benches/torch_peer.py --cpu [--json]     # beside cargo bench -p kernels -- topk

On a device, rows lie there, and times are the device's, over runs that follow each other, as for
the "resident" lines of our bench. With --cpu one thread computes, times are medians, "cold" walks
through more rows than the caches hold. Without PyTorch or a device it says so and ends well.
"""

import json
import sys
import time

COUNT = 50
VOCABULARY = 131_072
WIDTH = 4096
K = 100


def steady(torch, run):
    """Seconds of one run among COUNT in a row."""
    run()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(COUNT):
        run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / COUNT


def top_k(torch, rows, dtype):
    logits = torch.randn(rows, VOCABULARY, device="cuda").to(dtype)
    return {
        "torch.topk": steady(torch, lambda: torch.topk(logits, K)),
        "torch.topk + torch.logsumexp": steady(
            torch, lambda: (torch.topk(logits, K), torch.logsumexp(logits.float(), -1))
        ),
    }


def int8(torch):
    hidden = torch.randn(4096, WIDTH, device="cuda", dtype=torch.bfloat16)

    def run():
        wide = hidden.float()
        scale = wide.abs().amax(-1, keepdim=True) / 127
        return torch.round(wide / scale).clamp(-127, 127).to(torch.int8), scale

    return {"eager": steady(torch, run), "torch.compile": steady(torch, torch.compile(run))}


def lm_head(torch, rows):
    weight = torch.randn(VOCABULARY, WIDTH, device="cuda", dtype=torch.bfloat16)
    hidden = torch.randn(rows, WIDTH, dtype=torch.bfloat16).pin_memory()

    def run():
        logits = hidden.to("cuda", non_blocking=True) @ weight.T
        values, indices = torch.topk(logits, K)
        return values.to("cpu", non_blocking=True), indices.to("cpu", non_blocking=True)

    return {"matmul + topk": steady(torch, run)}


def median(run, rows):
    """Median seconds of a run over each of the rows."""
    seconds = []
    for row in rows:
        start = time.perf_counter()
        run(row)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]


def on_cpu(torch):
    torch.set_num_threads(1)
    rows = torch.randn(128, VOCABULARY) * 3
    ways = {
        "torch.topk": lambda row: torch.topk(row, K),
        "torch.topk + torch.logsumexp": lambda row: (torch.topk(row, K), torch.logsumexp(row, 0)),
    }
    found = {}
    for how, walk in (("warm", [rows[0]] * 128), ("cold", list(rows))):
        shape = f"top-{K} of {VOCABULARY} f32, one thread, {how}"
        found[shape] = {way: median(run, walk) for way, run in ways.items()}
    return found


def measure(torch):
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        for rows in (1, 8, 64, 256):
            found[f"top-{K}, {rows} x {VOCABULARY} {dtype}"] = top_k(torch, rows, dtype)
    found[f"int8, 4096 x {WIDTH} bf16"] = int8(torch)
    for rows in (1, 8, 64):
        found[f"lm-head + top-{K}, {rows} x {WIDTH} to {VOCABULARY}"] = lm_head(torch, rows)
    return found


def main():
    try:
        import torch
    except ImportError:
        print("nothing measured: PyTorch is not installed")
        return
    if "--cpu" in sys.argv:
        device, found = "CPU", on_cpu(torch)
    elif torch.cuda.is_available():
        device, found = torch.cuda.get_device_name(), measure(torch)
    else:
        print("nothing measured: PyTorch sees no CUDA device (--cpu measures one thread)")
        return
    if "--json" in sys.argv:
        print(json.dumps({"device": device, "torch": torch.__version__, "seconds": found}, indent=2))
        return
    print(f"{device}, PyTorch {torch.__version__}")
    for shape, ways in found.items():
        for way, seconds in ways.items():
            print(f"{shape:<44} {way:<30} {seconds * 1e6:>10.1f} us")


if __name__ == "__main__":
    main()
