//! The time that a forecast and a planned send take.

use std::hint::black_box;
use std::time::Instant;

use fleet::{Fleet, MS, Mix, SECOND, World};
use mesh::plan::{Ask, Scratch, Target, plan};
use mesh::predict::{Dial, Tuning, Work};

use crate::field::Field;

const AGENTS: u32 = 30_000;
const ROUNDS: usize = 50;

/// Prints it: the median and the best of fifty rounds over 30,000 agents.
pub(crate) fn report() {
    let fleet = Fleet::new(5, World::Wan, Mix::Source, AGENTS);
    let mut field = Field::new(fleet, 6, Tuning::default());
    (0..20).for_each(|_| field.second(|_, _| ()));
    let dial = Dial::new(0.99).expect("within the range");
    let forecasts = timed(|| {
        for handle in 0..AGENTS {
            let work = Work { weight: 0.5, queue: handle % 4 };
            black_box(field.predictor.forecast(black_box(handle), work, dial));
        }
    });
    println!("\none forecast: {:.1} ns median, {:.1} ns best", per(forecasts.0), per(forecasts.1));
    let targets: Vec<Target> = (0..AGENTS).map(|handle| target(&field, handle)).collect();
    let mut scratch = Scratch::default();
    for (name, target_time) in [("free T", None), ("given T", Some(SECOND + 500 * MS))] {
        let ask = Ask {
            now: SECOND,
            target_time,
            window: None,
            dial,
            weight: 0.5,
            hold: true,
            send_gap: 2_000,
            humans: false,
        };
        let took = timed(|| {
            black_box(plan(&field.predictor, &targets, &ask, &mut scratch));
        });
        let plan = plan(&field.predictor, &targets, &ask, &mut scratch);
        println!(
            "30,000 planned ({name}): {:.2} ms median, {:.2} ms best; {} sends, {} skips, window \
             {} ms, {} buckets, fullest {}, smoothing {} us, crowded {}",
            took.0 * 1e3,
            took.1 * 1e3,
            plan.sends.len(),
            plan.skips.len(),
            plan.window / MS,
            plan.buckets,
            plan.fullest,
            plan.smoothing / 1_000,
            plan.crowded
        );
    }
}

fn target(field: &Field, handle: u32) -> Target {
    Target {
        handle,
        queue: handle % 4,
        class: field.fleet.class(handle),
        link: ((handle % 2) << 24) ^ (handle / 100),
        reliability: 0.99,
        drift: 0.2,
        fresh: true,
    }
}

/// Nanoseconds per agent.
fn per(seconds: f64) -> f64 {
    seconds * 1e9 / f64::from(AGENTS)
}

/// (median, best) of the rounds, in seconds.
fn timed(mut work: impl FnMut()) -> (f64, f64) {
    let mut took: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    took.sort_by(f64::total_cmp);
    (took[ROUNDS / 2], took[0])
}
