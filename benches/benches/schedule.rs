//! How many timers does the wheel turn over in a second, and how near to its moment does a
//! scheduled send leave?
//!
//! The first half is the wheel alone: inserting, firing, both in turn with many pending. The second
//! is a whole shard on a core of its own, over loopback TCP: a volley at the given rate, the due
//! time of each send against the clock right before its transmit is handed to the driver, and right
//! after the driver handed it to the kernel.
//!
//! `cargo bench -p benches --bench schedule -- [--pending 10000000] [--rate 100000] [--seconds 5]`

use benches::{
    cores,
    fire::{self, Run},
};
use dataplane_core::{driver::Time, schedule::wheel::Wheel};
use std::{env, hint::black_box, time::Instant};

/// What a send takes beside its time: 32 bytes.
type Item = [u32; 8];

struct Options {
    pending: u32,
    rate: u32,
    seconds: f64,
}

fn options() -> Result<Options, String> {
    let mut options = Options { pending: 10_000_000, rate: 100_000, seconds: 5.0 };
    // Run as a test, it is only to show that it runs.
    if !env::args().any(|arg| arg == "--bench") {
        (options.pending, options.seconds) = (20_000, 0.1);
    }
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--pending" => options.pending = value()?.parse().map_err(|e| format!("{e}"))?,
            "--rate" => options.rate = value()?.parse().map_err(|e| format!("{e}"))?,
            "--seconds" => options.seconds = value()?.parse().map_err(|e| format!("{e}"))?,
            // Cargo's own.
            "--bench" | "--quiet" => {}
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(options)
}

/// A cheap sequence without a pattern that a cache could learn.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn row(name: &str, timers: u64, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    let rate = timers as f64 / seconds / 1e6;
    println!("{name:<44} {rate:>10.2} M/s {:>10.1} ns each", seconds * 1e9 / timers as f64);
}

/// Takes out everything due by `now`.
fn drain(wheel: &mut Wheel<Item>, now: Time) -> u64 {
    let mut count = 0;
    while let Some((at, item)) = wheel.pop(now) {
        black_box((at, item));
        count += 1;
    }
    count
}

/// Inserts `count` timers at moments spread over `span`, then takes them out as time goes by.
fn insert_and_fire(name: &str, count: u32, span: Time, sorted: bool) {
    let mut wheel = Wheel::<Item>::new(count);
    let mut draw = Draw(0x2545_F491_4F6C_DD1D);
    let step = span / u64::from(count).max(1);
    let moment = |n: u32, draw: &mut Draw| {
        if sorted { u64::from(n) * step } else { draw.below(span) }
    };
    let begun = Instant::now();
    for n in 0..count {
        let at = moment(n, &mut draw);
        let _ = wheel.insert(at, 1, [n; 8]);
    }
    row(&format!("{name}: insert"), count.into(), begun);
    let fired = Instant::now();
    let mut now = 0;
    let mut out = 0;
    while !wheel.is_empty() {
        // As a shard's turns would.
        now += 20_000;
        out += drain(&mut wheel, now);
    }
    assert_eq!(out, u64::from(count), "a timer was lost");
    row(&format!("{name}: fire"), out, fired);
    row(&format!("{name}: insert + fire"), out, begun);
}

/// With `pending` timers in the wheel all the time: each that fires is replaced by a later one.
fn steady(pending: u32, span: Time) {
    let mut wheel = Wheel::<Item>::new(pending);
    let mut draw = Draw(0x9E37_79B9_7F4A_7C15);
    for n in 0..pending {
        let _ = wheel.insert(draw.below(span), 1, [n; 8]);
    }
    let begun = Instant::now();
    let mut now = 0;
    let mut fired = 0;
    while fired < 2 * u64::from(pending).min(5_000_000) {
        now += 20_000;
        while let Some((_, item)) = wheel.pop(now) {
            let _ = wheel.insert(now + draw.below(span), 1, black_box(item));
            fired += 1;
        }
    }
    row(&format!("{pending} pending all the time: insert + fire"), fired, begun);
}

fn line(name: &str, samples: &mut [u32]) {
    let at = |share: f64, samples: &mut [u32]| benches::report::quantile(samples, share) / 1e3;
    let (p50, p99, p999) = (at(0.5, samples), at(0.99, samples), at(0.999, samples));
    println!("{name:<44} p50 {p50:>9.2} p99 {p99:>9.2} p99.9 {p999:>9.2} us");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options()?;
    cores::pin(cores::SERVER);
    let count = options.pending.min(1_000_000);
    // As dense as the goal: 10 million a second.
    insert_and_fire("a sorted volley, 10 M/s", count, u64::from(count) * 100, true);
    insert_and_fire("a random volley, 10 M/s", count, u64::from(count) * 100, false);
    insert_and_fire("a sorted volley over 500 ms", count, 500_000_000, true);
    insert_and_fire("random over 10 s", count, 10_000_000_000, false);
    steady(count, 1_000_000_000);
    steady(options.pending, 100_000_000_000);

    for (name, rate, agents) in [
        ("one at a time, 1,000/s".to_owned(), 1_000, 1),
        (format!("one connection, {}/s", options.rate), options.rate, 1),
        (format!("64 connections, {}/s", options.rate), options.rate, 64),
    ] {
        let sends = (f64::from(rate) * options.seconds) as u32;
        let Run { mut before, mut after, stated } = fire::run(rate, sends, agents)?;
        assert_eq!(before.len(), sends as usize, "a send was lost");
        println!("{name}: {sends} sends");
        line("  due until right before the transmit", &mut before);
        line("  due until the kernel has it", &mut after);
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| stated.quantile(share) as f64 / 1e3);
        let name = "  as the shard states it";
        println!("{name:<44} p50 {p50:>9.2} p99 {p99:>9.2} p99.9 {p999:>9.2} us");
    }
    Ok(())
}
