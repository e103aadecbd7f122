//! The kernels on the device: modules loaded, functions found by name, once.

use super::driver::{Context, Fault, Function, Module};
use kernels::cuda::MODULES;
use std::rc::Rc;
use wire::Dtype;

/// The modules that a worker launches from. `restore` is for the kernel that widens lent rows.
const USED: [&str; 5] = ["topk", "int8", "center", "project", "restore"];

/// One kernel for each type of element, in the order f32, f16, bf16.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByDtype([Function; 3]);

impl ByDtype {
    fn find(modules: &Modules, name: &str) -> Result<Self, Fault> {
        let find = |end: &str| modules.function(&format!("{name}_{end}"));
        Ok(Self([find("f32")?, find("f16")?, find("bf16")?]))
    }

    /// The one for this type; `None` for bytes, which no kernel takes.
    pub(super) const fn of(&self, dtype: Dtype) -> Option<Function> {
        match dtype {
            Dtype::F32 => Some(self.0[0]),
            Dtype::F16 => Some(self.0[1]),
            Dtype::Bf16 => Some(self.0[2]),
            Dtype::U8 => None,
        }
    }
}

#[derive(Debug)]
struct Modules(Vec<(&'static [&'static str], Module)>);

impl Modules {
    fn function(&self, name: &str) -> Result<Function, Fault> {
        let holder = self.0.iter().find(|(names, _)| names.contains(&name));
        holder
            .or_else(|| self.0.first())
            .map_or_else(|| Err(Fault::no_kernels()), |(_, module)| module.function(name))
    }
}

/// What this worker launches.
#[derive(Debug)]
pub(super) struct Kernels {
    pub(super) topk_scan: ByDtype,
    pub(super) topk_merge: ByDtype,
    pub(super) int8_row: ByDtype,
    pub(super) int8_channel: ByDtype,
    pub(super) int8_group: ByDtype,
    pub(super) center: ByDtype,
    pub(super) project: ByDtype,
    pub(super) scatter_topk: Function,
    /// Keeps the functions loaded.
    _modules: Modules,
}

impl Kernels {
    /// Loads what is used here for the device, whose driver compiles it: about a second a module.
    pub(super) fn load(context: &Rc<Context>) -> Result<Self, Fault> {
        let mut modules = Modules(Vec::with_capacity(MODULES.len()));
        for module in MODULES.iter().filter(|module| USED.contains(&module.name)) {
            modules.0.push((module.kernels, Module::load(context, module.ptx)?));
        }
        Ok(Self {
            topk_scan: ByDtype::find(&modules, "topk_scan")?,
            topk_merge: ByDtype::find(&modules, "topk_merge")?,
            int8_row: ByDtype::find(&modules, "int8_row")?,
            int8_channel: ByDtype::find(&modules, "int8_channel")?,
            int8_group: ByDtype::find(&modules, "int8_group")?,
            center: ByDtype::find(&modules, "center")?,
            project: ByDtype::find(&modules, "project")?,
            scatter_topk: modules.function("scatter_topk")?,
            _modules: modules,
        })
    }
}
