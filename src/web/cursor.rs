//! `?cursor=`: where a page of a list begins.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::model::field::InvalidField;
use crate::web::openapi::Parameter;

/// The query of a list whose items have ids of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "")]
pub(in crate::web) struct PageQuery<T> {
    cursor: Option<String>,
    #[serde(skip)]
    id: PhantomData<T>,
}

impl<T: Parameter + TryFrom<String>> PageQuery<T> {
    /// After which item the page begins; `None`: at the beginning.
    pub(in crate::web) fn after(self) -> Result<Option<T>, InvalidField> {
        self.cursor
            .map(T::try_from)
            .transpose()
            .map_err(|_| InvalidField {
                field: "cursor",
                expected: "the next of the page before",
            })
    }
}

impl<T: Parameter> JsonSchema for PageQuery<T> {
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
