//! The store's directory: whether it holds a store, which user owns it, and as which user to work on it.

use std::error::Error;
use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::config::{Config, StoreCreate, StoreEngine, StoreSettings};
use crate::operator::AppError;
use crate::operator::control::Touch;
use crate::snapshot::services::StoreAccess;
use crate::store::sled::stranger_in;

/// Maximum depth of the search for files of other owners: `keys/signing.json`, `db/blobs/1`.
const DEPTH_MAX: usize = 3;

/// A store that a process cannot or should not work on.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The same relative path has led to another directory, which still holds a store.
    #[error(
        "there is no store in {here}, where the configuration leads, but there is one in {there}: move it, set its absolute path as \
         store.path, or, if it belongs to a service, set STATE_DIRECTORY as systemd does for that service"
    )]
    Elsewhere {
        /// Where the configuration leads.
        here: PathBuf,
        /// Where a store is.
        there: PathBuf,
    },
    /// There is no store, and the command does not create one.
    #[error(
        "there is no store in {0}: `doorward serve`, `account add` and `account import` create one"
    )]
    Missing(PathBuf),
    /// There is no store, and the configuration forbids creating one.
    #[error(
        "there is no store in {0}, and store.create is \"never\": mount its volume, or restore a backup with \
         `doorward store restore FILE`. To create an empty one there, start once with DOORWARD__STORE__CREATE=if_missing"
    )]
    NotCreated(PathBuf),
    /// The directory holds other files and no store.
    #[error(
        "{path} contains other files, such as {found:?}, and no store: nothing is created or changed there. Set store.path to a \
         directory for the store alone, which is empty or does not exist yet"
    )]
    Strangers {
        /// Where the configuration leads.
        path: PathBuf,
        /// The name of something in it.
        found: String,
    },
    /// The path contains a symbolic link that root does not follow.
    #[error(
        "{path} is a symbolic link of {owner}, and root does not follow a user's link to a store: set the path that it leads to as \
         store.path, or run this as the store's owner with sudo -u"
    )]
    Link {
        /// The link.
        path: PathBuf,
        /// The owner of the link.
        owner: Owner,
    },
    /// A gateway seems to run on another store than the one that would be created.
    #[error(
        "something answers on {address}, where this configuration's gateway listens, but there is no store in {here}: its \
         store is elsewhere, and a second one is not created. If that is the service, set STATE_DIRECTORY to the service's value, \
         such as STATE_DIRECTORY=/var/lib/doorward (`systemctl show -p StateDirectory doorward` names it below /var/lib); \
         otherwise stop the process that listens there"
    )]
    Answered {
        /// Where the configuration leads.
        here: PathBuf,
        /// The address that accepted a connection.
        address: SocketAddr,
    },
    /// The directory belongs to another user.
    #[error("{path} belongs to {owner}: run this as that user, sudo -u {} doorward …", owner.for_sudo())]
    Owner {
        /// The store's directory, or a directory above it that cannot be entered.
        path: PathBuf,
        /// Its owner.
        owner: Owner,
    },
    /// A file in the directory belongs to another user than the directory.
    #[error("{path} belongs to {found}: chown -R {}:{} {dir} fixes that", owner.uid, owner.gid)]
    Stray {
        /// The file.
        path: PathBuf,
        /// Its owner.
        found: Owner,
        /// The store's directory.
        dir: PathBuf,
        /// The owner of the directory.
        owner: Owner,
        /// The error that led to this.
        #[source]
        source: Box<AppError>,
    },
    /// The system does not let root become the owner.
    #[error(
        "{path} belongs to {owner}, but this command cannot switch to that user, and files of root would lock it out"
    )]
    Become {
        /// The store's directory.
        path: PathBuf,
        /// Its owner.
        owner: Owner,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The metadata of a path cannot be read.
    #[error("cannot inspect {path}")]
    Look {
        /// The path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// A user that owns files, and the group of those files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    uid: u32,
    gid: u32,
    /// The name in `/etc/passwd`.
    name: Option<String>,
}

impl Owner {
    fn of(metadata: &Metadata) -> Self {
        let uid = metadata.uid();
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self {
            uid,
            gid: metadata.gid(),
            name: name_in(&users, uid),
        }
    }

    fn is_me(&self) -> bool {
        self.uid == geteuid().as_raw()
    }

    /// Returns the user in the form that `sudo -u` accepts.
    fn for_sudo(&self) -> String {
        let number = || format!("'#{}'", self.uid);
        self.name.clone().unwrap_or_else(number)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (uid {})", self.uid),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

fn name_in(users: &str, uid: u32) -> Option<String> {
    let mut lines = users.lines();
    lines.find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?;
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Refuses a directory that holds other files and no store, and a store left behind in a directory to which the same
/// configuration has led before.
///
/// # Errors
/// [`PlaceError::Strangers`], [`PlaceError::Elsewhere`]
pub(crate) fn check(store: &StoreSettings) -> Result<(), PlaceError> {
    refuse_strangers(store)?;
    // A directory that cannot be read is reported, with its owner, when it is opened.
    let has_store = |dir: &Path| holds_store(dir).unwrap_or(true);
    if store.engine != StoreEngine::Sled || has_store(&store.path) {
        return Ok(());
    }
    match store.elsewhere.iter().find(|there| has_store(there)) {
        None => Ok(()),
        Some(there) => Err(PlaceError::Elsewhere {
            here: store.path.clone(),
            there: there.clone(),
        }),
    }
}

/// Refuses to create a store if the configuration forbids it; checks nothing else.
///
/// # Errors
/// [`PlaceError::NotCreated`]
pub(crate) fn may_begin(store: &StoreSettings) -> Result<(), PlaceError> {
    if store.create == StoreCreate::Never && is_bare(store) {
        return Err(PlaceError::NotCreated(absolute(&store.path)));
    }
    Ok(())
}

/// Whether a start would create a store: the engine keeps it on disk, and there is none yet.
pub(crate) fn is_bare(store: &StoreSettings) -> bool {
    // A directory that cannot be read is reported, with its owner, when it is opened.
    store.engine == StoreEngine::Sled && !holds_store(&store.path).unwrap_or(true)
}

/// Returns the absolute form of a path.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn refuse_strangers(store: &StoreSettings) -> Result<(), PlaceError> {
    // A directory that cannot be read is reported, with its owner, when it is opened.
    let Ok(Some(found)) = stranger_in(&store.path) else {
        return Ok(());
    };
    // With records in memory only the socket is created there, and a directory that is already private is not changed.
    let is_private =
        || fs::metadata(&store.path).is_ok_and(|metadata| metadata.mode() % 0o100 == 0);
    if store.engine == StoreEngine::Memory && is_private() {
        return Ok(());
    }
    Err(PlaceError::Strangers {
        path: store.path.clone(),
        found,
    })
}

/// Decides how a command accesses the store if no gateway runs.
///
/// # Errors
/// [`AppError`] if there is no store and the command needs one.
pub(crate) fn records(config: &Config, touch: Touch) -> Result<StoreAccess, AppError> {
    if config.store.engine == StoreEngine::Memory {
        // Written records would be lost at once.
        return match touch {
            Touch::Decides => Ok(StoreAccess::None),
            Touch::Reads | Touch::Writes | Touch::Begins => Err(AppError::NoRecords),
        };
    }
    check(&config.store)?;
    let is_there = holds_store(&config.store.path)?;
    match touch {
        Touch::Decides | Touch::Reads if is_there => Ok(StoreAccess::Found),
        Touch::Writes if is_there => Ok(StoreAccess::Made),
        Touch::Decides => Ok(StoreAccess::None),
        Touch::Begins => {
            may_begin(&config.store)?;
            Ok(StoreAccess::Made)
        }
        Touch::Reads | Touch::Writes => Err(PlaceError::Missing(config.store.path.clone()).into()),
    }
}

/// Whether a directory holds a store, complete or not.
pub(crate) fn holds_store(dir: &Path) -> Result<bool, PlaceError> {
    let has = |name| dir.join(name).try_exists();
    let found = has("db").and_then(|is_there| Ok(is_there || has("census")?));
    found.map_err(|source| PlaceError::Look {
        path: dir.to_owned(),
        source,
    })
}

/// Runs `work` as the user who owns the directory, or the nearest existing directory above it: files that root creates
/// there would lock that user out. Users other than the owner and root are refused.
///
/// For root, `work` runs on a thread that has become the owner; threads that it starts inherit this. Root does not
/// follow a symbolic link that another user may have created.
///
/// # Errors
/// [`PlaceError`] if this process cannot work as the owner.
pub(crate) fn as_owner<T: Send>(
    dir: &Path,
    work: impl FnOnce() -> T + Send,
) -> Result<T, PlaceError> {
    let (nearest, metadata, is_closed) = nearest(dir)?;
    if geteuid().is_root() {
        refuse_links(dir)?;
    }
    let owner = Owner::of(&metadata);
    let is_there = nearest == dir;
    if owner.is_me() {
        return Ok(work());
    }
    if !geteuid().is_root() {
        // The system decides whether this user may create a directory in one that belongs to another.
        return if is_there || is_closed {
            Err(PlaceError::Owner {
                path: nearest,
                owner,
            })
        } else {
            Ok(work())
        };
    }
    let path = dir.to_owned();
    let become_and_work = || become_owner(&owner).map(|()| work());
    let outcome = thread::scope(|scope| scope.spawn(become_and_work).join());
    let worked = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    worked.map_err(|source| PlaceError::Become {
        path,
        owner,
        source,
    })
}

/// Refuses a path whose last component is a symbolic link, or that leads through one that root does not own.
fn refuse_links(dir: &Path) -> Result<(), PlaceError> {
    // With a slash or a dot at the end the link would be followed.
    let dir: PathBuf = dir.components().collect();
    for at in dir.ancestors() {
        let Ok(metadata) = fs::symlink_metadata(at) else {
            continue;
        };
        if metadata.is_symlink() && (at == dir || metadata.uid() != 0) {
            return Err(PlaceError::Link {
                path: at.to_owned(),
                owner: Owner::of(&metadata),
            });
        }
    }
    Ok(())
}

/// Returns the user that a command runs as, if it is not this process's own.
pub(crate) fn other_owner(dir: &Path) -> Option<Owner> {
    let (_, metadata, _) = nearest(dir).ok()?;
    let owner = Owner::of(&metadata);
    (!owner.is_me()).then_some(owner)
}

/// Describes that user in a note; empty if it is this process's own.
pub(crate) fn as_other(dir: &Path) -> String {
    other_owner(dir).map_or_else(String::new, |owner| format!(", as {owner}"))
}

/// Changes the user of the current thread. The kernel keeps users per thread, and a new thread inherits its creator's.
fn become_owner(owner: &Owner) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(Some(gid), Some(gid), Some(gid))?;
    set_thread_res_uid(Some(uid), Some(uid), Some(uid))?;
    Ok(())
}

/// Returns the directory or the nearest existing one above it, and whether access was denied on the way.
fn nearest(dir: &Path) -> Result<(PathBuf, Metadata, bool), PlaceError> {
    let mut is_closed = false;
    for at in dir.ancestors() {
        // A relative path of one component is in the working directory.
        let at = if at.as_os_str().is_empty() {
            Path::new(".")
        } else {
            at
        };
        match fs::metadata(at) {
            Ok(metadata) => return Ok((at.to_owned(), metadata, is_closed)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => is_closed = true,
            Err(source) => {
                let path = at.to_owned();
                return Err(PlaceError::Look { path, source });
            }
        }
    }
    let source = ErrorKind::NotFound.into();
    let path = dir.to_owned();
    Err(PlaceError::Look { path, source })
}

/// Replaces an error caused by files of another user by one that names the owner and the remedy.
pub(crate) fn whose(error: AppError, dir: &Path) -> AppError {
    if !is_denied(&error) {
        return error;
    }
    let Ok((path, metadata, is_closed)) = nearest(dir) else {
        return error;
    };
    let owner = Owner::of(&metadata);
    if !owner.is_me() && (path == dir || is_closed) {
        return PlaceError::Owner { path, owner }.into();
    }
    if owner.is_me()
        && let Some((path, found)) = stray(dir, owner.uid, DEPTH_MAX)
    {
        let (dir, source) = (dir.to_owned(), Box::new(error));
        return PlaceError::Stray {
            path,
            found,
            dir,
            owner,
            source,
        }
        .into();
    }
    error
}

/// Returns a file or directory below `dir` that does not belong to the user `uid`.
fn stray(dir: &Path, uid: u32, depth: usize) -> Option<(PathBuf, Owner)> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let (path, metadata) = (entry.path(), entry.metadata().ok()?);
        if metadata.uid() != uid {
            return Some((path, Owner::of(&metadata)));
        }
        if metadata.is_dir()
            && 1 < depth
            && let Some(found) = stray(&path, uid, depth - 1)
        {
            return Some(found);
        }
    }
    None
}

fn is_denied(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == ErrorKind::PermissionDenied) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;
    use crate::config::EnvOverlay;

    fn settings(here: &Path, elsewhere: &[&Path]) -> StoreSettings {
        let text = format!("[store]\npath = '{}'\n", here.display());
        let (config, _) = Config::parse(&text, &EnvOverlay::default()).unwrap();
        StoreSettings {
            elsewhere: elsewhere.iter().map(|path| path.to_path_buf()).collect(),
            ..config.store
        }
    }

    #[test]
    fn a_store_that_was_left_elsewhere_is_named_and_one_here_wins() {
        let outer = tempfile::tempdir().unwrap();
        let (here, there) = (outer.path().join("here"), outer.path().join("there"));
        assert!(check(&settings(&here, &[&there])).is_ok());
        // A directory that is empty or holds mails is not a store.
        fs::create_dir_all(there.join("mail")).unwrap();
        assert!(check(&settings(&here, &[&there])).is_ok());
        fs::create_dir(there.join("db")).unwrap();
        let error = check(&settings(&here, &[&there])).unwrap_err().to_string();
        for place in [&here, &there] {
            assert!(error.contains(place.to_str().unwrap()), "{error}");
        }
        fs::create_dir_all(&here).unwrap();
        fs::write(here.join("census"), "").unwrap();
        assert!(check(&settings(&here, &[&there])).is_ok());
    }

    #[test]
    fn users_are_named_where_they_have_a_name() {
        let users = "root:x:0:0:root:/root:/bin/bash\ndoorward:x:997:996::/var/lib/doorward:/bin/false\nbroken\n";
        for (uid, said, sudo) in [
            (997, "doorward (uid 997)", "doorward"),
            (5, "uid 5", "'#5'"),
        ] {
            let owner = Owner {
                uid,
                gid: 0,
                name: name_in(users, uid),
            };
            assert_eq!(
                (owner.to_string().as_str(), owner.for_sudo().as_str()),
                (said, sudo)
            );
        }
    }

    #[test]
    fn work_is_the_owners_or_refused() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("not/there");
        let made = as_owner(&dir, || {
            fs::create_dir_all(&dir).map(|()| geteuid().as_raw())
        });
        assert_eq!(made.unwrap().unwrap(), geteuid().as_raw());
        if !geteuid().is_root() {
            // Other users may not work on a directory of root's.
            let refused = as_owner(Path::new("/"), || ());
            assert!(matches!(refused, Err(PlaceError::Owner { .. })));
            return;
        }
        fs::set_permissions(
            outer.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        chown(&dir, Some(4242), Some(4343)).unwrap();
        let below = dir.join("a");
        let worked = as_owner(&below, || {
            // A new thread inherits the user too.
            let made = thread::scope(|scope| scope.spawn(|| fs::create_dir(&below)).join());
            made.unwrap().unwrap();
            (geteuid().as_raw(), fs::File::open("/etc/shadow").is_ok())
        });
        assert_eq!(worked.unwrap(), (4242, false));
        let metadata = fs::metadata(&below).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4242, 4343));
        assert_eq!(geteuid().as_raw(), 0, "this thread is who it was");
    }
}
