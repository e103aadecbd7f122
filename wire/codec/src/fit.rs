//! Learning a basis from rows.
//!
//! Rows are added one after another and only sums are kept, in f64. The rotation is that of the
//! principal components, of rows brought to the same size: a coefficient is rounded by steps of its
//! row's size, so that is what its deviation must be known against. Sample covariances of few rows
//! are too sure of themselves, so the correlations are drawn towards none by the amount that Chen,
//! Wiesel, Eldar and Hero derive ("Shrinkage algorithms for MMSE covariance estimation", IEEE
//! Transactions on Signal Processing 58, 2010: the oracle approximating shrinkage).

use crate::basis::{Basis, BasisFault, Parts, WIDTH_MAX};
use kernels::Row;
use nalgebra::{DMatrix, SymmetricEigen};

/// A channel is an outlier if its largest distance to its mean is more than this many times the
/// median over channels of the root mean square distance.
pub const OUTLIER: f64 = 16.0;

/// `int8-channel` cuts nothing nearer to the mean than this many times the channel's root mean
/// square distance, nor anything that was seen in learning.
pub const REACH: f64 = 8.0;

/// Rows of one text are alike: so many of them tell as much as one of another text would.
const ALIKE: f64 = 3.0;

/// Sums over the rows so far.
#[derive(Clone, Debug)]
pub struct Fit {
    width: usize,
    tensor: String,
    rows: u64,
    sum: Vec<f64>,
    squares: Vec<f64>,
    least: Vec<f64>,
    most: Vec<f64>,
    /// Of rows divided by their size: total weight, sums, and sums of products (`[width, width]`,
    /// the part with column >= row).
    weight: f64,
    weighted: Vec<f64>,
    products: Vec<f64>,
    row: Vec<f32>,
    wide: Vec<f64>,
}

impl Fit {
    /// For rows of `width` entries of the tensor called `tensor`. Takes `8 width^2` bytes.
    ///
    /// # Errors
    /// `Shape` if `width` is 0 or over [`WIDTH_MAX`].
    pub fn new(width: usize, tensor: &str) -> Result<Self, BasisFault> {
        if width == 0 || width > WIDTH_MAX {
            return Err(BasisFault::Shape);
        }
        Ok(Self {
            width,
            tensor: tensor.to_owned(),
            rows: 0,
            sum: vec![0.0; width],
            squares: vec![0.0; width],
            least: vec![f64::INFINITY; width],
            most: vec![f64::NEG_INFINITY; width],
            weight: 0.0,
            weighted: vec![0.0; width],
            products: vec![0.0; width * width],
            row: vec![0.0; width],
            wide: vec![0.0; width],
        })
    }

    /// Adds a row; false if it was left out, because it has another length or a number in it is not
    /// finite.
    pub fn add(&mut self, row: Row<'_>) -> bool {
        if row.len() != self.width {
            return false;
        }
        row.widen(&mut self.row);
        if !self.row.iter().all(|x| x.is_finite()) {
            return false;
        }
        self.rows += 1;
        let mut size = 0.0;
        for (channel, x) in self.row.iter().enumerate() {
            let x = f64::from(*x);
            size += x * x;
            self.wide[channel] = x;
            self.sum[channel] += x;
            self.squares[channel] += x * x;
            self.least[channel] = self.least[channel].min(x);
            self.most[channel] = self.most[channel].max(x);
        }
        if size > 0.0 {
            let weight = self.width as f64 / size;
            self.weight += weight;
            for (channel, products) in self.products.chunks_exact_mut(self.width).enumerate() {
                let x = weight * self.wide[channel];
                self.weighted[channel] += x;
                for (product, y) in products.iter_mut().zip(&self.wide).skip(channel) {
                    *product += x * y;
                }
            }
        }
        true
    }

    /// Rows added so far.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// The basis. `rotated`: with a rotation, which takes `width^3` steps; `rank` is what `pca`
    /// keeps, 0 for none. `progress` is told how far it is, 0 to 1.
    ///
    /// # Errors
    /// `Number` if no row was added, or sums overflowed; `Shape` for a rank over the width, or
    /// without rotation.
    pub fn finish(
        &self,
        rotated: bool,
        rank: u32,
        mut progress: impl FnMut(f32),
    ) -> Result<Basis, BasisFault> {
        if self.rows == 0 {
            return Err(BasisFault::Number);
        }
        let rows = self.rows as f64;
        let mean: Vec<f64> = self.sum.iter().map(|sum| sum / rows).collect();
        let furthest: Vec<f64> = (0..self.width)
            .map(|channel| {
                let mean = mean[channel];
                (self.most[channel] - mean).max(mean - self.least[channel])
            })
            .collect();
        let deviation = |channel: usize| {
            let square = self.squares[channel] / rows - mean[channel] * mean[channel];
            square.max(0.0).sqrt()
        };
        let scale = (0..self.width).map(|channel| {
            let reach = furthest[channel].max(REACH * deviation(channel));
            (reach / 127.0) as f32
        });
        let mut deviations: Vec<f64> = (0..self.width).map(deviation).collect();
        deviations.sort_unstable_by(f64::total_cmp);
        let usual = deviations[self.width / 2];
        let is_outlier = |channel: &usize| furthest[*channel] > OUTLIER * usual;
        progress(0.05);
        let (rotation, spread) =
            if rotated { self.rotation(&mean, &mut progress) } else { Default::default() };
        progress(1.0);
        Basis::new(Parts {
            scale: scale.collect(),
            mean: mean.iter().map(|mean| *mean as f32).collect(),
            outliers: (0..self.width).filter(is_outlier).map(|channel| channel as u32).collect(),
            rotation,
            spread,
            rank,
            rows: self.rows,
            tensor: self.tensor.clone(),
        })
    }

    /// Components by descending variance, and the deviation of each over a row's root mean square.
    fn rotation(&self, mean: &[f64], progress: &mut impl FnMut(f32)) -> (Vec<f32>, Vec<f32>) {
        let width = self.width;
        let scale = 1.0 / self.weight.max(f64::MIN_POSITIVE);
        let mut covariance = DMatrix::from_fn(width, width, |a, b| {
            let (a, b) = (a.min(b), a.max(b));
            let crossed = mean[a] * self.weighted[b] + self.weighted[a] * mean[b];
            scale * (self.products[a * width + b] - crossed) + mean[a] * mean[b]
        });
        shrink(&mut covariance, self.rows as f64 / ALIKE);
        progress(0.1);
        let trace = covariance.trace();
        let eigen = SymmetricEigen::new(covariance);
        progress(0.9);
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
        let mut rotation = Vec::with_capacity(width * width);
        let mut spread = Vec::with_capacity(width);
        for component in order {
            let vector = eigen.eigenvectors.column(component);
            // A component and its opposite are equally good: the largest entry shall be positive.
            let largest = vector
                .iter()
                .copied()
                .fold(0.0, |top: f64, x| if x.abs() > top.abs() { x } else { top });
            rotation.extend(vector.iter().map(|x| (x * largest.signum()) as f32));
            let variance = eigen.eigenvalues[component].max(0.0) * width as f64 / trace;
            spread.push(if trace > 0.0 { variance.sqrt() as f32 } else { 0.0 });
        }
        (rotation, spread)
    }
}

/// Draws correlations towards none, by as much as so few rows call for.
fn shrink(covariance: &mut DMatrix<f64>, rows: f64) {
    let width = covariance.nrows() as f64;
    let diagonal: Vec<f64> = covariance.diagonal().iter().map(|x| x.max(0.0)).collect();
    let mut squares = 0.0;
    for (a, of_a) in diagonal.iter().enumerate() {
        for (b, of_b) in diagonal.iter().enumerate() {
            let product = of_a * of_b;
            if product > 0.0 {
                squares += covariance[(a, b)] * covariance[(a, b)] / product;
            }
        }
    }
    // The formula for a matrix of correlations: its trace is the width.
    let above = (1.0 - 2.0 / width) * squares + width * width;
    let below = (rows + 1.0 - 2.0 / width) * (squares - width);
    let amount = if below > 0.0 { (above / below).min(1.0) } else { 1.0 };
    for a in 0..diagonal.len() {
        for b in 0..diagonal.len() {
            if a != b {
                covariance[(a, b)] *= 1.0 - amount;
            }
        }
    }
}
