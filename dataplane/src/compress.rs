//! `butterfly compress`: a tensor file's rows through a node, and the answers into a file.

mod exchange;
mod job;
mod outcome;

use crate::{
    cli::CompressArgs,
    failure::Failure,
    say, table,
    tensors::{TensorFile, Writer},
    units::Bytes,
};
use client::Addr;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use job::Ask;
use outcome::Outcome;
use serde_json::{Value, json};
use std::time::Instant;

/// What a run needs besides the connection.
pub(crate) struct Setup<'a> {
    args: &'a CompressArgs,
    addr: Addr,
    ask: Ask,
    tensor: crate::tensors::Rows<'a>,
    per_request: u32,
    progress: ProgressBar,
}

fn progress(rows: u64, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(rows);
    if quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = "{bar:40} {percent:>3}% {human_pos}/{human_len} rows, {per_sec}, {eta} left{msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

/// Runs the command.
pub(crate) fn run(args: &CompressArgs) -> Result<(), Failure> {
    let ask = Ask::from_args(args).map_err(Failure::setup)?;
    let addr: Addr = args.addr.parse().map_err(Failure::setup)?;
    let file = TensorFile::open(&args.input).map_err(Failure::setup)?;
    let tensor = file.rows(&args.tensor).map_err(Failure::setup)?;
    if args.depth == 0 {
        return Err(Failure::setup("--depth 0: write a number from 1 on"));
    }
    // The node says what it accepts, so that no request is refused for its length.
    let payload_max = exchange::payload_max(&addr, args.patience.0)?;
    let per_request = job::rows_per_request(&ask, &tensor, args.request.0, payload_max)
        .map_err(Failure::setup)?;
    let columns = ask.columns(tensor.rows, tensor.cols);
    let writer = Writer::create(&args.out, &columns).map_err(Failure::setup)?;
    let rows = tensor.rows;
    let setup = Setup { args, addr, ask, tensor, per_request, progress: progress(rows, args.json) };
    let started = Instant::now();
    let mut outcome = Outcome::new(&setup, writer);
    exchange::run(&setup, &mut outcome)?;
    setup.progress.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let report = outcome.finish(&setup, seconds)?;
    if args.json {
        say::out(format!("{report:#}"));
    } else {
        say::out(as_text(&setup, &report));
    }
    Ok(())
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
    add("bytes", format!("{} to {}", bytes("tensor_bytes"), bytes("answer_bytes")));
    add("ratio", format!("{:.1}", float("ratio")));
    for (key, what) in [
        ("retained_mass", "retained mass, mean"),
        ("kl_nats", "KL to the full rows, mean nats"),
        ("relative_error", "relative error"),
        ("snr_db", "signal to noise, dB"),
        ("largest_error", "largest error"),
    ] {
        if let Some(value) = report[key].as_f64() {
            let judged = report["rows_judged"].as_u64().unwrap_or(0);
            add(what, format!("{value:.5} ({judged} rows judged)"));
        }
    }
    for (flag, count) in report["flagged_rows"].as_object().into_iter().flatten() {
        if count != &json!(0) {
            add(&format!("rows flagged {flag}"), count.to_string());
        }
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
