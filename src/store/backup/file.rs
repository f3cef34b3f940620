//! The backup format: `DOORWARD BACKUP\n`, the format version (1 byte), frames, and a CRC-32 of everything before it.
//!
//! A frame is `kind (1) | key length (4) | value length (4) | key | value`, with numbers and checksum in little endian.
//! The first frame is the header, as JSON; then come the key files; then the records in key order, as stored, with
//! their own checksums; then an end frame. The checksum comes last in every version of the format, so that a damaged
//! version number is reported as damage. Nothing may follow it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::model::clock::Timestamp;
use crate::store::backup::{BackupError, KEY_FILE_BYTES_MAX, create_private, io_error};
use crate::store::sled::Census;
use crate::store::{StoreError, layout, record};

const MAGIC: &[u8; 16] = b"DOORWARD BACKUP\n";
/// The version written here, and the newest one that can be read.
const VERSION: u8 = 1;

const HEADER: u8 = b'H';
pub(crate) const KEY_FILE: u8 = b'K';
pub(crate) const RECORD: u8 = b'R';
const END: u8 = b'E';

/// Longest key of a frame in bytes: longer than any store key and any file name.
const KEY_BYTES_MAX: usize = 4096;
/// Longest value of a frame in bytes.
#[expect(clippy::cast_possible_truncation, reason = "it is a mebibyte")]
const VALUE_BYTES_MAX: usize = KEY_FILE_BYTES_MAX as usize;

/// Bytes written between two syncs: one sync of the whole file would delay those of the store.
const SYNC_BYTES: usize = 4 * 1024 * 1024;

/// The header of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupHeader {
    /// Everything acknowledged before this time is included, and nothing later.
    pub(crate) as_of: Timestamp,
    /// The doorward version that made it.
    pub(crate) gateway: String,
    /// The number of records and their sum.
    pub(crate) census: Census,
}

impl BackupHeader {
    /// Creates the header of a backup made by this program.
    pub(crate) fn new(as_of: Timestamp, census: &Census) -> Self {
        Self {
            as_of,
            gateway: env!("CARGO_PKG_VERSION").to_owned(),
            census: *census,
        }
    }
}

/// An entry of a backup.
pub(crate) enum BackupItem {
    /// A key file: its name and contents.
    KeyFile(String, Zeroizing<Vec<u8>>),
    /// A record: its key and its stored bytes.
    Record(Vec<u8>, Vec<u8>),
}

/// Writes a backup.
pub(crate) struct BackupWriter {
    path: PathBuf,
    out: BufWriter<File>,
    sum: crc32fast::Hasher,
    unsynced: usize,
}

impl BackupWriter {
    /// Creates a new file and writes the header.
    pub(crate) fn create(path: &Path, header: &BackupHeader) -> Result<Self, BackupError> {
        let file = create_private(path).map_err(io_error("write", path))?;
        let mut writer = Self {
            path: path.to_owned(),
            out: BufWriter::with_capacity(64 * 1024, file),
            sum: crc32fast::Hasher::new(),
            unsynced: 0,
        };
        let text = serde_json::to_vec(header).map_err(|error| writer.failed(error.into()))?;
        writer.put(MAGIC)?;
        writer.put(&[VERSION])?;
        writer.frame(HEADER, &[], &text)?;
        Ok(writer)
    }

    /// Completes the file. Its contents are durable when this returns, but its name may not be.
    pub(crate) fn finish(mut self) -> Result<(), BackupError> {
        self.frame(END, &[], &[])?;
        let sum = self.sum.clone().finalize();
        self.put(&sum.to_le_bytes())?;
        let flushed = self.out.flush();
        let synced = flushed.and_then(|()| self.out.get_ref().sync_all());
        synced.map_err(|error| self.failed(error))
    }

    /// Writes a key file, whose key is its name, or a record.
    pub(crate) fn frame(&mut self, kind: u8, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        let length = |bytes: &[u8], max: usize| {
            let length = u32::try_from(bytes.len()).ok();
            length.filter(|_| bytes.len() <= max).map(u32::to_le_bytes)
        };
        let lengths = length(key, KEY_BYTES_MAX).zip(length(value, VALUE_BYTES_MAX));
        let (of_key, of_value) =
            lengths.ok_or_else(|| self.failed(io::Error::other("a record is too long")))?;
        for part in [&[kind], of_key.as_slice(), of_value.as_slice(), key, value] {
            self.put(part)?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.sum.update(bytes);
        self.unsynced += bytes.len();
        let mut written = self.out.write_all(bytes);
        if SYNC_BYTES <= self.unsynced {
            self.unsynced = 0;
            written = written
                .and_then(|()| self.out.flush())
                .and_then(|()| self.out.get_ref().sync_data());
        }
        written.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> BackupError {
        io_error("write", &self.path)(error)
    }
}

/// Kind, key and value.
type BackupFrame = (u8, Vec<u8>, Zeroizing<Vec<u8>>);

/// Reads a backup and verifies everything in it.
#[derive(Debug)]
pub(crate) struct BackupReader {
    path: PathBuf,
    input: BufReader<File>,
    sum: crc32fast::Hasher,
    pub(crate) header: BackupHeader,
    counted: Census,
    last_key: Vec<u8>,
    is_over: bool,
}

impl BackupReader {
    /// Opens a file and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(io_error("read", path))?;
        let mut reader = Self {
            path: path.to_owned(),
            input: BufReader::with_capacity(64 * 1024, file),
            sum: crc32fast::Hasher::new(),
            header: BackupHeader::new(Timestamp::from_millis(0), &Census::EMPTY),
            counted: Census::EMPTY,
            last_key: Vec::new(),
            is_over: false,
        };
        let mut magic = [0; MAGIC.len()];
        reader.take(&mut magic).map_err(|error| match error {
            BackupError::Damaged { path, .. } => BackupError::Foreign(path),
            error => error,
        })?;
        if magic != *MAGIC {
            return Err(BackupError::Foreign(path.to_owned()));
        }
        let mut version = [0];
        reader.take(&mut version)?;
        if version != [VERSION] {
            return Err(reader.other_version(version[0]));
        }
        let (kind, _, value) = reader.frame()?;
        let header = serde_json::from_slice(&value).ok();
        let header = header.filter(|_| kind == HEADER);
        reader.header = header.ok_or_else(|| reader.damaged("its header cannot be read"))?;
        Ok(reader)
    }

    /// Returns the next key file or record; `None`: the end was reached and the whole file is intact.
    pub(crate) fn next(&mut self) -> Result<Option<BackupItem>, BackupError> {
        if self.is_over {
            return Ok(None);
        }
        let (kind, key, mut value) = self.frame()?;
        match kind {
            KEY_FILE => {
                let name = String::from_utf8(key).ok();
                let name = name.filter(|name| is_plain(name) && self.counted.records == 0);
                let name = name
                    .ok_or_else(|| self.damaged("a key file has an invalid or misplaced name"))?;
                Ok(Some(BackupItem::KeyFile(name, value)))
            }
            RECORD => {
                let label = layout::label(&key);
                record::check(&key, &value).map_err(|error| match error {
                    StoreError::Damaged { .. } => self.damaged(&format!("{label}: {error}")),
                    error => error.into(),
                })?;
                if self.counted.records != 0 && key <= self.last_key {
                    return Err(self.damaged(&format!("{label} is out of order")));
                }
                self.counted.add(&key, &value);
                self.last_key.clone_from(&key);
                Ok(Some(BackupItem::Record(key, std::mem::take(&mut value))))
            }
            END => {
                self.end()?;
                self.is_over = true;
                Ok(None)
            }
            _ => Err(self.damaged("it has a frame of an unknown kind")),
        }
    }

    fn end(&mut self) -> Result<(), BackupError> {
        let expected = self.sum.clone().finalize();
        let mut sum = [0; 4];
        self.take(&mut sum)?;
        if u32::from_le_bytes(sum) != expected {
            return Err(self.damaged("its checksum does not match"));
        }
        let mut more = [0];
        let count = self.input.read(&mut more);
        if count.map_err(io_error("read", &self.path))? != 0 {
            return Err(self.damaged("it has data after its end"));
        }
        let difference = self.header.census.differs(&self.counted);
        difference.map_or(Ok(()), |found| Err(self.damaged(&format!("its {found}"))))
    }

    fn frame(&mut self) -> Result<BackupFrame, BackupError> {
        let mut kind = [0];
        self.take(&mut kind)?;
        let (of_key, of_value) = (self.length(KEY_BYTES_MAX)?, self.length(VALUE_BYTES_MAX)?);
        let mut key = vec![0; of_key];
        let mut value = Zeroizing::new(vec![0; of_value]);
        self.take(&mut key)?;
        self.take(&mut value)?;
        Ok((kind[0], key, value))
    }

    fn length(&mut self, max: usize) -> Result<usize, BackupError> {
        let mut length = [0; 4];
        self.take(&mut length)?;
        let length = usize::try_from(u32::from_le_bytes(length)).ok();
        let length = length.filter(|length| *length <= max);
        length.ok_or_else(|| self.damaged("a frame is longer than the maximum"))
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        let read = self.input.read_exact(bytes);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it is truncated"),
            _ => io_error("read", &self.path)(error),
        })?;
        self.sum.update(bytes);
        Ok(())
    }

    /// Returns the error for a file of another version: damage, unless its checksum is correct.
    fn other_version(mut self, found: u8) -> BackupError {
        let mut rest = Vec::new();
        if let Err(error) = self.input.read_to_end(&mut rest) {
            return io_error("read", &self.path)(error);
        }
        let is_whole = rest.split_last_chunk().is_some_and(|(body, sum)| {
            self.sum.update(body);
            u32::from_le_bytes(*sum) == self.sum.clone().finalize()
        });
        if is_whole && VERSION < found {
            BackupError::Newer {
                path: self.path,
                found,
                known: VERSION,
            }
        } else {
            self.damaged("its version cannot be read")
        }
    }

    fn damaged(&self, found: &str) -> BackupError {
        BackupError::Damaged {
            path: self.path.clone(),
            found: found.to_owned(),
        }
    }
}

/// Whether a name denotes a file directly in a directory.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}
