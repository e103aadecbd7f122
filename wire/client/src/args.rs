//! The flags and variables by which every program is told its certificates.

use crate::{Addr, ClientError, Security};
use std::path::PathBuf;
use tls::Files;

/// Certificates for `tls://` and `quic://`, as flags or in the environment.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityArgs {
    /// Authority whose nodes are trusted, for tls:// and quic://, PEM
    #[arg(long, value_name = "FILE", env = "BUTTERFLY_CA")]
    pub ca: Option<PathBuf>,
    /// Certificate to show to the node, PEM
    #[arg(long, value_name = "FILE", env = "BUTTERFLY_CERT")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", env = "BUTTERFLY_KEY")]
    pub key: Option<PathBuf>,
}

impl SecurityArgs {
    /// What this address needs: nothing for plain ones, whatever is given.
    ///
    /// # Errors
    /// [`ClientError::Security`] where something is needed and missing, or of no use.
    pub fn load(&self, addr: &Addr) -> Result<Option<Security>, ClientError> {
        if !addr.is_secured() {
            return Ok(None);
        }
        let (Some(ca), Some(cert), Some(key)) = (&self.ca, &self.cert, &self.key) else {
            let given = [&self.ca, &self.cert, &self.key].iter().filter(|it| it.is_some()).count();
            return Err(ClientError::security(format!(
                "{addr} is reached with certificates only, and {given} of 3 files are given"
            )));
        };
        let files = Files { ca: ca.clone(), cert: cert.clone(), key: key.clone() };
        Security::load(&files).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_need_no_files_and_secured_ones_all_three() {
        let args = SecurityArgs { ca: Some("/nowhere/ca.pem".into()), ..SecurityArgs::default() };
        let load = |args: &SecurityArgs, addr: &str| args.load(&addr.parse().expect("an address"));
        assert!(matches!(load(&args, "127.0.0.1:1"), Ok(None)));
        let fault = load(&args, "tls://h:1").expect_err("two are missing").to_string();
        assert!(fault.contains("1 of 3") && fault.contains("--cert"), "{fault}");
        let all = SecurityArgs { cert: args.ca.clone(), key: args.ca.clone(), ..args };
        let fault = load(&all, "quic://h:1").expect_err("no such file").to_string();
        assert!(fault.contains("/nowhere/ca.pem"), "{fault}");
    }
}
