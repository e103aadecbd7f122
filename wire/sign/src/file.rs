//! Key files: PKCS#8 and SPKI in PEM, so that OpenSSL and certificates can use the same key.

use crate::{PublicKey, SecretKey};
use core::fmt;
use ed25519_dalek::{
    SigningKey, VerifyingKey,
    pkcs8::{
        DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
        spki::der::pem::LineEnding,
    },
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Longest key file that is read.
const FILE_MAX: u64 = 4 << 10;
/// Most keys of a directory.
const KEYS_MAX: usize = 64;

/// Why a key file is of no use.
#[derive(Debug)]
pub enum KeyFault {
    /// The OS's reason.
    Io(PathBuf, io::Error),
    /// Others than its owner may read it: these permissions.
    Open(PathBuf, u32),
    /// No Ed25519 key in PEM, or a weak one.
    NoKey(PathBuf),
    /// A directory without a `.pub` file.
    Empty(PathBuf),
    /// A directory with too many of them.
    Many(PathBuf),
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Open(path, mode) => {
                let path = path.display();
                write!(f, "{path}: others may read it (mode {mode:o}); run chmod 600 {path}")
            }
            Self::NoKey(path) => write!(
                f,
                "{}: no Ed25519 key in PEM; make one with `butterfly key new`",
                path.display()
            ),
            Self::Empty(path) => write!(
                f,
                "{}: no public key; copy the .pub files of `butterfly key new` there",
                path.display()
            ),
            Self::Many(path) => {
                write!(f, "{}: more than {KEYS_MAX} keys; remove old ones", path.display())
            }
        }
    }
}

impl std::error::Error for KeyFault {}

fn read(path: &Path, mut file: impl io::Read) -> Result<Zeroizing<String>, KeyFault> {
    // Room at once: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(FILE_MAX as usize));
    let read = file.by_ref().take(FILE_MAX).read_to_string(&mut text);
    read.map(|_| text).map_err(|error| KeyFault::Io(path.into(), error))
}

impl SecretKey {
    /// A new key by the randomness of the OS.
    ///
    /// # Errors
    /// The OS's, where it has none.
    pub fn generate() -> io::Result<Self> {
        loop {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(seed.as_mut()).map_err(|error| io::Error::other(error.to_string()))?;
            if let Some(key) = Self::from_seed(&seed) {
                return Ok(key);
            }
        }
    }

    /// Reads a private key, which nobody but its owner may be able to read.
    ///
    /// # Errors
    /// See [`KeyFault`].
    pub fn read(path: &Path) -> Result<Self, KeyFault> {
        let io = |error| KeyFault::Io(path.into(), error);
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFault::Open(path.into(), mode));
        }
        let key = SigningKey::from_pkcs8_pem(&read(path, file)?).ok().and_then(Self::of);
        key.ok_or_else(|| KeyFault::NoKey(path.into()))
    }

    /// Writes it to a new file that only its owner can read.
    ///
    /// # Errors
    /// See [`KeyFault`]; a file that is there already stays as it is.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyFault> {
        let pem = self.inner().to_pkcs8_pem(LineEnding::LF);
        let pem = pem.map_err(|_| KeyFault::NoKey(path.into()))?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|error| KeyFault::Io(path.into(), error))
    }
}

impl PublicKey {
    /// As a PEM file has it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        // Nothing in a key of 32 bytes can fail to encode.
        self.inner().to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// Reads a public key.
    ///
    /// # Errors
    /// See [`KeyFault`].
    pub fn read(path: &Path) -> Result<Self, KeyFault> {
        let file = File::open(path).map_err(|error| KeyFault::Io(path.into(), error))?;
        let key = VerifyingKey::from_public_key_pem(&read(path, file)?).ok().and_then(Self::of);
        key.ok_or_else(|| KeyFault::NoKey(path.into()))
    }
}

/// The public keys of a directory: all of its files that end in `.pub`, in the order of their
/// names.
///
/// # Errors
/// See [`KeyFault`]; one bad file spoils the directory, so that a key that was meant is not missed.
pub fn read_directory(path: &Path) -> Result<Vec<PublicKey>, KeyFault> {
    let io = |error| KeyFault::Io(path.into(), error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|end| end == "pub") {
            paths.push(path);
        }
    }
    paths.sort();
    match paths.len() {
        0 => Err(KeyFault::Empty(path.into())),
        many if many > KEYS_MAX => Err(KeyFault::Many(path.into())),
        _ => paths.iter().map(|path| PublicKey::read(path)).collect(),
    }
}
