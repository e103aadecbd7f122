//! What is made to fail, and what becomes of the orders.

use super::{answer, asks, compare, expected, load, ready, signed};
use crate::support::Rig;
use link::hello::Answer;
use worker::exit;

/// A launch that is refused, a device that dies in the middle: every order is answered once, with
/// the CPU's bits; the node is told; later replies say why.
#[test]
fn card_a_lost_device_costs_no_order() {
    let asks = asks();
    let expected = expected(&asks, None);
    for fail in ["launch:1", "launch:4", "lost:1", "lost:3", "lost:5"] {
        let mut rig = Rig::process("cuda", None, &[("FAKE_CUDA_FAIL", fail)]);
        assert_eq!(ready(&rig).0, "cuda");
        compare(&mut rig, &asks, &expected, fail);
        let Answer::Changed { backend, text } = rig.news() else { panic!("no change") };
        assert_eq!(backend, "cpu");
        assert!(text.contains("the device was lost"), "{text}");
        compare(&mut rig, &asks, &expected, fail);
        for slot in [0, 3] {
            let (backend, reason) = signed(&rig, slot);
            assert_eq!(backend, "cpu");
            assert!(reason.contains("the device was lost"), "{reason}");
        }
        assert_eq!(rig.close(), exit::GONE, "{fail}");
    }
}

/// BATCH: many batches at once, more than there are waves: some compute, some wait. Whenever the
/// device is lost meanwhile, each order is answered once.
#[test]
fn batch_many_batches_are_under_way() {
    let asks = asks();
    let expected = expected(&asks, None);
    for (fail, seed) in
        [("nothing", "0"), ("nothing", "4"), ("lost:2", "1"), ("lost:5", "2"), ("launch:9", "3")]
    {
        let variables = [("FAKE_CUDA_FAIL", fail), ("FAKE_CUDA_SEED", seed)];
        let mut rig = Rig::process("cuda", None, &variables);
        for _ in 0..3 {
            let slots = load(&mut rig, &asks);
            rig.run_apart(&slots);
            for (ask, expected) in asks.iter().zip(&expected) {
                assert_eq!(&answer(&rig, ask.slot), expected, "{fail}, slot {}", ask.slot);
            }
        }
    }
}

/// With `auto` a device that cannot be made ready means the CPU, with the reason; with `cuda` it
/// means a refusal with the reason.
#[test]
fn card_a_device_that_does_not_start_is_said() {
    let asks = asks();
    let expected = expected(&asks, None);
    for (name, value, part) in [
        ("FAKE_CUDA_FAIL", "init", "SYSTEM_DRIVER_MISMATCH"),
        ("FAKE_CUDA_FAIL", "ptx", "UNSUPPORTED_PTX_VERSION"),
        ("FAKE_CUDA_FAIL", "alloc:1", "OUT_OF_MEMORY"),
        ("FAKE_CUDA_FAIL", "pin:1", "OUT_OF_MEMORY"),
        ("FAKE_CUDA_DEVICES", "0", "no device"),
    ] {
        let mut rig = Rig::process("auto", None, &[(name, value)]);
        let (backend, text) = ready(&rig);
        assert_eq!(backend, "cpu", "{value}");
        assert!(text.contains(part), "{value}: {text}");
        compare(&mut rig, &asks[4..6], &expected[4..6], value);
        assert!(signed(&rig, 0).1.contains(part));

        let mut rig = Rig::process("cuda", None, &[(name, value)]);
        let Answer::Refused { reason } = &rig.answer else { panic!("{:?}", rig.answer) };
        assert!(reason.contains(part), "{reason}");
        assert_eq!(rig.close(), exit::REFUSED);
    }
}

/// Too little device memory for all waves: fewer, and the answers are the same.
#[test]
fn card_less_device_memory_means_fewer_waves() {
    let asks = asks();
    let expected = expected(&asks, None);
    for (fail, waves) in [("alloc:2", "1 waves"), ("alloc:3", "2 waves"), ("pin:3", "1 waves")] {
        let mut rig = Rig::process("cuda", None, &[("FAKE_CUDA_FAIL", fail)]);
        let (_, text) = ready(&rig);
        assert!(text.contains(waves) && text.contains("do not fit"), "{text}");
        compare(&mut rig, &asks, &expected, fail);
    }
}
