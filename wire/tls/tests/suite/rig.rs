//! An authority in a folder of its own, and handshakes in memory.

use rustls::{ClientConnection, ServerConnection, pki_types::ServerName};
use std::{
    io::Cursor,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::SystemTime,
};
use tls::{
    Files, Identity,
    ca::{self, Authority, Request},
};
use wire::{Role, Roles};

/// A folder that goes when it is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        Self(std::env::temp_dir().join(format!("butterfly-tls-{process}-{count}")))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn request(name: &str, roles: &[Role], hosts: &[&str]) -> Request {
    let roles: Roles = roles.iter().copied().collect();
    Request {
        identity: Identity::new(name, roles).unwrap(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        life: ca::LIFE,
    }
}

/// An authority with a node and a client.
pub(crate) struct World {
    pub(crate) folder: Folder,
    pub(crate) authority: Authority,
    pub(crate) node: Files,
    pub(crate) client: Files,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let now = SystemTime::now();
        let authority = Authority::create(folder.path(), "test", now, false).unwrap();
        let hosts = ["localhost", "127.0.0.1"];
        let node = authority.issue(&request("node-1", &[Role::Node], &hosts), now, false).unwrap();
        let client = request("ann", &[Role::Client, Role::Agent], &[]);
        let client = authority.issue(&client, now, false).unwrap();
        Self { folder, authority, node, client }
    }
}

pub(crate) fn client(files: &Files, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(tls::client_config(files).unwrap(), name).unwrap()
}

pub(crate) fn server(files: &Files) -> ServerConnection {
    ServerConnection::new(Arc::clone(&tls::server_config(files).unwrap())).unwrap()
}

/// Carries bytes to and fro until neither has any: the error of whoever refused.
pub(crate) fn shake(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), String> {
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let up = bytes.len();
        let mut bytes = Cursor::new(bytes);
        while server.read_tls(&mut bytes).unwrap() > 0 {
            server.process_new_packets().map_err(|error| format!("server: {error}"))?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        if up + bytes.len() == 0 {
            return Ok(());
        }
        let mut bytes = Cursor::new(bytes);
        while client.read_tls(&mut bytes).unwrap() > 0 {
            client.process_new_packets().map_err(|error| format!("client: {error}"))?;
        }
    }
    panic!("the handshake does not end");
}
