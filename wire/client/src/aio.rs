//! The asynchronous face, for tokio runtimes of either flavour.
//!
//! A [`Pool`] keeps a few connections to one node and multiplexes any number of calls over them.
//! What may be sent again safely is sent again when a connection breaks or the node refuses for
//! now; every call has one deadline, which travels with it; and a call whose future is dropped is
//! taken back from the node.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use client::{PoolOptions, aio::Pool};
//! use wire::{Dtype, payload::{QueryRequest, TensorWork}};
//!
//! let pool = Pool::new("127.0.0.1:7171".parse()?, PoolOptions::default())?;
//! let work = TensorWork::topk(Dtype::F32, 1, 1_000, 10, Dtype::F16);
//! let request = QueryRequest { work, ..QueryRequest::default() };
//! let answer = pool.request(&request, vec![0; 4_000]).await?;
//! let top = answer.response()?.logits;
//! # Ok(())
//! # }
//! ```

mod ask;
mod chunks;
mod conn;
pub(crate) mod dial;
mod keeper;
pub(crate) mod link;
mod pool;

pub use chunks::Chunks;
pub use pool::Pool;
