//! The limit on requests in flight, in total and for each client network.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A counter of requests from their heads to the ends of their responses, which limits them in total and per client
/// network.
#[derive(Debug)]
pub struct InFlight {
    max: usize,
    per_network_max: usize,
    count: AtomicUsize,
    refuses_new: AtomicBool,
}

/// The permit of one request, released on drop.
#[derive(Debug)]
pub struct InFlightPlace {
    all: Arc<InFlight>,
    network: Option<Arc<AtomicUsize>>,
}

impl InFlight {
    /// Creates a limit in total, and one for each network.
    #[must_use]
    pub fn new(max: usize, per_network_max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            per_network_max,
            count: AtomicUsize::new(0),
            refuses_new: AtomicBool::new(false),
        })
    }

    /// Sets whether new permits are refused.
    pub fn refuse_new(&self, refuses: bool) {
        self.refuses_new.store(refuses, Ordering::Release);
    }

    /// Returns a permit; `None` if there is none. `network`: the request counter of the caller's network, if they are
    /// counted together.
    #[must_use]
    pub fn enter(self: &Arc<Self>, network: Option<&Arc<AtomicUsize>>) -> Option<InFlightPlace> {
        // Counted first and compared afterwards, so that two requests never share the last permit.
        let before = self.count.fetch_add(1, Ordering::AcqRel);
        let of_network = network.map_or(0, |it| it.fetch_add(1, Ordering::AcqRel));
        let place = InFlightPlace {
            all: Arc::clone(self),
            network: network.map(Arc::clone),
        };
        let has_room = before < self.max && of_network < self.per_network_max;
        (has_room && !self.refuses_new.load(Ordering::Acquire)).then_some(place)
    }
}

impl Drop for InFlightPlace {
    fn drop(&mut self) {
        self.all.count.fetch_sub(1, Ordering::AcqRel);
        if let Some(network) = &self.network {
            network.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let all = InFlight::new(2, 2);
        let (one, two) = (all.enter(None).unwrap(), all.enter(None).unwrap());
        assert!(all.enter(None).is_none());
        assert!(all.enter(None).is_none());
        drop(one);
        let three = all.enter(None);
        assert!(three.is_some() && all.enter(None).is_none());
        drop(two);
        all.refuse_new(true);
        assert!(all.enter(None).is_none());
        all.refuse_new(false);
        assert!(all.enter(None).is_some());
        drop(three);
        assert_eq!(all.count.load(Ordering::Acquire), 0);
    }

    #[test]
    fn one_network_leaves_room_for_others() {
        let all = InFlight::new(3, 2);
        let (ours, theirs) = (Arc::default(), Arc::default());
        let held: Vec<_> = (0..5).filter_map(|_| all.enter(Some(&ours))).collect();
        assert_eq!(held.len(), 2);
        assert!(all.enter(Some(&theirs)).is_some());
        drop(held);
        assert_eq!(ours.load(Ordering::Acquire), 0);
        assert_eq!(all.count.load(Ordering::Acquire), 0);
    }
}
