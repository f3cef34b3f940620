//! The transport `file`: one `.eml` file for each message.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crypto::token;
use crate::model::clock::Clock;

/// A directory for messages.
pub(in crate::mail) struct MailFiles {
    directory: PathBuf,
    clock: Arc<dyn Clock>,
    /// Timestamp in the name of the last message, in milliseconds.
    last_millis: i64,
}

impl MailFiles {
    /// Creates the directory with mode 0700 if it is missing.
    pub(in crate::mail) fn open(directory: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            clock,
            last_millis: 0,
        })
    }

    /// Writes a message with mode 0600. It gets its name when it is complete, so a reader never sees a part of it.
    ///
    /// A name is the milliseconds since the epoch and a random part, so names sort in the order of writing.
    pub(in crate::mail) fn write(&mut self, message: &[u8]) -> io::Result<()> {
        let now = self.clock.now().millis();
        self.last_millis = now.max(self.last_millis.saturating_add(1));
        let name = format!("{:013}-{}.eml", self.last_millis, token::draw_jti());
        let path = self.directory.join(&name);
        // The temporary name is hidden and without the ending, so that it is not taken for a mail.
        let unfinished = self.directory.join(format!(".{name}.new"));
        let written =
            write_new(&unfinished, message).and_then(|()| std::fs::rename(&unfinished, &path));
        if let Err(error) = written {
            // The rest of it is not taken for a mail, so an error here does not matter.
            let _ = std::fs::remove_file(&unfinished);
            return Err(error);
        }
        File::open(&self.directory)?.sync_all()
    }
}

fn write_new(path: &Path, message: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(message)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::clock::{ManualClock, Timestamp};

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn messages_are_private_whole_and_in_order() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/mail");
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
        let mut files = MailFiles::open(&directory, clock).unwrap();
        let texts: Vec<String> = (0..20).map(|n| format!("message {n}")).collect();
        for text in &texts {
            files.write(text.as_bytes()).unwrap();
        }
        assert_eq!(mode(&directory), 0o700);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        assert!(paths.iter().all(|path| path.extension().unwrap() == "eml"));
        assert!(paths.iter().all(|path| mode(path) == 0o600));
        let read: Vec<String> = paths
            .iter()
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
        assert_eq!(read, texts, "the clock stood still, the order holds");
    }

    #[test]
    fn a_message_that_cannot_be_written_is_an_error_and_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("mail");
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1)));
        let mut files = MailFiles::open(&directory, clock.clone()).unwrap();
        std::fs::remove_dir(&directory).unwrap();
        assert!(files.write(b"lost").is_err());
        std::fs::write(&directory, b"in the way").unwrap();
        assert!(MailFiles::open(&directory, clock).is_err());
    }
}
