"""PyTorch on the shapes of `cargo bench -p benches --bench gpu`, for comparison in the same session.

    python3 benches/torch_peer.py [--json]

Rows lie on the device. Times are the device's, over runs that follow each other, as for the
"resident" lines there. Without PyTorch or a device it says so and ends well.
"""

import json
import sys

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
    if not torch.cuda.is_available():
        print("nothing measured: PyTorch sees no CUDA device")
        return
    found = measure(torch)
    if "--json" in sys.argv:
        device = torch.cuda.get_device_name()
        print(json.dumps({"device": device, "torch": torch.__version__, "seconds": found}, indent=2))
        return
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    for shape, ways in found.items():
        for way, seconds in ways.items():
            print(f"{shape:<44} {way:<30} {seconds * 1e6:>10.1f} us")


if __name__ == "__main__":
    main()
