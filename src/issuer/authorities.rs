//! Certificate authorities of issuers: those of the system, or a file of the issuer's own.

use crate::config::{Issuer, KeySource};
use crate::crypto::digest;
use crate::fetch::Trust;
use crate::issuer::{IssuerError, read};

/// The file with an issuer's own authorities.
pub(in crate::issuer) struct CaFile {
    /// A digest of the file.
    pub(in crate::issuer) mark: [u8; 32],
    pem: Vec<u8>,
    path: String,
}

impl CaFile {
    /// Reads the file, if one is configured.
    pub(in crate::issuer) fn read(settings: &Issuer) -> Result<Option<Self>, IssuerError> {
        let Some(path) = &settings.remote.ca_file else {
            return Ok(None);
        };
        let pem = read(path)?.as_bytes().to_vec();
        Ok(Some(Self {
            mark: digest::sha256(&pem),
            pem,
            path: path.display().to_string(),
        }))
    }
}

/// The authorities of the system, which are read once and only if they are needed.
#[derive(Default)]
pub(in crate::issuer) struct Authorities {
    system: Option<Trust>,
}

impl Authorities {
    /// The authorities of an issuer, from its own file if it has one; `None`: no request is sent to the issuer.
    pub(in crate::issuer) fn of(
        &mut self,
        settings: &Issuer,
        file: Option<&CaFile>,
    ) -> Result<Option<Trust>, IssuerError> {
        if let Some(file) = file {
            let trust = Trust::of_pem(&file.pem).map_err(|source| IssuerError::Authorities {
                path: file.path.clone(),
                source,
            });
            return trust.map(Some);
        }
        if !settings.keys.is_remote() && settings.introspection.is_none() {
            return Ok(None);
        }
        let trust = match &self.system {
            Some(trust) => trust.clone(),
            None => Trust::of_system().map_err(IssuerError::Tls)?,
        };
        let trust = self.system.insert(trust);
        if needs_tls(settings) && trust.authorities() == 0 {
            return Err(IssuerError::NoAuthorities);
        }
        Ok(Some(trust.clone()))
    }
}

fn needs_tls(settings: &Issuer) -> bool {
    let keys = match &settings.keys {
        KeySource::JwksUrl(endpoint) => endpoint.is_tls(),
        KeySource::Discovery { document, .. } => document.is_tls(),
        KeySource::JwksFile(_) | KeySource::SecretJwkFile(_) | KeySource::Nowhere => false,
    };
    let introspection = settings.introspection.as_ref();
    keys || introspection.is_some_and(|introspection| introspection.endpoint.is_tls())
}
