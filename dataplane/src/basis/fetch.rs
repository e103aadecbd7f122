//! A node's basis, in pieces, checked against its name.

use crate::{coded::from_hex, failure::Failure, reach::Reach};
use client::{ClientError, Metrics};
use codec::basis::{Basis, BasisId, WIDTH_MAX};
use std::{
    thread,
    time::{Duration, Instant},
};
use wire::{
    payload::{QueryRequest, TensorWork},
    work::FETCH_PIECE,
};

/// Longest file of a basis: a rotation of the widest rows, and room for the rest.
const LEN_MAX: usize = WIDTH_MAX * WIDTH_MAX * 4 + (1 << 20);
/// Pause before a piece is asked for again.
const PAUSE: Duration = Duration::from_millis(50);

/// What a node says of its basis without giving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has none.
    None,
    /// It has this one.
    Id(BasisId),
    /// It does not say.
    Unsaid,
}

/// Reads it out of the node's figures.
pub(crate) fn known(metrics: &Metrics) -> Known {
    match metrics.fact("basis") {
        Some("off") => Known::None,
        Some(id) => from_hex(id).map_or(Known::Unsaid, |id| Known::Id(BasisId(id))),
        None => Known::Unsaid,
    }
}

/// Fetches the basis of a node. It stays in memory.
///
/// # Errors
/// [`Failure::Run`]: no answer within `patience`, no basis, or one that is not what it is named.
pub(crate) fn fetch(node: &Reach, patience: Duration) -> Result<Basis, Failure> {
    let started = Instant::now();
    loop {
        let why = match attempt(node) {
            Ok(basis) => return Ok(basis),
            Err(Attempt::Final(failure)) => return Err(failure),
            Err(Attempt::Passing(why)) => why,
        };
        if started.elapsed() > patience {
            return Err(Failure::run(format!("cannot fetch the basis of {node}: {why}")));
        }
        thread::sleep(PAUSE);
    }
}

/// How an attempt failed.
enum Attempt {
    /// For good.
    Final(Failure),
    /// The same may work later.
    Passing(String),
}

impl From<ClientError> for Attempt {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) if refusal.code.retryable() => {
                Self::Passing(refusal.to_string())
            }
            error => Self::Final(Failure::run(error)),
        }
    }
}

fn attempt(node: &Reach) -> Result<Basis, Attempt> {
    let fail = |why: String| Attempt::Final(Failure::run(why));
    let mut client = node.connect()?;
    let known = known(&client.metrics()?);
    if known == Known::None {
        return Err(fail(format!(
            "the node at {node} has no basis: make one with `butterfly calibrate` and start the \
             node with `butterfly serve --basis FILE`"
        )));
    }
    let mut bytes: Vec<u8> = Vec::new();
    for piece in 0.. {
        let work = TensorWork::fetch(piece);
        let mut request = QueryRequest { work, ..QueryRequest::default() };
        let response = client.request(&mut request, &[])?;
        let part = response.echo.map_or(&[][..], |echo| echo.data);
        bytes.extend_from_slice(part);
        if bytes.len() > LEN_MAX {
            return Err(fail(format!("the basis of {node} is longer than any basis can be")));
        }
        if part.len() < FETCH_PIECE as usize {
            break;
        }
    }
    let found = BasisId::of(&bytes);
    if let Known::Id(id) = known
        && id != found
    {
        return Err(fail(format!(
            "the basis of {node} is not what it is named: {} came, {} was announced",
            found.short(),
            id.short()
        )));
    }
    Basis::from_bytes(&bytes).map_err(|error| fail(format!("the basis of {node}: {error}")))
}
