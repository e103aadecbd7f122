//! The shim itself: that it runs sound kernels and finds the mistakes of broken ones.

use cuda_shim::{Args, Launch, Memory, has, launch};

const SEEDS: std::ops::Range<u64> = 0..5;

fn blocks(grid: u32, block: u32, shared: u32) -> Launch {
    Launch { grid: [grid, 1, 1], block: [block, 1, 1], shared }
}

/// Message of the fault of a kernel that takes one output of `words` words, at each seed.
fn faults(kernel: &str, shape: Launch, words: usize) -> Vec<Option<String>> {
    SEEDS
        .map(|seed| {
            let out = Memory::new(words * 4);
            launch(kernel, shape, &Args::new().address(out.address()), seed)
                .err()
                .map(|fault| fault.to_string())
        })
        .collect()
}

#[test]
fn a_sound_kernel_gives_the_same_at_every_seed() {
    for seed in SEEDS {
        let out = Memory::new(3 * 64 * 5 * 4);
        let args = Args::new().address(out.address());
        launch("sound_collectives", blocks(3, 64, 0), &args, seed).expect("sound");
        for (at, got) in out.read::<[u32; 5]>().into_iter().enumerate() {
            let (block, x) = (at as u32 / 64, at as u32 % 64);
            assert_eq!(got, [496, 0xaaaa_aaaa, 40, x ^ 1, block]);
        }
        assert!(out.is_intact());
    }
}

#[test]
fn the_schedule_follows_the_seed() {
    let arrivals = |seed| {
        let out = Memory::new(64 * 4);
        let args = Args::new().address(out.address());
        launch("sound_arrivals", blocks(1, 64, 4), &args, seed).expect("sound");
        out.read::<u32>()
    };
    let in_order: Vec<u32> = (0..64).collect();
    assert_eq!(arrivals(0), in_order);
    for seed in SEEDS.skip(1) {
        let mut order = arrivals(seed);
        assert_eq!(order, arrivals(seed), "the same again");
        assert_ne!(order, in_order);
        order.sort_unstable();
        assert_eq!(order, in_order);
    }
}

#[test]
fn a_missing_barrier_is_reported_at_every_seed() {
    for fault in faults("broken_missing_barrier", blocks(1, 64, 4), 64) {
        let fault = fault.expect("reported");
        assert!(fault.contains("races") || fault.contains("not written"), "{fault}");
    }
}

#[test]
fn races_in_global_memory_are_reported() {
    for fault in faults("broken_global_race", blocks(2, 32, 0), 1) {
        assert!(fault.expect("reported").contains("races with another thread"));
    }
    let out = Memory::new(4);
    let args = Args::new().address(out.address());
    assert_eq!(launch("broken_global_race", blocks(1, 32, 0), &args, 1), Ok(()));
}

#[test]
fn reads_outside_global_memory_are_reported() {
    let (from, out) = (Memory::of(&[1_u32; 32]), Memory::new(32 * 4));
    let args = Args::new().address(from.address()).address(out.address());
    let fault = launch("broken_global_read", blocks(1, 32, 0), &args, 0).expect_err("reported");
    assert!(fault.to_string().contains("reads up to byte 132 of a piece of 128 bytes"), "{fault}");
}

#[test]
fn divergent_barriers_are_reported() {
    for fault in faults("broken_divergent_barrier", blocks(1, 64, 0), 64) {
        assert!(fault.expect("reported").contains("divergent barrier"));
    }
    for fault in faults("broken_early_exit", blocks(1, 64, 0), 64) {
        assert!(fault.expect("reported").contains("1 of 64 threads have left"));
    }
}

#[test]
fn warp_operations_need_every_lane_of_their_mask() {
    for fault in faults("broken_shuffle_mask", blocks(1, 32, 0), 32) {
        assert!(fault.expect("reported").contains("not there"));
    }
    // A warp that is not full has no lane 16 and beyond.
    for fault in faults("sound_collectives", blocks(1, 16, 0), 80) {
        assert!(fault.expect("reported").contains("not there"));
    }
}

#[test]
fn reads_of_unwritten_shared_memory_are_reported() {
    for fault in faults("broken_reads_unwritten", blocks(2, 32, 128), 64) {
        assert!(fault.expect("reported").contains("not written yet"));
    }
}

#[test]
fn writes_outside_shared_memory_are_reported() {
    for (at, wrong) in [(0, false), (99, false), (100, true), (227, true)] {
        let result = launch("broken_overrun", blocks(1, 32, 100), &Args::new().number(at), 0);
        assert_eq!(result.is_err(), wrong, "{at}");
    }
}

#[test]
fn misaligned_and_null_addresses_are_reported() {
    let (from, out) = (Memory::of(&[1_u32, 2, 3, 4, 5]), Memory::new(4));
    let read = |address: u64| {
        let args = Args::new().address(address).address(out.address());
        launch("broken_alignment", blocks(1, 32, 0), &args, 0).map_err(|fault| fault.to_string())
    };
    assert_eq!(read(from.address()), Ok(()));
    assert_eq!(out.read::<u32>(), [3]);
    assert!(read(from.address() + 4).is_err_and(|fault| fault.contains("not a multiple of 16")));
    assert!(read(0).is_err_and(|fault| fault.contains("null address")));
}

#[test]
fn launches_that_make_no_sense_are_refused() {
    let args = Args::new().address(0);
    assert!(!has("no_such_kernel") && has("sound_collectives"));
    assert!(launch("no_such_kernel", blocks(1, 32, 0), &args, 0).is_err());
    for shape in [blocks(0, 32, 0), blocks(1, 0, 0), blocks(1, 1025, 0), blocks(1, 32, 228 << 10)] {
        assert!(launch("sound_collectives", shape, &args, 0).is_err(), "{shape:?}");
    }
    assert!(launch("sound_collectives", blocks(1, 32, 0), &Args::new(), 0).is_err());
}

#[test]
fn every_kernel_of_the_table_is_there() {
    for module in kernels::cuda::MODULES {
        for kernel in module.kernels {
            assert!(has(kernel), "{kernel}");
        }
    }
}
