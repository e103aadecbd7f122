//! One target under libFuzzer: the one that `FUZZ_TARGET` names.
#![no_main]

use fuzz::Target;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match fuzz::find(&name) {
        Ok(target) => target,
        Err(names) => panic!("FUZZ_TARGET is {names}"),
    }
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
