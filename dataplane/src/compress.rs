//! `butterfly compress`: a tensor file's rows through a node, and the answers into a file.

mod ask;
mod choose;
mod exchange;
mod job;
mod outcome;

pub(crate) use ask::set_columns;
pub(crate) use choose::{as_written, hidden};
pub(crate) use outcome::{Flagged, JUDGED, count_flags, flag_report, push_set};

use crate::{
    basis::{self, Known},
    cli::CompressArgs,
    coded::{CodedWriter, Label},
    failure::Failure,
    progress,
    reach::Reach,
    say, table,
    tensors::{Rows, TensorFile, Writer},
    units::Bytes,
};
use ask::{Ask, Coded, Wish};
use codec::{Coding, basis::Basis};
use indicatif::ProgressBar;
use outcome::{Outcome, Output};
use serde_json::Value;
use std::time::Instant;
use wire::Dtype;

/// What a run needs besides the connection.
pub(crate) struct Setup<'a> {
    args: &'a CompressArgs,
    reach: Reach,
    ask: Ask,
    tensor: Rows<'a>,
    per_request: u32,
    progress: ProgressBar,
}

/// Runs the command.
pub(crate) fn run(args: &CompressArgs) -> Result<(), Failure> {
    let wish = Wish::from_args(args).map_err(Failure::setup)?;
    let reach = Reach::new(&args.addr, &args.security)?;
    let file = TensorFile::open(&args.input).map_err(Failure::setup)?;
    let tensor = file.rows(&args.tensor).map_err(Failure::setup)?;
    if args.depth == 0 {
        return Err(Failure::setup("--depth 0: write a number from 1 on"));
    }
    let local = args.basis.as_deref().map(basis::read).transpose().map_err(Failure::Setup)?;
    // The node says what it accepts, so that no request is refused for its length.
    let facts = exchange::facts(&reach, args.patience.0)?;
    let basis = obtain(args, &wish, &reach, facts.basis, local)?;
    if let Some(basis) = &basis {
        suits(basis, &tensor, &wish).map_err(Failure::Setup)?;
    }
    let chosen = choose::choose(&wish, &tensor, basis.as_ref()).map_err(Failure::Setup)?;
    let mut ask = chosen.ask;
    if let Ask::Coded(coded) = &mut ask {
        coded.basis = prefix(coded.coding, basis.as_ref());
    }
    if let (false, Some(line)) = (args.json, choose::sentence(&chosen.predicted)) {
        say::note(format!("chosen: {line}"));
    }
    let per_request = job::rows_per_request(&ask, &tensor, args.request.0, facts.payload_max)
        .map_err(Failure::setup)?;
    let output = create(args, &ask, &tensor)?;
    let progress = progress::rows(tensor.rows, args.json);
    let setup = Setup { args, reach, ask, tensor, per_request, progress };
    let started = Instant::now();
    let mut outcome = Outcome::new(&setup, output, basis.as_ref());
    exchange::run(&setup, &mut outcome)?;
    setup.progress.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let mut report = outcome.finish(&setup, seconds)?;
    if chosen.predicted != Value::Null {
        report["chosen"] = chosen.predicted;
    }
    if args.json {
        say::out(format!("{report:#}"));
    } else {
        say::out(as_text(&setup, &report));
    }
    Ok(())
}

/// The output file, begun.
fn create(args: &CompressArgs, ask: &Ask, tensor: &Rows<'_>) -> Result<Output, Failure> {
    let Ask::Coded(Coded { coding, k, quality, lm_head, .. }) = *ask else {
        let columns = ask.columns(tensor.rows, tensor.cols);
        return Writer::create(&args.out, &columns).map(Output::Plain).map_err(Failure::setup);
    };
    let label = Label {
        coding,
        quality,
        k,
        // Both are said by the answers.
        basis: [0; 32],
        shape: tensor.shape.to_vec(),
        tensor: args.tensor.clone(),
        dtype: if lm_head { Dtype::F32 } else { tensor.dtype },
        lm_head,
    };
    CodedWriter::create(&args.out, label, tensor.rows).map(Output::Coded).map_err(Failure::setup)
}

/// How a request names the basis.
fn prefix(coding: Coding, basis: Option<&Basis>) -> [u8; 8] {
    let id = basis.filter(|_| coding.needs_basis()).map(Basis::id);
    id.and_then(|id| id.0.first_chunk().copied()).unwrap_or_default()
}

/// The basis that the node codes with, where the wish is worth one.
fn obtain(
    args: &CompressArgs,
    wish: &Wish,
    reach: &Reach,
    known: Known,
    local: Option<Basis>,
) -> Result<Option<Basis>, Failure> {
    if !wish.wants_basis() {
        return Ok(None);
    }
    let file = args.basis.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    match (known, local) {
        (Known::None, local) => {
            let (what, way_out) = match (wish.needs_basis(), local) {
                (_, Some(basis)) => {
                    (format!("basis {} of {file}", basis.id().short()), file.as_str())
                }
                (Some(coding), None) => (format!("the basis that {coding} needs"), "FILE"),
                (None, None) => {
                    if !args.json {
                        say::note("the node has no basis: choosing among codings without one");
                    }
                    return Ok(None);
                }
            };
            Err(Failure::Setup(format!(
                "the node at {reach} has no basis, so it cannot code with {what}: start it with \
                 `butterfly serve --basis {way_out}` (`butterfly calibrate` makes one)"
            )))
        }
        (Known::Id(id), Some(basis)) if basis.id() != id => Err(Failure::Setup(format!(
            "{file} is basis {}, but the node at {reach} codes with {}: leave --basis out to fetch \
             that one, or start the node with `butterfly serve --basis {file}`",
            basis.id().short(),
            id.short()
        ))),
        (_, Some(basis)) => Ok(Some(basis)),
        (_, None) => basis::fetch(reach, args.patience.0).map(Some),
    }
}

/// Whether a basis can serve these rows.
fn suits(basis: &Basis, tensor: &Rows<'_>, wish: &Wish) -> Result<(), String> {
    let id = basis.id().short();
    if basis.width() != tensor.cols as usize {
        return Err(format!(
            "basis {id} is for rows of {}, these have {}: learn another with `butterfly calibrate`",
            basis.width(),
            tensor.cols
        ));
    }
    match wish.needs_basis() {
        Some(Coding::Pca) if basis.parts().rank == 0 => Err(format!(
            "basis {id} names no rank, so pca is off: learn one with `butterfly calibrate --rank R`"
        )),
        Some(Coding::Rotated) if !basis.has_rotation() => {
            Err(format!("basis {id} has no rotation: learn another with `butterfly calibrate`"))
        }
        _ => Ok(()),
    }
}

/// The report as a table.
fn as_text(setup: &Setup<'_>, report: &Value) -> String {
    let float = |key: &str| report[key].as_f64().unwrap_or(0.0);
    let bytes = |key: &str| Bytes(report[key].as_u64().unwrap_or(0)).to_string();
    let mut rows = vec![["what", "value"].map(str::to_owned)];
    let mut add = |what: &str, value: String| rows.push([what.to_owned(), value]);
    add(
        "tensor",
        format!(
            "{}: {} rows of {} {}",
            setup.args.tensor, setup.tensor.rows, setup.tensor.cols, setup.tensor.dtype
        ),
    );
    add("operation", report["operation"].as_str().unwrap_or_default().to_owned());
    if let Some(line) = choose::sentence(&report["chosen"]) {
        add("chosen", line);
    }
    add("bytes", format!("{} to {}", bytes("tensor_bytes"), bytes("answer_bytes")));
    add("ratio", format!("{:.1}", float("ratio")));
    for (what, value) in fidelity_lines(report) {
        add(what, value);
    }
    for (what, value) in flag_lines(report) {
        add(&what, value);
    }
    add("backend", report["backend"].as_str().unwrap_or_default().to_owned());
    add(
        "time",
        format!(
            "{:.2} s, {:.0} rows/s, {} requests, {} sent again",
            float("seconds"),
            float("rows_per_second"),
            report["requests"],
            report["retries"]
        ),
    );
    add("written", setup.args.out.display().to_string());
    table::plain(&rows)
}

/// How many rows have each flag that any row has, for people.
pub(crate) fn flag_lines(report: &Value) -> Vec<(String, String)> {
    let counts = report["flagged_rows"].as_object().into_iter().flatten();
    counts
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(flag, count)| (format!("rows flagged {flag}"), count.to_string()))
        .collect()
}

/// What was kept, as lines of a table.
pub(crate) fn fidelity_lines(report: &Value) -> Vec<(&'static str, String)> {
    let judged = report["rows_judged"].as_u64().unwrap_or(0);
    [
        ("retained_mass", "retained mass, mean"),
        ("kl_nats", "KL to the full rows, mean nats"),
        ("relative_error", "relative error"),
        ("snr_db", "signal to noise, dB"),
        ("cosine", "cosine, mean"),
        ("largest_error", "largest error"),
    ]
    .into_iter()
    .filter_map(|(key, what)| {
        let value = report[key].as_f64()?;
        Some((what, format!("{value:.5} ({judged} rows judged)")))
    })
    .collect()
}
