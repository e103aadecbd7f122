//! `butterfly calibrate`: learns a basis from a tensor's rows, and what each coding makes of rows
//! that it was not learned from.

mod page;
mod plot;

use crate::{
    basis,
    cli::CalibrateArgs,
    compress::hidden::{Found, Samples},
    failure::Failure,
    judge, progress, say, table,
    tensors::{PartFile, Rows, TensorFile},
};
use codec::{
    Coding,
    basis::{Basis, WIDTH_MAX},
    fit::Fit,
};
use indicatif::ProgressBar;
use serde_json::{Value, json};

/// Rows that codings are judged on, spread over those that are kept out of learning.
const JUDGED: u64 = 256;
/// Elements that are judged at most: rotating wide rows takes time.
const ELEMENTS_MAX: u64 = 1 << 20;
/// Settings of the dial that are shown, in units of a row's root mean square.
const STEPS: [f32; 9] = [0.015625, 0.03125, 0.0625, 0.09375, 0.125, 0.1875, 0.25, 0.375, 0.5];

/// One coding, or one setting of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// As tables name it.
    pub(crate) name: String,
    /// The letter that stands for it in a plot of characters.
    pub(crate) mark: char,
    /// True for a setting of rotated.
    pub(crate) dial: bool,
    /// Mean bytes of a row.
    pub(crate) bytes: f64,
    /// Share of the bytes of f32 rows that it saves.
    pub(crate) saving: f64,
    /// Relative error.
    pub(crate) error: f64,
    /// Signal to noise.
    pub(crate) snr_db: f64,
    /// Mean cosine.
    pub(crate) cosine: f64,
}

/// Rows to learn from, and rows to judge on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    learn: u64,
    judge: (u64, u64),
}

impl Parts {
    /// The last rows are kept out: neighbours are alike, so rows taken from between those learned
    /// from would flatter.
    fn of(rows: u64, holdout: f64) -> Self {
        let kept_out = ((rows as f64 * holdout).round() as u64).min(rows - 1);
        let learn = rows - kept_out;
        let judge = if kept_out == 0 { (0, rows) } else { (learn, rows) };
        Self { learn, judge }
    }

    /// Some of the rows to judge on, evenly spread.
    fn judged(&self, cols: u32) -> impl Iterator<Item = u64> + use<> {
        let (first, end) = self.judge;
        let count = JUDGED.min((ELEMENTS_MAX / u64::from(cols)).max(16)).min(end - first);
        (0..count).map(move |index| first + index * (end - first) / count)
    }
}

/// Runs the command.
pub(crate) fn run(args: &CalibrateArgs) -> Result<(), Failure> {
    if !(0.0..=0.9).contains(&args.holdout) {
        return Err(Failure::setup("--holdout: write a number from 0 to 0.9"));
    }
    let file = TensorFile::open(&args.input).map_err(Failure::setup)?;
    let tensor = file.rows(&args.tensor).map_err(Failure::setup)?;
    if tensor.cols as usize > WIDTH_MAX {
        return Err(Failure::Setup(format!(
            "tensor `{}` has rows of {}: a basis is for rows of up to {WIDTH_MAX}",
            args.tensor, tensor.cols
        )));
    }
    let rank = args.rank.unwrap_or(0);
    if rank > tensor.cols || args.rank == Some(0) {
        let cols = tensor.cols;
        return Err(Failure::Setup(format!("--rank {rank}: write a number from 1 to {cols}")));
    }
    let parts = Parts::of(tensor.rows, args.holdout);
    let basis = learn(args, &tensor, parts, rank)?;
    let samples = Samples::of(&tensor, parts.judged(tensor.cols)).map_err(Failure::run)?;
    let points = judge_all(args, &samples, &basis)?;
    PartFile::write_whole(&args.out, basis.as_bytes()).map_err(Failure::run)?;
    let report = describe(args, &tensor, parts, &basis, samples.len(), &points);
    if let Some(path) = &args.report {
        let page = page::render(&report, &points);
        PartFile::write_whole(path, page.as_bytes()).map_err(Failure::run)?;
    }
    say::out(if args.json { format!("{report:#}") } else { as_text(&report, &points) });
    Ok(())
}

/// Streams the rows through the sums, then solves for the basis.
fn learn(
    args: &CalibrateArgs,
    tensor: &Rows<'_>,
    parts: Parts,
    rank: u32,
) -> Result<Basis, Failure> {
    let mut fit = Fit::new(tensor.cols as usize, &args.tensor).map_err(Failure::setup)?;
    let bar = progress::rows(parts.learn, args.json);
    let mut bytes = Vec::new();
    let step = (1 << 20) / tensor.row_bytes().max(1) + 1;
    let mut first = 0;
    while first < parts.learn {
        let count = step.min(parts.learn - first);
        tensor.read(first, count, &mut bytes).map_err(Failure::run)?;
        for row in bytes.chunks_exact(tensor.row_bytes() as usize) {
            // Rows that are not finite teach nothing; how many were left out is in the report.
            let _ = judge::row(tensor.dtype, row).is_some_and(|row| fit.add(row));
        }
        first += count;
        bar.inc(count);
    }
    bar.finish_and_clear();
    if fit.rows() < 2 {
        return Err(Failure::Run(format!(
            "{} to learn from: at least two finite rows are needed",
            say::count(fit.rows(), "row")
        )));
    }
    let bar = progress::share("finding the rotation", args.json);
    let told = |bar: &ProgressBar, share: f32| bar.set_position((share * 100.0) as u64);
    let basis = fit.finish(true, rank, |share| told(&bar, share)).map_err(Failure::run)?;
    bar.finish_and_clear();
    Ok(basis)
}

/// Every coding on the rows that were kept out.
fn judge_all(
    args: &CalibrateArgs,
    samples: &Samples,
    basis: &Basis,
) -> Result<Vec<Point>, Failure> {
    let has_rank = basis.parts().rank > 0;
    let others = Coding::ALL.iter().copied().filter(|coding| {
        coding.is_hidden() && *coding != Coding::Rotated && (has_rank || *coding != Coding::Pca)
    });
    let dial = STEPS.iter().map(|step| (Coding::Rotated, *step));
    let all: Vec<(Coding, f32)> = others.map(|coding| (coding, 0.0)).chain(dial).collect();
    let bar = progress::share("judging the codings", args.json);
    let mut points = Vec::new();
    for ((coding, quality), mark) in all.iter().zip('a'..) {
        let found = samples
            .measure(*coding, *quality, Some(basis))
            .map_err(|fault| Failure::Run(format!("{coding} cannot code these rows: {fault}")))?;
        points.push(Point::new(&found, basis.width(), mark));
        bar.set_position((100 * points.len() / all.len()) as u64);
    }
    bar.finish_and_clear();
    Ok(points)
}

impl Point {
    fn new(found: &Found, width: usize, mark: char) -> Self {
        let Found { coding, quality, bytes, kept } = found;
        let dial = *coding == Coding::Rotated;
        Self {
            name: if dial { format!("{coding} {quality}") } else { coding.to_string() },
            mark,
            dial,
            bytes: *bytes,
            saving: 1.0 - bytes / (width * 4) as f64,
            error: kept.relative_error(),
            snr_db: kept.snr_db(),
            cosine: kept.cosine_mean(),
        }
    }

    /// The cells of its row in a table, in the order of [`HEAD`].
    pub(crate) fn cells(&self) -> [String; 7] {
        [
            self.mark.to_string(),
            self.name.clone(),
            format!("{:.1}", self.bytes),
            format!("{:.1}%", 100.0 * self.saving),
            format!("{:.4}", self.error),
            format!("{:.1}", self.snr_db),
            format!("{:.5}", self.cosine),
        ]
    }
}

/// What the cells of a [`Point`] are.
pub(crate) const HEAD: [&str; 7] =
    ["", "coding", "bytes a row", "off f32", "relative error", "SNR, dB", "cosine"];

fn describe(
    args: &CalibrateArgs,
    tensor: &Rows<'_>,
    parts: Parts,
    basis: &Basis,
    judged: usize,
    points: &[Point],
) -> Value {
    let mut report = json!({
        "basis": basis::describe(basis),
        "rows": tensor.rows,
        "rows_left_out": parts.learn - basis.parts().rows,
        "rows_judged": judged,
        "held_out": parts.judge.0 > 0,
        "input": args.input.display().to_string(),
        "out": args.out.display().to_string(),
        "id_short": basis.id().short(),
        "codings": points.iter().map(as_json).collect::<Vec<_>>(),
    });
    if let Some(path) = &args.report {
        report["report"] = json!(path.display().to_string());
    }
    report
}

fn as_json(point: &Point) -> Value {
    json!({
        "coding": point.name,
        "bytes_per_row": point.bytes,
        "saving": point.saving,
        "relative_error": point.error,
        "snr_db": point.snr_db,
        "cosine": point.cosine,
    })
}

/// The lines above the table: what was learned and what it was judged on.
pub(crate) fn summary(report: &Value) -> Vec<String> {
    let basis = &report["basis"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let judged = report["rows_judged"].as_u64().unwrap_or(0);
    let whose = if report["held_out"] == true {
        "rows that were kept out of learning"
    } else {
        "rows that it was learned from, as none were kept out: expect worse on others"
    };
    let outliers = basis["outliers"].as_array().map_or(0, Vec::len) as u64;
    let mut lines = vec![
        format!("basis {}, SHA-256 {}", text(&report["id_short"]), text(&basis["id"])),
        format!(
            "learned from {} rows of {} ({} wide), {}",
            basis["rows_learned"],
            text(&basis["tensor"]),
            basis["width"],
            say::count(outliers, "outlier channel")
        ),
        format!("judged on {judged} {whose}"),
    ];
    if let Some(left_out) = report["rows_left_out"].as_u64().filter(|count| *count > 0) {
        lines.push(format!("{} not finite and left out", say::count(left_out, "row")));
    }
    lines
}

fn as_text(report: &Value, points: &[Point]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(points.iter().map(Point::cells));
    let mut lines = summary(report);
    lines.extend([String::new(), table::plain(&rows), String::new()]);
    lines.push(plot::draw(points));
    lines.push(String::new());
    lines.extend(
        ["out", "report"]
            .iter()
            .filter_map(|key| report[*key].as_str().map(|path| format!("written: {path}"))),
    );
    lines.push(format!(
        "next: butterfly serve --basis {}",
        report["out"].as_str().unwrap_or_default()
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rows_are_kept_out() {
        assert_eq!(Parts::of(100, 0.25), Parts { learn: 75, judge: (75, 100) });
        assert_eq!(Parts::of(3, 0.9), Parts { learn: 1, judge: (1, 3) });
        assert_eq!(Parts::of(1, 0.9), Parts { learn: 1, judge: (0, 1) });
        let all = Parts::of(4000, 0.0);
        assert_eq!(all, Parts { learn: 4000, judge: (0, 4000) });
        let judged: Vec<u64> = all.judged(384).collect();
        assert_eq!((judged.len(), judged[0], judged[255]), (256, 0, 3984));
        assert_eq!(Parts::of(100, 0.25).judged(384).min(), Some(75));
        assert_eq!(all.judged(16_384).count(), 64);
    }
}
