//! Checks of documents that name tests: docs/security.md and docs/reliability.md list each requirement and each fault
//! once, and the tests that they name exist. Also checks what the former states about the source as a whole.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Rows of the requirements by the first letter of their ids.
const REQUIREMENTS: &[(char, usize)] = &[
    ('A', 8),
    ('C', 6),
    ('E', 5),
    ('H', 11),
    ('J', 8),
    ('K', 3),
    ('L', 12),
    ('O', 11),
    ('P', 2),
    ('R', 6),
    ('S', 11),
    ('X', 2),
];
const FAULTS: usize = 29;
/// Generators of random numbers. The system's is used only in the files listed in `DRAWING`.
const GENERATORS: &[&str] = &["rand::", "getrandom", "fastrand", "OsRng", "thread_rng"];
const DRAWING: &[&str] = &[
    "crypto/random.rs",
    "crypto/signing_key.rs",
    "crypto/test_keys.rs",
];
/// Files that compare digests or secrets directly: a digest of a caller's own key with those among which it was just
/// found, the two entries of a new password, and one configuration with another.
const COMPARING: &[&str] = &[
    "account/password.rs",
    "auth/verify/api_key.rs",
    "config/secrets.rs",
    "config/smtp.rs",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Returns the id and the rest of each table row that has an id.
fn rows(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| {
            let (id, rest) = row.split_once(" | ")?;
            is_id(id).then(|| (id.to_owned(), rest.to_owned()))
        })
        .collect()
}

/// Whether a text is a capital letter, a dash and two digits.
fn is_id(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b'-', one, two]
        if letter.is_ascii_uppercase() && one.is_ascii_digit() && two.is_ascii_digit())
}

/// Returns the texts between backticks.
fn quoted(row: &str) -> impl Iterator<Item = &str> {
    row.split('`').skip(1).step_by(2)
}

/// Whether a name in a row exists: a file, or a test in one.
fn exists(name: &str) -> bool {
    let (path, test) = name.split_once("::").unwrap_or((name, ""));
    let Ok(source) = fs::read_to_string(root().join(path)) else {
        return root().join(path).is_dir();
    };
    let declared = format!("fn {test}(");
    let Some((before, _)) = source.split_once(&declared) else {
        return test.is_empty();
    };
    // Other attributes may come between the test attribute and the function.
    before.lines().rev().take(4).any(|line| {
        let line = line.trim();
        line.starts_with("#[test]") || line.starts_with("#[tokio::test")
    })
}

/// Returns the problems of a document's tables, which must contain exactly these ids, in any order.
fn problems(document: &str, expected: &[String]) -> Vec<String> {
    let rows = rows(&read(document));
    let mut found = Vec::new();
    for id in expected {
        match rows.iter().filter(|(name, _)| name == id).count() {
            1 => {}
            count => found.push(format!("{id} stands there {count} times")),
        }
    }
    for (id, row) in &rows {
        if !expected.contains(id) {
            found.push(format!("{id} is no id"));
        }
        let named: Vec<_> = quoted(row)
            .filter(|name| {
                ["tests/", "src/", "scripts/"]
                    .iter()
                    .any(|it| name.starts_with(it))
            })
            .collect();
        if named.is_empty() && !row.contains("ot built") {
            found.push(format!("{id} names no test"));
        }
        for name in named.iter().filter(|name| !exists(name)) {
            found.push(format!("{id}: there is no {name}"));
        }
    }
    found
}

#[test]
fn each_requirement_stands_once_and_its_tests_exist() {
    let ids: Vec<_> = REQUIREMENTS
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}-{number:02}")))
        .collect();
    let found = problems("docs/security.md", &ids);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn each_fault_stands_once_and_its_tests_exist() {
    let ids: Vec<_> = (1..=FAULTS)
        .map(|number| format!("F-{number:02}"))
        .collect();
    let found = problems("docs/reliability.md", &ids);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_is_not_there_is_found() {
    let here = "tests/proofs.rs::each_fault_stands_once_and_its_tests_exist";
    assert!(exists(here) && exists("tests/it") && exists("scripts/test"));
    for name in [
        "tests/none.rs",
        "tests/proofs.rs::read",
        "tests/proofs.rs::none",
    ] {
        assert!(!exists(name), "{name}");
    }
    let row = "| A-01 | words | `tests/proofs.rs` |\n| --- | --- |\n| id | x |\n";
    assert_eq!(rows(row).len(), 1);
}

/// Returns every source file, by its name below `src`, without comments.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            let name = path.strip_prefix(root().join("src")).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            found.push((
                name.display().to_string(),
                code.collect::<Vec<_>>().join("\n"),
            ));
        }
    }
    found
}

#[test]
fn secrets_are_drawn_in_one_place_and_compared_in_constant_time() {
    let mut found = Vec::new();
    for (name, text) in sources(&root().join("src")) {
        let code = text.split("\nmod tests {").next().unwrap_or_default();
        if !DRAWING.contains(&name.as_str()) {
            for generator in GENERATORS.iter().filter(|it| code.contains(**it)) {
                found.push(format!("src/{name} draws from {generator}"));
            }
        }
        for line in code.lines() {
            let compares = line.contains(" == ") || line.contains(" != ");
            let is_secret = line.contains("digest") || line.contains("expose()");
            if compares && is_secret && !COMPARING.contains(&name.as_str()) {
                found.push(format!(
                    "src/{name} compares a digest or a secret: {}",
                    line.trim()
                ));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let helper = read("src/crypto/digest.rs");
    assert!(helper.contains("one.0.ct_eq(&other.0).into()"));
}

#[test]
fn unsafe_code_is_forbidden() {
    assert!(read("Cargo.toml").contains("\nunsafe_code = \"forbid\"\n"));
}
