//! Rules about the source text that the compiler does not check. Reads every file under `src` without building it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the bottom up. A module uses only modules on lower floors, and never a sibling.
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
    &["services"],
    &["auth", "account"],
    &["snapshot"],
    &["proxy", "web"],
    &["edge"],
    &["doctor", "operator"],
    &["app"],
    &["cli"],
];

/// Files that may read a secret's text outside of their tests: where it is created, hashed, compared, sent or handed
/// out.
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
    "cli/secrets.rs",
    "cli/token.rs",
    "config/secrets.rs",
    "crypto/api_key.rs",
    "crypto/digest.rs",
    "crypto/jwt.rs",
    "crypto/password/forms.rs",
    "crypto/password/mod.rs",
    "crypto/ring_file.rs",
    "crypto/session_secret.rs",
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

/// Crates whose types stay on one floor, and the places that may use them.
const FOREIGN: &[(&str, &[&str])] = &[
    ("sled", &["store/"]),
    ("pingora", &["proxy/", "edge/listen.rs", "edge/stream/"]),
    ("axum", &["web/", "proxy/local.rs", "snapshot/mod.rs"]),
    ("lettre", &["mail/"]),
    ("clap", &["cli/", "doctor/mod.rs", "operator/control.rs"]),
];

/// Places that write to standard output and standard error. In `cli` it is one file, which escapes foreign text for a
/// terminal.
const PRINTING: &[&str] = &["cli/output.rs", "telemetry/"];

/// The tables of error codes: each code is a literal there and nowhere else.
const CODES: &[&str] = &["model/deny.rs", "model/error_code.rs"];

/// Literals that look like an error code but mean something else: a member of a record, a template, a metric, a fault.
const NAMESAKES: &[(&str, &[&str])] = &[
    ("account/import/lines.rs", &["password_must_change"]),
    ("doctor/report.rs", &["forwarder_refused"]),
    (
        "mail/template/mod.rs",
        &["identity_taken", "username_taken"],
    ),
    ("model/refusal_fault.rs", &["account_pending"]),
    ("telemetry/metrics.rs", &["limits_full", "upstream_error"]),
    ("web/endpoints/examples.rs", &["password_must_change"]),
];

/// Texts that no file may contain: postponed work, and ignored tests. Split, so that this file does not contain them.
const WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("#[", "ignore"),
];

/// Maximum number of lines of a file without its tests.
const LINES_MAX: usize = 500;

/// A word or sign of Rust; comments are omitted, and a literal is a single `"`.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    /// The contents of a plain string literal, as written.
    literal: Option<String>,
    line: usize,
}

/// Returns the tokens of a file. A file of tests, or of what tests share, is treated as the contents of a test module.
fn tokens_of(path: &Path, source: &str) -> Vec<Token> {
    let in_tests = path.components().any(|part| part.as_os_str() == "tests");
    if in_tests || path.ends_with("tests.rs") || path.ends_with("test_kit.rs") {
        tokens(&format!("#[cfg(test)] mod tests {{ {source} }}"))
    } else {
        tokens(source)
    }
}

/// Splits Rust into tokens, as far as paths require it.
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

/// Returns the number of `#` of the raw string that begins here; `None` if none begins here.
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

/// Returns the floor of a module of the crate.
fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Returns the start of a file's tests, which come last.
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

/// Returns the first names of the paths behind `crate::`, whose `::` ends before `index`: one, or all of a group.
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

/// Returns every use of a floor that is not below the module's own, and every way to name the crate without a floor.
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

/// Returns the tokens of a file without the items that only tests have.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let head = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut index) = (Vec::new(), 0);
    while index < tokens.len() {
        let window = tokens[index..].iter().map(|token| token.text.as_str());
        if !window.take(head.len()).eq(head) {
            kept.push(tokens[index].clone());
            index += 1;
            continue;
        }
        // The item ends at a semicolon or comma outside of braces, or with its last brace.
        let mut depth = 0_usize;
        index += head.len();
        while index < tokens.len() {
            let text = text_at(tokens, index);
            index += 1;
            match text {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(text, ";" | "," | "}") {
                break;
            }
        }
    }
    kept
}

/// Returns the names of the modules that a file declares for tests only.
fn test_modules(tokens: &[Token]) -> Vec<String> {
    let head = ["cfg", "(", "test", ")", "]"];
    let mut found = Vec::new();
    for begin in 0..tokens.len() {
        let window = tokens[begin..].iter().map(|token| token.text.as_str());
        if window.take(head.len()).eq(head) {
            let item = &tokens[begin + head.len()..];
            let end = item.iter().position(|token| token.text == ";");
            let item = &item[..end.unwrap_or(0)];
            if text_at(item, item.len().saturating_sub(2)) == "mod" {
                found.extend(item.last().map(|token| token.text.clone()));
            }
        }
    }
    found
}

/// Returns every path behind `crate::` except those of `pub use`: a module may re-export names from above it and from
/// below.
fn crate_paths(tokens: &[Token]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut is_public_use = false;
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "use" => {
                let before = index.checked_sub(1).map_or("", |it| text_at(tokens, it));
                is_public_use = matches!(before, "pub" | ")");
            }
            ";" => is_public_use = false,
            "crate" if !is_public_use && text_at(tokens, index + 1) == "::" => {
                tree(tokens, index + 2, &[], &mut found);
            }
            _ => {}
        }
    }
    found
}

/// Adds the paths of the use tree that begins at `index`, and returns the index after it.
fn tree(tokens: &[Token], index: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    let mut index = index;
    loop {
        match text_at(tokens, index) {
            "{" => {
                index += 1;
                while !matches!(text_at(tokens, index), "}" | "") {
                    index = match text_at(tokens, index) {
                        "," => index + 1,
                        _ => tree(tokens, index, &path, found),
                    };
                }
                return index + 1;
            }
            name => path.push(name.to_owned()),
        }
        index += 1;
        if text_at(tokens, index) != "::" {
            break;
        }
        index += 1;
    }
    found.push(path);
    if text_at(tokens, index) == "as" {
        index += 2;
    }
    index
}

/// Returns the modules that are part of import cycles, one group per cycle. A module's own file and those below it
/// count as one.
fn circles(sources: &BTreeMap<String, Vec<Token>>) -> Vec<Vec<String>> {
    let is_inside = |one: &str, other: &str| {
        one.strip_prefix(other)
            .is_some_and(|rest| rest.starts_with("::"))
    };
    let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, tokens) in sources {
        let targets = named.entry(module).or_default();
        for path in crate_paths(&without_tests(tokens)) {
            let mut prefixes = (1..=path.len()).rev().map(|end| path[..end].join("::"));
            let file = prefixes.find_map(|prefix| sources.get_key_value(&prefix));
            targets.extend(file.map(|(name, _)| name.as_str()).filter(|target| {
                *target != module && !is_inside(target, module) && !is_inside(module, target)
            }));
        }
    }
    let reach = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(next) = open.pop() {
            for target in named.get(next.as_str()).into_iter().flatten() {
                if seen.insert((*target).to_owned()) {
                    open.push((*target).to_owned());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = named
        .keys()
        .map(|module| (*module, reach(module)))
        .collect();
    let mut found: Vec<Vec<String>> = Vec::new();
    for (module, targets) in &reached {
        let is_known = found.iter().flatten().any(|member| member == module);
        if targets.contains(*module) && !is_known {
            let back = targets.iter().filter(|target| {
                reached
                    .get(target.as_str())
                    .is_some_and(|it| it.contains(*module))
            });
            found.push(back.cloned().collect());
        }
    }
    found
}

/// Returns every glob import except `super::*` and preludes in tests.
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

/// Returns every `super::` that leaves the file: only modules inside of the file may use it.
fn supers(tokens: &[Token]) -> Vec<String> {
    let mut found = Vec::new();
    // For each open brace, whether it is a module's.
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

/// Returns the plain string literals of a file outside of its tests, with their lines.
fn literals(tokens: &[Token]) -> impl Iterator<Item = (&str, usize)> {
    let code = tokens[..test_start(tokens)].iter();
    code.filter_map(|token| Some((token.literal.as_deref()?, token.line)))
}

/// Returns the codes in a table of error codes, whose rows are a status, a code and a title.
fn codes(tokens: &[Token]) -> Vec<String> {
    let code = tokens[..test_start(tokens)].windows(4);
    let rows = code.filter(|t| t[0].text == "(" && t[2].text == ",");
    let numbered = rows.filter(|t| t[1].text.parse::<u16>().is_ok());
    numbered.filter_map(|t| t[3].literal.clone()).collect()
}

/// Returns every error code that a file contains as a literal.
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

/// Returns every foreign crate that a file uses where its types do not belong, in tests too.
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
        // The file imports a module of the same name, and means that one.
        if tokens.windows(own.len()).any(is_own) {
            continue;
        }
        let named = tokens.iter().enumerate().find(|(index, token)| {
            // The crate itself, and not a module of the same name.
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

/// Whether a name is in the braces of a `use` that begins elsewhere: `use crate::store::{sled::X}`.
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

/// Whether a file accesses standard output or standard error outside of its tests.
fn prints(tokens: &[Token]) -> bool {
    tokens[..test_start(tokens)].windows(3).any(|t| {
        t[0].text == "io" && t[1].text == "::" && ["stdout", "stderr"].contains(&t[2].text.as_str())
    })
}

/// Returns the number of lines of a file without its tests.
fn lines(source: &str, tokens: &[Token]) -> usize {
    match tokens.get(test_start(tokens)) {
        Some(token) => token.line - 1,
        None => source.lines().count(),
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns all files below a folder whose names end in one of `ends`, as (path, text).
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
fn no_two_files_need_each_other() {
    let source = root().join("src");
    let mut modules = BTreeMap::new();
    let mut tests = Vec::new();
    for (path, text) in files(&source, &[".rs"]) {
        let name = path.strip_prefix(&source).unwrap().with_extension("");
        let name = name.display().to_string().replace('/', "::");
        let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
        let tokens = tokens(&text);
        let inside = if name == "lib" {
            String::new()
        } else {
            format!("{name}::")
        };
        tests.extend(
            test_modules(&tokens)
                .iter()
                .map(|test| format!("{inside}{test}")),
        );
        modules.insert(name, tokens);
    }
    modules.retain(|name, _| {
        let is_in = |test: &String| name == test || name.starts_with(&format!("{test}::"));
        !tests.iter().any(is_in)
    });
    let circles = circles(&modules);
    let found: Vec<_> = circles.iter().map(|it| it.join(" <-> ")).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_type_name_is_defined_once() {
    let source = root().join("src");
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in files(&source, &[".rs"]) {
        let name = path.strip_prefix(&source).unwrap().display().to_string();
        if name.contains("tests") || name.ends_with("test_kit.rs") {
            continue;
        }
        for defined in text.lines().filter_map(defined_type) {
            places.entry(defined).or_default().push(name.clone());
        }
    }
    let twice = places.iter().filter(|(_, places)| 1 < places.len());
    let twice: Vec<_> = twice
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect();
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

/// Returns the name of the type that a line at the top level of a file defines.
fn defined_type(line: &str) -> Option<String> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| word.starts_with("pub") || word.ends_with(')') && !word.contains('('));
    if line.starts_with(' ') || !["struct", "enum", "trait", "type"].contains(&words.next()?) {
        return None;
    }
    let rest = words.next()?;
    let end = rest.find(|it: char| !it.is_alphanumeric() && it != '_');
    rest.get(..end.unwrap_or(rest.len())).map(str::to_owned)
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
        ("config", "use crate::config::reader::SectionReader;", 0),
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
fn circles_are_caught() {
    type Sources<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Sources<'_>, &[&str]); 6] = [
        (
            &[("a", "use crate::b::X;"), ("b", "fn f() { crate::a::y() }")],
            &["a b"],
        ),
        (
            &[("a", "use crate::b::X;"), ("b", "pub use crate::a::y;")],
            &[],
        ),
        (
            &[
                ("a", "#[cfg(test)]\nmod tests; use crate::{b::{X, Y}, c};"),
                ("b", "use crate::c::Z;"),
                ("c", "pub(in crate::c) use x; use crate::a as other;"),
            ],
            &["a b c"],
        ),
        (
            &[
                ("a", "use crate::b::X;"),
                (
                    "b",
                    "#[cfg(test)]\nmod tests { use crate::a::Y; fn f() {} }",
                ),
            ],
            &[],
        ),
        (
            &[("a", "use crate::a::b::X;"), ("a::b", "use crate::a::Y;")],
            &[],
        ),
        (
            &[
                (
                    "a",
                    "// use crate::b;\nstruct S { #[cfg(test)] x: crate::b::X, y: u8 }",
                ),
                ("b", "use crate::a::S;"),
            ],
            &[],
        ),
    ];
    for (sources, wanted) in cases {
        let modules = sources.iter();
        let modules = modules.map(|(name, source)| ((*name).to_owned(), tokens(source)));
        let found: Vec<_> = circles(&modules.collect())
            .iter()
            .map(|it| it.join(" "))
            .collect();
        assert_eq!(found, wanted, "{sources:?}");
    }
    let declares =
        "#[cfg(test)]\npub(crate) mod kit;\nmod real;\n#[cfg(test)]\nmod tests { fn f() { a; } }";
    assert_eq!(test_modules(&tokens(declares)), ["kit"]);
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
