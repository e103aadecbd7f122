//! `FORMAT-CODINGS.md`: its golden bytes, made and read.

use codec::basis::{Basis, Parts};
use codec::{Coding, hidden, set};
use kernels::Row;

const DOCUMENT: &str = include_str!("../../FORMAT-CODINGS.md");

/// The bytes of a block of the document.
fn golden(name: &str) -> Vec<u8> {
    let start = format!("```hex {name}\n");
    let block = DOCUMENT.split(&start).nth(1).unwrap_or_else(|| panic!("no block {name}"));
    let block = block.split("```").next().expect("an end");
    block.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

fn same(name: &str, made: &[u8]) {
    let lines: Vec<String> = made
        .chunks(16)
        .map(|line| line.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" "))
        .collect();
    assert!(golden(name) == made, "{name} should be\n{}", lines.join("\n"));
}

#[test]
fn golden_sets() {
    let exact = [(7, 9.5), (2, 9.25), (300, 8.0), (41, 5.75), (40, 5.5), (999, -2.125)];
    let (indices, values): (Vec<u32>, Vec<f32>) = exact.into_iter().unzip();
    let set = set::Set { indices: &indices, values: &values, max: 9.5, log_sum: 0.875, flags: 0 };
    for (coding, last) in [
        (Coding::Plain, -2.125),
        (Coding::SetF16, -2.125),
        (Coding::SetBf16, -2.125),
        // The range is 11.625 and its 255th part, rounded up, 0.0456. All fit into the first tier.
        (Coding::SetU8, 9.5 - 255.0 * 0.045_593_26),
        (Coding::SetTiered, 9.5 - 255.0 * 0.045_593_26),
        // In the last zone the step is 2^(4 - 6): 5.625 nats are 22 or 23 of them, and 23 bring the
        // set's probability nearer to what it was.
        (Coding::SetSteps, -2.25),
    ] {
        let mut out = [0; 200];
        let scratch = &mut set::Scratch::new(6);
        let len = set::encode(coding, &set, 1000, 0.0, &mut out, scratch).expect("room");
        same(coding.name(), &out[..len]);
        let mut read = set::SetBuf::new(6);
        set::decode(coding, &golden(coding.name()), 1000, 6, &mut read).expect("a row");
        assert_eq!(read.indices, indices, "{coding}");
        assert_eq!(read.values[..1], [9.5], "{coding}");
        assert!((read.values[5] - last).abs() < 1e-6, "{coding}: {}", read.values[5]);
    }
}

fn basis() -> Basis {
    let mut rotation = vec![0.0; 256];
    for pair in 0..8 {
        let [first, second] = [2 * pair, 2 * pair + 1];
        rotation[first * 16 + first] = 0.8;
        rotation[first * 16 + second] = 0.6;
        rotation[second * 16 + first] = -0.6;
        rotation[second * 16 + second] = 0.8;
    }
    Basis::new(Parts {
        mean: (0..16).map(|channel| channel as f32 / 8.0).collect(),
        scale: vec![0.05; 16],
        outliers: vec![5, 12],
        rotation,
        spread: vec![1.0; 16],
        rank: 8,
        rows: 3,
        tensor: "golden".into(),
    })
    .expect("a basis")
}

#[test]
fn golden_hidden_states() {
    let basis = basis();
    same("basis-id", &basis.id().0);
    let row: Vec<f32> =
        (0..16).map(|i| i as f32 / 8.0 + ((i * 37 % 19) as f32 - 9.0) / 4.0).collect();
    for (coding, most) in [
        (Coding::Int8Channel, 0.025),
        (Coding::Int8Group, 0.017),
        (Coding::Int8Centred, 0.009),
        (Coding::Rotated, 0.13),
        // Half of the components: the second half of the row is lost.
        (Coding::Pca, 2.3),
    ] {
        let (mut out, mut back) = ([0; 200], [0.0; 16]);
        let scratch = &mut hidden::Scratch::new(16);
        let (len, seen) =
            hidden::encode(coding, Row::F32(&row), Some(&basis), 0.125, &mut out, scratch)
                .expect("room");
        assert_eq!(seen, 0);
        same(coding.name(), &out[..len]);
        let golden = golden(coding.name());
        hidden::decode(coding, &golden, Some(&basis), &mut back, scratch).expect("a row");
        for (x, y) in row.iter().zip(back) {
            assert!((x - y).abs() <= most, "{coding}: {x} {y}");
        }
    }
}
