//! Bars that say how far a run is.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over rows; hidden where output is for programs.
pub(crate) fn rows(rows: u64, quiet: bool) -> ProgressBar {
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

/// A bar over the parts of something that takes a while; hidden where output is for programs.
pub(crate) fn share(what: &'static str, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(100);
    if quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3}% {msg}") {
        bar.set_style(style);
    }
    bar.with_message(what)
}

/// A bar over the answers of agents; hidden where output is for programs.
pub(crate) fn answers(quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} answers") {
        bar.set_style(style);
    }
    bar
}
