//! The program's own log.

/// Installs the subscriber: lines on standard error, Pingora's `log` lines included.
///
/// # Errors
/// When the level is no filter, or one is installed already.
pub fn init(_level: &str) -> Result<(), String> {
    todo!()
}
