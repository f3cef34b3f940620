//! Settings: a small JSON document for each account, and a shared document, `global`, that administrators write.

use serde_json::value::RawValue;

use crate::account::call::Call;
use crate::account::halt::{Halt, refusals};
use crate::account::{AccountError, Accounts, is_administrator};
use crate::model::account::Account;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::id::SettingsId;
use crate::model::identity::Identity;
use crate::telemetry::audit::AuditAction;

/// Maximum length of a document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024;

/// The id of the shared document.
const GLOBAL: &str = "global";

/// The content of a document that has not been written yet.
const EMPTY: &str = "{}";

/// A valid document: one JSON object of at most [`DOCUMENT_BYTES_MAX`] bytes, kept as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsDocument(String);

/// Why a text is not a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidDocument {
    /// Longer than [`DOCUMENT_BYTES_MAX`].
    TooLong,
    /// Not exactly one JSON object.
    NoObject,
}

impl SettingsDocument {
    /// Checks a text.
    ///
    /// # Errors
    /// [`InvalidDocument`]
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        if DOCUMENT_BYTES_MAX < bytes.len() {
            return Err(InvalidDocument::TooLong);
        }
        // Kept as written, so that numbers of any length are preserved.
        let raw: &RawValue =
            serde_json::from_slice(bytes).map_err(|_| InvalidDocument::NoObject)?;
        let text = raw.get();
        if text.starts_with('{') {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidDocument::NoObject)
        }
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

refusals! {
    /// Why a document was not written.
    pub enum SettingsRefusal {
        /// There is no document with that id, or it belongs to another account.
        NotFound => ErrorCode::NotFound,
        /// Only administrators may write the shared document.
        AdministratorsOnly => ErrorCode::Denied(DenyReason::RoleMissing),
        /// The account is no longer active.
        Changed => ErrorCode::AccountChanged,
    }
}

/// The document that an id refers to, as seen by an account.
enum SettingsOwner<'a> {
    Own(&'a SettingsId),
    Shared,
}

fn which<'a>(account: &'a Account, id: &str) -> Option<SettingsOwner<'a>> {
    if id == GLOBAL {
        Some(SettingsOwner::Shared)
    } else {
        (id == account.settings_id.as_str()).then_some(SettingsOwner::Own(&account.settings_id))
    }
}

impl Accounts {
    /// Returns a document as JSON text, by the id shown at login or `global`; a document that has not been written yet
    /// is `{}`. Returns `None` if there is no document with that id, or it belongs to another account.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn settings_document(
        &self,
        account: &Account,
        id: &str,
    ) -> Result<Option<String>, AccountError> {
        let id = match which(account, id) {
            None => return Ok(None),
            Some(SettingsOwner::Own(id)) => Some(id),
            Some(SettingsOwner::Shared) => None,
        };
        let found = self.services.store.settings(id).await?;
        Ok(Some(found.unwrap_or_else(|| EMPTY.to_owned())))
    }

    /// Replaces a document.
    ///
    /// # Errors
    /// [`SettingsRefusal`], [`AccountError::Store`]
    pub async fn write_settings(
        &self,
        call: &Call,
        (account, identity): (&Account, &Identity),
        id: &str,
        document: SettingsDocument,
    ) -> Result<(), Halt<SettingsRefusal>> {
        let (owner, object) = match which(account, id).ok_or(SettingsRefusal::NotFound)? {
            SettingsOwner::Own(id) => (Some(&account.uid), id.as_str()),
            SettingsOwner::Shared => (None, GLOBAL),
        };
        let (action, object) = (AuditAction::ChangeSettings, Some(object));
        let written = async {
            if owner.is_none() && !is_administrator(identity) {
                return Err(SettingsRefusal::AdministratorsOnly.into());
            }
            self.begin(call, action, owner, object).await?;
            if self.services.store.put_settings(owner, document.0).await? {
                Ok(())
            } else {
                Err(SettingsRefusal::Changed.into())
            }
        };
        call.settle(action, owner, object, written.await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, PASSWORD, identity, refusal};

    fn document(text: &str) -> SettingsDocument {
        SettingsDocument::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_document_is_one_object_of_16_kib_at_most() {
        let padded = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        assert_eq!(document(" {\"a\": 1e400}\n").as_str(), "{\"a\": 1e400}");
        assert!(SettingsDocument::parse(padded(DOCUMENT_BYTES_MAX).as_bytes()).is_ok());
        for (text, expected) in [
            (padded(DOCUMENT_BYTES_MAX + 1), InvalidDocument::TooLong),
            (String::new(), InvalidDocument::NoObject),
            ("[]".to_owned(), InvalidDocument::NoObject),
            ("{} {}".to_owned(), InvalidDocument::NoObject),
            ("{\"a\":}".to_owned(), InvalidDocument::NoObject),
        ] {
            assert_eq!(SettingsDocument::parse(text.as_bytes()), Err(expected));
        }
        assert_eq!(
            SettingsDocument::parse(b"{\"\xff\":1}"),
            Err(InvalidDocument::NoObject)
        );
    }

    #[tokio::test]
    async fn documents_are_ones_own_and_the_shared_one_is_administrators() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let bert = kit.person("bert").await;
        let root = kit.administrator("root").await;
        let session = kit.login("anna", PASSWORD).await.unwrap().session.id;
        let cases = [
            (&anna, anna.settings_id.as_str(), None),
            (
                &bert,
                anna.settings_id.as_str(),
                Some(SettingsRefusal::NotFound),
            ),
            (
                &root,
                anna.settings_id.as_str(),
                Some(SettingsRefusal::NotFound),
            ),
            (&anna, "global", Some(SettingsRefusal::AdministratorsOnly)),
            (&root, "global", None),
            (&root, "set-nothing0", Some(SettingsRefusal::NotFound)),
        ];
        for (who, id, expected) in cases {
            let caller = identity(who, Some(&session), &[]);
            let text = format!("{{\"by\":\"{}\"}}", who.username);
            let written = kit
                .accounts
                .write_settings(&Call::default(), (who, &caller), id, document(&text))
                .await;
            assert_eq!(refusal(written), expected, "{} {id}", who.username);
        }
        let read =
            async |who: &Account, id: &str| kit.accounts.settings_document(who, id).await.unwrap();
        assert_eq!(
            read(&anna, anna.settings_id.as_str()).await.unwrap(),
            "{\"by\":\"anna\"}"
        );
        assert_eq!(read(&bert, "global").await.unwrap(), "{\"by\":\"root\"}");
        assert_eq!(read(&bert, bert.settings_id.as_str()).await.unwrap(), "{}");
        assert_eq!(read(&bert, anna.settings_id.as_str()).await, None);
    }
}
