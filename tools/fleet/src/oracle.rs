//! What someone who knows the model knows: the distribution of an agent's ready delay.
//!
//! ready = link + service. The service time is lognormal, so given the link delay the share below
//! any limit is exact. The link delay is replaced by a weighted grid: the jitter by 22 slices that
//! get thinner towards its tail, spikes and losses by slices of their own (the jitter inside them
//! at five points). A quantile is found on that by bisection in the logarithm.

use std::sync::LazyLock;

use crate::agent::{AgentModel, JITTER_SPREAD, LOSSES, SPIKE_CAP, SPIKE_SHAPE};
use crate::{Time, normal};

/// Upper edges of the jitter's slices.
const EDGES: [f64; 22] = [
    0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.86, 0.9, 0.93, 0.95, 0.97, 0.98, 0.987, 0.992, 0.995,
    0.997, 0.9985, 0.9993, 0.9998, 1.0,
];

struct Grid {
    /// (weight, unit jitter), fine.
    jitter: Vec<(f64, f64)>,
    /// (weight, unit jitter), coarse.
    coarse: Vec<(f64, f64)>,
    /// (weight, unit spike).
    spike: Vec<(f64, f64)>,
}

static GRID: LazyLock<Grid> = LazyLock::new(|| {
    let unit = |p: f64| (JITTER_SPREAD * normal::quantile(p)).exp();
    let mut low = 0.0;
    let mut slice = |high: f64| {
        let at = (high - low, f64::midpoint(low, high));
        low = high;
        at
    };
    let fine: Vec<(f64, f64)> = EDGES.iter().map(|&e| slice(e)).collect();
    Grid {
        jitter: fine.iter().map(|&(w, p)| (w, unit(p))).collect(),
        coarse: (0..5).map(|k| (0.2, unit(0.1 + 0.2 * f64::from(k)))).collect(),
        spike: fine
            .iter()
            .map(|&(w, p)| (w, (1.0 - p).powf(-1.0 / SPIKE_SHAPE).min(SPIKE_CAP)))
            .collect(),
    }
});

/// The ready delay of one message: service median and spread, and the link delay as weighted
/// points.
pub(crate) struct Ready {
    median: f64,
    noise: f64,
    links: Vec<(f64, f64)>,
}

impl Ready {
    pub(crate) fn of(agent: &AgentModel, at: Time, weight: f32, queue: u32) -> Self {
        let median = agent.service_median(at, weight, queue);
        Self { median, noise: f64::from(agent.noise), links: links(agent, at) }
    }

    /// Share of messages ready within `delay` ns.
    pub(crate) fn share(&self, delay: f64) -> f64 {
        self.links.iter().map(|&(weight, link)| weight * self.served(delay - link)).sum()
    }

    fn served(&self, within: f64) -> f64 {
        if within < 0.0 {
            0.0
        } else if self.median <= 0.0 {
            1.0
        } else if self.noise <= 0.0 {
            f64::from(u8::from(within >= self.median))
        } else if within <= 0.0 {
            0.0
        } else {
            normal::share((within / self.median).ln() / self.noise)
        }
    }

    pub(crate) fn quantile(&self, tau: f64) -> Time {
        let longest = self.links.iter().map(|&(_, link)| link).fold(0.0, f64::max);
        let shortest = self.links.iter().map(|&(_, link)| link).fold(f64::MAX, f64::min);
        let mut low = (shortest + self.median * (-6.0 * self.noise).exp()).max(1.0);
        let mut high = (longest + self.median * (6.0 * self.noise).exp()).max(low) + 1.0;
        // A span of a few powers of e: 22 halvings of its logarithm leave 1e-5 of relative error.
        for _ in 0..22 {
            let middle = (low * high).sqrt();
            if self.share(middle) >= tau {
                high = middle;
            } else {
                low = middle;
            }
        }
        high as Time
    }
}

fn links(agent: &AgentModel, at: Time) -> Vec<(f64, f64)> {
    if agent.down <= 0.0 {
        return vec![(1.0, 0.0)];
    }
    let grid = &*GRID;
    let factor = agent.path_factor(at);
    let (base, jitter) = (f64::from(agent.down), f64::from(agent.jitter));
    let (spiky, spike) = (f64::from(agent.spike_rate), f64::from(agent.spike));
    let loss = f64::from(agent.loss);
    let mut out = Vec::with_capacity(128);
    let mut put = |weight: f64, delay: f64| {
        // What happens once in ten million messages moves no quantile that anybody asks for.
        if weight > 1e-7 {
            out.push((weight, delay));
        }
    };
    for losses in 0..=LOSSES {
        let again = f64::from(agent.rto) * f64::from((1_u32 << losses) - 1);
        let stops = if losses == LOSSES { 1.0 } else { 1.0 - loss };
        let share = loss.powi(losses as i32) * stops;
        let calm = if losses == 0 { &grid.jitter } else { &grid.coarse };
        for &(weight, unit) in calm {
            let delay = (base + jitter * unit) * factor + again;
            put(share * (1.0 - spiky) * weight, delay);
        }
        for &(weight, unit) in &grid.spike {
            let middle = if losses == 0 { jitter } else { 0.0 };
            let delay = (base + middle + spike * unit) * factor + again;
            put(share * spiky * weight, delay);
        }
    }
    out
}
