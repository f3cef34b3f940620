//! The directory that relative paths of a configuration start from.

use std::path::{Path, PathBuf};

/// The directories in which packages keep configurations, and the state of their services.
const PACKAGED: (&str, &str) = ("/etc", "/var/lib");

/// The directory that relative paths start from, and the directories that they started from in earlier releases or
/// start from in another environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Base {
    dir: PathBuf,
    others: Vec<PathBuf>,
}

impl Base {
    /// Returns the base for a configuration file, which is given by its absolute path: the state directory that systemd
    /// made for this process, if any, else the file's own directory.
    pub(super) fn of(file: &Path, state_directory: Option<&Path>) -> Self {
        let own = file.parent().unwrap_or(file).to_owned();
        let mut others: Vec<_> = std::env::current_dir().into_iter().collect();
        let dir = if let Some(state) = state_directory {
            others.push(own);
            state.to_owned()
        } else {
            others.extend(service_state(&own));
            own
        };
        others.retain(|other| *other != dir);
        Self { dir, others }
    }

    /// Resolves a path of the configuration.
    pub(super) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.join(path)
    }

    /// Returns the other places to which a relative path of the configuration may have led.
    pub(super) fn elsewhere(&self, path: impl AsRef<Path>) -> Vec<PathBuf> {
        if path.as_ref().is_absolute() {
            return Vec::new();
        }
        self.others.iter().map(|dir| dir.join(&path)).collect()
    }

    /// Returns a hint that names the base, for the report of a missing file; empty if there is no base.
    pub(super) fn hint(&self) -> String {
        if self.dir.as_os_str().is_empty() {
            String::new()
        } else {
            format!(
                "; relative paths are resolved against {}",
                self.dir.display()
            )
        }
    }
}

/// Returns the state directory of the service whose configuration is in this directory: `/var/lib/doorward` for
/// `/etc/doorward`.
fn service_state(own: &Path) -> Option<PathBuf> {
    let (configurations, states) = PACKAGED;
    let below = own.strip_prefix(configurations).ok()?;
    let name = below.components().next()?;
    Some(Path::new(states).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env::EnvOverlay;

    /// A file, the environment, the resolved path of `x`, and its other places.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a [&'a str]);

    #[test]
    fn relative_paths_begin_at_the_file_or_at_the_state_directory() {
        let cwd = std::env::current_dir().unwrap();
        let in_cwd = cwd.join("x").display().to_string();
        let cases: [Case<'_>; 5] = [
            ("/srv/door/doorward.toml", &[], "/srv/door/x", &[&in_cwd]),
            (
                "/etc/doorward/doorward.toml",
                &[],
                "/etc/doorward/x",
                &[&in_cwd, "/var/lib/doorward/x"],
            ),
            (
                "/etc/doorward/doorward.toml",
                &[("STATE_DIRECTORY", "/var/lib/doorward")],
                "/var/lib/doorward/x",
                &[&in_cwd, "/etc/doorward/x"],
            ),
            // systemd separates several directories by colons.
            (
                "/srv/d.toml",
                &[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")],
                "/var/lib/a/x",
                &[&in_cwd, "/srv/x"],
            ),
            (
                "/srv/d.toml",
                &[("STATE_DIRECTORY", "a")],
                "/srv/x",
                &[&in_cwd],
            ),
        ];
        for (file, env, path, elsewhere) in cases {
            let env = EnvOverlay::from_pairs(env.iter().copied());
            let base = Base::of(Path::new(file), env.state_directory.as_deref());
            assert_eq!(base.join("x"), Path::new(path), "{file} {env:?}");
            assert_eq!(base.join("/x"), Path::new("/x"));
            let found: Vec<_> = base.elsewhere("x");
            let found: Vec<_> = found.iter().map(|at| at.to_str().unwrap()).collect();
            assert_eq!(found, elsewhere, "{file} {env:?}");
            assert!(base.elsewhere("/x").is_empty());
        }
        let here = Base::of(&cwd.join("d.toml"), None);
        assert!(here.elsewhere("x").is_empty(), "nowhere else than here");
    }
}
