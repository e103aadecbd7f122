//! What the bench of a device runs, over the driver without one: that it works, not how fast.

use std::process::Command;
use wire::{Dtype, Operation};
use worker::cuda::{Bench, Case, Travel};

const AS_BENCH: &str = "BUTTERFLY_TEST_BENCH";

/// Not a test: what the process with the driver runs.
#[test]
fn bench_process() {
    if std::env::var_os(AS_BENCH).is_none() {
        return;
    }
    let mut bench = Bench::open(0).expect("a device");
    assert_eq!(bench.device().name, "Fake 0");
    assert!(matches!(Bench::open(9), Err(closed) if closed.to_string().contains("device 9")));
    bench.weigh(300, 64).expect("weights");
    for (operation, dtype) in [
        (Operation::TopK, Dtype::F32),
        (Operation::TopK, Dtype::Bf16),
        (Operation::Int8, Dtype::F16),
        (Operation::LmHead, Dtype::F32),
        (Operation::LmHead, Dtype::Bf16),
    ] {
        let case = Case { operation, dtype, rows: 3, cols: 300, k: 10 };
        for travel in [Travel::Resident, Travel::FromHost] {
            let alone = bench.alone(&case, travel).expect("runs");
            assert!(alone > 0.0 && alone.is_finite(), "{case:?}");
            assert!(bench.steady(&case, travel, 2).expect("runs").is_finite());
        }
    }
    std::process::exit(0);
}

#[test]
fn cases_can_be_timed() {
    for library in [false, true] {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", "cuda::timing::bench_process", "--nocapture"])
            .env(AS_BENCH, "yes")
            .env("LD_LIBRARY_PATH", fake_cuda::folder());
        if library {
            command.env("FAKE_CUDA_BLAS", "1");
        }
        assert!(command.status().expect("a process").success());
    }
}
