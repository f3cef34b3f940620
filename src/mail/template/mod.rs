//! Texts of mails. Each has a plain template, with the subject in the first line, and one in HTML. An operator may replace
//! both.

use std::io::{self, Read as _};
use std::path::Path;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use zeroize::Zeroizing;

use crate::config::MailSettings;
use crate::mail::Mail;
use crate::model::secret::Secret;

/// The name of a mail and its built-in templates.
struct Builtin {
    name: &'static str,
    text: &'static str,
    html: &'static str,
}

macro_rules! builtin {
    ($($name:literal)*) => {
        &[$(Builtin {
            name: $name,
            text: include_str!(concat!("../templates/", $name, ".txt")),
            html: include_str!(concat!("../templates/", $name, ".html")),
        }),*]
    };
}

/// All mails. In the plain text a link has its own line.
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

/// Maximum length of a template's file.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// A template that cannot be used: its file and the expectation. The engine's error is included only if no value has been
/// filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub(crate) struct TemplateError {
    pub(crate) expected: String,
}

impl TemplateError {
    fn new(file: &str, expected: impl std::fmt::Display) -> Self {
        Self {
            expected: format!("{file}: {expected}"),
        }
    }
}

/// A rendered mail.
pub(crate) struct Text {
    pub(crate) subject: String,
    /// The plain text, with lines ended by `\n`. It may contain the token of a link.
    pub(crate) body: Zeroizing<String>,
    /// The HTML text, if there is one.
    pub(crate) html: Option<Zeroizing<String>>,
}

/// The parsed templates, and the values that all of them share.
pub(crate) struct Templates {
    environment: Environment<'static>,
    public_url: String,
    confirm_link: String,
    reset_link: String,
}

impl Templates {
    /// Reads the operator's templates, and renders every mail once.
    pub(crate) fn new(settings: &MailSettings, public_url: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::empty();
        // A link that is escaped in plain text would be broken.
        environment.set_auto_escape_callback(|name| {
            if is_of(name, "html") {
                AutoEscape::Html
            } else {
                AutoEscape::None
            }
        });
        // A missing value is an error.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let directory = settings.templates.as_deref();
        if let Some(directory) = directory {
            check_names(directory)?;
        }
        for builtin in BUILTIN {
            let text = replacement(directory, builtin.name, "txt")?;
            let html = replacement(directory, builtin.name, "html")?;
            // An operator's text is not sent together with a built-in HTML that differs from it.
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
        let (name, link, username) = self.parts(mail);
        let mut values = vec![("public_url", Value::from(self.public_url.as_str()))];
        values.extend(link.map(|link| ("link", link.as_str().into())));
        values.extend(username.map(|username| ("username", username.into())));
        if let Mail::NewLogin {
            network, failures, ..
        } = mail
        {
            values.push(("network", network.as_str().into()));
            values.push(("failures", (*failures).into()));
        }
        let values = Value::from_pairs(values);
        let file = format!("{name}.txt");
        let text = self.fill_in(&file, &values)?;
        let (subject, body) = text
            .strip_prefix("Subject: ")
            .and_then(|text| text.split_once("\n\n"))
            .filter(|(subject, _)| !subject.is_empty() && !subject.chars().any(char::is_control))
            .ok_or_else(|| {
                TemplateError::new(
                    &file,
                    "`Subject: …` as the first line, followed by an empty line",
                )
            })?;
        let html = format!("{name}.html");
        let html = match self.environment.get_template(&html) {
            Ok(_) => Some(self.fill_in(&html, &values)?),
            Err(_) => None,
        };
        Ok(Text {
            subject: subject.to_owned(),
            body: Zeroizing::new(format!("{}\n", body.trim_end())),
            html: html.map(|html| Zeroizing::new(format!("{}\n", html.trim_end()))),
        })
    }

    /// The name of a mail's templates, its link and its username, if it has them.
    fn parts<'m>(
        &self,
        mail: &'m Mail,
    ) -> (&'static str, Option<Zeroizing<String>>, Option<&'m str>) {
        let (confirm, reset) = (&self.confirm_link, &self.reset_link);
        let (name, link, username) = match mail {
            Mail::ConfirmNew { token } => ("confirm_new", Some((confirm, token)), None),
            Mail::Invitation { token, username } => {
                ("invitation", Some((confirm, token)), Some(username))
            }
            Mail::IdentityTaken => ("identity_taken", None, None),
            Mail::UsernameTaken { username } => ("username_taken", None, Some(username)),
            Mail::PasswordReset { token, username } => {
                ("password_reset", Some((reset, token)), Some(username))
            }
            Mail::PasswordChanged { username } => ("password_changed", None, Some(username)),
            Mail::NewLogin { username, .. } => ("new_login", None, Some(username)),
            Mail::ChangeIdentity { token, username } => {
                ("change_identity", Some((confirm, token)), Some(username))
            }
            Mail::IdentityChanging { username } => ("identity_changing", None, Some(username)),
            Mail::IdentityChanged { username } => ("identity_changed", None, Some(username)),
        };
        // A token is base64url, which needs no escaping in a URL.
        let link = link.map(|(configured, token)| {
            let link = configured.replace("{public_url}", &self.public_url);
            Zeroizing::new(link.replace("{token}", token.expose()))
        });
        (name, link, username.map(String::as_str))
    }

    fn fill_in(&self, file: &str, values: &Value) -> Result<Zeroizing<String>, TemplateError> {
        let template = self.environment.get_template(file);
        let rendered = template.and_then(|template| template.render(values));
        let text = rendered.map_err(|error| {
            let line = error.line().unwrap_or_default();
            let names =
                "fields that this mail has: public_url, and link, username, network or failures where they apply";
            TemplateError::new(file, format!("{names} (line {line}: {})", error.kind()))
        })?;
        Ok(Zeroizing::new(text.replace("\r\n", "\n")))
    }

    /// Renders every mail with samples, so that a broken template fails at the start.
    fn try_all(&self) -> Result<(), TemplateError> {
        let token = || Secret::new("A".repeat(43));
        // The maximum length.
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
            let (name, Some(link), _) = self.parts(mail) else {
                continue;
            };
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

/// Reads the operator's file for a mail, if it exists.
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

/// Refuses a file whose name is not that of a template, since it is likely to be misspelled.
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
            let names: Vec<_> = BUILTIN.iter().map(|builtin| builtin.name).collect();
            let expected = format!("the name of a mail: {}", names.join(" "));
            return Err(TemplateError::new(&file, expected));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
