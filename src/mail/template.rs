//! Texts of mails: a template each, its subject in the first line.

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use zeroize::Zeroizing;

use crate::mail::Mail;
use crate::model::secret::Secret;

/// Each template under its name. Plain text: a link stands on a line of its own.
const TEMPLATES: [(&str, &str); 8] = [
    ("confirm_new", include_str!("templates/confirm_new.txt")),
    (
        "identity_taken",
        include_str!("templates/identity_taken.txt"),
    ),
    (
        "username_taken",
        include_str!("templates/username_taken.txt"),
    ),
    (
        "password_reset",
        include_str!("templates/password_reset.txt"),
    ),
    (
        "password_changed",
        include_str!("templates/password_changed.txt"),
    ),
    (
        "change_identity",
        include_str!("templates/change_identity.txt"),
    ),
    (
        "identity_changing",
        include_str!("templates/identity_changing.txt"),
    ),
    (
        "identity_changed",
        include_str!("templates/identity_changed.txt"),
    ),
];

/// A template that cannot be used. The engine's own words are not kept: they may hold what was filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template {0} cannot be rendered")]
pub(crate) struct TemplateError(&'static str);

/// A mail in words.
pub(crate) struct Text {
    pub(crate) subject: String,
    /// Lines end in `\n`. It holds the token of a link.
    pub(crate) body: Zeroizing<String>,
}

/// The templates, parsed, with what they all share.
pub(crate) struct Templates {
    environment: Environment<'static>,
    public_url: String,
    confirm_link: String,
    reset_link: String,
}

impl Templates {
    pub(crate) fn new(
        public_url: &str,
        confirm_link: &str,
        reset_link: &str,
    ) -> Result<Self, TemplateError> {
        let mut environment = Environment::empty();
        // Plain text: an escaped link would be a broken one.
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        // A name that is not filled in is an error, not a gap.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, text) in TEMPLATES {
            environment
                .add_template(name, text)
                .map_err(|_| TemplateError(name))?;
        }
        Ok(Self {
            environment,
            public_url: public_url.to_owned(),
            confirm_link: confirm_link.to_owned(),
            reset_link: reset_link.to_owned(),
        })
    }

    /// Renders a mail.
    pub(crate) fn render(&self, mail: &Mail) -> Result<Text, TemplateError> {
        let (name, link, username) = match mail {
            Mail::ConfirmNew { token } => (
                "confirm_new",
                Some(self.link(&self.confirm_link, token)),
                "",
            ),
            Mail::IdentityTaken => ("identity_taken", None, ""),
            Mail::UsernameTaken { username } => ("username_taken", None, username.as_str()),
            Mail::PasswordReset { token, username } => (
                "password_reset",
                Some(self.link(&self.reset_link, token)),
                username.as_str(),
            ),
            Mail::PasswordChanged { username } => ("password_changed", None, username.as_str()),
            Mail::ChangeIdentity { token, username } => (
                "change_identity",
                Some(self.link(&self.confirm_link, token)),
                username.as_str(),
            ),
            Mail::IdentityChanging { username } => ("identity_changing", None, username.as_str()),
            Mail::IdentityChanged { username } => ("identity_changed", None, username.as_str()),
        };
        let link = link.as_ref().map(|link| link.as_str());
        let public_url = self.public_url.as_str();
        let text = self
            .environment
            .get_template(name)
            .and_then(|template| template.render(context! { link, username, public_url }))
            .map(Zeroizing::new)
            .map_err(|_| TemplateError(name))?;
        let (subject, body) = text
            .strip_prefix("Subject: ")
            .and_then(|text| text.split_once("\n\n"))
            .ok_or(TemplateError(name))?;
        Ok(Text {
            subject: subject.to_owned(),
            body: Zeroizing::new(format!("{}\n", body.trim_end())),
        })
    }

    /// Fills in a link as it is configured. A token is base64url and stands in a URL as it is.
    fn link(&self, configured: &str, token: &Secret) -> Zeroizing<String> {
        let link = configured.replace("{public_url}", &self.public_url);
        Zeroizing::new(link.replace("{token}", token.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates() -> Templates {
        Templates::new(
            "https://door.test",
            "{public_url}/auth/confirm?token={token}",
            "https://app.test/#reset&a=<1>;{token}",
        )
        .unwrap()
    }

    fn token() -> Secret {
        Secret::new("Abc-_token".to_owned())
    }

    fn name() -> String {
        "anna&co".to_owned()
    }

    #[test]
    fn each_mail_has_a_subject_and_what_it_is_about() {
        let cases = [
            (
                Mail::ConfirmNew { token: token() },
                "Confirm your registration",
                "\nhttps://door.test/auth/confirm?token=Abc-_token\n",
            ),
            (
                Mail::IdentityTaken,
                "You already have an account",
                "https://door.test",
            ),
            (
                Mail::UsernameTaken { username: name() },
                "Choose another user name",
                "\"anna&co\"",
            ),
            (
                Mail::PasswordReset {
                    token: token(),
                    username: name(),
                },
                "Set a new password",
                "\nhttps://app.test/#reset&a=<1>;Abc-_token\n",
            ),
            (
                Mail::PasswordChanged { username: name() },
                "Your password was changed",
                "\"anna&co\"",
            ),
            (
                Mail::ChangeIdentity {
                    token: token(),
                    username: name(),
                },
                "Confirm your new address",
                "\nhttps://door.test/auth/confirm?token=Abc-_token\n",
            ),
            (
                Mail::IdentityChanging { username: name() },
                "Another address was asked for",
                "\"anna&co\"",
            ),
            (
                Mail::IdentityChanged { username: name() },
                "Your address was changed",
                "\"anna&co\"",
            ),
        ];
        for (mail, subject, part) in cases {
            let text = templates().render(&mail).unwrap();
            assert_eq!(text.subject, subject);
            assert!(text.body.contains(part), "{}", *text.body);
            assert!(text.body.contains("https://door.test") || text.body.contains("app.test"));
            assert!(text.body.ends_with(".\n") && !text.body.contains('{'));
        }
    }

    #[test]
    fn only_those_that_need_it_hold_a_token() {
        for mail in [
            Mail::IdentityTaken,
            Mail::UsernameTaken { username: name() },
            Mail::PasswordChanged { username: name() },
            Mail::IdentityChanging { username: name() },
            Mail::IdentityChanged { username: name() },
        ] {
            let text = templates().render(&mail).unwrap();
            assert!(!text.body.contains("token"), "{}", *text.body);
        }
    }

    #[test]
    fn lines_of_a_template_are_short() {
        for (name, text) in TEMPLATES {
            for line in text.lines() {
                assert!(line.len() <= 78 && line.is_ascii(), "{name}: {line}");
            }
        }
    }
}
