//! The parameter `?cursor=`: the position where a page of a list begins.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::field::InvalidField;
use crate::web::openapi::Parameter;

/// The query of a list whose items have ids of one kind.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "")]
#[schemars(bound = "T: Parameter")]
pub(in crate::web) struct PageQuery<T> {
    /// The `next` of the page before.
    #[schemars(regex(pattern = T::PATTERN))]
    cursor: Option<String>,
    #[serde(skip)]
    id: PhantomData<T>,
}

impl<T: Parameter + TryFrom<String>> PageQuery<T> {
    /// Returns the id after which the page begins; `None` for the first page.
    pub(in crate::web) fn after(self) -> Result<Option<T>, InvalidField> {
        self.cursor
            .map(T::try_from)
            .transpose()
            .map_err(|_| InvalidField {
                field: "cursor",
                expected: "the value of next from the previous page",
            })
    }
}
