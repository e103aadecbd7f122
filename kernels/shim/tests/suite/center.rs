//! [COMP-06]: centring and steps of the CUDA kernels are those of the CPU.

use cuda_shim::{Args, Memory, launch};
use kernels::cuda::{self, RowJob, Tuning};
use kernels::rotation;

use crate::data::{ELEMENTS, Random, Rounded, adversarial, sample};

fn tuning() -> Tuning {
    Tuning::for_capability(8, 0, 108)
}

/// A row, and what the kernel made of it: the places of a `RowJob`.
struct Places {
    row: Memory,
    codes: Memory,
    scales: Memory,
    flags: Memory,
}

impl Places {
    fn job(&self) -> RowJob {
        let [row, codes, scales, flags] =
            [&self.row, &self.codes, &self.scales, &self.flags].map(Memory::address);
        RowJob { row, codes, scales, flags }
    }

    fn are_intact(&self) -> bool {
        [&self.row, &self.codes, &self.scales, &self.flags].iter().all(|place| place.is_intact())
    }
}

fn check_center(what: &str, rows: &[Rounded], mean: Option<&[f32]>, seed: u64) {
    let (element, cols) = (rows[0].element, rows[0].row().len());
    let places: Vec<Places> = rows
        .iter()
        .map(|row| Places {
            row: Memory::of(&row.bytes),
            codes: Memory::shifted(4 * cols, 4),
            scales: Memory::shifted(4, 4),
            flags: Memory::new(1),
        })
        .collect();
    let jobs = Memory::of(&places.iter().map(Places::job).collect::<Vec<_>>());
    let mean_memory = Memory::of(mean.unwrap_or_default());
    let mean_address = if mean.is_some() { mean_memory.address() } else { 0 };
    let args = Args::new().address(jobs.address()).number(cols as u32).address(mean_address);
    let plan = cuda::center_plan(rows.len() as u32, tuning()).expect("rows");
    let name = format!("center_{}", cuda::suffix(element));
    launch(&name, plan, &args, seed).unwrap_or_else(|fault| panic!("{what}: {fault}"));
    for (row, places) in rows.iter().zip(&places) {
        let mut out = vec![0.0; cols];
        let (rms, seen) = rotation::center(row.row(), mean, &mut out);
        let what = format!("{what} {element:?} cols {cols} seed {seed}");
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(places.codes.read::<u32>(), bits(&out), "{what}");
        assert_eq!(places.scales.read::<u32>(), [rms.to_bits()], "{what}: rms");
        assert_eq!(places.flags.bytes(), [seen], "{what}: flags");
        assert!(places.are_intact(), "{what}: written outside");
    }
}

fn check_steps(rows: &[Vec<f32>], step: f32, seed: u64) {
    let cols = rows[0].len();
    let places: Vec<Places> = rows
        .iter()
        .map(|row| Places {
            row: Memory::of(row),
            codes: Memory::shifted(2 * cols, 2),
            scales: Memory::of(&[step]),
            flags: Memory::new(1),
        })
        .collect();
    let jobs = Memory::of(&places.iter().map(Places::job).collect::<Vec<_>>());
    let args = Args::new().address(jobs.address()).number(cols as u32);
    let plan = cuda::dense_plan(rows.len() as u32, cols as u32, tuning()).expect("rows");
    launch("steps", plan, &args, seed).expect("launched");
    for (row, places) in rows.iter().zip(&places) {
        let mut codes = vec![0_i16; cols];
        rotation::steps(row, step, &mut codes);
        assert_eq!(places.codes.read::<i16>(), codes, "step {step}");
        assert!(places.are_intact());
    }
}

#[test]
fn centring_of_every_length() {
    let mut random = Random::new(9);
    for (at, cols) in [0, 1, 15, 16, 17, 384, 4095, 4096, 4097, 9001].into_iter().enumerate() {
        let (values, mean) = (random.normals(cols, 2.0), random.normals(cols, 0.5));
        for element in ELEMENTS {
            let rows = [Rounded::of(element, &values), Rounded::of(element, &mean)];
            check_center("random", &rows, Some(&mean), at as u64);
            check_center("random", &rows, None, 1);
        }
    }
}

#[test]
fn centring_of_adversarial_rows() {
    for (at, (what, values)) in adversarial(300).into_iter().enumerate() {
        let mean = Random::new(10).normals(300, 1.0);
        for element in ELEMENTS {
            check_center(what, &[Rounded::of(element, &values)], Some(&mean), at as u64);
        }
    }
}

#[test]
fn comp_06_centring_of_real_hidden_states() {
    for tensor in ["hidden.f16", "outlier.f32"] {
        let matrix = sample("hidden.safetensors", tensor, 16);
        let mean = matrix.rows[3].widened();
        check_center(tensor, &matrix.rows, Some(&mean), 2);
    }
}

#[test]
fn steps_of_anything() {
    let mut random = Random::new(11);
    let any: Vec<f32> = (0..999).map(|_| f32::from_bits(random.next())).collect();
    let rows = [random.normals(999, 3.0), any, adversarial(999).swap_remove(17).1];
    for step in [0.0, -0.0, 0.01, 1.0, 1e-20, 1e-45, -0.5, 3e38, f32::INFINITY, f32::NAN] {
        check_steps(&rows, step, 1);
    }
    check_steps(&[vec![]], 1.0, 0);
}
