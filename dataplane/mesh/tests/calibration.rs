//! The predictor keeps its word in each of the three worlds: small fleets, fixed seeds, seconds.
//! `cargo run -p mesh --release --example calibrate` measures the same at length.

#[path = "../examples/calibrate/field.rs"]
mod field;
#[path = "../examples/calibrate/score.rs"]
mod score;

use field::{EVERY, Field, Lie, lies};
use fleet::{Fleet, Mix, SECOND, Step, World};
use mesh::predict::Tuning;
use score::Score;
use wire::mesh::AgentClass;

const AGENTS: u32 = 250;

fn field(world: World) -> Field {
    Field::new(Fleet::new(21, world, Mix::Uniform, AGENTS), 22, Tuning::default())
}

fn pass(field: &mut Field, messages: u64) {
    (0..messages * EVERY).for_each(|_| field.second(|_, _| ()));
}

/// Scores of all classes after a warm-up, 50 agents per class.
fn scores(world: World) -> Vec<Score> {
    let mut field = field(world);
    assert_eq!(field.lie, Lie::None);
    pass(&mut field, 60);
    let mut scores = vec![Score::default(); AgentClass::ALL.len()];
    for _ in 0..200 * EVERY {
        field.second(|fleet, shot| scores[fleet.class(shot.agent) as usize].add(fleet, shot));
    }
    scores
}

/// On time at 99 % of the agents that tell the truth, while every tenth says this.
fn honest_on_time(lie: Lie) -> f64 {
    let mut field = field(World::Wan);
    field.lie = lie;
    pass(&mut field, 60);
    let (mut hits, mut all) = (0_u32, 0_u32);
    for _ in 0..80 * EVERY {
        field.second(|_, shot| {
            if !lies(shot.agent) {
                hits += u32::from(shot.ready <= shot.leads[0]);
                all += 1;
            }
        });
    }
    100.0 * f64::from(hits) / f64::from(all)
}

/// Each class is on time as dialled, and all at a price near the oracle's.
fn keeps_its_word(world: World) {
    let mut all = Score::default();
    for score in scores(world).iter().filter(|score| score.count > 0) {
        // 10,000 messages each: the goals of 0.2 and 0.05 and what chance adds to them.
        let (two, three) = (score.on_time(0), score.on_time(1));
        assert!((98.6..99.4).contains(&two), "{two}");
        assert!((99.77..100.0).contains(&three), "{three}");
        // What the node reckons is what is true: offsets are known well enough.
        assert!((score.on_time_seen(0) - two).abs() < 0.15);
        all.merge(score);
    }
    assert!((all.on_time(0) - 99.0).abs() < 0.2, "{}", all.on_time(0));
    assert!((all.on_time(1) - 99.9).abs() < 0.06, "{}", all.on_time(1));
    assert!((98.5..99.5).contains(&all.on_time_oracle(0)));
    let (early, ratio) = all.earliness(0);
    assert!(early > 0.0 && ratio < 1.15, "{ratio}");
    let (_, ratio, _) = all.error();
    assert!(ratio < 1.08, "{ratio}");
}

#[test]
fn kpi_02_each_class_is_on_time_as_dialled_in_a_datacentre() {
    keeps_its_word(World::Datacentre);
}

#[test]
fn kpi_02_each_class_is_on_time_as_dialled_on_a_wan() {
    keeps_its_word(World::Wan);
}

#[test]
fn kpi_02_each_class_is_on_time_as_dialled_in_a_hostile_world() {
    keeps_its_word(World::Hostile);
}

#[test]
fn kpi_03_the_error_is_below_50_ms_for_nine_in_ten_where_nature_allows_it() {
    let fleet = Fleet::new(31, World::Datacentre, Mix::Source, AGENTS);
    let mut field = Field::new(fleet, 32, Tuning::default());
    pass(&mut field, 60);
    let mut score = Score::default();
    (0..100 * EVERY).for_each(|_| field.second(|fleet, shot| score.add(fleet, shot)));
    let (p90, _, within) = score.error();
    assert!(within >= 90.0 && p90 < 50.0, "{within} {p90}");
}

#[test]
fn a_step_change_is_healed_within_thirty_messages_per_agent() {
    let at = 400 * SECOND;
    let step = Step { at, share: 0.3, service: 2.0, path: 1.5 };
    let fleet = Fleet::new(41, World::Wan, Mix::Uniform, AGENTS).with_step(step);
    let mut field = Field::new(fleet, 42, Tuning::default());
    while field.now() < at {
        field.second(|_, _| ());
    }
    let mut on_time = |messages: u64| {
        let (mut hits, mut all) = (0_u32, 0_u32);
        for _ in 0..messages * EVERY {
            field.second(|fleet, shot| {
                if fleet.agent(shot.agent).step_at_ms != u32::MAX {
                    hits += u32::from(shot.ready <= shot.leads[0]);
                    all += 1;
                }
            });
        }
        100.0 * f64::from(hits) / f64::from(all)
    };
    let (first, between, after) = (on_time(2), on_time(28), on_time(20));
    assert!(first < 90.0, "the step is no step: {first}");
    assert!((98.0..=100.0).contains(&after), "{between} {after}");
}

#[test]
fn a_tenth_of_agents_that_lie_make_no_honest_one_late() {
    // Half a point at most: for whom nothing takes any time, always or now and then.
    for lie in [Lie::Instant, Lie::InstantAtTimes] {
        let on_time = honest_on_time(lie);
        assert!((98.5..99.5).contains(&on_time), "{lie:?} {on_time}");
    }
    // Exaggerations buy everyone time; they cost earliness and never lateness.
    assert!(honest_on_time(Lie::TenfoldAtTimes) > 98.8);
}
