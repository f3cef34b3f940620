//! Texts of mails: two templates each, plain with its subject in the first line, and HTML. An operator may replace them.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::Path;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use zeroize::Zeroizing;

use crate::config::MailSettings;
use crate::mail::Mail;
use crate::model::secret::Secret;

/// A mail's name and its built-in templates.
struct Builtin {
    name: &'static str,
    text: &'static str,
    html: &'static str,
}

macro_rules! builtin {
    ($($name:literal)*) => {
        &[$(Builtin {
            name: $name,
            text: include_str!(concat!("templates/", $name, ".txt")),
            html: include_str!(concat!("templates/", $name, ".html")),
        }),*]
    };
}

/// Every mail there is. In the plain text a link stands on a line of its own.
const BUILTIN: &[Builtin] = builtin! {
    "confirm_new"
    "invitation"
    "identity_taken"
    "username_taken"
    "password_reset"
    "password_changed"
    "new_login"
    "change_identity"
    "identity_changing"
    "identity_changed"
};

/// Longest file of a template.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// A template that cannot be used: its file, and what would be right. The engine's own words are kept only where nothing
/// has been filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub(crate) struct TemplateError {
    expected: String,
}

impl TemplateError {
    fn new(file: &str, expected: impl std::fmt::Display) -> Self {
        Self {
            expected: format!("{file}: {expected}"),
        }
    }

    /// The file, and what would be right.
    pub(crate) fn expected(&self) -> &str {
        &self.expected
    }
}

/// A mail in words.
pub(crate) struct Text {
    pub(crate) subject: String,
    /// Lines end in `\n`. It holds the token of a link.
    pub(crate) body: Zeroizing<String>,
    /// The same as HTML, if there is any.
    pub(crate) html: Option<Zeroizing<String>>,
}

/// What is filled in.
#[derive(Clone, Copy)]
struct Fields<'a> {
    link: Option<&'a str>,
    username: Option<&'a str>,
    /// From where a login was, and after how many failures.
    login: Option<(&'a str, u32)>,
    public_url: &'a str,
}

impl Fields<'_> {
    /// Those that there are, for the engine.
    fn value(self) -> Value {
        let optional = [
            ("link", self.link.map(Value::from)),
            ("username", self.username.map(Value::from)),
            ("network", self.login.map(|(network, _)| network.into())),
            ("failures", self.login.map(|(_, failures)| failures.into())),
            ("public_url", Some(self.public_url.into())),
        ];
        let filled_in = optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        Value::from_pairs(filled_in)
    }
}

/// The templates, parsed, with what they all share.
pub(crate) struct Templates {
    environment: Environment<'static>,
    public_url: String,
    confirm_link: String,
    reset_link: String,
}

impl Templates {
    /// Reads the replacements that the settings name, and renders every mail once.
    pub(crate) fn new(settings: &MailSettings, public_url: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::empty();
        // In plain text an escaped link would be a broken one.
        environment.set_auto_escape_callback(|name| {
            if is_of(name, "html") {
                AutoEscape::Html
            } else {
                AutoEscape::None
            }
        });
        // A name that is not filled in is an error, not a gap.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let directory = settings.templates.as_deref();
        if let Some(directory) = directory {
            check_names(directory)?;
        }
        for builtin in BUILTIN {
            let text = replacement(directory, builtin.name, "txt")?;
            let html = replacement(directory, builtin.name, "html")?;
            // A text of one's own is not sent beside a built-in HTML that says something else.
            let html = match (&text, html) {
                (_, Some(html)) => Some(html),
                (None, None) => Some(builtin.html.to_owned()),
                (Some(_), None) => None,
            };
            let text = text.unwrap_or_else(|| builtin.text.to_owned());
            add(&mut environment, &format!("{}.txt", builtin.name), text)?;
            if let Some(html) = html {
                add(&mut environment, &format!("{}.html", builtin.name), html)?;
            }
        }
        let templates = Self {
            environment,
            public_url: public_url.to_owned(),
            confirm_link: settings.confirm_link.clone(),
            reset_link: settings.reset_link.clone(),
        };
        templates.try_all()?;
        Ok(templates)
    }

    /// Renders a mail.
    pub(crate) fn render(&self, mail: &Mail) -> Result<Text, TemplateError> {
        let (name, link, username) = match mail {
            Mail::ConfirmNew { token } => (
                "confirm_new",
                Some(self.link(&self.confirm_link, token)),
                None,
            ),
            Mail::Invitation { token, username } => (
                "invitation",
                Some(self.link(&self.confirm_link, token)),
                Some(username.as_str()),
            ),
            Mail::IdentityTaken => ("identity_taken", None, None),
            Mail::UsernameTaken { username } => ("username_taken", None, Some(username.as_str())),
            Mail::PasswordReset { token, username } => (
                "password_reset",
                Some(self.link(&self.reset_link, token)),
                Some(username.as_str()),
            ),
            Mail::PasswordChanged { username } => {
                ("password_changed", None, Some(username.as_str()))
            }
            Mail::NewLogin { username, .. } => ("new_login", None, Some(username.as_str())),
            Mail::ChangeIdentity { token, username } => (
                "change_identity",
                Some(self.link(&self.confirm_link, token)),
                Some(username.as_str()),
            ),
            Mail::IdentityChanging { username } => {
                ("identity_changing", None, Some(username.as_str()))
            }
            Mail::IdentityChanged { username } => {
                ("identity_changed", None, Some(username.as_str()))
            }
        };
        let login = match mail {
            Mail::NewLogin {
                network, failures, ..
            } => Some((network.as_str(), *failures)),
            _ => None,
        };
        let fields = Fields {
            login,
            link: link.as_ref().map(|link| link.as_str()),
            username,
            public_url: &self.public_url,
        };
        let file = format!("{name}.txt");
        let text = self.fill_in(&file, fields)?;
        let (subject, body) = text
            .strip_prefix("Subject: ")
            .and_then(|text| text.split_once("\n\n"))
            .filter(|(subject, _)| !subject.is_empty() && !subject.chars().any(char::is_control))
            .ok_or_else(|| {
                TemplateError::new(&file, "a first line `Subject: …`, then an empty line")
            })?;
        let html = format!("{name}.html");
        let html = match self.environment.get_template(&html) {
            Ok(_) => Some(self.fill_in(&html, fields)?),
            Err(_) => None,
        };
        Ok(Text {
            subject: subject.to_owned(),
            body: Zeroizing::new(format!("{}\n", body.trim_end())),
            html: html.map(|html| Zeroizing::new(format!("{}\n", html.trim_end()))),
        })
    }

    fn fill_in(&self, file: &str, fields: Fields<'_>) -> Result<Zeroizing<String>, TemplateError> {
        let template = self.environment.get_template(file);
        let rendered = template.and_then(|template| template.render(fields.value()));
        let text = rendered.map_err(|error| {
            let line = error.line().unwrap_or_default();
            let names =
                "fields that this mail has: public_url, and link, username, network or failures where it is about one";
            TemplateError::new(file, format!("{names} (line {line}: {})", error.kind()))
        })?;
        Ok(Zeroizing::new(text.replace("\r\n", "\n")))
    }

    /// Renders every mail with samples: what fails, fails now.
    fn try_all(&self) -> Result<(), TemplateError> {
        let token = || Secret::new("A".repeat(43));
        // As long as one can be.
        let username = || "n".repeat(64);
        let new_login = |failures| Mail::NewLogin {
            username: username(),
            network: "2001:db8:1234:5678::/64".to_owned(),
            failures,
        };
        let mails = [
            Mail::ConfirmNew { token: token() },
            Mail::Invitation {
                token: token(),
                username: username(),
            },
            Mail::IdentityTaken,
            Mail::UsernameTaken {
                username: username(),
            },
            Mail::PasswordReset {
                token: token(),
                username: username(),
            },
            Mail::PasswordChanged {
                username: username(),
            },
            new_login(0),
            new_login(u32::MAX),
            Mail::ChangeIdentity {
                token: token(),
                username: username(),
            },
            Mail::IdentityChanging {
                username: username(),
            },
            Mail::IdentityChanged {
                username: username(),
            },
        ];
        for mail in &mails {
            let text = self.render(mail)?;
            let (name, link) = match mail {
                Mail::ConfirmNew { .. } => ("confirm_new", &self.confirm_link),
                Mail::Invitation { .. } => ("invitation", &self.confirm_link),
                Mail::PasswordReset { .. } => ("password_reset", &self.reset_link),
                Mail::ChangeIdentity { .. } => ("change_identity", &self.confirm_link),
                _ => continue,
            };
            let link = self.link(link, &token());
            if !text.body.lines().any(|line| line == link.as_str()) {
                let expected = "{{ link }} on a line of its own, with nothing before or after it";
                return Err(TemplateError::new(&format!("{name}.txt"), expected));
            }
            if text
                .html
                .is_some_and(|html| !html.contains(token().expose()))
            {
                let expected = "{{ link }}, as in <a href=\"{{ link }}\">";
                return Err(TemplateError::new(&format!("{name}.html"), expected));
            }
        }
        Ok(())
    }

    /// Fills in a link as it is configured. A token is base64url and stands in a URL as it is.
    fn link(&self, configured: &str, token: &Secret) -> Zeroizing<String> {
        let link = configured.replace("{public_url}", &self.public_url);
        Zeroizing::new(link.replace("{token}", token.expose()))
    }
}

fn add(
    environment: &mut Environment<'static>,
    file: &str,
    text: String,
) -> Result<(), TemplateError> {
    environment
        .add_template_owned(file.to_owned(), text)
        .map_err(|error| TemplateError::new(file, format!("a template ({error})")))
}

fn is_of(file: &str, ending: &str) -> bool {
    Path::new(file)
        .extension()
        .is_some_and(|found| found == ending)
}

/// The operator's file for a mail, if there is one.
fn replacement(
    directory: Option<&Path>,
    name: &str,
    ending: &str,
) -> Result<Option<String>, TemplateError> {
    let Some(directory) = directory else {
        return Ok(None);
    };
    let file = format!("{name}.{ending}");
    match read(&directory.join(&file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TemplateError::new(
            &file,
            format!(
                "a file of UTF-8 that can be read, of at most 16 KiB ({})",
                error.kind()
            ),
        )),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if FILE_BYTES_MAX < text.len() as u64 {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// A file of a name that nobody asks for would be a slip that nobody sees.
fn check_names(directory: &Path) -> Result<(), TemplateError> {
    let shown = directory.display().to_string();
    let unreadable = |error: io::Error| {
        TemplateError::new(
            &shown,
            format!("a directory that can be read ({})", error.kind()),
        )
    };
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.file_name();
        let file = file.to_string_lossy();
        let known = |ending: &str| {
            let stem = file.strip_suffix(ending);
            stem.is_some_and(|stem| BUILTIN.iter().any(|builtin| builtin.name == stem))
        };
        let is_template = is_of(&file, "txt") || is_of(&file, "html");
        if is_template && !known(".txt") && !known(".html") {
            let mut names = String::from("the name of a mail:");
            for builtin in BUILTIN {
                // Writing into a `String` does not fail.
                let _ = write!(names, " {}", builtin.name);
            }
            return Err(TemplateError::new(&file, names));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MailLimits, MailTransport};

    fn settings(directory: Option<&Path>) -> MailSettings {
        MailSettings {
            transport: MailTransport::Stdout,
            from: "door@door.test".to_owned(),
            confirm_link: "{public_url}/auth/confirm?token={token}".to_owned(),
            reset_link: "https://app.test/#reset&a=<1>;{token}".to_owned(),
            templates: directory.map(Path::to_owned),
            limits: MailLimits {
                per_address_per_hour: 3,
                per_network_per_hour: 10,
            },
        }
    }

    fn templates() -> Templates {
        Templates::new(&settings(None), "https://door.test").unwrap()
    }

    fn token() -> Secret {
        Secret::new("Abc-_token".to_owned())
    }

    fn name() -> String {
        "anna&co".to_owned()
    }

    fn new_login(failures: u32) -> Mail {
        Mail::NewLogin {
            username: name(),
            network: "2001:db8::/64".to_owned(),
            failures,
        }
    }

    /// Whether a mail has this subject, and these words in its two parts.
    #[track_caller]
    fn has(mail: &Mail, subject: &str, part: &str, html_part: &str) {
        let text = templates().render(mail).unwrap();
        assert_eq!(text.subject, subject);
        assert!(text.body.contains(part), "{}", *text.body);
        assert!(text.body.contains("https://door.test") || text.body.contains("app.test"));
        assert!(text.body.ends_with(".\n") && !text.body.contains('{'));
        let html = text.html.unwrap();
        assert!(html.contains(html_part), "{}", *html);
        assert!(html.ends_with("</html>\n") && !html.contains('{'));
    }

    #[test]
    fn mails_with_a_token_have_its_link() {
        let confirm = "\nhttps://door.test/auth/confirm?token=Abc-_token\n";
        let confirm_html = "https:&#x2f;&#x2f;door.test&#x2f;auth&#x2f;confirm?token=Abc-_token\"";
        let mail = Mail::ConfirmNew { token: token() };
        has(&mail, "Confirm your registration", confirm, confirm_html);
        let mail = Mail::Invitation {
            token: token(),
            username: name(),
        };
        let subject = "An account has been made for you";
        has(&mail, subject, confirm, confirm_html);
        has(&mail, subject, "\"anna&co\"", "<b>anna&amp;co</b>");
        let mail = Mail::ChangeIdentity {
            token: token(),
            username: name(),
        };
        has(&mail, "Confirm your new address", confirm, confirm_html);
        let mail = Mail::PasswordReset {
            token: token(),
            username: name(),
        };
        let link = "\nhttps://app.test/#reset&a=<1>;Abc-_token\n";
        let link_html = "#reset&amp;a=&lt;1&gt;;Abc-_token\"";
        has(&mail, "Set a new password", link, link_html);
    }

    #[test]
    fn notices_say_what_they_are_about() {
        let mail = Mail::IdentityTaken;
        let (url, url_html) = ("https://door.test", "https:&#x2f;&#x2f;door.test");
        has(&mail, "You already have an account", url, url_html);
        let cases = [
            (
                Mail::UsernameTaken { username: name() },
                "Choose another user name",
            ),
            (
                Mail::PasswordChanged { username: name() },
                "Your password was changed",
            ),
            (
                Mail::IdentityChanging { username: name() },
                "Another address was asked for",
            ),
            (
                Mail::IdentityChanged { username: name() },
                "Your address was changed",
            ),
            (new_login(0), "A login to your account"),
        ];
        for (mail, subject) in cases {
            has(&mail, subject, "\"anna&co\"", "<b>anna&amp;co</b>");
        }
        let subject = "A login to your account";
        let (text, html) = ("\n2001:db8::/64\n\nNobody has", "2001:db8::&#x2f;64.</p>");
        has(&new_login(0), subject, text, html);
        let (text, html) = (
            "given 7 times in a row.\n\nIf it",
            "given 7 times in a row.</p>",
        );
        has(&new_login(7), subject, text, html);
    }

    #[test]
    fn only_those_that_need_it_hold_a_token() {
        for mail in [
            Mail::IdentityTaken,
            Mail::UsernameTaken { username: name() },
            Mail::PasswordChanged { username: name() },
            new_login(7),
            Mail::IdentityChanging { username: name() },
            Mail::IdentityChanged { username: name() },
        ] {
            let text = templates().render(&mail).unwrap();
            assert!(!text.body.contains("token"), "{}", *text.body);
            assert!(!text.html.unwrap().contains("token"));
        }
    }

    #[test]
    fn lines_of_a_template_are_short() {
        for builtin in BUILTIN {
            for line in builtin.text.lines().chain(builtin.html.lines()) {
                assert!(
                    line.len() <= 78 && line.is_ascii(),
                    "{}: {line}",
                    builtin.name
                );
            }
        }
    }

    /// What becomes of a directory with these files.
    fn replaced(files: &[(&str, &str)]) -> Result<Templates, TemplateError> {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        Templates::new(&settings(Some(directory.path())), "https://door.test")
    }

    #[test]
    fn an_operators_text_takes_the_place_of_the_built_in_one() {
        let text = "Subject: Gr\u{fc}\u{df}e\r\n\r\nHier:\r\n{{ link }}\r\n";
        let html = "<p>{{ username }} <a href=\"{{ link }}\">hier</a>";
        let confirm = Mail::ConfirmNew { token: token() };
        let both = replaced(&[("confirm_new.txt", text), ("password_reset.html", html)]).unwrap();
        let rendered = both.render(&confirm).unwrap();
        assert_eq!(rendered.subject, "Gr\u{fc}\u{df}e");
        let link = "https://door.test/auth/confirm?token=Abc-_token";
        assert_eq!(*rendered.body, format!("Hier:\n{link}\n"));
        assert!(
            rendered.html.is_none(),
            "a built-in HTML would say something else"
        );
        let reset = Mail::PasswordReset {
            token: token(),
            username: "<anna>".to_owned(),
        };
        let rendered = both.render(&reset).unwrap();
        assert_eq!(rendered.subject, "Set a new password");
        assert!(rendered.html.unwrap().starts_with("<p>&lt;anna&gt; <a "));
        let untouched = both.render(&Mail::IdentityTaken).unwrap();
        assert!(untouched.html.is_some());
    }

    #[test]
    fn a_replacement_that_would_fail_is_told_when_it_is_read() {
        let link = "{{ link }}";
        let cases: [(&str, &str, &str); 10] = [
            (
                "confirm_new.txt",
                "Subject: x\n\nno link\n",
                "line of its own",
            ),
            (
                "confirm_new.txt",
                "Subject: x\n\n<{{ link }}>\n",
                "line of its own",
            ),
            ("confirm_new.html", "<p>no link", "{{ link }}"),
            ("confirm_new.txt", link, "Subject"),
            ("confirm_new.txt", "Subject: \n\n{{ link }}\n", "Subject"),
            ("confirm_new.txt", "Subject: x\n\n{{ link }\n", "a template"),
            (
                "confirm_new.txt",
                "Subject: x\n\n{{ link }}\n{{ name }}\n",
                "line 4",
            ),
            ("identity_taken.txt", "Subject: x\n\n{{ link }}\n", "line 3"),
            (
                "confirm-new.txt",
                "Subject: x\n\n{{ link }}\n",
                "the name of a mail",
            ),
            ("confirm_new.html", &"x".repeat(17_000), "16 KiB"),
        ];
        for (file, text, expected) in cases {
            let error = replaced(&[(file, text)]).err().unwrap();
            let said = error.expected();
            assert!(
                said.starts_with(file) && said.contains(expected),
                "{file}: {said}"
            );
        }
        let missing = settings(Some(Path::new("/nonexistent/mails")));
        let error = Templates::new(&missing, "https://door.test").err().unwrap();
        assert!(error.expected().contains("/nonexistent/mails"));
        assert!(replaced(&[("notes.md", "anything"), ("logo.png", "x")]).is_ok());
    }
}
