//! How well the predictor keeps its word, against an oracle that knows the model.
//!
//! `cargo run -p mesh --release --example calibrate [-- [ablate] [agents N] [seed N]]` prints per
//! world and class: percent on time at dials 99 and 99.9 (in truth, and as the node reckons it),
//! earliness and p90 of the prediction error over the oracle's; messages until a step change is
//! healed; the time to plan a send. `ablate` compares ways of learning instead.

use fleet::{Fleet, Mix, SECOND, Step, World};
use mesh::predict::Tuning;
use wire::mesh::AgentClass;

mod field;
mod score;
mod speed;

use field::{EVERY, Field, Lie, lies};
use score::Score;

/// Messages per agent before scoring.
const WARM_UP: u64 = 60;
/// Messages per agent that are scored.
const SCORED: u64 = 260;
/// Messages after a step that are looked at.
const AFTER: usize = 60;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let place = args.iter().position(|arg| arg == name);
        place.and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let agents = number("agents", 2_800) as u32;
    let seed = number("seed", 1);
    if args.iter().any(|arg| arg == "ablate") {
        return ablate(agents, seed);
    }
    let part = |name: &str| args.iter().any(|arg| arg == name);
    if part("liars") {
        return World::MODELLED.iter().for_each(|&world| liars(world, agents, seed));
    }
    for world in World::MODELLED {
        table(world, agents, seed);
    }
    if part("tables") {
        return;
    }
    println!("\nmessages per agent until 98.0 % are on time again (dial 99), and the worst three");
    for world in World::MODELLED {
        for (name, service, path) in [("service x2", 2.0, 1.0), ("path x2", 1.0, 2.0)] {
            for share in [1.0, 0.2] {
                recovery(world, agents, seed, name, Step { at: 0, share, service, path });
            }
        }
    }
    println!(
        "\none agent in ten lies: percent of the honest on time at 99 and 99.9, earliness in ms"
    );
    World::MODELLED.iter().for_each(|&world| liars(world, agents, seed));
    speed::report();
}

fn liars(world: World, agents: u32, seed: u64) {
    for lie in [Lie::None, Lie::Instant, Lie::TenfoldAtTimes, Lie::InstantAtTimes] {
        let fleet = Fleet::new(seed, world, Mix::Source, agents);
        let mut field = Field::new(fleet, seed ^ 0xF1E1D, Tuning::default());
        field.lie = lie;
        (0..WARM_UP * EVERY).for_each(|_| field.second(|_, _| ()));
        let mut score = Score::default();
        for _ in 0..100 * EVERY {
            field.second(|fleet, shot| {
                if !lies(shot.agent) {
                    score.add(fleet, shot);
                }
            });
        }
        println!(
            "{:<10} {:<16} {:7.3} {:7.3} | {:6.1} {:6.1}",
            world.name(),
            format!("{lie:?}"),
            score.on_time(0),
            score.on_time(1),
            score.earliness(0).0,
            score.earliness(1).0
        );
    }
}

fn scores(world: World, agents: u32, seed: u64, tuning: Tuning) -> (Vec<Score>, Field) {
    let fleet = Fleet::new(seed, world, Mix::Source, agents);
    let mut field = Field::new(fleet, seed ^ 0xF1E1D, tuning);
    let mut scores = vec![Score::default(); AgentClass::ALL.len()];
    (0..WARM_UP * EVERY).for_each(|_| field.second(|_, _| ()));
    for _ in 0..SCORED * EVERY {
        field.second(|fleet, shot| {
            scores[fleet.class(shot.agent) as usize].add(fleet, shot);
        });
    }
    (scores, field)
}

fn line(name: &str, score: &Score) {
    let (early99, ratio99) = score.earliness(0);
    let (early999, ratio999) = score.earliness(1);
    let (error, ratio, within) = score.error();
    println!(
        "{name:>6} {:>8} | {:7.3} {:7.3} {:7.3} | {:7.3} {:7.3} {:7.3} | \
         {early99:7.1} {ratio99:5.3} {early999:7.1} {ratio999:5.3} | \
         {error:6.1} {ratio:5.3} {within:5.1}",
        score.count,
        score.on_time(0),
        score.on_time_seen(0),
        score.on_time_oracle(0),
        score.on_time(1),
        score.on_time_seen(1),
        score.on_time_oracle(1),
    );
}

fn table(world: World, agents: u32, seed: u64) {
    let (scores, field) = scores(world, agents, seed, Tuning::default());
    println!(
        "\n{:<10}       | 99: true  seen    oracle  | 99.9: true seen  oracle  | early99 ratio \
         early99.9 ratio | err p90 ratio <50ms   ({} shifts found)",
        world.name(),
        field.predictor.shifts()
    );
    let mut all = Score::default();
    for (class, score) in AgentClass::ALL.iter().zip(&scores).filter(|(_, s)| s.count > 0) {
        line(class.name(), score);
        all.merge(score);
    }
    line("all", &all);
}

fn recovery(world: World, agents: u32, seed: u64, name: &str, step: Step) {
    let at = (100 + (WARM_UP + 100) * EVERY) * SECOND;
    let fleet = Fleet::new(seed, world, Mix::Source, agents).with_step(Step { at, ..step });
    let mut field = Field::new(fleet, seed ^ 0x57E9, Tuning::default());
    while field.now() < at {
        field.second(|_, _| ());
    }
    let mut seen = vec![[(0_u64, 0_u64); AFTER]; AgentClass::ALL.len()];
    for round in 0..AFTER * EVERY as usize {
        field.second(|fleet, shot| {
            if fleet.agent(shot.agent).step_at_ms != u32::MAX {
                let cell = &mut seen[fleet.class(shot.agent) as usize][round / EVERY as usize];
                cell.0 += u64::from(shot.ready <= shot.leads[0]);
                cell.1 += 1;
            }
        });
    }
    print!("{:<10} {name:<10} {:>3.0} % of agents:", world.name(), step.share * 100.0);
    for (class, rounds) in AgentClass::ALL.iter().zip(&seen).filter(|(_, r)| r[0].1 > 0) {
        let share: Vec<f64> =
            rounds.iter().map(|&(hit, all)| 100.0 * hit as f64 / all as f64).collect();
        // Back: from here on the mean of five rounds is within one point.
        let back = share.windows(5).position(|w| w.iter().sum::<f64>() / 5.0 >= 98.0);
        let mut worst = share.clone();
        worst.sort_by(f64::total_cmp);
        print!(
            "  {} {:>2} ({:.0} {:.0} {:.0})",
            class.name(),
            back.map_or(99, |k| k),
            worst[0],
            worst[1],
            worst[2]
        );
    }
    println!();
}

fn ablate(agents: u32, seed: u64) {
    let usual = Tuning::default();
    let ways = [
        ("as built", usual),
        ("rate 1/8", Tuning { rate_gain: 1.0 / 8.0, ..usual }),
        ("rate 1/48", Tuning { rate_gain: 1.0 / 48.0, ..usual }),
        ("owd 1/8", Tuning { owd_gain: 1.0 / 8.0, ..usual }),
        ("class spread", Tuning { spread_prior: f32::INFINITY, ..usual }),
        ("spread 20", Tuning { spread_prior: 20.0, ..usual }),
        ("no knee", Tuning { knee: f32::INFINITY, ..usual }),
        ("knee 3", Tuning { knee: 3.0, ..usual }),
        ("clip 2.5", Tuning { spread_clip: 2.5, ..usual }),
        ("clip 8", Tuning { spread_clip: 8.0, ..usual }),
        ("memory 8192", Tuning { memory: 8_192, ..usual }),
        ("no shifts", Tuning { shifts: false, ..usual }),
        ("no wild", Tuning { wild: false, ..usual }),
        ("no stages", Tuning { stages: false, ..usual }),
    ];
    let only = std::env::args().find_map(|name| World::named(&name));
    for world in World::MODELLED.into_iter().filter(|&w| only.is_none_or(|o| o == w)) {
        println!("\n{}", world.name());
        for (name, tuning) in ways {
            println!("{name}");
            let (scores, _) = scores(world, agents, seed, tuning);
            let mut all = Score::default();
            for (class, score) in AgentClass::ALL.iter().zip(&scores).filter(|(_, s)| s.count > 0) {
                if *class == AgentClass::Edge {
                    line(class.name(), score);
                }
                all.merge(score);
            }
            line("all", &all);
        }
    }
}
