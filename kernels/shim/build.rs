//! Compiles the CUDA kernels as C++ for this machine, unchanged, with the fiber scheduler.

#[path = "../src/cuda/names.rs"]
mod names;

use std::{env, fs, path::Path};

/// Kernels with mistakes, to show that the shim finds them.
const BROKEN: &[&str] = &[
    "broken_missing_barrier",
    "broken_global_race",
    "broken_global_read",
    "broken_divergent_barrier",
    "broken_early_exit",
    "broken_reads_unwritten",
    "broken_overrun",
    "broken_alignment",
    "broken_shuffle_mask",
    "sound_collectives",
    "sound_arrivals",
];

fn main() {
    let modules = [
        ("topk", names::TOPK),
        ("int8", names::INT8),
        ("center", names::CENTER),
        ("project", names::PROJECT),
        ("restore", names::RESTORE),
        ("broken", BROKEN),
    ];
    let out = env::var("OUT_DIR").expect("set by cargo");
    let here = env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        // The bits depend on it: no fused operations but those that are written.
        .flag("-ffp-contract=off")
        .flag("-fno-fast-math")
        .flag("-Wno-unused-parameter")
        .flag("-Wno-unknown-pragmas")
        .include(format!("{here}/cpp"))
        .include(format!("{here}/../cuda"));
    let mut kernels_build = build.clone();
    // The shim has the functions that these checks call: addresses that are not a multiple of what
    // is loaded, where a GPU faults, and a hook at each load and store. No library is needed.
    kernels_build
        .flag("-fsanitize=alignment,null,thread")
        .flag_if_supported("--param=tsan-distinguish-volatile=1")
        .flag_if_supported("--param=tsan-instrument-func-entry-exit=0");
    let mut table = String::from("#include \"table.h\"\n");
    let mut list = String::new();
    for (module, kernels) in modules {
        let path = Path::new(&out).join(format!("{module}.cpp"));
        let mut entries = String::new();
        for kernel in kernels {
            entries += &format!("    SHIM_KERNEL({kernel}),\n");
        }
        let text = format!(
            "#include \"device.h\"\n#include \"table.h\"\n#include \"{module}.cu\"\n\
             extern const shim::Entry entries_{module}[] = {{\n{entries}}};\n"
        );
        fs::write(&path, text).expect("OUT_DIR can be written");
        kernels_build.file(&path);
        table += &format!("extern const shim::Entry entries_{module}[];\n");
        list += &format!("    {{entries_{module}, {}}},\n", kernels.len());
    }
    table += &format!(
        "namespace shim {{\nconst List lists[] = {{\n{list}}};\n\
         const unsigned list_count = {};\n}}\n",
        modules.len()
    );
    let path = Path::new(&out).join("table.cpp");
    fs::write(&path, table).expect("OUT_DIR can be written");
    build
        .file(format!("{here}/cpp/shim.cpp"))
        .file(&path)
        .objects(kernels_build.compile_intermediates())
        .compile("cuda_shim");
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-changed=../cuda");
    println!("cargo:rerun-if-changed=../src/cuda/names.rs");
    println!("cargo:lib={out}");
    println!("cargo:include={here}/cpp");
}
