use super::*;

/// The share of drawn ready delays within the oracle's quantile.
fn covered(world: World, i: u32, tau: f64, draws: u32) -> f64 {
    let fleet = Fleet::new(11, world, Mix::Source, i + 1);
    let mut rng = Rng::of(5, u64::from(i));
    let at = 1_000 * SECOND;
    let within = fleet.oracle_quantile(i, at, tau, 0.7, 2);
    let hits = (0..draws).filter(|_| {
        let down = fleet.sample_down(i, at, &mut rng);
        down + fleet.sample_service(i, at, 0.7, 2, &mut rng) <= within
    });
    hits.count() as f64 / f64::from(draws)
}

#[test]
fn the_oracle_covers_what_it_says_in_every_world() {
    for world in World::MODELLED {
        for i in 0..5 {
            for tau in [0.5, 0.9, 0.99, 0.999] {
                let seen = covered(world, i, tau, 60_000);
                let noise = (tau * (1.0 - tau) / 60_000.0).sqrt();
                let limit = 4.0 * noise + 0.02 * (1.0 - tau);
                assert!((seen - tau).abs() <= limit, "{world:?} {i} {tau}: {seen}");
            }
        }
    }
}

#[test]
fn an_agent_does_not_depend_on_how_many_there_are() {
    let small = Fleet::new(3, World::Hostile, Mix::Uniform, 10);
    let large = Fleet::new(3, World::Hostile, Mix::Uniform, 1_000);
    for i in 0..10 {
        assert_eq!(format!("{:?}", small.agent(i)), format!("{:?}", large.agent(i)));
        assert_eq!(small.id(i), large.id(i));
    }
}

#[test]
fn class_shares_are_those_of_the_mix_in_any_stride() {
    let fleet = Fleet::new(3, World::Off, Mix::Source, 28_000);
    let share = |class, stride: usize| {
        let of = (0..28_000).step_by(stride);
        let all = of.len() as f64;
        of.filter(|&i| fleet.class(i) == class).count() as f64 / all
    };
    for stride in [1, 7, 100] {
        assert!((share(AgentClass::Edge, stride) - 10.0 / 28.0).abs() < 0.02);
        assert!((share(AgentClass::Gpu, stride) - 2.0 / 28.0).abs() < 0.02);
        assert!(share(AgentClass::Human, stride) < f64::EPSILON);
    }
}

#[test]
fn clocks_invert_and_never_run_backwards() {
    let fleet = Fleet::new(9, World::Hostile, Mix::Source, 50);
    for i in 0..50 {
        let mut before = 0;
        for k in 0..1_000 {
            let at = k * 977 * MS;
            let there = fleet.clock(i, at);
            assert!(there >= before);
            before = there;
            assert!(fleet.true_time(i, there).abs_diff(at) <= 2);
        }
    }
}

#[test]
fn off_means_at_once_and_without_skew() {
    let fleet = Fleet::new(9, World::Off, Mix::Source, 50);
    let mut rng = Rng::new(1);
    for i in 0..50 {
        assert_eq!(fleet.sample_down(i, 5, &mut rng) + fleet.sample_up(i, 5, &mut rng), 0);
        assert_eq!(fleet.sample_service(i, 5, 1.0, 3, &mut rng), 0);
        assert_eq!(fleet.clock(i, 123_456), 123_456);
    }
}

#[test]
fn a_step_changes_its_share_of_agents_from_its_moment_on() {
    let step = Step { at: 10 * SECOND, share: 0.5, service: 2.0, path: 3.0 };
    let fleet = Fleet::new(9, World::Wan, Mix::Source, 1_000).with_step(step);
    let doubled = |i: u32| {
        let agent = fleet.agent(i);
        let now = agent.service_median(10 * SECOND, 0.0, 0);
        now > 1.9 * agent.service_median(10 * SECOND - 1, 0.0, 0)
    };
    let changed = (0..1_000).filter(|&i| doubled(i)).count();
    assert!((400..600).contains(&changed), "{changed}");
}

#[test]
fn outcomes_come_at_their_rates() {
    let fleet = Fleet::new(9, World::Off, Mix::Source, 1).with_rates(0.1, 0.02);
    let mut rng = Rng::new(4);
    let mut counts = [0_u32; 3];
    for _ in 0..50_000 {
        counts[fleet.sample_outcome(0, &mut rng) as usize] += 1;
    }
    assert!((4_600..5_400).contains(&counts[1]) && (850..1_150).contains(&counts[2]));
}
