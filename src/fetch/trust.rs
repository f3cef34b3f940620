//! The certificate authorities that are trusted.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// A file of certificates that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The file contains no certificate.
    #[error("it contains no certificate in PEM")]
    Empty,
    /// The file contains something that is not the certificate of an authority.
    #[error("it contains something other than a certificate of an authority")]
    Unfit,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Setup,
}

/// The trusted certificate authorities. Clones share one configuration.
#[derive(Clone, Debug)]
pub struct Trust {
    pub(super) config: Arc<ClientConfig>,
    authorities: usize,
}

impl Trust {
    /// Loads the authorities the system trusts. If it has none, every server is refused. Reads files.
    ///
    /// # Errors
    /// [`TrustError::Setup`].
    pub fn of_system() -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        // A certificate that cannot be parsed does not disable the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::new(roots)
    }

    /// Reads the authorities from a PEM text; no others are trusted.
    ///
    /// # Errors
    /// [`TrustError`] if any part of the text is not a certificate; such a text is not used at all.
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

    /// Returns the number of authorities.
    #[must_use]
    pub const fn authorities(&self) -> usize {
        self.authorities
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
