//! Placeholder
use super::{driver::Fault, engine::Engine, route::Table};
use crate::cpu::Cpu;
pub(super) fn table(_e: &Engine<'_>, _c: &Cpu<'_>) -> Result<Table, Fault> {
    Ok(Table::default())
}
