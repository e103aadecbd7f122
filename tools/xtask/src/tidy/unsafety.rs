//! Where unsafe code may be, and that everything else forbids it.

use super::{Finding, source::Rust};

/// The only places for `unsafe`: shared memory, the OS, vector instructions, the GPU, what tries
/// the sandbox as an attacker would, the floor that the benches measure against, and the fuzzer's
/// hostile worker. Tests of steady state count allocations, which takes an allocator.
const ALLOWED: [&str; 11] = [
    "worker/link/",
    "dataplane/quic/src/driver",
    "dataplane/uring/",
    "dataplane/tests/support/allocations.rs",
    "kernels/src/simd",
    "kernels/shim/src/ffi.rs",
    "kernels/benches/",
    "worker/src/cuda/",
    "worker/src/sandbox/trial.rs",
    "benches/src/floor",
    "tools/fuzz/src/segment.rs",
];

/// Packages some of whose files may be unsafe, so that their roots cannot forbid it.
const MIXED: [&str; 8] = [
    "worker/link/",
    "dataplane/quic/",
    "dataplane/uring/",
    "kernels/",
    "worker/src/",
    "benches/src/",
    "tools/fuzz/src/lib.rs",
    // The entry that libFuzzer calls is a symbol without a mangled name.
    "tools/fuzz/libfuzzer/",
];

/// Findings of one file.
pub(crate) fn check(file: &Rust) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !ALLOWED.iter().any(|place| file.path.starts_with(place)) {
        for at in file.words("unsafe") {
            let what = "`unsafe` outside its places (tools/xtask/src/tidy/unsafety.rs)";
            findings.push(Finding::new(&file.path, file.line_of(at), what));
        }
    }
    let root = ["/src/lib.rs", "/src/main.rs"].iter().any(|end| file.path.ends_with(end));
    let mixed = MIXED.iter().any(|place| file.path.starts_with(place));
    if root && !mixed && !file.code.contains("#![forbid(unsafe_code)]") {
        findings.push(Finding::new(&file.path, 0, "a crate root without #![forbid(unsafe_code)]"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_has_its_places() {
        let text = "// unsafe in prose\nfn a() { unsafe { b() } }\n";
        assert_eq!(check(&Rust::new("wire/src/a.rs", text)).len(), 1);
        assert!(check(&Rust::new("worker/link/src/a.rs", text)).is_empty());
    }

    #[test]
    fn roots_forbid_it() {
        assert_eq!(check(&Rust::new("wire/src/lib.rs", "//! W\n")).len(), 1);
        assert!(check(&Rust::new("wire/src/lib.rs", "#![forbid(unsafe_code)]\n")).is_empty());
        assert!(check(&Rust::new("worker/link/src/lib.rs", "//! L\n")).is_empty());
    }
}
