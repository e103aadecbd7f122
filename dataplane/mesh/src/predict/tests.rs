use proptest::prelude::*;

use super::*;
use crate::MS;

const NONE: Work = Work { weight: 0.0, queue: 0 };

fn p99() -> Dial {
    Dial::new(0.99).unwrap()
}

/// A message that took these times, in ns.
fn took(one_way: Time, processing: Time) -> Observed {
    Observed {
        work: NONE,
        dial: p99(),
        one_way,
        processing,
        ready_delay: one_way.saturating_add(processing),
        late: false,
        lead: 0,
        alone: false,
    }
}

#[test]
fn sched_03_processing_grows_with_weight_and_queue_as_the_formula_says() {
    let mut predictor = Predictor::new(1);
    predictor.join(0, AgentClass::Persistent);
    (0..50).for_each(|_| {
        predictor.observe(0, &took(150 * MS, 200 * MS));
    });
    let at = |weight, queue| predictor.forecast(0, Work { weight, queue }, p99());
    // The specification's example: 150 ms one way + 200 x 1.5 x 1.2 = 510 ms.
    let heavy = at(1.0, 2);
    assert!(heavy.processing.abs_diff(360 * MS) < 2 * MS, "{heavy:?}");
    assert!(heavy.ready_delay().abs_diff(510 * MS) < 3 * MS);
    assert!(at(0.0, 0).processing.abs_diff(200 * MS) < 2 * MS);
}

#[test]
fn sched_02_and_x_14_the_one_way_delay_is_measured_and_never_halved_again() {
    let mut predictor = Predictor::new(1);
    predictor.join(0, AgentClass::Edge);
    (0..50).for_each(|_| predictor.observe_rtt(0, 35 * MS, false));
    assert!(predictor.forecast(0, NONE, p99()).owd.abs_diff(35 * MS) < MS / 10);
}

#[test]
fn an_agent_that_nobody_knows_gets_its_classs_prior_at_three_nines() {
    let mut predictor = Predictor::new(2);
    predictor.join(0, AgentClass::Serverless);
    let cold = predictor.forecast(0, NONE, Dial::new(0.6).unwrap());
    assert_eq!(cold, predictor.forecast(0, NONE, Dial::P999));
    assert!(cold.lead > 2 * cold.ready_delay());
    assert_eq!(cold.processing, 50 * MS);
    (0..100).for_each(|_| {
        predictor.observe(0, &took(MS, 30 * MS));
    });
    // What the class has learned is where the next agent begins.
    predictor.join(1, AgentClass::Serverless);
    let next = predictor.forecast(1, NONE, p99());
    assert!(next.processing < 45 * MS, "{next:?}");
    assert!(predictor.forecast(0, NONE, p99()).lead < cold.lead / 3);
    predictor.leave(0);
    assert_eq!(predictor.experience(0), 0);
}

#[test]
fn z_03_the_margin_is_the_dials_quantile_and_grows_with_it() {
    let mut predictor = Predictor::new(1);
    predictor.join(0, AgentClass::Gpu);
    let mut rng = fleet::Rng::new(8);
    let mut draw = || (100.0 * MS as f64 * rng.lognormal(0.2)) as Time;
    (0..3_000).for_each(|_| {
        predictor.observe(0, &took(MS, draw()));
    });
    let lead = |share| predictor.forecast(0, NONE, Dial::new(share).unwrap()).lead as f64;
    let exact = |z: f64| (1.0 + 100.0 * (0.2 * z).exp()) * MS as f64;
    for (share, z) in [(0.5, 0.0), (0.9, 1.2816), (0.99, 2.3263), (0.999, 3.0902)] {
        let off = lead(share) / exact(z);
        assert!((0.9..1.12).contains(&off), "{share}: {off}");
    }
    assert!(predictor.class_margin(AgentClass::Gpu, p99()) > 0.3);
}

#[test]
fn the_record_keeps_coverage_and_earliness_together() {
    let mut predictor = Predictor::new(1);
    predictor.join(0, AgentClass::Gpu);
    for k in 0..100 {
        let late = k % 50 == 0;
        predictor.observe(0, &Observed { late, lead: 130 * MS, ..took(10 * MS, 100 * MS) });
    }
    let record = predictor.record(AgentClass::Gpu);
    assert_eq!((record.answered, record.late), (100, 2));
    assert!((record.allowed - 1.0).abs() < 1e-9);
    assert!(record.ready.quantile(0.5).unwrap().abs_diff(110 * MS) < 2 * MS);
    assert!(record.earliness.quantile(0.5).unwrap().abs_diff(20 * MS) < MS);
    assert_eq!(record.earliness.count(), 98);
}

#[test]
fn a_shift_is_found_in_a_few_messages_and_widens_the_margin_at_once() {
    let mut predictor = Predictor::new(2);
    let mut rng = fleet::Rng::new(9);
    let mut one = |predictor: &mut Predictor, factor: f64| {
        let processing = (50.0 * MS as f64 * factor * rng.lognormal(0.15)) as Time;
        predictor.observe(0, &took(10 * MS, processing));
    };
    predictor.join(0, AgentClass::Serverless);
    (0..300).for_each(|_| one(&mut predictor, 1.0));
    assert_eq!((predictor.shifts(), predictor.experience(0)), (0, 255));
    let mut messages = 0;
    while predictor.shifts() == 0 {
        one(&mut predictor, 2.0);
        messages += 1;
    }
    assert!(messages <= 6, "{messages}");
    assert_eq!(predictor.experience(0), 1);
    (0..6).for_each(|_| one(&mut predictor, 2.0));
    let after = predictor.forecast(0, NONE, p99());
    assert!(after.processing.abs_diff(100 * MS) < 15 * MS, "{after:?}");
}

#[test]
fn a_new_path_is_taken_over_after_a_run_of_delays_on_one_side() {
    let mut predictor = Predictor::new(1);
    predictor.join(0, AgentClass::Edge);
    (0..100).for_each(|k| predictor.observe_rtt(0, 20 * MS + k % 7 * 100_000, false));
    predictor.observe_rtt(0, 400 * MS, false);
    assert!(predictor.forecast(0, NONE, p99()).owd < 22 * MS, "one retransmission is no new path");
    (0..5).for_each(|_| predictor.observe_rtt(0, 60 * MS, false));
    assert!(predictor.forecast(0, NONE, p99()).owd.abs_diff(60 * MS) < MS);
}

proptest! {
    #[test]
    fn whatever_agents_report_forecasts_stay_finite_and_within_a_day(
        reports in proptest::collection::vec(
            (0_u32..5, any::<u64>(), any::<u64>(), any::<u64>(), any::<f32>(), any::<u32>()),
            0..200,
        ),
        weight in any::<f32>(),
        queue in any::<u32>(),
    ) {
        let mut predictor = Predictor::new(4);
        for class in 0..4 {
            predictor.join(class, AgentClass::ALL[class as usize]);
        }
        for &(handle, one_way, processing, ready_delay, weight, queue) in &reports {
            let work = Work { weight, queue };
            predictor.observe(handle, &Observed { work, ready_delay, ..took(one_way, processing) });
            predictor.observe_rtt(handle, one_way, false);
        }
        for handle in 0..6 {
            for share in [0.5, 0.99, 0.9999] {
                let dial = Dial::new(share).unwrap();
                let forecast = predictor.forecast(handle, Work { weight, queue }, dial);
                prop_assert!(forecast.lead <= LONGEST as Time);
                prop_assert!(forecast.processing <= LONGEST as Time);
                prop_assert!(forecast.owd <= LONGEST as Time);
            }
            let lead = |share| predictor.forecast(handle, NONE, Dial::new(share).unwrap()).lead;
            prop_assert!(lead(0.9) <= lead(0.99) && lead(0.99) <= lead(0.999));
        }
    }
}
