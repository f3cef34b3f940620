//! Parsing of a role source's answer, and filtering by the question.

use std::sync::Arc;

use serde::Deserialize;

use crate::model::access::{LevelOrder, LevelRank, Name, ResourceId, ResourceRole};

/// An answer that cannot be read. It may hold anything, so none of it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("did not answer with a list of memberships")]
pub(crate) struct UnreadableAnswer;

/// The question a source was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MembershipQuestion<'a> {
    pub(crate) uid: &'a str,
    pub(crate) resource: &'a Name,
    /// `None` asks for all ids.
    pub(crate) id: Option<&'a str>,
}

/// A part of an answer that exceeds the question and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForeignEntry {
    Uid,
    Resource,
    Id,
    Level,
}

impl ForeignEntry {
    /// Description for the log.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Uid => "another uid",
            Self::Resource => "another resource",
            Self::Id => "another id, or no id",
            Self::Level => "a level that is not declared",
        }
    }

    pub(crate) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

#[derive(Deserialize)]
struct AnswerEntry {
    uid: Option<String>,
    resource: String,
    id: String,
    level: String,
}

#[derive(Deserialize)]
struct WrappedAnswer {
    memberships: Vec<AnswerEntry>,
}

/// Returns the roles in an answer, sorted. Items that exceed the question are reported to `excess` and dropped.
pub(crate) fn read(
    body: &[u8],
    question: MembershipQuestion<'_>,
    ladder: &LevelOrder,
    mut excess: impl FnMut(ForeignEntry),
) -> Result<Arc<[ResourceRole]>, UnreadableAnswer> {
    let items = if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body).map_err(|_| UnreadableAnswer)?
    } else {
        let wrapped: WrappedAnswer = serde_json::from_slice(body).map_err(|_| UnreadableAnswer)?;
        wrapped.memberships
    };
    let mut roles = Vec::new();
    for item in &items {
        match role(item, question, ladder) {
            Ok(role) => roles.extend(role),
            Err(what) => excess(what),
        }
    }
    roles.sort_unstable();
    roles.dedup();
    Ok(roles.into())
}

fn role(
    item: &AnswerEntry,
    question: MembershipQuestion<'_>,
    ladder: &LevelOrder,
) -> Result<Option<ResourceRole>, ForeignEntry> {
    if item.uid.as_deref().is_some_and(|uid| uid != question.uid) {
        return Err(ForeignEntry::Uid);
    }
    if item.resource != question.resource.as_str() {
        return Err(ForeignEntry::Resource);
    }
    if question.id.is_some_and(|id| id != item.id) {
        return Err(ForeignEntry::Id);
    }
    let id = ResourceId::parse(&item.id).map_err(|_| ForeignEntry::Id)?;
    let rank = ladder.rank(&item.level).ok_or(ForeignEntry::Level)?;
    // The lowest level grants no role.
    Ok((LevelRank(0) < rank).then(|| ResourceRole {
        resource: question.resource.clone(),
        id,
        rank,
        exact: false,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(
        body: &str,
        id: Option<&str>,
    ) -> Result<(Vec<String>, Vec<ForeignEntry>), UnreadableAnswer> {
        let names = ["public", "member", "manager"].map(|text| Name::parse(text).unwrap());
        let ladder = LevelOrder::new(names.to_vec()).unwrap();
        let resource = Name::parse("event").unwrap();
        let question = MembershipQuestion {
            uid: "u-anna0000",
            resource: &resource,
            id,
        };
        let mut excess = Vec::new();
        let roles = read(body.as_bytes(), question, &ladder, |what| excess.push(what))?;
        let roles = roles
            .iter()
            .map(|role| format!("{}-{}-{}", role.resource, role.id, role.rank.0));
        Ok((roles.collect(), excess))
    }

    #[test]
    fn only_what_was_asked_counts() {
        let item = |resource: &str, id: &str, level: &str| {
            format!(r#"{{"resource":"{resource}","id":"{id}","level":"{level}"}}"#)
        };
        let good = item("event", "7", "member");
        let cases = [
            (format!("[{good}]"), vec!["event-7-1"], vec![]),
            (
                format!(" {{\"memberships\": [{good}], \"more\": 1}}"),
                vec!["event-7-1"],
                vec![],
            ),
            ("[]".to_owned(), vec![], vec![]),
            (
                format!("[{}]", item("event", "7", "public")),
                vec![],
                vec![],
            ),
            (format!("[{good},{good}]"), vec!["event-7-1"], vec![]),
            (
                format!("[{good},{}]", item("list", "7", "manager")),
                vec!["event-7-1"],
                vec![ForeignEntry::Resource],
            ),
            (
                format!("[{},{good}]", item("event", "8", "manager")),
                vec!["event-7-1"],
                vec![ForeignEntry::Id],
            ),
            (
                format!("[{}]", item("event", "7", "owner")),
                vec![],
                vec![ForeignEntry::Level],
            ),
            (
                good.replace('{', "[{\"uid\":\"u-bert0000\",")
                    .replace('}', "}]"),
                vec![],
                vec![ForeignEntry::Uid],
            ),
            (
                good.replace('{', "[{\"uid\":\"u-anna0000\",\"x\":[],")
                    .replace('}', "}]"),
                vec!["event-7-1"],
                vec![],
            ),
        ];
        for (body, roles, excess) in cases {
            let expected = (roles.into_iter().map(str::to_owned).collect(), excess);
            assert_eq!(asked(&body, Some("7")), Ok(expected), "{body}");
        }
        let all = format!(
            "[{},{good},{}]",
            item("event", "8", "manager"),
            item("event", "a/b", "member")
        );
        let (roles, excess) = asked(&all, None).unwrap();
        assert_eq!(roles, ["event-7-1", "event-8-2"]);
        assert_eq!(excess, [ForeignEntry::Id]);
    }

    #[test]
    fn garbage_is_no_answer() {
        for body in [
            "",
            "null",
            "{}",
            "[1]",
            "[{}]",
            "nonsense",
            "[",
            "<html>",
            r#"{"memberships": null}"#,
            r#"[{"resource":"event","id":7,"level":"member"}]"#,
            r#"[{"resource":"event","level":"member"}]"#,
            "[] []",
        ] {
            assert_eq!(asked(body, Some("7")), Err(UnreadableAnswer), "{body}");
        }
    }
}
