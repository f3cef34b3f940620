//! Where relative paths of a configuration begin.

use std::path::{Path, PathBuf};

use crate::config::env::EnvOverlay;

/// Where packages keep the configuration, and where their services have their state.
const PACKAGED: (&str, &str) = ("/etc", "/var/lib");

/// Where relative paths begin, and where else they have begun: before this rule, or under another environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Base {
    dir: PathBuf,
    others: Vec<PathBuf>,
}

impl Base {
    /// The base of a configuration file, which is named by its whole path: the state directory that systemd has given
    /// this process, else the file's own directory.
    pub(super) fn of(file: &Path, env: &EnvOverlay) -> Self {
        let own = file.parent().unwrap_or(file).to_owned();
        let mut others: Vec<_> = std::env::current_dir().into_iter().collect();
        let dir = if let Some(state) = env.state_directory() {
            others.push(own);
            state.to_owned()
        } else {
            others.extend(service_state(&own));
            own
        };
        others.retain(|other| *other != dir);
        Self { dir, others }
    }

    /// A path of the configuration as this process finds it.
    pub(super) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.join(path)
    }

    /// Where a relative path of the configuration has led elsewhere.
    pub(super) fn elsewhere(&self, path: impl AsRef<Path>) -> Vec<PathBuf> {
        if path.as_ref().is_absolute() {
            return Vec::new();
        }
        self.others.iter().map(|dir| dir.join(&path)).collect()
    }

    /// Names the base to whoever looks for a file; empty where there is none.
    pub(super) fn hint(&self) -> String {
        if self.dir.as_os_str().is_empty() {
            String::new()
        } else {
            format!("; relative paths begin in {}", self.dir.display())
        }
    }
}

/// The state directory of the service whose configuration is in this directory: `/var/lib/doorward` for `/etc/doorward`.
fn service_state(own: &Path) -> Option<PathBuf> {
    let (configurations, states) = PACKAGED;
    let below = own.strip_prefix(configurations).ok()?;
    let name = below.components().next()?;
    Some(Path::new(states).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file, the environment, where `x` leads, and where it leads elsewhere.
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
            // systemd separates several by colons.
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
            let base = Base::of(Path::new(file), &env);
            assert_eq!(base.join("x"), Path::new(path), "{file} {env:?}");
            assert_eq!(base.join("/x"), Path::new("/x"));
            let found: Vec<_> = base.elsewhere("x");
            let found: Vec<_> = found.iter().map(|at| at.to_str().unwrap()).collect();
            assert_eq!(found, elsewhere, "{file} {env:?}");
            assert!(base.elsewhere("/x").is_empty());
        }
        let here = Base::of(&cwd.join("d.toml"), &EnvOverlay::default());
        assert!(here.elsewhere("x").is_empty(), "nowhere else than here");
    }
}
