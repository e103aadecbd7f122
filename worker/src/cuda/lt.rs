//! The product of lm-head by cuBLASLt, where its library is on the host.
//!
//! It is loaded by name, as the driver is, and used for hidden rows of the weights' own 16-bit
//! type, so that nothing is rounded on the way in. Sums are f32 in an order of the library's
//! choice: near the logits of [`kernels::lmhead`], not their bits. What signs such a reply says so.

use super::driver::{Context, DeviceMemory, Fault, Stream};
use core::{cell::RefCell, ffi::c_void};
use cudarc::cublaslt::{
    result::{self, CublasError},
    sys,
};
use std::rc::Rc;
use wire::Dtype;

/// Bytes that an algorithm may use beside its operands.
pub(super) const WORKSPACE_LEN: usize = 4 << 20;

/// A handle of the library, and what is multiplied.
#[derive(Debug)]
pub(super) struct Product {
    handle: sys::cublasLtHandle_t,
    /// Weights transposed, hidden rows not, f32 sums.
    operation: sys::cublasLtMatmulDesc_t,
    limits: sys::cublasLtMatmulPreference_t,
    element: sys::cudaDataType,
    matrix: u64,
    width: u64,
    vocabulary: u64,
    /// The library's choice by number of rows.
    chosen: RefCell<Vec<(u32, sys::cublasLtMatmulHeuristicResult_t)>>,
}

/// A matrix as the library takes it, by columns.
struct Shape(sys::cublasLtMatrixLayout_t);

impl Shape {
    fn new(element: sys::cudaDataType, rows: u64, cols: u64) -> Result<Self, CublasError> {
        result::create_matrix_layout(element, rows, cols, rows as i64).map(Self)
    }
}

impl Drop for Shape {
    fn drop(&mut self) {
        // SAFETY: created in `new`, destroyed once.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

impl Product {
    /// The library, if it is there and does such products; it is asked for one. `None` leaves the
    /// work to our own kernel.
    pub(super) fn open(
        context: &Rc<Context>,
        matrix: &DeviceMemory,
        dtype: Dtype,
        width: u32,
        vocabulary: u32,
    ) -> Option<Self> {
        let element = match dtype {
            Dtype::F16 => sys::cudaDataType::CUDA_R_16F,
            Dtype::Bf16 => sys::cudaDataType::CUDA_R_16BF,
            Dtype::F32 | Dtype::U8 => return None,
        };
        // SAFETY: unsafe only because it loads a library, whose initialisers run: the machine's
        // cuBLASLt, found by its name.
        if !unsafe { sys::is_culib_present() } {
            return None;
        }
        let product = Self::create(element, matrix.address(), width, vocabulary).ok()?;
        product.try_out(context).ok()?;
        Some(product)
    }

    fn create(
        element: sys::cudaDataType,
        matrix: u64,
        width: u32,
        vocabulary: u32,
    ) -> Result<Self, CublasError> {
        use sys::{
            cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA,
            cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
        };
        let handle = result::create_handle()?;
        let operation = result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType::CUDA_R_32F,
        )?;
        let limits = result::create_matmul_pref()?;
        // From here on a failure gives all three back.
        let (width, vocabulary) = (u64::from(width), u64::from(vocabulary));
        let chosen = RefCell::default();
        let product =
            Self { handle, operation, limits, element, matrix, width, vocabulary, chosen };
        // CUBLAS_OP_T.
        let transposed = 1_i32;
        let at = (&raw const transposed).cast::<c_void>();
        // SAFETY: the attribute is a 32-bit number, read during the call.
        unsafe {
            result::set_matmul_desc_attribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, at, 4)
        }?;
        let most = WORKSPACE_LEN as u64;
        let at = (&raw const most).cast::<c_void>();
        // SAFETY: the attribute is a 64-bit number, read during the call.
        unsafe {
            result::set_matmul_pref_attribute(
                limits,
                CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                at,
                8,
            )
        }?;
        Ok(product)
    }

    /// One row of zeros.
    fn try_out(&self, context: &Rc<Context>) -> Result<(), Fault> {
        let stream = Stream::new(context)?;
        let row = self.width as usize * 2;
        let out = self.vocabulary as usize * 4;
        let at = WORKSPACE_LEN + row.next_multiple_of(256);
        let memory = DeviceMemory::new(context, at + out)?;
        memory.fill(WORKSPACE_LEN, &vec![0; row])?;
        let base = memory.address();
        // SAFETY: workspace, one row and its logits, in memory that outlives the wait below.
        unsafe {
            self.run(&stream, base + WORKSPACE_LEN as u64, 1, base + at as u64, false, base)
        }?;
        stream.synchronize()
    }

    /// Queues the logits of `rows` hidden rows, which follow each other without gaps, as the logits
    /// do. With `added` the products are added to what lies in the logits' place.
    ///
    /// # Safety
    /// `hidden`, `logits` and [`WORKSPACE_LEN`] bytes at `workspace` are device memory that nothing
    /// else uses until it is done.
    pub(super) unsafe fn run(
        &self,
        stream: &Stream,
        hidden: u64,
        rows: u32,
        logits: u64,
        added: bool,
        workspace: u64,
    ) -> Result<(), Fault> {
        let multiply = || {
            let weights = Shape::new(self.element, self.width, self.vocabulary)?;
            let given = Shape::new(self.element, self.width, u64::from(rows))?;
            let sums = sys::cudaDataType::CUDA_R_32F;
            let made = Shape::new(sums, self.vocabulary, u64::from(rows))?;
            let chosen = self.choose(rows, &weights, &given, &made)?;
            let (one, kept) = (1.0_f32, if added { 1.0_f32 } else { 0.0 });
            let address = |at: u64| core::ptr::without_provenance_mut::<c_void>(at as usize);
            // SAFETY: operands of the stated shapes and types, by the contract of this function;
            // the factors are read during the call, for they lie in the host's memory.
            unsafe {
                result::matmul(
                    self.handle,
                    self.operation,
                    (&raw const one).cast(),
                    (&raw const kept).cast(),
                    address(self.matrix),
                    weights.0,
                    address(hidden),
                    given.0,
                    address(logits),
                    made.0,
                    address(logits),
                    made.0,
                    &raw const chosen.algo,
                    address(workspace),
                    WORKSPACE_LEN,
                    stream.raw().cast(),
                )
            }
        };
        multiply().map_err(|_: CublasError| Fault::product())
    }

    fn choose(
        &self,
        rows: u32,
        weights: &Shape,
        given: &Shape,
        made: &Shape,
    ) -> Result<sys::cublasLtMatmulHeuristicResult_t, CublasError> {
        let mut chosen = self.chosen.borrow_mut();
        if let Some((_, known)) = chosen.iter().find(|(other, _)| *other == rows) {
            return Ok(*known);
        }
        // SAFETY: all of these exist.
        let new = unsafe {
            result::get_matmul_algo_heuristic(
                self.handle,
                self.operation,
                weights.0,
                given.0,
                made.0,
                made.0,
                self.limits,
            )
        }?;
        chosen.push((rows, new));
        Ok(new)
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        // SAFETY: created in `create`, destroyed once.
        let _ = unsafe { result::destroy_matmul_pref(self.limits) };
        // SAFETY: likewise.
        let _ = unsafe { result::destroy_matmul_desc(self.operation) };
        // SAFETY: likewise; waves have waited for their work before.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}
