//! Which side computes an order: the device or one core, whichever is expected to be done sooner.
//!
//! Each side's time for an operation is a straight line over the bytes of rows: a fixed part and a
//! part per byte, laid through measurements at two sizes. The fixed part of the device is shared by
//! the orders that travel together. Given the lines, every choice here is arithmetic.
//!
//! Coded answers are counted as plain ones: sets as top-k or lm-head, hidden rows as int8. What the
//! host does to code them it does on either side, so it cancels out. Where rows are projected, the
//! product is added to the core's time; the device's is small beside the way there.

use crate::authors::{AuthorId, Authors};
use wire::{Coding, Operation, Source, Work};

/// Time over bytes: `fixed + per_byte * bytes`, nanoseconds, neither part negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Line {
    fixed: f64,
    per_byte: f64,
}

impl Line {
    /// Through two measurements `(bytes, nanoseconds)`, the smaller first.
    pub(super) fn through(small: (f64, f64), large: (f64, f64)) -> Self {
        let per_byte = ((large.1 - small.1) / (large.0 - small.0).max(1.0)).max(0.0);
        Self { fixed: (small.1 - per_byte * small.0).max(0.0), per_byte }
    }

    /// Nanoseconds of an order with `bytes` of rows that shares the fixed part with `others`.
    fn at(self, bytes: f64, share: f64) -> f64 {
        self.fixed / share.max(1.0) + self.per_byte * bytes
    }
}

/// Both sides' times for one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Costs {
    pub(super) cpu: Line,
    pub(super) device: Line,
}

/// By operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub(super) topk: Costs,
    pub(super) int8: Costs,
    pub(super) lm_head: Costs,
    /// One core's nanoseconds for a multiplication by the basis; 0 without one.
    pub(super) product: f64,
}

/// A side, and who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Device(AuthorId),
    Cpu(AuthorId),
}

/// A choice that was made before: it is signed by the same author.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    operation: Operation,
    coding: Coding,
    /// Power of two of the bytes.
    magnitude: u32,
    device: bool,
}

/// How orders are sent to one side or the other.
#[derive(Debug)]
pub(super) struct Route {
    /// `None`: whatever the device can compute goes there.
    table: Option<Table>,
    known: Vec<(Known, AuthorId)>,
}

impl Route {
    /// All to the device.
    pub(super) const fn always() -> Self {
        Self { table: None, known: Vec::new() }
    }

    /// To the side that is expected to be sooner.
    pub(super) const fn by_cost(table: Table) -> Self {
        Self { table: Some(table), known: Vec::new() }
    }

    /// The side for an order that came with `orders` in one batch. `fits` says that the device can
    /// compute it at all.
    pub(super) fn place(
        &mut self,
        work: &Work,
        orders: usize,
        fits: bool,
        authors: &mut Authors,
    ) -> Place {
        if !fits {
            let reason = match (work.operation, work.coding) {
                (Operation::Hidden, Coding::Int8Centred) => "the device does not compute this",
                (Operation::TopK | Operation::Int8 | Operation::LmHead | Operation::Hidden, _) => {
                    "larger than a wave of the device"
                }
                _ => "the device does not compute this",
            };
            return Place::Cpu(authors.who("cpu", reason));
        }
        if work.source == Source::CudaIpc {
            return Place::Device(authors.who("cuda", "the rows are on the device"));
        }
        let Some(table) = self.table else {
            return Place::Device(authors.who("cuda", "asked for"));
        };
        let (cpu, device) = expected(&table, work, orders);
        let known = Known {
            operation: work.operation,
            coding: work.coding,
            magnitude: work.data_len.max(1).ilog2(),
            device: device < cpu,
        };
        let author = match self.known.iter().find(|(other, _)| *other == known) {
            Some((_, author)) => *author,
            None => {
                let backend = if known.device { "cuda" } else { "cpu" };
                let author = authors.who(backend, &reason(work, cpu, device));
                self.known.push((known, author));
                author
            }
        };
        if known.device { Place::Device(author) } else { Place::Cpu(author) }
    }
}

/// Nanoseconds of one core and of the device.
fn expected(table: &Table, work: &Work, orders: usize) -> (f64, f64) {
    let costs = match work.operation {
        Operation::Int8 | Operation::Hidden => table.int8,
        Operation::LmHead => table.lm_head,
        _ => table.topk,
    };
    let bytes = f64::from(work.data_len);
    // The core starts anew with every row, the device with every wave.
    let rows = f64::from(work.rows.max(1));
    let fixed = if work.operation == Operation::LmHead { 1.0 } else { rows };
    let projected = matches!(work.coding, Coding::Rotated | Coding::Pca);
    let product = if projected { rows * f64::from(work.cols).powi(2) * table.product } else { 0.0 };
    let cpu = costs.cpu.fixed * fixed + costs.cpu.per_byte * bytes + product;
    (cpu, costs.device.at(bytes, orders as f64))
}

/// For people and for every reply.
fn reason(work: &Work, cpu: f64, device: f64) -> String {
    let us = |ns: f64| (ns / 1e3).ceil();
    let rows = match work.rows {
        1 => "this row".to_owned(),
        rows => format!("these {rows} rows"),
    };
    format!("about this size: one core {} us, device {} us for {rows}", us(cpu), us(device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::{Coding, Dtype};

    fn work(operation: Operation, rows: u32, cols: u32) -> Work {
        Work {
            operation,
            dtype: Dtype::F32,
            values: Dtype::F32,
            coding: Coding::Plain,
            source: Source::Inline,
            quality: 0.0,
            streaming: false,
            k: 100,
            rows,
            cols,
            data_offset: 0,
            data_len: rows * cols * 4,
            check: None,
        }
    }

    fn table() -> Table {
        // One core: 2 us a row and 0.07 ns a byte; the device: 12 us a wave and 0.02 ns a byte.
        let costs = Costs {
            cpu: Line { fixed: 2_000.0, per_byte: 0.07 },
            device: Line { fixed: 12_000.0, per_byte: 0.02 },
        };
        Table { topk: costs, int8: costs, lm_head: costs, product: 0.05 }
    }

    #[test]
    fn a_line_goes_through_its_measurements() {
        let line = Line::through((1_000.0, 500.0), (3_000.0, 900.0));
        assert_eq!(line, Line { fixed: 300.0, per_byte: 0.2 });
        assert_eq!(line.at(2_000.0, 1.0), 700.0);
        assert_eq!(line.at(2_000.0, 3.0), 500.0);
        // Measurements that contradict the model do not make time negative.
        let odd = Line::through((1_000.0, 900.0), (3_000.0, 500.0));
        assert_eq!(odd, Line { fixed: 900.0, per_byte: 0.0 });
        let steep = Line::through((1_000.0, 1.0), (3_000.0, 5_000.0));
        assert_eq!(steep.fixed, 0.0);
    }

    #[test]
    fn small_rows_stay_and_long_ones_go() {
        let mut authors = Authors::new(0);
        let mut route = Route::by_cost(table());
        let mut place = |rows, cols, orders| {
            route.place(&work(Operation::TopK, rows, cols), orders, true, &mut authors)
        };
        assert!(matches!(place(1, 1_000, 1), Place::Cpu(_)));
        assert!(matches!(place(1, 131_072, 1), Place::Device(_)));
        assert!(matches!(place(1, 1_000, 64), Place::Device(_)), "company shares the way");
        assert!(matches!(place(64, 1_000, 1), Place::Device(_)));
        assert_eq!(place(1, 131_072, 1), place(1, 131_073, 1), "one author for like sizes");
    }

    /// A row of 1,000 entries stays where it is quantised and goes where it is projected.
    #[test]
    fn hidden_rows_are_counted_as_int8_and_their_product_on_top() {
        let mut authors = Authors::new(0);
        let mut route = Route::by_cost(table());
        let mut place = |coding| {
            let work = Work { coding, ..work(Operation::Hidden, 1, 1_000) };
            route.place(&work, 1, true, &mut authors)
        };
        assert!(matches!(place(Coding::Int8Group), Place::Cpu(_)));
        assert!(matches!(place(Coding::Rotated), Place::Device(_)));
    }

    #[test]
    fn what_the_device_cannot_do_stays_and_what_is_asked_for_goes() {
        let mut authors = Authors::new(0);
        let long = work(Operation::TopK, 1, 1 << 20);
        let mut route = Route::by_cost(table());
        assert!(matches!(route.place(&long, 1, false, &mut authors), Place::Cpu(_)));
        let mut always = Route::always();
        let short = work(Operation::Int8, 1, 1);
        assert!(matches!(always.place(&short, 1, true, &mut authors), Place::Device(_)));
        let leased = Work { source: Source::CudaIpc, ..short };
        assert!(matches!(route.place(&leased, 1, true, &mut authors), Place::Device(_)));
    }

    #[test]
    fn the_reason_names_both_times() {
        let text = reason(&work(Operation::TopK, 1, 131_072), 36_700.0, 51_200.0);
        assert_eq!(text, "about this size: one core 37 us, device 52 us for this row");
        let text = reason(&work(Operation::Int8, 8, 10), 1.0, 2_000.0);
        assert_eq!(text, "about this size: one core 1 us, device 2 us for these 8 rows");
    }

    proptest! {
        /// The side that is chosen is never the one that is expected later.
        #[test]
        fn the_sooner_side_is_chosen(
            rows in 1_u32..200, cols in 1_u32..5_000, orders in 1_usize..256,
        ) {
            let mut authors = Authors::new(0);
            let work = work(Operation::Int8, rows, cols);
            let (cpu, device) = expected(&table(), &work, orders);
            let place = Route::by_cost(table()).place(&work, orders, true, &mut authors);
            prop_assert_eq!(matches!(place, Place::Device(_)), device < cpu);
        }
    }
}
