//! How many retries all calls of a pool may make together, so that a node in trouble is not buried
//! under the same requests again.

/// A purse: every call pays a share of a retry in, every retry takes a whole one out.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    saved: f64,
    share: f64,
    most: f64,
}

impl Budget {
    /// `share` of a retry per call; `most` may be saved, and are there at the start, so that few
    /// calls may also be retried.
    pub(crate) fn new(share: f64, most: u32) -> Self {
        let most = f64::from(most);
        Self { saved: most, share: share.clamp(0.0, 1.0), most }
    }

    /// A call begins.
    pub(crate) fn pay_in(&mut self) {
        self.saved = (self.saved + self.share).min(self.most);
    }

    /// Takes a retry out, if there is one.
    pub(crate) fn take(&mut self) -> bool {
        let enough = self.saved >= 1.0;
        if enough {
            self.saved -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pool_06_retries_never_pass_the_share_of_calls_and_what_was_saved(
            steps in prop::collection::vec(any::<bool>(), 0..2_000),
            most in 0..20_u32,
        ) {
            let mut budget = Budget::new(0.2, most);
            let (mut calls, mut retries) = (0.0, 0.0);
            for is_call in steps {
                if is_call {
                    budget.pay_in();
                    calls += 1.0;
                } else if budget.take() {
                    retries += 1.0;
                }
                prop_assert!(retries <= f64::from(most) + 0.2 * calls + 1e-9);
            }
        }
    }

    #[test]
    fn four_calls_at_a_quarter_pay_for_one_retry() {
        let mut budget = Budget::new(0.25, 1);
        assert!(budget.take() && !budget.take());
        (0..4).for_each(|_| budget.pay_in());
        assert!(budget.take() && !budget.take());
    }
}
