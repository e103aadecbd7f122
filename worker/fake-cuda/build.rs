//! Compiles the stand-in for the driver's library.

use std::{env, os::unix::fs::symlink, path::Path};

fn main() {
    let out = env::var("OUT_DIR").expect("set by cargo");
    let shim = env::var("DEP_CUDA_SHIM_LIB").expect("the shim is a dependency");
    let include = env::var("DEP_CUDA_SHIM_INCLUDE").expect("the shim is a dependency");
    let library = Path::new(&out).join("libcuda.so.1");
    let mut compiler = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .warnings(true)
        .include(include)
        .get_compiler()
        .to_command();
    compiler
        .args(["-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-soname,libcuda.so.1", "-o"])
        .arg(&library)
        .args(["cpp/memory.cpp", "cpp/streams.cpp", "cpp/api.cpp", "cpp/blas.cpp"])
        .args(["-Wl,--whole-archive", &format!("{shim}/libcuda_shim.a"), "-Wl,--no-whole-archive"])
        .args(["-Wl,-z,defs", "-lpthread"]);
    let status = compiler.status().expect("a C++ compiler");
    assert!(status.success(), "the C++ compiler failed");
    // By these names it is found before a real driver, and before a real cuBLASLt, which could make
    // nothing of this one.
    for name in ["libcuda.so", "libcublasLt.so"] {
        let _ = symlink("libcuda.so.1", Path::new(&out).join(name));
    }
    println!("cargo:rustc-env=FAKE_CUDA_FOLDER={out}");
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-changed={shim}/libcuda_shim.a");
}
