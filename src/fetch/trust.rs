//! Whose certificates are believed.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// A file of certificates that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// No certificate in it.
    #[error("it holds no certificate in PEM")]
    Empty,
    /// Something in it is no certificate that can stand for an authority.
    #[error("it holds what is no certificate of an authority")]
    Unfit,
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up")]
    Setup,
}

/// The authorities whose certificates prove who a server is. Its clones are one.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    authorities: usize,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// Those that the system trusts; none where it has none, and then no server is believed. Reads files.
    ///
    /// # Errors
    /// [`TrustError::Setup`].
    pub fn of_system() -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        // Some systems carry one that cannot be read; the others count all the same.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::new(roots)
    }

    /// Those of a PEM text, and no others.
    ///
    /// # Errors
    /// [`TrustError`]: a text that is not certificates throughout is not used at all.
    pub fn of_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| TrustError::Unfit)?;
            roots.add(certificate).map_err(|_| TrustError::Unfit)?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty);
        }
        Self::new(roots)
    }

    fn new(roots: RootCertStore) -> Result<Self, TrustError> {
        let authorities = roots.len();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|_| TrustError::Setup)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            authorities,
        })
    }

    /// How many authorities there are.
    #[must_use]
    pub const fn authorities(&self) -> usize {
        self.authorities
    }

    pub(in crate::fetch) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_not_certificates_throughout_is_not_used() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases = [
            ("", TrustError::Empty),
            ("hello", TrustError::Empty),
            (broken, TrustError::Unfit),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", TrustError::Unfit),
        ];
        for (pem, error) in cases {
            assert_eq!(Trust::of_pem(pem.as_bytes()).unwrap_err(), error, "{pem}");
        }
    }
}
