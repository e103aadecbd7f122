use proptest::prelude::*;

use super::*;
use crate::SECOND;
use crate::predict::Observed;

/// Agents whose leads are learned: agent `k` needs `delays[k]` ms, evenly.
fn learned(delays: &[u64], class: AgentClass) -> (Predictor, Vec<Target>) {
    let mut predictor = Predictor::new(delays.len() as u32);
    let mut targets = Vec::new();
    for (handle, &ms) in delays.iter().enumerate() {
        let handle = handle as u32;
        predictor.join(handle, class);
        for _ in 0..40 {
            predictor.observe(handle, &observed(ms * MS));
        }
        targets.push(Target {
            handle,
            queue: 0,
            class,
            link: handle,
            reliability: 1.0,
            drift: 0.0,
            fresh: true,
        });
    }
    (predictor, targets)
}

fn observed(ready: Time) -> Observed {
    Observed {
        work: Work::default(),
        dial: Dial::MEDIAN,
        one_way: ready / 10,
        processing: ready - ready / 10,
        ready_delay: ready,
        late: false,
        lead: ready,
        alone: false,
    }
}

fn ask(now: Time) -> Ask {
    Ask {
        now,
        target_time: None,
        window: None,
        dial: Dial::new(0.99).unwrap(),
        weight: 0.0,
        hold: true,
        send_gap: 0,
        humans: false,
    }
}

#[test]
fn sched_01_and_11_slow_agents_are_led_earlier_and_expected_ready_before_t() {
    let (predictor, targets) = learned(&[10, 400, 50, 200], AgentClass::Serverless);
    let plan = plan(&predictor, &targets, &ask(7 * SECOND), &mut Scratch::default());
    let order: Vec<u32> = plan.sends.iter().map(|s| s.target).collect();
    assert_eq!(order, [1, 3, 2, 0]);
    for send in &plan.sends {
        assert!(send.send_at >= 7 * SECOND && send.send_at + send.lead <= plan.target_time);
        assert!(send.expected_arrival() < send.expected_ready());
        assert!(send.expected_ready() <= plan.target_time);
        assert!(plan.target_time - send.send_at - send.lead < GRAIN);
    }
    assert!(plan.skips.is_empty());
}

#[test]
fn sched_05_and_06_who_cannot_make_it_is_skipped_with_numbers_and_the_rest_is_sent() {
    let (predictor, targets) = learned(&[10, 400, 50, 200], AgentClass::Serverless);
    let asked = Ask { target_time: Some(SECOND + 120 * MS), ..ask(SECOND) };
    let plan = plan(&predictor, &targets, &asked, &mut Scratch::default());
    assert_eq!(plan.sends.iter().map(|s| s.target).collect::<Vec<_>>(), [2, 0]);
    assert_eq!(plan.skips.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 3]);
    for (_, skip) in &plan.skips {
        assert_eq!(skip.reason(), SkipReason::InsufficientLeadTime);
        let (would_need, available) = skip.numbers();
        assert!(would_need > 190 * MS && available == 120 * MS);
    }
}

#[test]
fn sched_05_a_target_time_in_the_past_skips_everyone() {
    let (predictor, targets) = learned(&[10, 20], AgentClass::Edge);
    let asked = Ask { target_time: Some(SECOND - 1), ..ask(SECOND) };
    let plan = plan(&predictor, &targets, &asked, &mut Scratch::default());
    assert!(plan.sends.is_empty() && plan.skips.len() == 2 && plan.window == 0);
    assert!(plan.skips.iter().all(|(_, skip)| skip.numbers().1 == 0));
}

#[test]
fn sched_07_and_x_16_confidence_is_the_formula_and_reaches_one_only_when_normalised() {
    assert!((confidence_raw(1.0, 0.0, true) - 0.7).abs() < 1e-6);
    assert!((confidence_raw(0.8, 0.5, true) - 0.45).abs() < 1e-6);
    assert!((confidence_raw(0.8, 0.5, false) - 0.25).abs() < 1e-6);
    assert!(confidence_raw(0.1, 3.0, false).abs() < f32::EPSILON);
    assert!((0.0..=0.7).contains(&confidence_raw(f32::NAN, f32::NAN, true)));
    let (predictor, targets) = learned(&[10], AgentClass::Edge);
    let plan = plan(&predictor, &targets, &ask(0), &mut Scratch::default());
    assert!((plan.sends[0].confidence - 1.0).abs() < 1e-6);
    assert!((plan.sends[0].confidence_raw - 0.7).abs() < 1e-6);
}

#[test]
fn sched_08_sends_are_counted_in_buckets_of_ten_milliseconds() {
    let (predictor, targets) = learned(&[10, 10, 10, 300, 600], AgentClass::Persistent);
    let plan = plan(&predictor, &targets, &ask(SECOND), &mut Scratch::default());
    assert_eq!(plan.sends.len(), 5);
    let mut buckets: Vec<u64> = plan.sends.iter().map(|s| s.send_at / BUCKET).collect();
    buckets.dedup();
    assert_eq!(plan.buckets as usize, buckets.len());
    assert!(plan.buckets >= 3 && plan.fullest >= 2);
}

#[test]
fn sched_09_leads_beyond_the_range_are_skipped_however_far_t_is() {
    let (predictor, targets) = learned(&[10, 3_000], AgentClass::Persistent);
    let asked = Ask { target_time: Some(100 * SECOND), ..ask(0) };
    let plan = plan(&predictor, &targets, &asked, &mut Scratch::default());
    assert_eq!(plan.sends.len(), 1);
    assert_eq!(plan.skips[0].1.reason(), SkipReason::OverRange);
    assert_eq!(plan.skips[0].1.numbers().1, COMPENSATION_RANGE);
}

#[test]
fn x_12_a_free_target_time_is_far_enough_for_heavy_messages_to_slow_classes() {
    let (predictor, mut targets) = learned(&[200; 100], AgentClass::Persistent);
    targets.iter_mut().for_each(|target| target.queue = 5);
    let asked = Ask { weight: 1.0, window: Some(200 * MS), ..ask(SECOND) };
    let plan = plan(&predictor, &targets, &asked, &mut Scratch::default());
    assert_eq!((plan.sends.len(), plan.skips.len()), (100, 0));
    assert!(plan.window > 400 * MS && plan.window < COMPENSATION_RANGE);
}

#[test]
fn y_13_people_are_planned_for_only_where_they_were_chosen() {
    let (predictor, targets) = learned(&[90_000; 3], AgentClass::Human);
    let mut scratch = Scratch::default();
    let refused = plan(&predictor, &targets, &ask(0), &mut scratch);
    assert!(refused.sends.is_empty() && refused.skips.len() == 3);
    let chosen = plan(&predictor, &targets, &Ask { humans: true, ..ask(0) }, &mut scratch);
    assert!(chosen.sends.len() == 3 && chosen.window > 80 * SECOND);
}

#[test]
fn x_13_nobody_to_send_to_is_a_plan_without_sends() {
    let predictor = Predictor::new(0);
    let plan = plan(&predictor, &[], &ask(5), &mut Scratch::default());
    assert!(plan.sends.is_empty() && plan.skips.is_empty() && plan.target_time == 5);
}

#[test]
fn a_plain_send_aims_at_the_middle_and_a_holding_one_at_the_dial() {
    let mut predictor = Predictor::new(1);
    predictor.join(0, AgentClass::Gpu);
    for k in 0..4_000 {
        predictor.observe(0, &observed((80 + k * 17 % 41) * MS));
    }
    let target = Target {
        handle: 0,
        queue: 0,
        class: AgentClass::Gpu,
        link: 0,
        reliability: 1.0,
        drift: 0.0,
        fresh: true,
    };
    let mut scratch = Scratch::default();
    let lead = |hold, scratch: &mut Scratch| {
        plan(&predictor, &[target], &Ask { hold, ..ask(0) }, scratch).sends[0].lead / MS
    };
    let (held, plain) = (lead(true, &mut scratch), lead(false, &mut scratch));
    assert!((97..104).contains(&plain), "{plain}");
    assert!((117..125).contains(&held), "{held}");
}

proptest! {
    #[test]
    fn sched_every_target_has_one_outcome_and_gaps_hold_or_are_counted(
        agents in proptest::collection::vec((1_u64..1_500, 0_u32..4, 0_u32..6), 1..60),
        gap in 0_u64..5_000_000,
        given in proptest::option::of(0_u64..2_000),
        window in proptest::option::of(0_u64..800),
        hold in any::<bool>(),
    ) {
        let delays: Vec<u64> = agents.iter().map(|a| a.0).collect();
        let (predictor, mut targets) = learned(&delays, AgentClass::Local);
        for (target, agent) in targets.iter_mut().zip(&agents) {
            target.link = (agent.1 << 24) ^ agent.2;
        }
        let asked = Ask {
            target_time: given.map(|ms| SECOND + ms * MS),
            window: window.map(|ms| ms * MS),
            send_gap: gap,
            hold,
            ..ask(SECOND)
        };
        let plan = plan(&predictor, &targets, &asked, &mut Scratch::default());
        let mut outcomes: Vec<u32> = plan.sends.iter().map(|s| s.target).collect();
        outcomes.extend(plan.skips.iter().map(|s| s.0));
        outcomes.sort_unstable();
        prop_assert!(outcomes.iter().copied().eq(0..targets.len() as u32));
        prop_assert!(plan.sends.is_sorted_by_key(|s| s.send_at));
        for send in &plan.sends {
            prop_assert!(send.send_at >= SECOND);
            prop_assert!(send.send_at + send.lead <= plan.target_time);
        }
        if given.is_none() {
            prop_assert!(plan.window >= window.unwrap_or(0) * MS);
            prop_assert!(plan.skips.iter().all(|(_, s)| s.reason() == SkipReason::OverRange));
        }
        let mut close = 0;
        for core in 0..4 {
            let link = |s: &Planned| targets[s.target as usize].link;
            let of: Vec<_> = plan.sends.iter().filter(|s| link(s) >> 24 == core).collect();
            for pair in of.windows(2) {
                let near = pair[1].send_at - pair[0].send_at < gap;
                close += u32::from(link(pair[0]) != link(pair[1]) && near);
            }
        }
        prop_assert!(close <= plan.crowded, "{close} {}", plan.crowded);
    }
}

/// How many sends (moments per connection) a plan has for so many targets on each of so many
/// connections.
fn moments(leads: impl Fn(u32) -> u64, links: u32, each: u32, gap: Time) -> (usize, Plan) {
    let delays: Vec<u64> = (0..links * each).map(leads).collect();
    let (predictor, mut targets) = learned(&delays, AgentClass::Persistent);
    for (index, target) in targets.iter_mut().enumerate() {
        target.link = index as u32 / each;
    }
    let asked = Ask { send_gap: gap, ..ask(SECOND) };
    let plan = plan(&predictor, &targets, &asked, &mut Scratch::default());
    let mut moments: Vec<(Time, u32)> =
        plan.sends.iter().map(|it| (it.send_at, targets[it.target as usize].link)).collect();
    moments.sort_unstable();
    moments.dedup();
    (moments.len(), plan)
}

#[test]
fn sched_08_connections_share_sends_only_where_the_core_has_no_time_for_each() {
    // 2,000 targets within some 100 ms: at 100 us a send, twice what there is time for.
    let dense = |index: u32| 100 + u64::from(index) % 100;
    let (sends, plan) = moments(dense, 20, 100, 100_000);
    assert_eq!(plan.sends.len(), 2_000);
    assert!(sends < 800, "{sends} sends");
    for send in &plan.sends {
        assert!(send.send_at + send.lead <= plan.target_time, "never later than the lead");
    }
    // The same with sends that cost next to nothing: each has its own moment.
    let (alone, plan) = moments(dense, 20, 100, 100);
    assert!(alone > 1_000, "{alone} sends");
    assert!(plan.smoothing < 2 * MS, "nobody is early for company: {}", plan.smoothing);
}
