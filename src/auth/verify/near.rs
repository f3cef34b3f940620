//! A small cache per worker thread, in front of the shared one: it finds a credential without computing its digest.
//!
//! A token of 570 bytes costs 0.4 µs to digest, and 150 instructions to compare. The cache holds no identity: an entry ends
//! with that of the shared cache, and the checks of a hit are the same for both.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::auth::verify::Remembered;
use crate::crypto::digest::is_same_text;
use crate::model::secret::Secret;

/// Number of places of each thread.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 11;
/// Maximum length of a credential that is kept. With [`PLACES`] it bounds the texts of a thread to 4 MiB; a typical
/// token has 600 bytes.
const TEXT_BYTES_MAX: usize = 2048;

/// The number of a verifier, which no other verifier of the process ever has: that of a reload may have its address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VerifierNumber(u64);

impl VerifierNumber {
    /// Draws the next number.
    pub(super) fn draw() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

thread_local! {
    static CACHE: RefCell<NearCache<Remembered>> = const { RefCell::new(NearCache::new()) };
}

/// Returns what this thread keeps for a credential, if it `counts`. What does not is removed.
pub(super) fn find(
    verifier: VerifierNumber,
    text: &str,
    counts: impl FnOnce(&Remembered) -> bool,
) -> Option<Arc<Remembered>> {
    CACHE.with_borrow_mut(|cache| cache.find(verifier, text, counts))
}

/// Offers a verified credential that the shared cache keeps as well. It is taken if it comes again soon.
pub(super) fn offer(verifier: VerifierNumber, text: &str, remembered: &Arc<Remembered>) {
    CACHE.with_borrow_mut(|cache| cache.offer(verifier, text, remembered));
}

/// The cache of one thread: a table whose places are found by the last bytes of a credential, which are random in all of
/// them.
struct NearCache<T> {
    /// The verifier of all entries.
    verifier: VerifierNumber,
    /// [`PLACES`], or none before the first use.
    places: Vec<Place<T>>,
}

/// A place for one credential.
struct Place<T> {
    kept: Option<Kept<T>>,
    /// The credential that came here last and was not taken, by its [`mark`]: most credentials come once, or too rarely
    /// to be found again among thousands of others, and are not worth a copy.
    seen: u64,
    /// Whether the entry was hit since another credential came for its place.
    is_used: bool,
    /// The number of hits, wrapping around.
    hits: u8,
}

struct Kept<T> {
    mark: u64,
    /// The whole credential, zeroed when the entry leaves its place: at the next look-up after it has ended, for another
    /// credential, or after a reload.
    text: Secret,
    /// Weak, so that the shared cache alone decides how much memory identities take.
    remembered: Weak<T>,
}

impl<T> Default for Place<T> {
    fn default() -> Self {
        Self {
            kept: None,
            seen: 0,
            is_used: false,
            hits: 0,
        }
    }
}

impl<T> NearCache<T> {
    const fn new() -> Self {
        Self {
            verifier: VerifierNumber(0),
            places: Vec::new(),
        }
    }

    fn find(
        &mut self,
        verifier: VerifierNumber,
        text: &str,
        counts: impl FnOnce(&T) -> bool,
    ) -> Option<Arc<T>> {
        if self.verifier != verifier {
            return None;
        }
        let mark = mark(text)?;
        let place = self.places.get_mut(place_of(mark))?;
        let kept = place.kept.as_ref()?;
        if kept.mark != mark || !is_same_text(text, &kept.text) {
            return None;
        }
        let found = kept.remembered.upgrade().filter(|it| counts(it));
        place.is_used = found.is_some();
        if found.is_none() {
            place.kept = None;
        }
        place.hits = place.hits.wrapping_add(1);
        // One hit in 256 is left to the shared cache, which would otherwise evict the busiest credentials first.
        found.filter(|_| place.hits != 0)
    }

    fn offer(&mut self, verifier: VerifierNumber, text: &str, remembered: &Arc<T>) {
        let Some(mark) = mark(text).filter(|_| text.len() <= TEXT_BYTES_MAX) else {
            return;
        };
        if self.verifier < verifier {
            self.verifier = verifier;
            self.places.clear();
            self.places.resize_with(PLACES, Place::default);
        }
        // A request that began before a reload must not take the places of those that began after it.
        if verifier < self.verifier {
            return;
        }
        let Some(place) = self.places.get_mut(place_of(mark)) else {
            return;
        };
        if place.seen != mark {
            place.seen = mark;
        } else if place.kept.is_some() && place.is_used {
            place.is_used = false;
        } else {
            place.is_used = false;
            place.kept = Some(Kept {
                mark,
                text: Secret::new(text.to_owned()),
                remembered: Arc::downgrade(remembered),
            });
        }
    }
}

/// Returns a number for a credential, from its last eight bytes and its length; `None` if it is shorter.
fn mark(text: &str) -> Option<u64> {
    let last = u64::from_le_bytes(*text.as_bytes().last_chunk()?);
    let mixed = last ^ (text.len() as u64).rotate_left(32);
    // An odd factor, 2^64 divided by the golden ratio, spreads every bit over the upper ones.
    Some(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Returns the index of a mark's place, from its upper bits.
const fn place_of(mark: u64) -> usize {
    (mark >> (u64::BITS - PLACE_BITS)) as usize
}

#[cfg(test)]
pub(super) fn holds(text: &str) -> bool {
    CACHE.with_borrow(|cache| {
        let place = mark(text).and_then(|mark| cache.places.get(place_of(mark)));
        let kept = place.and_then(|place| place.kept.as_ref());
        kept.is_some_and(|kept| is_same_text(text, &kept.text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache whose shared counterpart holds everything.
    struct Scene {
        cache: NearCache<u32>,
        shared: Vec<Arc<u32>>,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                cache: NearCache::new(),
                shared: Vec::new(),
            }
        }

        /// Presents a credential as `Verifier::verify` does; returns whether the cache had it.
        fn present(&mut self, verifier: u64, text: &str) -> bool {
            let verifier = VerifierNumber(verifier);
            let found = self.cache.find(verifier, text, |_| true).is_some();
            if !found {
                let remembered = Arc::new(0);
                self.cache.offer(verifier, text, &remembered);
                self.shared.push(remembered);
            }
            found
        }

        fn kept(&self) -> usize {
            let kept = self.cache.places.iter().filter(|it| it.kept.is_some());
            kept.count()
        }
    }

    /// Returns a different credential of 60 bytes for each number.
    fn token(number: u64) -> String {
        let random = number.wrapping_mul(0x2545_f491_4f6c_dd1d);
        format!("{}{random:016x}", "x".repeat(44))
    }

    #[test]
    fn a_credential_is_kept_when_it_comes_again() {
        let mut scene = Scene::new();
        let found = [(); 4].map(|()| scene.present(1, &token(1)));
        assert_eq!(found, [false, false, true, true]);
    }

    #[test]
    fn only_the_whole_credential_is_a_hit() {
        let mut scene = Scene::new();
        let kept = token(1);
        while !scene.present(1, &kept) {}
        let mut finds = |text: &str| {
            let found = scene.cache.find(VerifierNumber(1), text, |_| true);
            found.is_some()
        };
        for place in 0..kept.len() {
            let mut other = kept.clone();
            other.replace_range(place..=place, "-");
            assert!(!finds(&other), "{other}");
        }
        assert!(!finds(kept.get(1..).unwrap()) && !finds(&format!("x{kept}")));
        assert!(finds(&kept));
    }

    #[test]
    fn what_no_longer_counts_is_removed() {
        let mut scene = Scene::new();
        while !scene.present(1, &token(1)) {}
        let verifier = VerifierNumber(1);
        assert!(scene.cache.find(verifier, &token(1), |_| false).is_none());
        assert_eq!(scene.kept(), 0);
        // Verified again, it needs no second sight.
        assert!(!scene.present(1, &token(1)) && scene.present(1, &token(1)));
    }

    #[test]
    fn an_entry_ends_with_that_of_the_shared_cache() {
        let mut scene = Scene::new();
        while !scene.present(1, &token(1)) {}
        scene.shared.clear();
        assert!(!scene.present(1, &token(1)));
    }

    #[test]
    fn a_newer_verifier_empties_the_cache_and_an_older_one_writes_nothing() {
        let mut scene = Scene::new();
        while !scene.present(2, &token(1)) {}
        assert!(!scene.present(1, &token(1)) && !scene.present(1, &token(1)));
        assert!(scene.present(2, &token(1)), "its own entry is unharmed");
        assert!(!scene.present(3, &token(2)));
        assert_eq!(scene.kept(), 0);
        assert!(!scene.present(2, &token(1)));
        assert!(VerifierNumber::draw() < VerifierNumber::draw());
    }

    #[test]
    fn long_and_very_short_credentials_are_not_kept() {
        let mut scene = Scene::new();
        for length in [0, 7, TEXT_BYTES_MAX + 1] {
            let text = "x".repeat(length);
            let found = [(); 4].map(|()| scene.present(1, &text));
            assert_eq!(found, [false; 4], "{length}");
        }
        let longest = "x".repeat(TEXT_BYTES_MAX);
        assert!([(); 4].map(|()| scene.present(1, &longest))[3]);
    }

    #[test]
    fn ten_thousand_in_rotation_leave_the_busy_ones_their_places() {
        let mut scene = Scene::new();
        let busy = token(u64::MAX);
        while !scene.present(1, &busy) {}
        let mut hits = 0;
        for _ in 0..3 {
            for number in 0..10_000 {
                scene.present(1, &token(number));
                if number % 100 == 0 {
                    hits += u32::from(scene.present(1, &busy));
                }
            }
        }
        // At least one hit is left to the shared cache.
        assert!((298..300).contains(&hits), "{hits}");
        // One in a hundred is copied at most.
        assert!(scene.kept() < 300, "{}", scene.kept());
    }

    #[test]
    fn a_place_that_is_no_longer_hit_changes_hands() {
        let mut scene = Scene::new();
        let first = token(1);
        while !scene.present(1, &first) {}
        let place = |text: &str| place_of(mark(text).unwrap());
        let mut others = (2..).map(token);
        let other = others.find(|other| place(other) == place(&first)).unwrap();
        let found = [(); 4].map(|()| scene.present(1, &other));
        assert_eq!(found, [false, false, false, true], "one more chance");
        assert!(!scene.present(1, &first));
        assert!(scene.kept() <= 1);
    }
}
