//! A sweep for people at a terminal.

use super::{Point, Sweep};
use crate::{
    slo::{Bound, End},
    terminal::table,
};
use plot::text::{micros, short};

/// One run in a line.
pub(super) fn line(point: &Point) -> String {
    let us = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), time);
    let Point { rate, achieved, latency_us, .. } = point;
    let mut line = format!(
        "{}/s offered, {}/s answered, p50 {}, p99 {}",
        short(*rate),
        short(*achieved),
        us(latency_us.p50),
        us(latency_us.p99)
    );
    if let Some(broke) = &point.broke {
        line.push_str(&format!("; {broke}"));
    }
    line
}

/// Terminals that have no micro sign are still about.
fn time(us: f64) -> String {
    micros(us).replace('µ', "u")
}

/// How a search ended, in a sentence.
pub(super) fn outcome(end: End, bounds: &[Bound], failed: Option<f64>) -> String {
    let kept = bounds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let failed =
        failed.map_or_else(String::new, |rate| format!(", and {}/s does not", short(rate)));
    match end {
        End::Found(rate) => format!("{}/s keeps {kept}{failed}", short(rate)),
        End::Ceiling(rate) => {
            format!("{}/s keeps {kept}, and it is the highest rate to try: raise --to", short(rate))
        }
        End::Floor(rate) => {
            format!("not even {}/s keeps {kept}, and it is the lowest rate to try", short(rate))
        }
        End::Unsettled(Some(rate)) => format!(
            "the runs were used up: {}/s kept {kept} so far{failed}; raise --max-runs or --step",
            short(rate)
        ),
        End::Unsettled(None) => {
            format!(
                "the runs were used up and no rate kept {kept}: lower --from or raise --max-runs"
            )
        }
    }
}

impl Sweep {
    /// For people, in so many columns.
    #[must_use]
    pub fn text(&self, columns: u16) -> String {
        let us = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), time);
        let mut rows = vec![
            ["offered/s", "answered/s", "p50", "p99", "p99.9", "max", "no answer", ""]
                .map(str::to_owned)
                .to_vec(),
        ];
        for point in &self.points {
            let Point { rate, achieved, latency_us: latency, .. } = point;
            rows.push(vec![
                short(*rate),
                short(*achieved),
                us(latency.p50),
                us(latency.p99),
                us(latency.p999),
                us(latency.max),
                format!("{}%", plot::text::digits(point.unanswered() * 100.0)),
                self.remark(point),
            ]);
        }
        let mut text = table(&rows, columns);
        let bound = self.points.iter().find_map(|point| {
            let reason = point.client_bound_reason.as_ref()?;
            Some(format!("from {}/s: {reason}", short(point.rate)))
        });
        for line in self.findings().into_iter().chain(bound) {
            text.push('\n');
            text.push_str(&line);
        }
        text
    }

    fn remark(&self, point: &Point) -> String {
        let knee = self.knee.is_some_and(|knee| knee.rate == point.rate);
        match (&point.broke, &point.client_bound_reason) {
            (Some(broke), _) => broke.clone(),
            (None, Some(_)) => "blast-bound".to_owned(),
            (None, None) if knee => "knee".to_owned(),
            (None, None) if point.why == "confirm" => "again".to_owned(),
            (None, None) => String::new(),
        }
    }

    /// What there is to say, a sentence each.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(capacity) = self.capacity {
            lines.push(format!("closed loop: {}/s", short(capacity)));
        }
        match (self.knee, &self.slo) {
            (_, Some(slo)) => lines.push(slo.words.clone()),
            (Some(knee), None) => lines.push(format!(
                "knee: {}/s at p99 {}; above it latency grows faster than what is answered",
                short(knee.rate),
                time(knee.p99_us)
            )),
            (None, None) => lines.push("no knee within these rates".to_owned()),
        }
        if let Some(rate) = self.saturation() {
            lines.push(format!("highest rate that was kept up with, to 95%: {}/s", short(rate)));
        }
        lines
    }
}
