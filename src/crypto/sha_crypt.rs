//! SHA-256-crypt, `$5$…`: old hashes, which are verified until the next login and never computed for new passwords.

use sha_crypt::Params;
use subtle::ConstantTimeEq as _;

use crate::model::account::PasswordHash;
use crate::model::secret::Secret;

/// Maximum number of rounds, which take about half a second. The scheme itself allows a thousand times as many.
pub(crate) const ROUNDS_MAX: u32 = 1_000_000;
/// Maximum length of a password that is compared. Each round reads the whole password, so a longer one multiplies the work.
const PASSWORD_BYTES_MAX: usize = 256;
const SALT_BYTES_MAX: usize = 16;
const OUTPUT_CHARS: usize = 43;

/// The digits of the scheme's own base 64, from the lowest.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A parsed hash.
pub(crate) struct ShaCrypt {
    pub(crate) rounds: u32,
    salt: Vec<u8>,
    /// The 43 digits of the output.
    output: Vec<u8>,
}

impl ShaCrypt {
    /// Parses `$5$[rounds=N$]salt$output` with 1,000 to [`ROUNDS_MAX`] rounds; `None` for anything else.
    ///
    /// Source: <https://www.akkadia.org/drepper/SHA-crypt.txt>
    pub(crate) fn read(hash: &PasswordHash) -> Option<Self> {
        let rounds = hash.sha_crypt_rounds()?;
        let mut parts = hash.as_str().strip_prefix("$5$")?.split('$');
        let mut salt = parts.next()?;
        if salt.starts_with("rounds=") {
            salt = parts.next()?;
        }
        let output = parts.next()?;
        let fits = (Params::ROUNDS_MIN..=ROUNDS_MAX).contains(&rounds)
            && parts.next().is_none()
            && salt.len() <= SALT_BYTES_MAX
            && salt.bytes().all(|b| b.is_ascii_graphic())
            && output.len() == OUTPUT_CHARS
            && output.bytes().all(|b| DIGITS.contains(&b));
        fits.then(|| Self {
            rounds,
            salt: salt.as_bytes().to_vec(),
            output: output.as_bytes().to_vec(),
        })
    }

    /// Whether the hash is of this password.
    pub(crate) fn matches(&self, password: &Secret) -> bool {
        let Some(digest) = run(password, &self.salt, self.rounds) else {
            return false;
        };
        encode(&digest).ct_eq(&self.output).into()
    }
}

/// Does the work of this many rounds. Fewer than 1,000 are no work.
pub(crate) fn spend(password: &Secret, rounds: u32) {
    if Params::ROUNDS_MIN <= rounds {
        std::hint::black_box(run(password, &[b'.'; SALT_BYTES_MAX], rounds));
    }
}

/// The digest; `None`, without any work, for a password that is too long.
fn run(password: &Secret, salt: &[u8], rounds: u32) -> Option<[u8; 32]> {
    let password = password.expose().as_bytes();
    if PASSWORD_BYTES_MAX < password.len() {
        return None;
    }
    let params = Params::new(rounds).ok()?;
    Some(sha_crypt::sha256_crypt(password, salt, params))
}

/// Encodes a digest in the scheme's own base 64: 43 digits.
fn encode(digest: &[u8; 32]) -> Vec<u8> {
    let byte = |place: usize| u32::from(digest.get(place).copied().unwrap_or(0));
    let mut text = Vec::with_capacity(OUTPUT_CHARS);
    let mut put = |mut word: u32, count: usize| {
        for _ in 0..count {
            let digit = DIGITS.get((word & 0x3f) as usize);
            text.push(digit.copied().unwrap_or(b'.'));
            word >>= 6;
        }
    };
    for first in 0..10 {
        // The three bytes of a group, the highest first, begin with another one in each group.
        let mut group = [first, first + 10, first + 20];
        group.rotate_right(first % 3);
        let [high, middle, low] = group;
        put(byte(high) << 16 | byte(middle) << 8 | byte(low), 4);
    }
    put(byte(31) << 8 | byte(30), 3);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<ShaCrypt> {
        ShaCrypt::read(&PasswordHash::new(text.to_owned()))
    }

    #[test]
    fn the_published_vectors_match() {
        // From the reference implementation in SHA-crypt.txt.
        let cases = [
            (
                "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
                "Hello world!",
            ),
            (
                "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
                "Hello world!",
            ),
            (
                "$5$rounds=5000$toolongsaltstrin$Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5",
                "This is just a test",
            ),
            (
                "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1",
                "a very much longer text to encrypt.  This one even stretches over morethan one line.",
            ),
            (
                "$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/",
                "we have a short salt string but not a short password",
            ),
            (
                "$5$rounds=123456$asaltof16chars..$gP3VQ/6X7UUEW3HkBn2w1/Ptq2jxPyzV/cZKmF/wJvD",
                "a short string",
            ),
        ];
        for (hash, password) in cases {
            let hash = read(hash).unwrap();
            assert!(
                hash.matches(&Secret::new(password.to_owned())),
                "{password}"
            );
            let wrong = format!("{password}.");
            assert!(!hash.matches(&Secret::new(wrong)), "{password}");
        }
    }

    #[test]
    fn what_is_no_hash_within_bounds_is_none() {
        let output = "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEl8";
        assert!(read(&format!("$5$saltstring${output}")).is_some());
        assert!(read(&format!("$5$rounds=1000000$saltstring${output}")).is_some());
        for bad in [
            "$5$saltstring".to_owned(),
            format!("$6$saltstring${output}"),
            format!("$5$saltstring${output}$"),
            format!("$5$saltstring${output}."),
            format!("$5$saltstringsaltstring${output}"),
            format!("$5$rounds=999$saltstring${output}"),
            format!("$5$rounds=1000001$saltstring${output}"),
            format!("$5$rounds=99999999999$saltstring${output}"),
            format!("$5$rounds=$saltstring${output}"),
            format!("$5$rounds=5000${output}"),
            format!("$5$salt string${output}"),
        ] {
            assert!(read(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_password_that_would_multiply_the_work_is_not_compared() {
        let longest = Secret::new("x".repeat(PASSWORD_BYTES_MAX));
        assert!(run(&longest, b"salt", 1000).is_some());
        let longer = Secret::new("x".repeat(PASSWORD_BYTES_MAX + 1));
        assert!(run(&longer, b"salt", 1000).is_none());
    }
}
