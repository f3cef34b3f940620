//! How many requests are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts requests from their heads to the ends of their answers, and lets no more in than it may.
#[derive(Debug)]
pub struct InFlight {
    max: usize,
    count: AtomicUsize,
}

/// The place of one request; free when it is dropped.
#[derive(Debug)]
pub struct InFlightPlace(Arc<InFlight>);

impl InFlight {
    /// Room for so many.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            count: AtomicUsize::new(0),
        })
    }

    /// A place for one more; `None`: there is none.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<InFlightPlace> {
        // Counted first and looked at then, so that two never share the last place.
        let before = self.count.fetch_add(1, Ordering::AcqRel);
        let place = InFlightPlace(Arc::clone(self));
        (before < self.max).then_some(place)
    }
}

impl Drop for InFlightPlace {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let all = InFlight::new(2);
        let (one, two) = (all.enter().unwrap(), all.enter().unwrap());
        assert!(all.enter().is_none());
        assert!(all.enter().is_none());
        drop(one);
        let three = all.enter();
        assert!(three.is_some() && all.enter().is_none());
        drop((two, three));
        assert_eq!(all.count.load(Ordering::Acquire), 0);
    }
}
