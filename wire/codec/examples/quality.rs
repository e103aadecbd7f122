//! Prints bytes and fidelity of every coding on the committed samples. The same numbers every time:
//! `cargo run -p codec --example quality`.

#[path = "../tests/suite/quality.rs"]
mod quality;
#[path = "../tests/suite/samples.rs"]
mod samples;

use samples::Samples;

fn main() {
    let logits = Samples::open("logits.safetensors");
    println!("top-{} sets: means over the rows; error: the largest of a value", quality::K);
    println!(
        "{:<10} {:<18} {:>7} {:>7} {:>8} {:>10} {:>10} {:>8}",
        "logits", "coding", "bytes", "entries", "mass", "KL, nats", "renormed", "error"
    );
    for name in quality::LOGITS {
        let plain = quality::of_plain_f16(&logits, name);
        print(name, "u32 + f16", &plain);
        for (coding, mass) in quality::SETS {
            let coded = quality::of_sets(&logits, name, coding, mass);
            let label = if mass > 0.0 { format!("{coding} {mass}") } else { coding.to_string() };
            print(name, &label, &coded);
        }
    }
    println!("\nhidden states: learned from one half of the rows, measured on the other");
    println!(
        "{:<11} {:<15} {:>7} {:>8} {:>9} {:>7} {:>8}",
        "tensor", "coding", "bytes", "saving", "rel. err", "dB", "cosine"
    );
    let file = Samples::open("hidden.safetensors");
    for name in quality::HIDDEN_TENSORS {
        let tensor = file.tensor(name);
        let basis = quality::learn(&tensor, name);
        for (coding, dial) in quality::HIDDEN {
            let q = quality::of_hidden(&tensor, &basis, coding, dial);
            let label = if dial > 0.0 { format!("{coding} {dial}") } else { coding.to_string() };
            println!(
                "{name:<11} {label:<15} {:>7.1} {:>7.1}% {:>9.5} {:>7.1} {:>8.5}",
                q.bytes,
                100.0 * q.saving,
                q.relative_error,
                q.snr_db,
                q.cosine
            );
        }
    }
}

fn print(tensor: &str, coding: &str, q: &quality::SetQuality) {
    println!(
        "{tensor:<10} {coding:<18} {:>7.1} {:>7.1} {:>8.5} {:>10.6} {:>10.6} {:>8.4}",
        q.bytes, q.entries, q.retained_mass, q.kl, q.kl_renormalised, q.error
    );
}
