//! The standard normal distribution: its cumulative share and the inverse of that.

/// Share of a standard normal below `x`. Absolute error below 1.5e-7 (Abramowitz and
/// Stegun, 7.1.26).
#[must_use]
pub fn share(x: f64) -> f64 {
    let z = x.abs() * core::f64::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let poly = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let tail = 0.5 * poly * (-z * z).exp();
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// The value with share `p` below it, `p` in (0, 1). Relative error below 1.2e-9 (the rational
/// approximation in three pieces by P. J. Acklam).
#[must_use]
pub fn quantile(p: f64) -> f64 {
    const SPLIT: f64 = 0.02425;
    if p < SPLIT {
        tail((-2.0 * p.ln()).sqrt())
    } else if p > 1.0 - SPLIT {
        -tail((-2.0 * (1.0 - p).ln()).sqrt())
    } else {
        middle(p - 0.5)
    }
}

fn middle(q: f64) -> f64 {
    let r = q * q;
    let top =
        ((((-39.696_830_286_653_76 * r + 220.946_098_424_520_5) * r - 275.928_510_446_968_7) * r
            + 138.357_751_867_269)
            * r
            - 30.664_798_066_147_16)
            * r
            + 2.506_628_277_459_239;
    let bottom =
        ((((-54.476_098_798_224_06 * r + 161.585_836_858_040_9) * r - 155.698_979_859_886_6) * r
            + 66.801_311_887_719_72)
            * r
            - 13.280_681_552_885_72)
            * r
            + 1.0;
    q * top / bottom
}

fn tail(q: f64) -> f64 {
    let top = ((((-0.007_784_894_002_430_293 * q - 0.322_396_458_041_136_5) * q
        - 2.400_758_277_161_838)
        * q
        - 2.549_732_539_343_734)
        * q
        + 4.374_664_141_464_968)
        * q
        + 2.938_163_982_698_783;
    let bottom = (((0.007_784_695_709_041_462 * q + 0.322_467_129_070_039_8) * q
        + 2.445_134_137_142_996)
        * q
        + 3.754_408_661_907_416)
        * q
        + 1.0;
    top / bottom
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_and_quantile_undo_each_other_and_meet_known_points() {
        assert!((quantile(0.975) - 1.959_963_985).abs() < 1e-6);
        assert!((quantile(0.001) + 3.090_232_306).abs() < 1e-6);
        assert!((share(1.0) - 0.841_344_746).abs() < 1e-6);
        for i in 1..1000 {
            let p = f64::from(i) / 1000.0;
            assert!((share(quantile(p)) - p).abs() < 1e-6, "{p}");
        }
    }
}
