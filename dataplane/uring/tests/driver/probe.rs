//! The probe on this machine: whoever can run these tests has all it asks for.

use dataplane_uring::{
    Config,
    probe::{Probe, kernel_tls},
};

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

/// The kernel lists what can be laid over TCP; what it has loaded must agree with the trial.
#[test]
fn y_05_tls_in_the_kernel_is_found_by_trying() {
    let list = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    let found = kernel_tls();
    let listed = list.split_whitespace().any(|name| name == "tls");
    assert!(found.is_ok() || !listed, "listed, and {found:?}");
    if let Err(error) = found {
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::NOENT.raw_os_error()),
            "absent, not forbidden: {error}"
        );
    }
}
