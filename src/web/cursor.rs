//! `?cursor=`: where a page of a list begins.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::model::field::InvalidField;
use crate::model::id::{AccountId, KeyId, SessionId, UserId};
use crate::web::openapi::rules::{ACCOUNT_ID, KEY_ID, SESSION_ID, UID};

/// The query of a list whose items have ids of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "")]
pub(in crate::web) struct PageQuery<T> {
    cursor: Option<String>,
    #[serde(skip)]
    id: PhantomData<T>,
}

impl<T: Cursor> PageQuery<T> {
    /// After which item the page begins; `None`: at the beginning.
    pub(in crate::web) fn after(&self) -> Result<Option<T>, InvalidField> {
        let read = |text: &str| {
            T::read(text).ok_or(InvalidField {
                field: "cursor",
                expected: "the next of the page before",
            })
        };
        self.cursor.as_deref().map(read).transpose()
    }
}

impl<T: Cursor> JsonSchema for PageQuery<T> {
    fn schema_name() -> Cow<'static, str> {
        "PageQuery".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "cursor": {
                    "type": "string",
                    "pattern": T::PATTERN,
                    "description": "The `next` of the page before.",
                },
            },
        })
    }
}

/// An id that a page can begin after.
pub(in crate::web) trait Cursor: Sized {
    /// What it reads like.
    const PATTERN: &'static str;

    fn read(text: &str) -> Option<Self>;
}

macro_rules! cursors {
    ($($id:ty: $pattern:expr),* $(,)?) => {
        $(
            impl Cursor for $id {
                const PATTERN: &'static str = $pattern;

                fn read(text: &str) -> Option<Self> {
                    Self::parse(text).ok()
                }
            }
        )*
    };
}

cursors! {
    AccountId: ACCOUNT_ID,
    KeyId: KEY_ID,
    SessionId: SESSION_ID,
    UserId: UID,
}
