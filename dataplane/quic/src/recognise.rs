//! From a peer's certificates to who it is. They were checked when the peer last proved that it
//! holds the key; a session that is resumed skips that, so their dates are looked at each time.

use crate::bridge::{Identify, Recognise};
use dataplane_core::driver::Caller;
use rustls::pki_types::CertificateDer;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Recognises peers by their identity, as long as their certificates have not expired.
#[must_use]
pub fn recognise(identify: Identify) -> Recognise {
    Box::new(move |chain| at(chain, SystemTime::now(), &identify))
}

fn at(chain: &[CertificateDer<'_>], now: SystemTime, identify: &Identify) -> Option<Caller> {
    let now = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    for certificate in chain {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        if certificate.validity().not_after.timestamp() < now {
            return None;
        }
    }
    identify(&tls::peer_identity(chain).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use std::time::Duration;
    use tls::ca::{Authority, Request};
    use wire::{Role, Roles};

    #[test]
    fn an_expired_certificate_is_nobody_s_even_where_a_session_is_resumed() {
        let folder = std::env::temp_dir().join(format!("butterfly-dates-{}", std::process::id()));
        let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
        let authority = Authority::create(&folder, "test", now, false).expect("an authority");
        let identity = tls::Identity::new("client", Roles::of(Role::Client)).expect("a name");
        let request = Request { identity, hosts: Vec::new(), life: day };
        let files = authority.issue(&request, now, false).expect("a certificate");
        let chain = [CertificateDer::from_pem_file(&files.cert).expect("readable")];
        std::fs::remove_dir_all(&folder).expect("removes");
        let identify: Identify =
            Box::new(|identity| Some(Caller { identity: 7, roles: identity.roles() }));
        assert_eq!(at(&chain, now, &identify).map(|caller| caller.identity), Some(7));
        assert_eq!(at(&chain, now + 2 * day, &identify), None);
        assert_eq!(at(&[], now, &identify), None);
    }
}
