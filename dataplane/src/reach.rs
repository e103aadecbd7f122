//! The node that a command talks to: where it is, and the certificates for it.

use crate::{failure::Failure, say};
use client::{
    Addr, Client, ClientError, Limits, Options, Pool, PoolOptions, SecurityArgs, Transport,
};
use std::{fmt, time::Duration};

/// How long a person waits for the answer to a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node, and how to connect to it.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    addr: Addr,
    options: Options,
}

impl Reach {
    /// Reads an address, and the certificates that it needs.
    pub(crate) fn new(addr: &str, security: &SecurityArgs) -> Result<Self, Failure> {
        let addr: Addr = addr.parse().map_err(Failure::setup)?;
        let security = security.load(&addr).map_err(Failure::setup)?;
        Ok(Self { addr, options: Options { security, ..Options::default() } })
    }

    /// One connection, for what has an order of its own.
    pub(crate) fn connect(&self) -> Result<Client, ClientError> {
        self.open(self.options.clone())
    }

    /// As [`Self::connect`], with a person's patience.
    pub(crate) fn connect_in_person(&self) -> Result<Client, ClientError> {
        self.open(Options { io_timeout: Some(PATIENCE), ..self.options.clone() })
    }

    /// Asks a question within a person's patience; what may be asked again is.
    pub(crate) fn ask<T>(
        &self,
        question: impl FnOnce(&Pool) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let pool = self.pool(PATIENCE)?;
        let answer = question(&pool).map_err(Failure::run)?;
        pool.stats().transport.into_iter().for_each(|transport| self.tell(transport));
        Ok(answer)
    }

    /// One connection that comes back by itself, for questions with this patience.
    pub(crate) fn pool(&self, patience: Duration) -> Result<Pool, Failure> {
        let options = PoolOptions {
            timeout: patience,
            limits: Limits { least: 1, most: 1, ..Limits::DEFAULT },
            security: self.options.security.clone(),
            ..PoolOptions::default()
        };
        Pool::new(self.addr.clone(), options).map_err(Failure::setup)
    }

    fn open(&self, options: Options) -> Result<Client, ClientError> {
        let client = Client::connect(&self.addr, options)?;
        self.tell(client.transport());
        Ok(client)
    }

    /// Says so where it is not what was asked for.
    fn tell(&self, transport: Transport) {
        if transport == Transport::TlsForQuic {
            say::note(format!("{self}: connected by {transport}"));
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr.fmt(f)
    }
}
