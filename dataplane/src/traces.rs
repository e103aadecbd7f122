//! What a node remembers of requests, and who else is told.

use crate::{
    otlp::Endpoint,
    plan::{PlanError, refuse},
    settings::Settings,
};
use dataplane_core::trace::Bounds;

/// Records of one shard unless told otherwise: 2 MiB.
const RECORDS: u32 = 1 << 14;
const RECORDS_MIN: u32 = 8;
const RECORDS_MAX: u32 = 1 << 22;
/// Share of the requests that are exported unless told otherwise.
const SAMPLE: f64 = 0.001;
/// The finest share that is told apart.
const PARTS: f64 = 1e9;

/// How much is remembered and exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TracePlan {
    /// Records of one shard; 0 for none.
    pub(crate) records: u32,
    /// Where a sample goes.
    pub(crate) otlp: Option<Endpoint>,
    /// Of a billion requests, so many go there.
    sample: u32,
}

impl TracePlan {
    /// Checks what a person said.
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, PlanError> {
        let records = settings.trace_records.unwrap_or(RECORDS);
        let sound = records.is_power_of_two() && (RECORDS_MIN..=RECORDS_MAX).contains(&records);
        if records != 0 && !sound {
            let nearest = records.clamp(RECORDS_MIN, RECORDS_MAX).next_power_of_two();
            let remedy = format!("take 0 for none, or a power of two, as {nearest}");
            return Err(refuse("trace_records", records, remedy));
        }
        let share = settings.otlp_sample.unwrap_or(SAMPLE);
        if !(0.0..=1.0).contains(&share) {
            return Err(refuse("otlp_sample", share, "write a share from 0 to 1, as 0.001"));
        }
        let otlp = settings
            .otlp
            .as_deref()
            .map(|text| text.parse::<Endpoint>().map_err(|remedy| refuse("otlp", text, remedy)));
        let otlp = otlp.transpose()?;
        if otlp.is_some() && records == 0 {
            let remedy = "what is not remembered is not exported: leave --otlp or this out";
            return Err(refuse("trace_records", records, remedy));
        }
        if otlp.is_none() && settings.otlp_sample.is_some() {
            let remedy = "a sample of nothing: name the collector with --otlp";
            return Err(refuse("otlp_sample", share, remedy));
        }
        Ok(Self { records, otlp, sample: (share * PARTS) as u32 })
    }

    /// For the rings, where there are any.
    pub(crate) fn bounds(&self) -> Option<Bounds> {
        let sample = self.otlp.as_ref().map_or(0.0, |_| f64::from(self.sample) / PARTS);
        (self.records > 0).then_some(Bounds { records: self.records as usize, sample })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(settings: &Settings) -> Result<TracePlan, String> {
        TracePlan::from_settings(settings).map_err(|error| error.to_string())
    }

    #[test]
    fn records_are_a_power_of_two_or_none() {
        let of = |n| plan(&Settings { trace_records: Some(n), ..Settings::default() });
        assert_eq!(of(0).expect("none").bounds(), None);
        let bounds = plan(&Settings::default()).expect("stands").bounds().expect("some");
        assert_eq!((bounds.records, bounds.sample), (16_384, 0.0), "no collector, no sample");
        assert!(of(100).expect_err("no power").contains("as 128"));
        assert!(of(4).expect_err("too few").contains("as 8"));
        assert!(of(u32::MAX).is_err_and(|why| why.contains("as 4194304")));
    }

    #[test]
    fn a_sample_needs_a_collector_and_is_a_share() {
        let told = |otlp: Option<&str>, otlp_sample, trace_records| {
            let otlp = otlp.map(str::to_owned);
            plan(&Settings { otlp, otlp_sample, trace_records, ..Settings::default() })
        };
        let there = Some("http://127.0.0.1:4318");
        let sample = |plan: Result<TracePlan, String>| {
            plan.expect("stands").bounds().map(|bounds| bounds.sample)
        };
        assert_eq!(sample(told(there, None, None)), Some(0.001));
        assert_eq!(sample(told(there, Some(1.0), None)), Some(1.0));
        assert!(told(there, Some(1.5), None).is_err_and(|why| why.starts_with("otlp_sample")));
        assert!(told(there, Some(f64::NAN), None).is_err());
        assert!(told(None, Some(0.5), None).is_err_and(|why| why.contains("--otlp")));
        assert!(told(there, None, Some(0)).is_err_and(|why| why.starts_with("trace_records")));
        assert!(told(Some("https://x"), None, None).is_err_and(|why| why.starts_with("otlp = ")));
    }
}
