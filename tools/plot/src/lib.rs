//! Reports as pages: charts in SVG, tables beside them, one file that fetches nothing and runs
//! nothing. Text in, text out.
//!
//! Why not a crate for plotting: a page should follow its reader's colours (light, dark, paper),
//! be read aloud (`title`, `desc`, a table for every chart) and say a point's numbers under the
//! pointer. `plotters` draws on a canvas: its SVG has colours in every element, no titles, and
//! text placed by the metrics of a font that the reader may not have.
//!
//! Whatever is put in, the page is well-formed, no number in it is NaN or infinite, and what a
//! chart draws lies inside it.
#![forbid(unsafe_code)]

mod chart;
mod labels;
mod page;
mod scale;
pub mod text;

pub use chart::{Axis, Chart, HEIGHT, Mark, Point, Rule, Series, WIDTH};
pub use page::{Page, Tile};
pub use scale::Scale;
