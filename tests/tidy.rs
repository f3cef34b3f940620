//! The code as text: the rules that no compiler holds. Reads every file under `src` and needs no build of it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the ground up. A module names modules of lower floors only, and never a sibling.
const FLOORS: &[&[&str]] = &[
    &["model"],
    &["crypto", "fetch", "limit", "route", "telemetry"],
    &["config"],
    &[
        "store",
        "mail",
        "issuer",
        "role_source",
        "upstream",
        "process",
    ],
    &["auth", "account"],
    &["snapshot"],
    &["proxy", "web"],
    &["edge"],
    &["doctor", "operator"],
    &["app"],
    &["cli"],
];

/// Files that may read a secret's text outside of their tests: where it is made, hashed, compared, sent or given away.
const EXPOSING: &[&str] = &[
    "account/import/lines.rs",
    "account/import/rules.rs",
    "account/password.rs",
    "account/password_rules.rs",
    "edge/admin.rs",
    "operator/control.rs",
    "doctor/wire.rs",
    "operator/execute.rs",
    "operator/explain.rs",
    "auth/assertion.rs",
    "cli/token.rs",
    "config/secrets.rs",
    "config/smtp.rs",
    "crypto/api_key.rs",
    "crypto/digest.rs",
    "crypto/password/forms.rs",
    "crypto/password/mod.rs",
    "crypto/ring_file.rs",
    "crypto/session_cookie.rs",
    "crypto/sha_crypt.rs",
    "crypto/token.rs",
    "issuer/introspection.rs",
    "mail/template/mod.rs",
    "mail/transport/smtp.rs",
    "web/api/introspect.rs",
    "web/api/keys.rs",
    "web/api/me.rs",
    "web/api/password.rs",
    "web/api/session.rs",
    "web/cookie.rs",
    "web/portal/password.rs",
];

/// Crates whose types stay on a floor, and the places that may name them.
const FOREIGN: &[(&str, &[&str])] = &[
    ("sled", &["store/"]),
    ("pingora", &["proxy/", "edge/listen.rs", "edge/stream/"]),
    ("axum", &["web/", "proxy/local.rs", "snapshot/mod.rs"]),
    ("lettre", &["mail/"]),
    ("clap", &["cli/", "operator/control.rs"]),
];

/// Where standard output and standard error are written to. In `cli` it is one file, which makes what is foreign fit for a
/// terminal.
const PRINTING: &[&str] = &["cli/output.rs", "telemetry/"];

/// The tables of error codes: each code is a literal there and nowhere else.
const CODES: &[&str] = &["model/deny.rs", "model/error_code.rs"];

/// Literals that read like an error code and are another word: a member of a record, a template, a metric, a fault.
const NAMESAKES: &[(&str, &[&str])] = &[
    ("account/import/lines.rs", &["password_must_change"]),
    ("doctor/report.rs", &["forwarder_refused"]),
    (
        "mail/template/mod.rs",
        &["identity_taken", "username_taken"],
    ),
    ("model/refusal_fault.rs", &["account_pending"]),
    ("operator/execute.rs", &["password_must_change"]),
    ("store/backup/export.rs", &["password_must_change"]),
    ("telemetry/metrics.rs", &["limits_full", "upstream_error"]),
    ("web/endpoints/examples.rs", &["password_must_change"]),
];

/// What stands in no file: work that was left for later, tests that cannot fail. Split, so that this file is none.
const WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("#[", "ignore"),
];

/// Lines of a file without its tests.
const LINES_MAX: usize = 500;

/// A word or sign of Rust; comments are gone, and a literal is one `"`.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    /// What a plain string literal holds, as written.
    literal: Option<String>,
    line: usize,
}

/// The tokens of a file. One that holds tests, or what they share, reads as if it stood in their module.
fn tokens_of(path: &Path, source: &str) -> Vec<Token> {
    let in_tests = path.components().any(|part| part.as_os_str() == "tests");
    if in_tests || path.ends_with("tests.rs") || path.ends_with("test_kit.rs") {
        tokens(&format!("#[cfg(test)] mod tests {{ {source} }}"))
    } else {
        tokens(source)
    }
}

/// Takes Rust apart, as far as paths need it.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let (mut tokens, mut index, mut line) = (Vec::new(), 0, 1);
    while index < chars.len() {
        let begin = index;
        let text = match at(index) {
            '/' if at(index + 1) == '/' => {
                index += chars[index..].iter().take_while(|c| **c != '\n').count();
                None
            }
            '/' if at(index + 1) == '*' => {
                index = after_block_comment(&chars, index);
                None
            }
            '"' => {
                index = after_string(&chars, index);
                Some("\"".to_owned())
            }
            'r' if raw_hashes(&chars, index).is_some() => {
                index = after_raw_string(&chars, index);
                Some("\"".to_owned())
            }
            '\'' if at(index + 1) == '\\' => {
                index += 3;
                index += chars[index..].iter().take_while(|c| **c != '\'').count() + 1;
                Some("\"".to_owned())
            }
            '\'' if at(index + 2) == '\'' => {
                index += 3;
                Some("\"".to_owned())
            }
            ':' if at(index + 1) == ':' => {
                index += 2;
                Some("::".to_owned())
            }
            c if c.is_alphanumeric() || c == '_' => {
                let is_word = |c: &&char| c.is_alphanumeric() || **c == '_';
                index += chars[index..].iter().take_while(is_word).count();
                Some(chars[begin..index].iter().collect())
            }
            c => {
                index += 1;
                (!c.is_whitespace()).then(|| c.to_string())
            }
        };
        let is_string = at(begin) == '"';
        let literal = || chars[begin + 1..index - 1].iter().collect();
        tokens.extend(text.map(|text| Token {
            text,
            literal: is_string.then(literal),
            line,
        }));
        let end = index.min(chars.len());
        line += chars[begin..end].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn after_block_comment(chars: &[char], begin: usize) -> usize {
    let (mut depth, mut index) = (0_usize, begin);
    while index < chars.len() {
        match chars.get(index..index + 2) {
            Some(['/', '*']) => (depth, index) = (depth + 1, index + 2),
            Some(['*', '/']) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn after_string(chars: &[char], begin: usize) -> usize {
    let mut index = begin + 1;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

/// How many `#` a raw string has that begins here; `None`: none begins.
fn raw_hashes(chars: &[char], begin: usize) -> Option<usize> {
    let hashes = chars[begin + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(begin + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn after_raw_string(chars: &[char], begin: usize) -> usize {
    let hashes = raw_hashes(chars, begin).unwrap_or(0);
    let mut index = begin + hashes + 2;
    while index < chars.len() {
        let closing = chars[index + 1..].iter().take_while(|c| **c == '#').count();
        if chars[index] == '"' && hashes <= closing {
            return index + 1 + hashes;
        }
        index += 1;
    }
    index
}

fn text_at(tokens: &[Token], index: usize) -> &str {
    tokens.get(index).map_or("", |token| token.text.as_str())
}

/// The floor of a module of the crate.
fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Where the tests of a file begin; they stand last.
fn test_start(tokens: &[Token]) -> usize {
    let head = ["#", "[", "cfg", "(", "test", ")", "]"];
    tokens
        .windows(head.len())
        .position(|window| {
            window
                .iter()
                .zip(head)
                .all(|(token, text)| token.text == text)
        })
        .unwrap_or(tokens.len())
}

/// First names of what `crate::` leads to at `index`, the place behind the `::`: one, or those of a group.
fn led_to(tokens: &[Token], index: usize) -> Vec<(&str, usize)> {
    let name = |index: usize| {
        let token = tokens.get(index)?;
        Some((token.text.as_str(), token.line))
    };
    if text_at(tokens, index) != "{" {
        return name(index).into_iter().collect();
    }
    let (mut names, mut depth) = (Vec::new(), 0);
    for place in index..tokens.len() {
        match text_at(tokens, place) {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        let begins_item = depth == 1 && matches!(text_at(tokens, place), "{" | ",");
        if begins_item && text_at(tokens, place + 1) != "}" {
            names.extend(name(place + 1));
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Every name of a floor that is not below the module's own, and every way to name the crate without its floor.
fn climbs(module: &str, tokens: &[Token]) -> Vec<String> {
    let mut found = Vec::new();
    let Some(own) = floor(module) else {
        return vec![format!("{module} stands on no floor")];
    };
    for (index, token) in tokens.iter().enumerate() {
        if token.text != "crate" {
            continue;
        }
        let names = match text_at(tokens, index + 1) {
            "::" => led_to(tokens, index + 2),
            ")" => Vec::new(),
            _ => vec![("the crate as a whole", token.line)],
        };
        for (name, line) in names {
            let is_below = floor(name).is_some_and(|floor| floor < own);
            if name != module && !is_below {
                found.push(format!("line {line}: {module} names {name}"));
            }
        }
    }
    found
}

/// Every `use` of all there is, except `super::*` and preludes in tests.
fn globs(tokens: &[Token]) -> Vec<String> {
    let tests = test_start(tokens);
    let mut found = Vec::new();
    let mut in_use = None;
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "use" => in_use = Some(index),
            ";" => in_use = None,
            "*" => {
                let Some(begin) = in_use else { continue };
                let path: Vec<_> = tokens[begin + 1..index]
                    .iter()
                    .map(|t| t.text.as_str())
                    .collect();
                let fits_tests = path == ["super", "::"] || path.ends_with(&["prelude", "::"]);
                if begin < tests || !fits_tests {
                    found.push(format!("line {}: imports all of something", token.line));
                }
            }
            _ => {}
        }
    }
    found
}

/// Every `super::` that leads out of the file: only modules inside of it may use it.
fn supers(tokens: &[Token]) -> Vec<String> {
    let mut found = Vec::new();
    // For each open brace whether it is that of a module.
    let mut braces = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => braces.push(index >= 2 && text_at(tokens, index - 2) == "mod"),
            "}" => drop(braces.pop()),
            "super" if text_at(tokens, index + 1) == "::" => {
                let before = tokens[..index].rchunks(2);
                let is_step =
                    |pair: &&[Token]| text_at(pair, 0) == "super" && text_at(pair, 1) == "::";
                let steps = 1 + before.take_while(is_step).count();
                if braces.iter().filter(|is_module| **is_module).count() < steps {
                    found.push(format!("line {}: super:: leaves the file", token.line));
                }
            }
            _ => {}
        }
    }
    found
}

/// The plain string literals of a file outside of its tests, with their lines.
fn literals(tokens: &[Token]) -> impl Iterator<Item = (&str, usize)> {
    let code = tokens[..test_start(tokens)].iter();
    code.filter_map(|token| Some((token.literal.as_deref()?, token.line)))
}

/// The codes of a table of error codes, whose rows are a status, a code and a title.
fn codes(tokens: &[Token]) -> Vec<String> {
    let code = tokens[..test_start(tokens)].windows(4);
    let rows = code.filter(|t| t[0].text == "(" && t[2].text == ",");
    let numbered = rows.filter(|t| t[1].text.parse::<u16>().is_ok());
    numbered.filter_map(|t| t[3].literal.clone()).collect()
}

/// Every error code that a file has as a literal.
fn coded(name: &str, tokens: &[Token], codes: &[String]) -> Vec<String> {
    let own = NAMESAKES.iter().find(|(file, _)| *file == name);
    let own = own.map_or(&[][..], |(_, words)| *words);
    let is_code = |text: &str| codes.iter().any(|code| code == text) && !own.contains(&text);
    literals(tokens)
        .filter(|(text, _)| is_code(text))
        .map(|(text, line)| format!("line {line}: the code {text} belongs to the table of codes"))
        .collect()
}

/// Whether a file reads the text of a secret outside of its tests.
fn exposes(tokens: &[Token]) -> bool {
    tokens[..test_start(tokens)]
        .windows(3)
        .any(|t| t[0].text == "." && t[1].text == "expose" && t[2].text == "(")
}

/// Every foreign crate that a file names where its types do not belong, in tests too.
fn strangers(name: &str, tokens: &[Token]) -> Vec<String> {
    let mut found = Vec::new();
    for (krate, places) in FOREIGN {
        if places.iter().any(|place| name.starts_with(place)) {
            continue;
        }
        let own = ["::", *krate, "::", "{", "self"];
        let is_own = |window: &[Token]| {
            window
                .iter()
                .zip(own)
                .all(|(token, text)| token.text == text)
        };
        // A module of ours has its name, and is what the file means.
        if tokens.windows(own.len()).any(is_own) {
            continue;
        }
        let named = tokens.iter().enumerate().find(|(index, token)| {
            // The crate itself, and not a module of ours by its name.
            let begins_path = *index == 0 || text_at(tokens, index - 1) != "::";
            let is_crate = token.text == *krate || token.text.starts_with(&format!("{krate}_"));
            is_crate
                && begins_path
                && text_at(tokens, index + 1) == "::"
                && !in_group(tokens, *index)
        });
        if let Some((_, token)) = named {
            found.push(format!(
                "line {}: names {krate}, which stays in {places:?}",
                token.line
            ));
        }
    }
    found
}

/// Whether a name stands in the braces of a `use` that begins elsewhere: `use crate::store::{sled::X}`.
fn in_group(tokens: &[Token], index: usize) -> bool {
    let mut depth = 0_i32;
    for place in (0..index).rev() {
        match text_at(tokens, place) {
            ";" => return false,
            "}" => depth += 1,
            "{" if depth == 0 => return 0 < place && text_at(tokens, place - 1) == "::",
            "{" => depth -= 1,
            _ => {}
        }
    }
    false
}

/// Whether a file takes standard output or standard error in hand outside of its tests.
fn prints(tokens: &[Token]) -> bool {
    tokens[..test_start(tokens)].windows(3).any(|t| {
        t[0].text == "io" && t[1].text == "::" && ["stdout", "stderr"].contains(&t[2].text.as_str())
    })
}

/// How many lines a file has without its tests.
fn lines(source: &str, tokens: &[Token]) -> usize {
    match tokens.get(test_start(tokens)) {
        Some(token) => token.line - 1,
        None => source.lines().count(),
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder whose name ends in one of `ends`, as (path, text).
fn files(folder: &Path, ends: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ends));
        } else if ends.iter().any(|end| path.to_string_lossy().ends_with(end)) {
            let bytes = fs::read(&path).unwrap();
            found.push((path, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found
}

#[test]
fn the_source_keeps_its_floors_and_forms() {
    let source = root().join("src");
    let mut found = Vec::new();
    for (path, text) in files(&source, &[".rs"]) {
        let name = path.strip_prefix(&source).unwrap().display().to_string();
        let tokens = tokens_of(&path, &text);
        let mut here = globs(&tokens);
        here.extend(supers(&tokens));
        let module = name.split(['/', '.']).next().unwrap_or_default();
        if module != "lib" && module != "main" {
            here.extend(climbs(module, &tokens));
        } else if tokens
            .windows(2)
            .any(|t| t[0].text == "pub" && t[1].text == "use")
        {
            here.push("re-exports: an import would not show its floor".to_owned());
        }
        here.extend(strangers(&name, &tokens));
        let count = lines(&text, &tokens);
        if LINES_MAX < count {
            here.push(format!("{count} lines without tests, above {LINES_MAX}"));
        }
        if exposes(&tokens) && !EXPOSING.contains(&name.as_str()) {
            here.push("reads the text of a secret, and is not listed for it".to_owned());
        }
        if prints(&tokens) && !PRINTING.iter().any(|place| name.starts_with(place)) {
            here.push("writes to the terminal by itself: what it prints is not escaped".to_owned());
        }
        found.extend(here.into_iter().map(|what| format!("src/{name}: {what}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_error_code_is_written_once() {
    let source = root().join("src");
    let all = files(&source, &[".rs"]);
    let named = all.iter().map(|(path, text)| {
        let name = path.strip_prefix(&source).unwrap().display().to_string();
        (name, tokens_of(path, text))
    });
    let named: Vec<_> = named.collect();
    let is_table = |name: &str| CODES.contains(&name);
    let tables = named.iter().filter(|(name, _)| is_table(name));
    let codes: Vec<_> = tables.flat_map(|(_, tokens)| codes(tokens)).collect();
    assert!(60 < codes.len(), "{codes:?}");
    let mut found = Vec::new();
    for (index, code) in codes.iter().enumerate() {
        if codes[..index].contains(code) {
            found.push(format!("{code}: two rows of the table"));
        }
    }
    for (name, tokens) in named.iter().filter(|(name, _)| !is_table(name)) {
        let here = coded(name, tokens, &codes);
        found.extend(here.into_iter().map(|what| format!("src/{name}: {what}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    let mut found = Vec::new();
    for folder in [
        "src", "tests", "benches", "config", "scripts", "systemd", "docs",
    ] {
        for (path, text) in files(&root().join(folder), &[""]) {
            for word in WORDS.iter().filter(|word| text.contains(**word)) {
                found.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_climbs_is_caught() {
    let cases = [
        ("config", "use crate::model::id::UserId;", 0),
        ("config", "use crate::config::reader::Reader;", 0),
        ("config", "use crate::store::Store;", 1),
        ("limit", "use crate::crypto::jwt;", 1),
        (
            "auth",
            "use crate::{model::id::{A, B}, store::Store, config::Config};",
            0,
        ),
        (
            "auth",
            "use crate::{model::id::{A, B}, account::{X}, web,};",
            2,
        ),
        (
            "auth",
            "fn f() -> crate::proxy::X { crate :: app :: run() }",
            2,
        ),
        (
            "auth",
            "// use crate::proxy::X;\n/* crate::web /* */ crate::app */ let s = \"crate::cli::x\";",
            0,
        ),
        (
            "auth",
            "let s = r#\"\"crate::cli\"#; let c = '\"'; let l: &'static str = \"\\\"\"; crate::cli::x",
            1,
        ),
        (
            "auth",
            "pub(crate) fn f() {} pub(in crate::auth) fn g() {}",
            0,
        ),
        ("auth", "use crate as all;", 1),
        ("auth", "use crate::{self};", 1),
        (
            "auth",
            "use crate::auth::x; /// [`crate::web`]\nfn f() {}",
            0,
        ),
        ("elsewhere", "", 1),
    ];
    for (module, source, count) in cases {
        let found = climbs(module, &tokens(source));
        assert_eq!(found.len(), count, "{source}\n{found:?}");
    }
    assert_eq!(
        climbs("model", &tokens("\n\"a\nb\"\nuse crate::config::Config;")),
        ["line 4: model names config"]
    );
}

#[test]
fn globs_and_supers_are_caught() {
    let cases = [
        ("use std::fmt::*;", 1, 0),
        ("use a::{b, c::*};", 1, 0),
        ("fn f(a: u8) -> u8 { a * 2 }", 0, 0),
        ("#[cfg(test)]\nmod tests { use super::*; }", 0, 0),
        ("mod tests { use super::*; }", 1, 0),
        (
            "#[cfg(test)]\nmod tests { use proptest::prelude::*; }",
            0,
            0,
        ),
        ("use axum::prelude::*;", 1, 0),
        ("#[cfg(test)]\nmod tests { use super::super::*; }", 1, 1),
        ("#[cfg(test)]\nmod tests { use crate::model::*; }", 1, 0),
        ("use super::reader;", 0, 1),
        ("pub(super) fn f() {}", 0, 0),
        (
            "mod a { mod b { fn f() { super::super::x(); super::y() } } }",
            0,
            0,
        ),
        ("mod a { fn f() { super::super::x() } }", 0, 1),
    ];
    for (source, glob, up) in cases {
        let tokens = tokens(source);
        assert_eq!(
            (globs(&tokens).len(), supers(&tokens).len()),
            (glob, up),
            "{source}"
        );
    }
}

#[test]
fn foreign_types_are_caught() {
    let cases = [
        ("auth/a.rs", "use axum::body::Body;", 1),
        (
            "auth/a.rs",
            "fn f(tree: &::sled::Tree) { pingora_core::x() }",
            1,
        ),
        (
            "auth/a.rs",
            "use crate::store::sled::SledStore; use crate::store::{sled::X};",
            0,
        ),
        (
            "auth/a.rs",
            "use crate::store::sled::{self, Findings}; sled::check();",
            0,
        ),
        ("auth/a.rs", "// axum::body\nlet s = \"sled::Tree\";", 0),
        ("web/a.rs", "use axum::body::Body;", 0),
        (
            "edge/stream/mod.rs",
            "use pingora::protocols::Digest; use axum::Router;",
            1,
        ),
        ("edge/drain.rs", "use pingora::protocols::Digest;", 1),
    ];
    for (name, source, count) in cases {
        let found = strangers(name, &tokens(source));
        assert_eq!(found.len(), count, "{source}\n{found:?}");
    }
}

#[test]
fn secrets_and_lines_are_counted_without_tests() {
    let source = "fn f() {}\n#[cfg(test)]\nmod tests { fn g(s: S) { s.expose(); } }\n";
    assert!(!exposes(&tokens(source)));
    assert!(exposes(&tokens("fn f(s: S) { s . expose () }")));
    assert!(prints(&tokens("fn f() { std::io::stdout().lock(); }")));
    assert!(!prints(&tokens("mod stdout; fn f() { a.stdout(b); }")));
    assert_eq!(lines(source, &tokens(source)), 1);
    assert_eq!(lines("a\nb\n", &tokens("a\nb\n")), 2);
    let beside = tokens_of(Path::new("src/a/tests.rs"), "use super::*;\ns.expose();");
    assert!(globs(&beside).is_empty() && supers(&beside).is_empty() && !exposes(&beside));
}
