"""PyTorch and numpy on the shapes of our benches, for comparison in the same run.

    python3 benches/torch_peer.py [--json]           # beside cargo bench -p benches --bench gpu
    python3 benches/torch_peer.py --cpu [--json]     # beside cargo bench -p kernels -- topk

On a device, rows lie there, and times are the device's, over runs that follow each other, as for
the "resident" lines of our bench. With --cpu one thread computes, times are medians, "cold" walks
through more rows than the caches hold; numpy is measured beside PyTorch. What is not installed, or
not there, is named; the rest is measured.
"""

import importlib
import json
import os
import sys
import time

COUNT = 50
VOCABULARY = 131_072
WIDTH = 4096
K = 100
ROWS = 128


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


def torch_rows(torch):
    """Rows, and the ways to find their largest entries."""
    torch.set_num_threads(1)
    return torch.randn(ROWS, VOCABULARY) * 3, {
        "torch.topk": lambda row: torch.topk(row, K),
        "torch.topk + torch.logsumexp": lambda row: (torch.topk(row, K), torch.logsumexp(row, 0)),
    }


def numpy_rows(np):
    """The same by partitions: values alone, entries in no order, entries in order, and the sum."""

    def ordered(row):
        best = np.argpartition(row, -K)[-K:]
        return best[np.argsort(row[best])[::-1]]

    def log_sum_exp(row):
        largest = row.max()
        return largest + np.log(np.exp(row - largest).sum())

    rows = np.random.default_rng(7).standard_normal((ROWS, VOCABULARY), dtype=np.float32) * 3
    for row in rows[:4]:
        assert row[ordered(row)].tolist() == np.sort(row)[: -K - 1 : -1].tolist()
    return rows, {
        "numpy.partition": lambda row: np.partition(row, -K)[-K:],
        "numpy.argpartition": lambda row: np.argpartition(row, -K)[-K:],
        "numpy.argpartition, sorted": ordered,
        "the same + log-sum-exp": lambda row: (ordered(row), log_sum_exp(row)),
    }


def on_cpu(torch, np):
    found = {}
    for library, prepare in ((torch, torch_rows), (np, numpy_rows)):
        if library is None:
            continue
        rows, ways = prepare(library)
        for how, walk in (("warm", [rows[0]] * ROWS), ("cold", list(rows))):
            shape = f"top-{K} of {VOCABULARY} f32, one thread, {how}"
            times = {way: median(run, walk) for way, run in ways.items()}
            found.setdefault(shape, {}).update(times)
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


def installed(name, how):
    """The library, or None and a sentence on standard error."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"{name} is not measured: {error}; {how}", file=sys.stderr)
        return None


def main():
    # Before numpy is there: some of its builds start threads of their own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch = installed("torch", "pip install torch")
    np = installed("numpy", "pip install numpy") if "--cpu" in sys.argv else None
    versions = {lib.__name__: lib.__version__ for lib in (torch, np) if lib is not None}
    if not versions:
        print("nothing measured")
        return
    if "--cpu" in sys.argv:
        device, found = "CPU", on_cpu(torch, np)
    elif torch.cuda.is_available():
        device, found = torch.cuda.get_device_name(), measure(torch)
    else:
        print("nothing measured: PyTorch sees no CUDA device (--cpu measures one thread)")
        return
    if "--json" in sys.argv:
        print(json.dumps({"device": device, **versions, "seconds": found}, indent=2))
        return
    print(", ".join([device, *(f"{name} {version}" for name, version in versions.items())]))
    for shape, ways in found.items():
        for way, seconds in ways.items():
            print(f"{shape:<44} {way:<30} {seconds * 1e6:>10.1f} us")


if __name__ == "__main__":
    main()
