//! How a node is secured, and what it refuses to leave open.

use crate::{
    plan::{PlanError, refuse},
    settings::Settings,
};
use client::Addr;
use std::net::{IpAddr, SocketAddr};

/// How connections are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Security {
    /// The node's certificate, if TLS is spoken.
    pub(crate) tls: Option<tls::Files>,
    /// Loopback addresses stay plain beside TLS.
    pub(crate) plain_loopback: bool,
    /// Plaintext on other addresses than loopback was asked for.
    pub(crate) insecure: bool,
}

impl Security {
    pub(crate) fn from_settings(
        settings: &Settings,
        listen: &[SocketAddr],
        parent: Option<&Addr>,
    ) -> Result<Self, PlanError> {
        let tls = match (&settings.tls_ca, &settings.tls_cert, &settings.tls_key) {
            (None, None, None) => None,
            (Some(ca), Some(cert), Some(key)) => {
                Some(tls::Files { ca: ca.clone(), cert: cert.clone(), key: key.clone() })
            }
            _ => {
                let remedy = "TLS takes all three of --tls-ca, --tls-cert and --tls-key";
                return Err(refuse("tls", "in part", remedy));
            }
        };
        let insecure = settings.insecure.unwrap_or(false);
        if insecure && tls.is_some() {
            let remedy = "with certificates nothing is: leave --insecure out";
            return Err(refuse("insecure", true, remedy));
        }
        if settings.plain_loopback == Some(false) && tls.is_none() {
            let remedy = "without TLS loopback is plain: name certificates with --tls-cert";
            return Err(refuse("plain_loopback", false, remedy));
        }
        let plain_loopback = settings.plain_loopback.unwrap_or_else(|| tls.is_none());
        let security = Self { tls, plain_loopback, insecure };
        if let Some(parent) = parent {
            security.check_parent(parent)?;
        }
        let is_open = |address: &&SocketAddr| {
            !address.ip().is_loopback() && !security.is_secure(address) && !insecure
        };
        match listen.iter().find(is_open) {
            None => Ok(security),
            Some(open) => Err(refuse(
                "listen",
                open,
                "without TLS this is safe on loopback only: name certificates with --tls-ca, \
                 --tls-cert and --tls-key (`butterfly ca` makes them), listen on 127.0.0.1 or a \
                 Unix socket, or accept the risk with --insecure",
            )),
        }
    }

    /// What goes up is as secret as what comes in.
    fn check_parent(&self, parent: &Addr) -> Result<(), PlanError> {
        let is_near = match parent {
            Addr::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
            Addr::Unix(_) => true,
            Addr::Tls { .. } | Addr::Quic { .. } => self.tls.is_some(),
        };
        if is_near || (self.insecure && !parent.is_secured()) {
            return Ok(());
        }
        let remedy = if parent.is_secured() {
            "a link under TLS needs this node's certificate: --tls-ca, --tls-cert and --tls-key"
        } else {
            "plaintext to another host: write tls://HOST:PORT, or accept the risk with --insecure"
        };
        Err(refuse("parent", parent, remedy))
    }

    /// QUIC has no plaintext to fall back to.
    pub(crate) fn check_quic(&self, quic: &[SocketAddr]) -> Result<(), PlanError> {
        match quic.first().filter(|_| self.tls.is_none()) {
            None => Ok(()),
            Some(address) => Err(refuse(
                "quic",
                address,
                "QUIC takes certificates: name them with --tls-ca, --tls-cert and --tls-key \
                 (`butterfly ca` makes them)",
            )),
        }
    }

    /// True where this address speaks TLS.
    pub(crate) fn is_secure(&self, address: &SocketAddr) -> bool {
        self.tls.is_some() && !(self.plain_loopback && address.ip().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn plan(settings: &Settings) -> Result<Plan, PlanError> {
        Plan::new(settings, &[0], 0)
    }

    #[test]
    fn sec_03_with_certificates_every_tcp_address_speaks_tls() {
        let secure = Settings {
            listen: vec!["0.0.0.0:0".to_owned(), "127.0.0.1:0".to_owned()],
            tls_ca: Some("ca.pem".into()),
            tls_cert: Some("node.pem".into()),
            tls_key: Some("node.key".into()),
            ..Settings::default()
        };
        let addresses = |settings: &Settings| {
            let plan = plan(settings).expect("stands");
            plan.listen.iter().map(|one| plan.security.is_secure(one)).collect::<Vec<_>>()
        };
        assert_eq!(addresses(&secure), [true, true]);
        let local = Settings { plain_loopback: Some(true), ..secure.clone() };
        assert_eq!(addresses(&local), [true, false]);
        assert_eq!(addresses(&Settings::default()), [false]);
        for (settings, says) in [
            (Settings { tls_key: None, ..secure.clone() }, "--tls-key"),
            (Settings { insecure: Some(true), ..secure }, "--insecure"),
            (Settings { plain_loopback: Some(false), ..Settings::default() }, "--tls-cert"),
        ] {
            let error = plan(&settings).expect_err("contradicts itself").to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_link_up_is_secured_like_a_link_down() {
        let to = |parent: &str| Settings { parent: Some(parent.to_owned()), ..Settings::default() };
        for near in ["127.0.0.1:7171", "localhost:7171", "[::1]:7171", "unix:///run/b.sock"] {
            plan(&to(near)).expect("near");
        }
        for (parent, says) in [("192.0.2.1:7171", "tls://"), ("tls://127.0.0.1:7171", "--tls-cert")]
        {
            let error = plan(&to(parent)).expect_err("open").to_string();
            assert!(error.contains(says), "{error}");
        }
        let risky = Settings { insecure: Some(true), ..to("192.0.2.1:7171") };
        plan(&risky).expect("accepted");
        let secure = Settings {
            tls_ca: Some("ca.pem".into()),
            tls_cert: Some("node.pem".into()),
            tls_key: Some("node.key".into()),
            ..to("tls://192.0.2.1:7171")
        };
        plan(&secure).expect("under TLS");
    }
}
