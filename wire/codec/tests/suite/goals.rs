//! [COMP-04], [COMP-06], [COMP-07]: what the codings must reach on the samples. `cargo run -p codec
//! --example quality` prints the numbers.

use crate::quality::{self, HIDDEN_TENSORS, LOGITS, SETS, learn, of_hidden, of_plain_f16, of_sets};
use crate::samples::Samples;
use codec::{Coding, hidden};
use kernels::fidelity::Reconstruction;

#[test]
fn comp_04_a_set_of_100_takes_at_most_210_bytes_and_loses_nothing_to_speak_of() {
    let logits = Samples::open("logits.safetensors");
    for name in LOGITS {
        let exact = of_sets(&logits, name, Coding::Plain, 0.0);
        let f16 = of_plain_f16(&logits, name);
        let steps = of_sets(&logits, name, Coding::SetSteps, 0.0);
        assert!(steps.bytes <= 210.0, "{name}: {steps:?}");
        // Rows of 16 bits are not changed by f16; else f16 costs more than the steps do.
        let lossless = f16.kl == exact.kl;
        assert!(lossless || steps.kl <= f16.kl, "{name}: {steps:?} {f16:?}");
        for (of_steps, of_exact) in
            [(steps.kl, exact.kl), (steps.kl_renormalised, exact.kl_renormalised)]
        {
            // tied.f16 keeps half a percent of the mass: its renormalised KL is 5.2 nats.
            let negligible = 3e-5 + 1e-4 * of_exact;
            assert!(of_steps <= of_exact + negligible, "{name}: {of_steps} {of_exact}");
        }
        assert!(steps.error < 0.25, "{name}: {steps:?}");
        assert!((steps.retained_mass - exact.retained_mass).abs() < 1e-12);
    }
}

#[test]
fn every_coding_of_sets_keeps_the_mass_and_most_of_the_shape() {
    let logits = Samples::open("logits.safetensors");
    for name in LOGITS {
        let exact = of_sets(&logits, name, Coding::Plain, 0.0);
        let mut lengths = Vec::new();
        for (coding, mass) in SETS.into_iter().filter(|(_, mass)| *mass == 0.0) {
            let coded = of_sets(&logits, name, coding, mass);
            let most = if coding == Coding::SetTiered { 1e-3 } else { 2e-4 };
            assert!(coded.kl - exact.kl <= most, "{name} {coding}: {coded:?}");
            lengths.push(coded.bytes);
        }
        let [plain, f16, bf16, u8, tiered, _] = lengths[..] else { panic!("six codings") };
        assert!(plain > f16 && f16 == bf16 && bf16 > u8 && u8 > tiered, "{lengths:?}");
    }
}

#[test]
fn less_mass_takes_fewer_bytes() {
    let logits = Samples::open("logits.safetensors");
    for name in ["head.f32", "wide.bf16"] {
        let [all, most, less] =
            [0.0, 0.99, 0.95].map(|mass| of_sets(&logits, name, Coding::SetSteps, mass));
        assert!(all.bytes > most.bytes && most.bytes > less.bytes);
        assert!(less.retained_mass >= 0.95 && most.entries <= quality::K as f64);
    }
}

#[test]
fn comp_06_hidden_states_reach_their_goals() {
    let file = Samples::open("hidden.safetensors");
    let tensor = file.tensor("hidden.f16");
    let basis = learn(&tensor, "hidden.f16");
    let of = |coding, dial| of_hidden(&tensor, &basis, coding, dial);
    // 75% off at an error of .011, and 85% at .04.
    let fine = of(Coding::Rotated, 0.04);
    assert!(fine.saving >= 0.75 && fine.relative_error <= 0.011, "{fine:?}");
    let usual = of(Coding::Rotated, 0.125);
    assert!(usual.bytes <= 227.0 && usual.relative_error <= 0.036, "{usual:?}");
    let centred = of(Coding::Int8Centred, 0.0);
    assert!(centred.saving > 0.745 && centred.relative_error <= 0.009, "{centred:?}");
    let group = of(Coding::Int8Group, 0.0);
    assert!(group.saving > 0.734 && group.relative_error <= 0.007, "{group:?}");
    // Its scales are fixed for all rows, and some rows reach far.
    let channel = of(Coding::Int8Channel, 0.0);
    assert!(channel.saving >= 0.75 && channel.relative_error <= 0.018, "{channel:?}");
}

#[test]
fn comp_05_dropped_components_are_lost() {
    let file = Samples::open("hidden.safetensors");
    let tensor = file.tensor("hidden.f16");
    let basis = learn(&tensor, "hidden.f16");
    let two_thirds = of_hidden(&tensor, &basis, Coding::Pca, 0.0);
    assert!((two_thirds.bytes - 260.0).abs() < 1e-9 && two_thirds.saving > 0.83);
    // Nothing chooses it by itself: the rotation whole loses a seventh, in fewer bytes.
    let whole = of_hidden(&tensor, &basis, Coding::Rotated, 0.125);
    assert!(two_thirds.relative_error > 0.2 && two_thirds.relative_error < 0.3, "{two_thirds:?}");
    assert!(whole.bytes < two_thirds.bytes && whole.relative_error < 0.036);
}

#[test]
fn comp_06_massive_outliers_cost_the_others_nothing() {
    let file = Samples::open("hidden.safetensors");
    let [_, name] = HIDDEN_TENSORS;
    let tensor = file.tensor(name);
    let basis = learn(&tensor, name);
    assert!((3..=4).contains(&basis.parts().outliers.len()), "{:?}", basis.parts().outliers);
    let centred = of_hidden(&tensor, &basis, Coding::Int8Centred, 0.0);
    assert!(centred.relative_error <= 0.009, "{centred:?}");
    // Nor where the outliers' own size does not hide it: all other channels, by themselves.
    let mut others = [Coding::Int8Centred, Coding::Int8Group].map(|coding| {
        let mut kept = Reconstruction::new();
        let scratch = &mut hidden::Scratch::default();
        for row in 0..tensor.rows {
            let (mut out, mut back) = (vec![0; 4 + 3 * tensor.cols], vec![0.0; tensor.cols]);
            let basis = Some(&basis);
            let (len, _) = hidden::encode(coding, tensor.row(row), basis, 0.0, &mut out, scratch)
                .expect("room");
            hidden::decode(coding, &out[..len], basis, &mut back, scratch).expect("a row");
            let mut exact = tensor.widened(row);
            for channel in basis.map_or(&[][..], |basis| &basis.parts().outliers) {
                (exact[*channel as usize], back[*channel as usize]) = (0.0, 0.0);
            }
            kept.add(&exact, &back);
        }
        kept.relative_error()
    });
    others.reverse();
    let [group, centred] = others;
    assert!(centred <= 0.009 && group > 2.0 * centred, "{centred} {group}");
}
