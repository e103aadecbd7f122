//! What the command line wants, and what is asked of the node for it.

use crate::{
    cli::{CompressArgs, Values},
    tensors::Column,
};
use codec::Coding;
use safetensors::Dtype as FileDtype;
use wire::{
    Dtype,
    payload::TensorWork,
    work::{K_MAX, STEP_MAX, STEP_MIN},
};

/// Step of rotated where none is given: 85% off f32 at a relative error under .04.
const STEP: f32 = 0.125;

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wish {
    /// This.
    Ask(Ask),
    /// The cheapest set that keeps the mean KL at or under a target, in nats.
    Kl {
        /// Nats.
        target: f64,
        /// Most entries per row.
        cap: u32,
        /// This coding only.
        coding: Option<Coding>,
        /// Probability at which a set is long enough; 0 for all its entries.
        mass: f32,
    },
    /// The cheapest coding of hidden rows that reaches a ratio of signal to noise, in dB.
    Db {
        /// dB.
        target: f64,
        /// This coding only.
        coding: Option<Coding>,
    },
}

/// What is asked of the node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ask {
    /// The k largest of each row.
    TopK {
        /// Entries per row.
        k: u32,
        /// Element type of returned values.
        values: Dtype,
        /// The rows are hidden states, to be multiplied by the node's weights first.
        lm_head: bool,
    },
    /// Symmetric int8, a scale per row.
    Int8,
    /// Rows in a coding.
    Coded(Coded),
}

/// Rows in a coding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Coded {
    /// Which.
    pub(crate) coding: Coding,
    /// Entries per set, 0 for hidden rows.
    pub(crate) k: u32,
    /// The dial of the coding.
    pub(crate) quality: f32,
    /// The rows are hidden states, to be multiplied by the node's weights first.
    pub(crate) lm_head: bool,
    /// Start of the id of the basis; zero without one.
    pub(crate) basis: [u8; 8],
}

fn checked_k(k: u32) -> Result<u32, String> {
    if (1..=K_MAX).contains(&k) {
        return Ok(k);
    }
    Err(format!("--topk {k}: write a number from 1 to {K_MAX}"))
}

fn checked_mass(mass: Option<f32>) -> Result<f32, String> {
    match mass {
        None => Ok(0.0),
        Some(mass) if mass > 0.0 && mass <= 1.0 => Ok(mass),
        Some(mass) => Err(format!("--mass {mass}: write a number above 0 and up to 1")),
    }
}

fn checked_target(flag: &str, target: f64) -> Result<f64, String> {
    if target.is_finite() && target > 0.0 {
        return Ok(target);
    }
    Err(format!("{flag} {target}: write a number above 0"))
}

impl Wish {
    /// What the command line says.
    ///
    /// # Errors
    /// What no node accepts, and what does not go together, as a sentence.
    pub(crate) fn from_args(args: &CompressArgs) -> Result<Self, String> {
        let coding = args.codec.map(|codec| codec.0);
        if let Some(target) = args.target_kl {
            let coding = match coding {
                Some(other) if !other.is_set() => {
                    return Err(format!(
                        "--codec {other} codes hidden states: --target-kl needs a set-..., or \
                         write --target-db"
                    ));
                }
                coding => coding,
            };
            let target = checked_target("--target-kl", target)?;
            let cap = checked_k(args.topk.unwrap_or(K_MAX))?;
            return Ok(Self::Kl { target, cap, coding, mass: checked_mass(args.mass)? });
        }
        if let Some(target) = args.target_db {
            let target = checked_target("--target-db", target)?;
            return match coding {
                Some(other) if !other.is_hidden() => Err(format!(
                    "--codec {other} codes top-k sets: --target-db needs a codec of hidden \
                     states, or write --target-kl"
                )),
                coding => Ok(Self::Db { target, coding }),
            };
        }
        match coding {
            None => Ask::plain(args).map(Self::Ask),
            Some(coding) => Coded::from_args(args, coding).map(Ask::Coded).map(Self::Ask),
        }
    }

    /// Whether the rows are worth a basis: for what is asked, or to choose from.
    pub(crate) const fn wants_basis(&self) -> bool {
        match self {
            Self::Ask(Ask::Coded(Coded { coding, .. })) => coding.needs_basis(),
            Self::Db { coding: Some(coding), .. } => coding.needs_basis(),
            Self::Db { coding: None, .. } => true,
            _ => false,
        }
    }

    /// The one coding that cannot do without a basis, if it is asked for.
    pub(crate) const fn needs_basis(&self) -> Option<Coding> {
        match self {
            Self::Ask(Ask::Coded(Coded { coding, .. })) | Self::Db { coding: Some(coding), .. }
                if coding.needs_basis() =>
            {
                Some(*coding)
            }
            _ => None,
        }
    }
}

impl Coded {
    fn from_args(args: &CompressArgs, coding: Coding) -> Result<Self, String> {
        if args.step.is_some() && coding != Coding::Rotated {
            return Err(format!("--step is the dial of rotated; {coding} has none"));
        }
        if coding.is_set() {
            let Some(k) = args.topk else {
                return Err(format!(
                    "--codec {coding} codes top-k sets: say with --topk K how many entries to keep"
                ));
            };
            let (k, quality) = (checked_k(k)?, checked_mass(args.mass)?);
            return Ok(Self { coding, k, quality, lm_head: args.lm_head, basis: [0; 8] });
        }
        if args.topk.is_some() || args.mass.is_some() {
            return Err(format!(
                "--codec {coding} codes hidden states: leave --topk and --mass out, or choose a \
                 set-..."
            ));
        }
        let quality = match (coding, args.step) {
            (Coding::Rotated, step) => step.unwrap_or(STEP),
            _ => 0.0,
        };
        if coding == Coding::Rotated && !(STEP_MIN..=STEP_MAX).contains(&quality) {
            return Err(format!("--step {quality}: write a number from {STEP_MIN} to {STEP_MAX}"));
        }
        Ok(Self { coding, k: 0, quality, lm_head: false, basis: [0; 8] })
    }
}

impl Ask {
    fn plain(args: &CompressArgs) -> Result<Self, String> {
        if args.mass.is_some() {
            return Err("--mass is the dial of a --codec set-...".to_owned());
        }
        let Some(k) = args.topk else { return Ok(Self::Int8) };
        let values = match args.values {
            None | Some(Values::F32) => Dtype::F32,
            Some(Values::F16) => Dtype::F16,
            Some(Values::Bf16) => Dtype::Bf16,
        };
        Ok(Self::TopK { k: checked_k(k)?, values, lm_head: args.lm_head })
    }

    /// The name of the operation, and of the coding where there is one.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::TopK { lm_head: true, .. } => "lm-head".to_owned(),
            Self::TopK { .. } => "topk".to_owned(),
            Self::Int8 => "int8".to_owned(),
            Self::Coded(Coded { coding, lm_head: true, .. }) => format!("lm-head, {coding}"),
            Self::Coded(Coded { coding, .. }) if coding.is_set() => format!("topk, {coding}"),
            Self::Coded(Coded { coding, .. }) => format!("hidden, {coding}"),
        }
    }

    /// The work of a request for so many rows.
    pub(crate) const fn work(&self, dtype: Dtype, rows: u32, cols: u32) -> TensorWork {
        match *self {
            Self::TopK { k, values, lm_head: true } => {
                TensorWork::lm_head(dtype, rows, cols, k, values)
            }
            Self::TopK { k, values, .. } => TensorWork::topk(dtype, rows, cols, k, values),
            Self::Int8 => TensorWork::int8(dtype, rows, cols),
            Self::Coded(Coded { coding, k, quality, lm_head, basis }) => {
                let work = match (k, lm_head) {
                    (0, _) => TensorWork::hidden(dtype, rows, cols, coding, quality),
                    (k, true) => TensorWork::lm_head(dtype, rows, cols, k, Dtype::F32),
                    (k, false) => TensorWork::topk(dtype, rows, cols, k, Dtype::F32),
                };
                work.coded(coding, quality).with_basis(basis)
            }
        }
    }

    /// Bytes that the answer needs per row, at most.
    pub(crate) fn answer_row(&self, cols: u32) -> u64 {
        match self {
            // Index, value; count, max, log-sum, flags.
            Self::TopK { k, values, .. } => u64::from(*k) * (4 + values.size() as u64) + 16,
            Self::Int8 => u64::from(cols) + 8,
            // The row; its end, its flags.
            Self::Coded(Coded { coding, k, .. }) => {
                coding.row_max(*k as usize, cols as usize) as u64 + 5
            }
        }
    }

    /// Tensors of the output file; none for coded rows, whose file is of another kind.
    pub(crate) fn columns(&self, rows: u64, cols: u32) -> Vec<Column> {
        let rows = rows as usize;
        match self {
            Self::TopK { k, .. } => set_columns(rows, *k),
            Self::Int8 => vec![
                column("scales", FileDtype::F32, vec![rows]),
                column("codes", FileDtype::I8, vec![rows, cols as usize]),
                column("flags", FileDtype::U8, vec![rows]),
            ],
            Self::Coded(_) => Vec::new(),
        }
    }
}

fn column(name: &'static str, dtype: FileDtype, shape: Vec<usize>) -> Column {
    Column { name: name.into(), dtype, shape }
}

/// Tensors of a file of top-k sets.
pub(crate) fn set_columns(rows: usize, k: u32) -> Vec<Column> {
    vec![
        column("logsumexp", FileDtype::F64, vec![rows]),
        column("indices", FileDtype::I32, vec![rows, k as usize]),
        column("values", FileDtype::F32, vec![rows, k as usize]),
        column("flags", FileDtype::U8, vec![rows]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn wish(flags: &str) -> Result<Wish, String> {
        let line = format!("butterfly compress --addr a:1 --in x --tensor t --out y {flags}");
        match Cli::try_parse_from(line.split_whitespace()).expect("parses").command {
            Command::Compress(args) => Wish::from_args(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_codec_becomes_work_that_the_format_accepts() {
        let coded = |flags| match wish(flags) {
            Ok(Wish::Ask(Ask::Coded(coded))) => coded,
            other => panic!("{flags}: {other:?}"),
        };
        let set = coded("--codec set-steps --topk 9 --mass 0.5");
        assert_eq!((set.k, set.quality, set.lm_head), (9, 0.5, false));
        assert_eq!(Ask::Coded(set).name(), "topk, set-steps");
        assert!(coded("--codec set-u8 --topk 9 --lm-head").lm_head);
        assert_eq!(coded("--codec rotated").quality, 0.125);
        assert_eq!(coded("--codec rotated --step 2").quality, 2.0);
        assert_eq!(coded("--codec int8-group").quality, 0.0);
        let work = Ask::Coded(coded("--codec int8-group")).work(Dtype::F16, 2, 64);
        assert_eq!(work, TensorWork::hidden(Dtype::F16, 2, 64, Coding::Int8Group, 0.0));
    }

    #[test]
    fn what_does_not_go_together_is_explained() {
        for (flags, expected) in [
            ("--codec set-u8", "--topk K"),
            ("--codec rotated --topk 5", "leave --topk"),
            ("--codec int8-group --mass 0.5", "leave --topk"),
            ("--codec int8-group --step 0.5", "rotated"),
            ("--codec rotated --step 5", "0.0009765625 to 4"),
            ("--codec rotated --step nan", "write a number"),
            ("--codec set-u8 --topk 5 --mass 0", "--mass 0"),
            ("--codec set-u8 --topk 0", "1 to 1024"),
            ("--topk 5 --mass 0.5", "--codec set-..."),
            ("--target-kl 0", "above 0"),
            ("--target-kl nan", "above 0"),
            ("--target-kl 0.1 --topk 2000", "1 to 1024"),
            ("--target-kl 0.1 --codec rotated", "--target-db"),
            ("--target-db 30 --codec set-u8", "--target-kl"),
        ] {
            let error = wish(flags).expect_err(flags);
            assert!(error.contains(expected), "{flags}: {error}");
        }
    }

    #[test]
    fn only_what_needs_a_basis_asks_for_one() {
        let wants = |flags| wish(flags).map(|wish| (wish.wants_basis(), wish.needs_basis()));
        assert_eq!(wants("--codec rotated"), Ok((true, Some(Coding::Rotated))));
        assert_eq!(wants("--codec int8-group"), Ok((false, None)));
        assert_eq!(wants("--target-db 30"), Ok((true, None)));
        assert_eq!(wants("--target-db 30 --codec int8-group"), Ok((false, None)));
        assert_eq!(wants("--topk 5"), Ok((false, None)));
    }
}
