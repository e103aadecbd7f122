//! Where the time of a request went: spans between its steps, and a bar of them.

use client::Trace;

/// Characters of a bar.
const WIDTH: usize = 60;

/// A stretch of a request's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// What it is called.
    pub(super) name: &'static str,
    /// In the bar.
    pub(super) mark: char,
    /// From, nanoseconds since the beginning.
    pub(super) from: u64,
    /// To.
    pub(super) to: u64,
}

/// The stretches of a life, in order, without gaps; those that took no time are left out.
pub(super) fn spans(trace: &Trace) -> Vec<Span> {
    let computed = trace.started_ns.zip(trace.compute_ns).map(|(from, took)| from + took);
    let ends = [
        ("slot", '.', trace.slot_ns),
        ("receive", 'r', trace.whole_ns),
        ("batch", 'b', trace.closed_ns.filter(|_| trace.tries <= 1)),
        ("queue", 'q', trace.lent_ns),
        ("lost", 'x', trace.lent_last_ns),
        ("hop", 'h', trace.started_ns),
        ("compute", 'C', computed),
        ("return", 'h', trace.ended_ns),
        ("send", 's', trace.sent_ns),
    ];
    let mut spans: Vec<Span> = Vec::new();
    let mut from = 0;
    for (name, mark, to) in ends.into_iter().filter_map(|(name, mark, to)| Some((name, mark, to?)))
    {
        if to > from {
            spans.push(Span { name, mark, from, to });
            from = to;
        }
    }
    spans
}

/// The spans drawn to scale, each at least a character long.
pub(super) fn bar(spans: &[Span]) -> String {
    let total = spans.last().map_or(0, |span| span.to);
    if total == 0 {
        return String::new();
    }
    let column = |ns: u64| (u128::from(ns) * WIDTH as u128 / u128::from(total)) as usize;
    let mut bar = String::new();
    for span in spans {
        let until = column(span.to).max(bar.len() + 1);
        bar.extend(std::iter::repeat_n(span.mark, until - bar.len()));
    }
    bar
}

#[cfg(test)]
pub(super) fn sample() -> Trace {
    use wire::{Operation, Priority, payload::Copied, trace::End};
    Trace {
        sender: "local".to_owned(),
        message_id: 17,
        query_id: [0; 16],
        shard: 0,
        connection: 3,
        at_ns: 1_700_000_000_000_000_000,
        slot_ns: Some(0),
        whole_ns: Some(10_000),
        closed_ns: Some(20_000),
        lent_ns: Some(20_000),
        lent_last_ns: Some(20_000),
        started_ns: Some(22_000),
        ended_ns: Some(100_000),
        sent_ns: Some(120_000),
        compute_ns: Some(70_000),
        deadline_ns: None,
        end: End::Answered,
        refusal: None,
        cause: String::new(),
        operation: Some(Operation::TopK),
        priority: Priority::Normal,
        rows: 1,
        carried: 4_128,
        payload: 4_128,
        reply: 464,
        copied: Copied { small_lane: 4_128, reply_inline: 464, ..Copied::default() },
        bulk: false,
        waited_for: String::new(),
        batch: 3,
        closed_by: "worker_idle".to_owned(),
        worker: Some(0),
        backend: "cpu".to_owned(),
        backend_reason: "no GPU".to_owned(),
        tries: 1,
        attempt: 0,
        taken_over: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_fill_a_life_without_gaps() {
        let spans = spans(&sample());
        let names: Vec<&str> = spans.iter().map(|span| span.name).collect();
        assert_eq!(names, ["receive", "batch", "hop", "compute", "return", "send"]);
        assert!(spans.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!((spans[0].from, spans.last().map(|span| span.to)), (0, Some(120_000)));
    }

    #[test]
    fn a_bar_is_to_scale_and_shows_the_shortest() {
        let drawn = bar(&spans(&sample()));
        assert_eq!(drawn, "rrrrrbbbbbh".to_owned() + &"C".repeat(35) + "hhhh" + &"s".repeat(10));
        let span = |mark, from, to| Span { name: "", mark, from, to };
        let lopsided = bar(&[span('a', 0, 1), span('b', 1, 2), span('c', 2, u64::MAX)]);
        assert_eq!(&lopsided[..3], "abc");
        assert_eq!(lopsided.len(), WIDTH);
        assert_eq!(bar(&[]), "");
    }
}
