//! Secrets: from the configuration file, from a file of their own, from the environment or from a systemd credential.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::env::EnvOverlay;
use crate::config::forms::is_visible;
use crate::config::keys::ConfigKey;
use crate::config::problem::ValueOrigin;
use crate::config::reader::SectionReader;
use crate::model::secret::Secret;

/// Maximum length of a file with a secret.
const SECRET_BYTES_MAX: u64 = 4096;

/// A secret that two sides share. What callers send is compared by its digest.
#[derive(Clone, Debug)]
pub struct SharedSecret(pub Secret);

impl PartialEq for SharedSecret {
    /// Compares configurations to find what needs a restart. It is not called for requests.
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for SharedSecret {}

/// Sources of secrets outside a section.
#[derive(Clone, Copy)]
pub(super) struct SecretSources<'a> {
    pub(super) env: &'a EnvOverlay,
    /// Mode of the configuration file; `None`: the configuration is a text.
    pub(super) file_mode: Option<u32>,
}

/// The key of a secret and the key of a file that holds it.
type SecretKeys<'k> = (&'k ConfigKey<String>, &'k ConfigKey<PathBuf>);

/// The rule of secrets that callers or other proxies send.
pub(super) const SHARED: &str = "16 to 512 visible ASCII characters";

/// Reads a secret that callers or other proxies send, from the sources of [`secret`].
pub(super) fn shared(
    reader: &mut SectionReader<'_>,
    keys: SecretKeys<'_>,
    sources: SecretSources<'_>,
) -> Option<SharedSecret> {
    let fits = |text: &str| 16 <= text.len() && is_visible(text, 512);
    secret(reader, keys, fits, sources).map(SharedSecret)
}

/// Reads a secret from its key, from the file that the other key names, or from the credential `doorward.<key>`.
///
/// One line break at the end of a file is ignored.
pub(super) fn secret(
    reader: &mut SectionReader<'_>,
    keys: SecretKeys<'_>,
    fits: fn(&str) -> bool,
    sources: SecretSources<'_>,
) -> Option<Secret> {
    let credential = format!("doorward.{}", keys.0.row.name);
    secret_of(reader, keys, Some(&credential), fits, sources)
}

/// Reads a secret as [`secret`] does, but from a credential of another name, or from none.
pub(super) fn secret_of(
    reader: &mut SectionReader<'_>,
    (key, file_key): SecretKeys<'_>,
    credential: Option<&str>,
    fits: fn(&str) -> bool,
    sources: SecretSources<'_>,
) -> Option<Secret> {
    let expected = key.form.expected();
    let written = reader.text(key, |text| fits(text).then(|| Secret::new(text.to_owned())));
    let file = reader.take(file_key);
    if reader.has(key) && reader.has(file_key) {
        reader.add(
            file_key,
            format!("no value, since `{}` is set", key.row.name),
        );
        return None;
    }
    if reader.has(key) {
        let from_file = matches!(reader.place(key).origin, ValueOrigin::Line(_));
        if from_file && sources.file_mode.is_some_and(others_may_read) {
            reader.warn(
                key,
                format!(
                    "a configuration file that other users cannot read (chmod o-r), or `{}` instead",
                    file_key.row.name
                ),
            );
        }
        return written;
    }
    if let Some(file) = file {
        warn_if_readable(reader, file_key, &file);
        return from_file(reader, file_key, &file, expected, fits);
    }
    let credential = sources.env.credentials.as_deref()?.join(credential?);
    if !credential.exists() {
        return None;
    }
    from_file(reader, key, &credential, expected, fits)
}

fn from_file(
    reader: &SectionReader<'_>,
    key: impl AsRef<str>,
    path: &Path,
    expected: &str,
    fits: fn(&str) -> bool,
) -> Option<Secret> {
    let text = match read(path) {
        Ok(text) => text,
        Err(error) => {
            reader.add_unreadable(key, &error);
            return None;
        }
    };
    let text = text.strip_suffix('\n').unwrap_or(text.as_str());
    let text = text.strip_suffix('\r').unwrap_or(text);
    if !fits(text) {
        reader.add(key, format!("a file that holds {expected}"));
        return None;
    }
    Some(Secret::new(text.to_owned()))
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?
        .take(SECRET_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Reports a file that cannot be opened.
pub(super) fn check_readable(
    reader: &SectionReader<'_>,
    key: impl AsRef<str>,
    path: Option<&PathBuf>,
) {
    if let Some(Err(error)) = path.map(File::open) {
        reader.add_unreadable(key, &error);
    }
}

/// Warns about a file with a secret that others than its owner and group may read.
pub(super) fn warn_if_readable(reader: &SectionReader<'_>, key: impl AsRef<str>, path: &Path) {
    let mode = path.metadata().map(|meta| meta.permissions().mode());
    if mode.is_ok_and(others_may_read) {
        reader.warn(key, "a file that other users cannot read (chmod o-r)");
    }
}

fn others_may_read(mode: u32) -> bool {
    mode & 0o004 != 0
}
