//! Mails onto standard output: for trying things out.

use std::io::{self, Write};

/// Writes a message whole, between lines that show where it begins and ends.
pub(in crate::mail) fn write(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    to.write_all(b"----- mail -----\n")?;
    to.write_all(message)?;
    to.write_all(b"----- end of mail -----\n")?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_message_is_written() {
        let mut written = Vec::new();
        write(&mut written, b"To: a@b.test\n\ntext\n").unwrap();
        let expected = "----- mail -----\nTo: a@b.test\n\ntext\n----- end of mail -----\n";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
