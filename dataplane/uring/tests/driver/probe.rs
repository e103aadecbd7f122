//! The probe on this machine: whoever can run these tests has all it asks for.

use dataplane_uring::{Config, probe::Probe};

#[test]
fn a_machine_that_runs_the_driver_passes_the_probe() {
    let config = Config { accepted: 100, ..Config::default() };
    let probe = Probe::run(&config);
    assert!(probe.is_ok(), "{probe}");
    assert_eq!(probe.missing().count(), 0, "{probe}");
    let text = probe.to_string();
    for name in ["io_uring", "multishot accept, direct", "multishot receive", "RLIMIT_NOFILE"] {
        assert!(text.contains(name), "{text}");
    }
}
